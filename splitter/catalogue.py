"""What others have published and splitter can convert: where it is, how large, whose licence.

`catalogue.json` lists it. None of these files came with splitter, and none was at hand when the
list was made: addresses, sizes and scores are those that their publishers state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from splitter.errors import ModelError, reason
from splitter.schema import Length, Range, Words, parse, read_json

Address = Annotated[str, Words(lambda text: text.startswith(("http://", "https://")), "of the web")]
Digits = Annotated[
    str, Words(lambda text: set(text) <= set("0123456789abcdef"), "of hexadecimal digits")
]


@dataclass(frozen=True)
class Download:
    """A file, and the beginning of its SHA-256, as far as its publisher states it."""

    url: Address
    sha256: Digits = ""

    @property
    def name(self) -> str:
        """Return the name of the file."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Entry:
    """A model that can be downloaded."""

    name: str
    family: str
    files: Annotated[Sequence[Download], Length(1, 16)]
    megabytes: Annotated[float, Range(0, 100_000)]
    licence: str
    stems: Annotated[Sequence[str], Length(1, 16)]
    score: str = ""
    good_at: str = ""
    config: Address | None = None
    tried: bool = False  # with its real weights, by whoever made this list

    @property
    def downloads(self) -> Sequence[Download]:
        """Return all files, the config last."""
        return [*self.files, *([Download(self.config)] if self.config else [])]

    def describe(self) -> str:
        """Describe it on one line."""
        tried = () if self.tried else ("not tried here",)
        size, stems = f"{self.megabytes:.0f} MB", ", ".join(self.stems)
        parts = (self.name, self.family, size, stems, self.score, self.good_at, self.licence)
        return "  ".join(part for part in (*parts, *tried) if part)


def read_catalogue(path: Path | None = None) -> dict[str, Entry]:
    """Read the entries of a catalogue, or of the one that came with splitter, by their names."""
    place = path or Path(__file__).with_name("catalogue.json")
    try:
        raw = read_json(place)
        if not isinstance(raw, list):
            raise ValueError("it is not a list")
        entries = [parse(Entry, item) for item in raw]
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{place}: cannot be read as a catalogue of models ({reason(error)})"
        ) from error
    return {entry.name: entry for entry in entries}

"""Stems on disk: which folders hold some, and which of them belong to one song."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from splitter.audio import SUFFIXES
from splitter.errors import DataError, reason
from splitter.registry import INSTRUMENTAL, canonical_stem

log = logging.getLogger(__name__)

# a folder that has a sound file of one of these names holds the stems of a song
NAMES = frozenset(
    {"vocals", INSTRUMENTAL, "accompaniment", "no_vocals", "drums", "bass", "other"}
    | {"guitar", "piano", "residual"}
)
PARTS = ("drums", "bass", "other")  # what an instrumental beside them is the sum of
FIRST = ("vocals", INSTRUMENTAL)  # the others follow in the order of their names


@dataclass(frozen=True)
class Take:
    """The stems of a song as one model, or another tool, made them."""

    name: str
    stems: Mapping[str, Path]


def find_takes(folder: Path) -> dict[Path, Take]:
    """Find the songs below a folder of stems, or the one in it: path below the folder → stems.

    Raises DataError for a folder that cannot be read.
    """
    return {place.relative_to(folder): take for place, take in _walk(folder, folder.name)}


def _walk(
    folder: Path, name: str, above: frozenset[str] = frozenset()
) -> Iterator[tuple[Path, Take]]:
    real = os.path.realpath(folder)
    if real in above:  # a link that leads back
        return
    stems, folders = {}, []
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({reason(error)})") from error
    for path in inside:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            folders.append(path)
        elif path.suffix.lower() in SUFFIXES:
            stems[path.stem] = path
    if is_stems(stems):
        parts = _find_parts(stems)
        order = sorted(parts, key=lambda stem: (*(stem != first for first in FIRST), stem))
        named = {canonical_stem(stem): stems[stem] for stem in order}
        if len(named) < len(order):  # two of them are called alike elsewhere
            named = {stem: stems[stem] for stem in order}
        yield folder, Take(name, named)
    for path in folders:
        try:
            yield from _walk(path, name, above | {real})
        except DataError as error:
            log.warning("%s; passed over", error)


def _find_parts(stems: Collection[str]) -> Collection[str]:
    """Leave out sums of others: the song beside its stems, an instrumental beside its parts."""
    sums = {"mixture", "mix"} | ({INSTRUMENTAL} if set(PARTS).issubset(stems) else set())
    return [stem for stem in stems if canonical_stem(stem) not in sums]


def is_stems(names: Collection[str]) -> bool:
    """Tell by the names of sound files, without suffix, whether they are stems."""
    return not NAMES.isdisjoint(names)


def name_page(stems: Mapping[str, Path]) -> Path:
    """Name the page of a song like its stems: song/vocals.wav → song/listen.html."""
    stem, path = next(iter(stems.items()))
    before, found, after = path.stem.rpartition(stem)
    return path.with_name(f"{before}listen{after}.html" if found else f"{after}.html")

"""Title, artist, cover and the rest, from the song to its stems.

FFmpeg reads them, under nearly the same names for every format, and `native` what it drops;
`tagging` writes them. Only what is named here is copied: ReplayGain above all would be wrong for a
stem.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from splitter.audio.covers import find_kind
from splitter.audio.excess import COVER_BYTES, TEXT_BYTES, describe_excess
from splitter.audio.fields import FIELDS, TOTALS
from splitter.audio.marks import Mark


@dataclass(frozen=True, kw_only=True)
class Tags:
    """What a song is called; None where it does not say."""

    title: str | None = None
    artist: str | None = None  # the first one
    album: str | None = None
    album_artist: str | None = None
    track: str | None = None  # "3" or "3/12"
    disc: str | None = None  # "1" or "1/2"
    date: str | None = None
    genre: str | None = None
    composer: str | None = None
    lyrics: str | None = None
    bpm: str | None = None
    isrc: str | None = None
    further: tuple[tuple[str, str], ...] = ()  # more of the same, as ("artist", "Somebody")
    cover: bytes | None = None  # a picture (see `covers`)
    mark: Mark | None = None  # of what splitter made

    def for_stem(self, stem: str) -> "Tags":
        """Give the tags of a stem: the title and the mark say which one it is."""
        title = f"{self.title} ({stem})" if self.title else None
        return replace(self, title=title, mark=self.mark and replace(self.mark, stem=stem))

    def list_texts(self) -> dict[str, list[str]]:
        """Give all texts by the names of `FIELDS`, with the mark."""
        texts = {"splitter": [str(self.mark)]} if self.mark else {}
        for name in TEXTS:
            if text := getattr(self, name):
                texts[name] = [text, *(more for field, more in self.further if field == name)]
        return texts


TEXTS = [field.name for field in fields(Tags) if field.name in FIELDS]


def read_tags(
    metadata: Mapping[str, str],
    native: Mapping[str, list[str]],
    cover: bytes | memoryview | None,
    remarks: list[str],
) -> Tags:
    """Pick the tags from FFmpeg's metadata, and from those of `native`, which go before.

    What is too large for a stem, or no picture, is left out with a remark.
    """
    texts: dict[str, str] = {}
    further: list[tuple[str, str]] = []
    room = TEXT_BYTES
    for name in TEXTS:
        values = native.get(name) or _find(metadata, name)
        size = sum(len(text.encode(errors="replace")) for text in values)
        if size > room:
            remarks.append(describe_excess(name.replace("_", " "), size, TEXT_BYTES))
        elif values:
            texts[name] = values[0]
            further += [(name, text) for text in values[1:] if FIELDS[name].several]
            room -= size
    if cover and len(cover) > COVER_BYTES:
        remarks.append(describe_excess("cover", len(cover), COVER_BYTES))
        cover = None
    picture = bytes(cover) if cover else None
    if picture and not find_kind(picture):
        remarks.append("its cover is no picture of a known kind; the stems go without")
        picture = None
    return Tags(cover=picture, further=tuple(further), **texts)  # type: ignore[arg-type]  # no mark


def _find(metadata: Mapping[str, str], name: str) -> list[str]:
    """Find a text in FFmpeg's metadata, whose keys are in lower case."""
    field = FIELDS[name]
    names = (name, field.vorbis, field.ape.lower(), field.asf.lower(), *field.others)
    text = next((text for key in names if (text := metadata.get(key, "").strip())), "")
    if name == "lyrics" and not text:  # with a language
        text = next((metadata[key].strip() for key in metadata if key.startswith("lyrics-")), "")
    if name in TOTALS and text.startswith("0/"):  # as FFmpeg has a total alone
        text = ""
    if text and "/" not in text and name in TOTALS:
        total = next((t for key in TOTALS[name] if (t := metadata.get(key, "").strip())), "")
        text = f"{text}/{total}" if total else text
    # FFmpeg joins several values of Vorbis comments by a bare semicolon
    parts = re.split(r";(?! )", text) if field.several else [text]
    return [part.strip() for part in parts if part.strip()]

"""Tags as their format has them, where FFmpeg gives less: it drops all artists but the first."""

import struct
from collections.abc import Callable, Mapping
from io import SEEK_CUR, SEEK_END
from typing import Any

import mutagen
from mutagen import aiff, apev2, asf, dsf, id3, mp4, wave

from splitter.audio.excess import COVER_BYTES, TEXT_BYTES
from splitter.audio.fields import FIELDS, Field
from splitter.audio.sources import Source

Values = dict[str, list[str]]  # by the names of `FIELDS`

_MOST_READS = 4000  # of one file: what has more parts than that is left to FFmpeg
_LARGE = 1 << 16  # bytes, below which any number of frames is read at once
_MOST_FRAMES = 1000
_MOST_BYTES = COVER_BYTES + 2 * TEXT_BYTES  # read, or looked through in a pipe


class _Window:
    """A file of a source's bytes that leaves its position alone, and gives only so many."""

    def __init__(self, source: Source) -> None:
        self._source = source
        opening = b"" if source.seekable else source.read_at(0, _MOST_BYTES)
        self._size = source.measure() if source.seekable else len(opening)
        self._place = self._reads = self._bytes = 0

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._place, 0)
        size = left if size < 0 else min(size, left)
        self._reads, self._bytes = self._reads + 1, self._bytes + size
        if self._reads > _MOST_READS or self._bytes > _MOST_BYTES:
            raise OSError("too many tags")
        data = self._source.read_at(self._place, size)
        if size > _LARGE and _has_many_frames(data):
            raise OSError("too many tags")
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + {SEEK_CUR: self._place, SEEK_END: self._size}.get(whence, 0)
        if self._place < 0:
            raise OSError("before the first byte")
        return self._place

    def tell(self) -> int:
        return self._place


def _has_many_frames(tag: bytes) -> bool:
    """Tell whether an ID3 tag has so many that mutagen, which copies the rest with each, hangs."""
    place = 0
    for _ in range(_MOST_FRAMES):
        if not tag[place : place + 4].isalnum():
            return False
        place += 10 + int.from_bytes(tag[place + 4 : place + 8], "big")
    return True


def read_native(source: Source, container: str) -> Values:
    """Read the tags of a file by mutagen; `container` is FFmpeg's name. Nothing if it cannot."""
    for read in _READERS.get(container, ()):
        try:
            if values := read(_Window(source)):
                return values
        except (mutagen.MutagenError, OSError, struct.error, ArithmeticError):
            continue
        except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
            continue  # mutagen's own faults, with files that are damaged
    return {}


def _collect(tags: Any, give: Callable[[Any, Field], list[Any]]) -> Values:
    """Give the values of all fields that there are, without blank ones."""
    found: Values = {}
    for name, field in FIELDS.items() if tags is not None else ():
        texts = [str(value).strip() for value in give(tags, field)]
        if texts := [text for text in texts if text]:
            found[name] = texts
    return found


def _read_id3(tags: id3.ID3 | None) -> Values:
    def give(tags: id3.ID3, field: Field) -> list[Any]:
        frames = tags.getall(field.id3(encoding=3).FrameID)
        if isinstance(field.id3, type):
            values = (getattr(frame, "genres", None) or frame.text for frame in frames)
            texts = [str(text) for each in values for text in each]
            # mutagen makes the year 3 of "03.05.1999"; FFmpeg gives such a text as it is
            return [text for text in texts if field.id3 is not id3.TDRC or text[:2] != "00"]
        return [frame.text for frame in frames if frame.FrameID == "USLT"][:1]

    return _collect(tags, give)


def _read_ape(tags: apev2.APEv2 | None) -> Values:
    return _collect(tags, lambda tags, field: list(tags.get(field.ape, [])))


def _read_asf(tags: asf.ASFTags | None) -> Values:
    return _collect(tags, lambda tags, field: tags.get(field.asf, []))


def _read_mp4(tags: mp4.MP4Tags | None) -> Values:
    def give(tags: mp4.MP4Tags, field: Field) -> list[Any]:
        values = tags.get(field.mp4, [])
        if field.mp4 in ("trkn", "disk"):
            return [f"{of}/{total}" if total else str(of) for of, total in values if of]
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]

    return _collect(tags, give)


_Reader = Callable[[Any], Values]
_APE: tuple[_Reader, ...] = (lambda file: _read_ape(apev2.APEv2(file)),)
# ID3's first version cuts texts at 30 characters, so it comes last
_ID3_OR_APE: tuple[_Reader, ...] = (
    lambda file: _read_id3(id3.ID3(file, load_v1=False)),
    *_APE,
    lambda file: _read_id3(id3.ID3(file)),
)
_READERS: Mapping[str, tuple[_Reader, ...]] = {
    **dict.fromkeys(("mp3", "aac", "tta"), _ID3_OR_APE),
    "wav": (lambda file: _read_id3(wave.WAVE(file).tags),),
    "aiff": (lambda file: _read_id3(aiff.AIFF(file).tags),),
    "dsf": (lambda file: _read_id3(dsf.DSF(file).tags),),
    "mov,mp4,m4a,3gp,3g2,mj2": (lambda file: _read_mp4(mp4.MP4(file).tags),),
    "asf": (lambda file: _read_asf(asf.ASF(file).tags),),
    **dict.fromkeys(("wv", "ape", "mpc", "mpc8"), _APE),
}

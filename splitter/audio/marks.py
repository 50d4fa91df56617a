"""The mark that says of a file that splitter made it: which stem it is, and by which model.

It is one of the file's tags. To find it among thousands of songs no decoder is asked: it lies near
the beginning of most files, and in WAV and M4A where their tables of contents say.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from splitter import __version__
from splitter.audio.excess import read_synchsafe

_READ = 4096  # bytes of a beginning
_MOST = 1 << 20  # bytes of tags
_EMPTY = 128  # bytes of a WAV without sound, at most
_TRIED = 16  # beginnings of marks
_BEGINNING = re.compile(rb"splitter [\w.]{1,20}: ")
_MARK = re.compile(
    rb"splitter [\w.]{1,20}: ([^\0-\x1f]{1,100}?) by ([^\0-\x1f]{1,250}) \((\w{1,64})\)"
)


@dataclass(frozen=True)
class Mark:
    """What a file of splitter's says of itself."""

    stem: str
    model: str
    model_hash: str

    def __str__(self) -> str:
        return f"splitter {__version__}: {self.stem} by {self.model} ({self.model_hash})"


def read_mark(path: Path) -> Mark | None:
    """Return the mark of a file; None if it has none, or cannot be read."""
    try:
        with path.open("rb") as file:
            return find_mark(file)
    except OSError:
        return None


def may_lack_mark(path: Path) -> bool:
    """Tell whether a file of splitter's, as this one is, may have none: a WAV past 4 GB, or empty.

    So may files of no kind that has tags, and what a power cut left of a file: its name.
    """
    if path.suffix == ".raw":
        return True
    with path.open("rb") as file:
        head = file.read(_EMPTY + 1)
    return not head or head[:4] == b"RF64" or (head[:4] == b"RIFF" and len(head) <= _EMPTY)


def find_mark(file: BinaryIO) -> Mark | None:
    """Return the mark of an open file."""
    head = file.read(_READ)
    places = _PLACES.get(head[:4], _PLACES.get(head[4:8], _at_the_beginning))
    for tags in places(file, head):
        # a text that begins like many marks would keep one search busy
        starts = islice(_BEGINNING.finditer(tags), _TRIED)
        if found := next(filter(None, (_MARK.match(tags, one.start()) for one in starts)), None):
            stem, model, model_hash = (part.decode("utf-8", "replace") for part in found.groups())
            return Mark(stem, model, model_hash)
    return None


def _at_the_beginning(file: BinaryIO, head: bytes) -> Iterator[bytes]:
    size = read_synchsafe(head[6:10]) if head[:3] == b"ID3" else 0
    yield head + (file.read(min(size, _MOST)) if size > len(head) else b"")


def _in_a_chunk(file: BinaryIO, _: bytes) -> Iterator[bytes]:
    """Walk over the chunks of a WAV file: behind them all are its tags."""
    place = 12
    for _step in range(16):
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[4:], "little")
        if head[:4].lower() == b"id3 ":
            yield file.read(min(size, _MOST))
        place += 8 + size + size % 2


def _in_a_box(file: BinaryIO, _: bytes) -> Iterator[bytes]:
    """Walk over the boxes of an MP4 file, and into those that hold its tags."""
    place = 0
    for _step in range(64):
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            return
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if head[4:8] == b"moov":
            place += 8
            continue
        if head[4:8] == b"udta":
            file.seek(place)
            yield file.read(min(size, _MOST))
        if size < 8:
            return
        place += size


_Places = Callable[[BinaryIO, bytes], Iterator[bytes]]
_PLACES: dict[bytes, _Places] = {b"RIFF": _in_a_chunk, b"RF64": _in_a_chunk, b"ftyp": _in_a_box}

"""The mark that says of a file that splitter made it: which stem it is, and by which model.

It is one of the file's tags. To find it among thousands of songs no decoder is asked: it lies near
the beginning of most files, and in WAV and M4A where their tables of contents say.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from splitter.audio.excess import read_synchsafe
from splitter.audio.parts import Peek, walk_boxes, walk_chunks
from splitter.audio.sources import FileSource
from splitter.version import __version__

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
            return find_mark(FileSource(file).read_at)
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


def find_mark(peek: Peek) -> Mark | None:
    """Return the mark among the tags of a file."""
    head = peek(0, 10)
    places = _PLACES.get(head[:4], _PLACES.get(head[4:8], _at_the_beginning))
    for tags in places(peek):
        # a text that begins like many marks would keep one search busy
        starts = islice(_BEGINNING.finditer(tags), _TRIED)
        if found := next(filter(None, (_MARK.match(tags, one.start()) for one in starts)), None):
            stem, model, model_hash = (part.decode("utf-8", "replace") for part in found.groups())
            return Mark(stem, model, model_hash)
    return None


def _at_the_beginning(peek: Peek) -> Iterator[bytes]:
    head = peek(0, 10)
    size = read_synchsafe(head[6:]) if head[:3] == b"ID3" else 0
    yield peek(0, _READ + min(size, _MOST))


def _in_a_chunk(peek: Peek) -> Iterator[bytes]:
    """Walk over the chunks of a WAV file: behind them all are its tags."""
    for chunk in islice(walk_chunks(peek, 12, "<4sI"), 16):
        if chunk.name.lower() == b"id3 ":
            yield peek(chunk.body, min(chunk.size, _MOST))


def _in_a_box(peek: Peek) -> Iterator[bytes]:
    """Walk over the boxes of an MP4 file, and in its index over those that hold its tags."""
    for box in islice(walk_boxes(peek), 64):
        inner = walk_boxes(peek, box.body, box.end) if box.name == b"moov" else ()
        for tags in islice(inner, 64):
            if tags.name == b"udta":
                yield peek(tags.body, min(tags.size, _MOST))


_Places = Callable[[Peek], Iterator[bytes]]
_PLACES: dict[bytes, _Places] = {b"RIFF": _in_a_chunk, b"RF64": _in_a_chunk, b"ftyp": _in_a_box}

"""Files made of parts, each with a name and a size: chunks, boxes and blocks.

    head ── name, size ── body ── name, size ── body ── …

All is read through a `Peek`, so that files, pipes and objects in a store are walked alike.
"""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

Peek = Callable[[int, int], bytes]  # (offset, size) → bytes, fewer where they are not known

MOST_PARTS = 10_000  # before the sound: nobody writes so many


class Part(NamedTuple):
    """Where a part lies, in bytes from the file's beginning."""

    name: bytes
    place: int  # of its name and size
    body: int
    end: int  # without padding

    @property
    def size(self) -> int:
        """Return the bytes of its body."""
        return self.end - self.body


def walk_chunks(peek: Peek, place: int, form: str) -> Iterator[Part]:
    """Yield the chunks of a RIFF, AIFF or CAF, as far as a player would look.

    `form` is that of name and size, as `struct` has it; sizes of 32 bits are padded to even ones.
    """
    length = struct.calcsize(form)
    for _ in range(MOST_PARTS):
        head = peek(place, length)
        if len(head) < length:
            return
        name, size = struct.unpack(form, head)
        part = Part(name, place, place + length, place + length + size)
        yield part
        place = part.end + (size % 2 if form[-1] == "I" else 0)


def walk_boxes(peek: Peek, place: int = 0, end: int = 1 << 62) -> Iterator[Part]:
    """Yield the boxes of an MP4 on one level (ISO 14496-12, 4.2).

    The last one may be open: it ends where it begins.
    """
    for _ in range(MOST_PARTS):
        head = peek(place, 16)
        if len(head) < 8 or place + 8 > end:
            return
        size, length = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, length = int.from_bytes(head[8:], "big"), 16
        if size < length:
            yield Part(head[4:8], place, place + length, place)
            return
        yield Part(head[4:8], place, place + length, place + size)
        place += size


def walk_blocks(peek: Peek) -> Iterator[Part]:
    """Yield the blocks before the sound of a FLAC (RFC 9639, 8.1); a name is the flag and kind."""
    place = 4
    for _ in range(MOST_PARTS):
        if len(head := peek(place, 4)) < 4:
            return
        part = Part(head[:1], place, place + 4, place + 4 + int.from_bytes(head[1:], "big"))
        yield part
        if head[0] & 0x80:  # the last one
            return
        place = part.end

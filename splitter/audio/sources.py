"""Bytes in: a file that seeks and a pipe that does not, behind one face.

FFmpeg reads through `stream`. Beside it, a source tells what a decoder does not: how the bytes
begin, how they end, and how many they are, so that a song that breaks off is noticed.
"""

import io
from collections import deque
from types import SimpleNamespace
from typing import Any, BinaryIO, Protocol

_REMEMBERED = 1 << 24  # bytes of a pipe's opening, enough for a cover picture before the sound
_ENDING = 1 << 17  # bytes; an Ogg page has at most 65307


class Source(Protocol):
    """What decoders read from."""

    seekable: bool
    stream: Any  # a file object for FFmpeg; it has no name, so that only content counts

    def read_at(self, offset: int, size: int) -> bytes:
        """Give bytes near the beginning, as far as they are known."""

    def read_ending(self) -> bytes:
        """Give the last bytes; call it at the end."""

    def measure(self) -> int:
        """Count the bytes of the whole source; call it at the end."""

    def check(self) -> None:
        """Raise what happened inside a read and what FFmpeg could not pass on."""


class FileSource:
    """A file that seeks."""

    seekable = True

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        # Bound methods of the file itself: with a method of ours in between, Ctrl-C could arrive
        # inside FFmpeg's call of it, where an exception is lost.
        self.stream = SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell)

    def read_at(self, offset: int, size: int) -> bytes:
        """Give the bytes at `offset`, and leave the position as it was."""
        position = self.file.tell()
        self.file.seek(offset)
        found = self.file.read(size)
        self.file.seek(position)
        return found

    def read_ending(self) -> bytes:
        """Give the last bytes."""
        return self.read_at(max(self.measure() - _ENDING, 0), _ENDING)

    def measure(self) -> int:
        """Give the size of the file."""
        position = self.file.tell()
        size = self.file.seek(0, io.SEEK_END)
        self.file.seek(position)
        return size

    def check(self) -> None:
        """Do nothing: a file passes its errors on."""


class PipeSource:
    """A stream that comes once: its opening and its ending are remembered as they pass."""

    seekable = False

    def __init__(self, file: BinaryIO) -> None:
        self.stream = SimpleNamespace(read=self._read)
        self._file = file
        # read1 hands out what has come so far; read would wait for all that was asked for
        self._take = getattr(file, "read1", file.read)
        self._opening = bytearray()
        self._ending: deque[bytes] = deque()
        self._ending_size = 0
        self._count = 0
        self._interrupt: BaseException | None = None
        self._waiting: bytes = self._take(4096)  # so that `read_at` knows what it is from the start
        self._remember(self._waiting)

    def _read(self, size: int) -> bytes:
        data, self._waiting = self._waiting[:size], self._waiting[size:]
        if data:
            return data
        try:
            data = self._take(size)
        except BaseException as error:
            # FFmpeg drops exceptions; `check` raises it when FFmpeg has returned
            self._interrupt = error
            return b""
        self._remember(data)
        return data

    def _remember(self, data: bytes) -> None:
        self._count += len(data)
        if len(self._opening) < _REMEMBERED:
            self._opening += data
        self._ending.append(data)
        self._ending_size += len(data)
        while self._ending_size - len(self._ending[0]) >= _ENDING:
            self._ending_size -= len(self._ending.popleft())

    def read_at(self, offset: int, size: int) -> bytes:
        """Give bytes of the opening, as far as it has come and is remembered."""
        return bytes(self._opening[offset : offset + size])

    def read_ending(self) -> bytes:
        """Give the last bytes that came."""
        return b"".join(self._ending)

    def measure(self) -> int:
        """Read what is left, if anything, and give the number of all bytes that came."""
        while self._read(65536):
            pass
        self.check()
        return self._count

    def check(self) -> None:
        """Raise what happened inside a read."""
        if self._interrupt is not None:
            raise self._interrupt


def open_source(file: BinaryIO) -> Source:
    """Choose by what the file can do."""
    return FileSource(file) if file.seekable() else PipeSource(file)

"""Bytes in: a file that seeks and a pipe that does not, behind one face.

FFmpeg and libsndfile read a file by its descriptor, without a line of Python in between: there a
Ctrl-C would be lost, and a bad position that they ask for would become an exception that nobody
catches. Beside what they read, a source tells what a decoder does not: how the bytes begin, how
they end, and how many they are, so that a song that breaks off is noticed.
"""

import io
import os
from collections import deque
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, BinaryIO, Protocol

from splitter.audio.decoder import UndecodableError

_REMEMBERED = 1 << 26  # bytes of a pipe's opening, while its decoder is looked for
_READ = 1 << 16  # bytes
_ENDING = 1 << 17  # bytes; an Ogg page has at most 65307


class Source(Protocol):
    """What decoders read from."""

    seekable: bool

    def for_ffmpeg(self) -> tuple[Any, dict[str, str]]:
        """Give what PyAV opens, with the options that go with it."""

    def for_sndfile(self) -> Any:
        """Give what libsndfile opens; only what seeks has it."""

    def restart(self) -> Callable[[int], bytes]:
        """Give a function that reads from the first byte on; nobody else may read any more."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Give bytes near the beginning or the end, as far as they are known."""

    def read_ahead(self, offset: int, size: int) -> bytes:
        """Give bytes anywhere before anybody has read; a pipe remembers what comes before them."""

    def read_ending(self) -> bytes:
        """Give the last bytes; call it at the end."""

    def measure(self) -> int:
        """Count the bytes of the whole source; call it at the end."""

    def keep(self, offset: int) -> None:
        """Let `read_at` know what begins there, also when it has passed."""

    def check(self) -> None:
        """Raise what happened inside a read and what FFmpeg could not pass on."""

    def forget(self) -> None:
        """Let go of what is not needed once the decoder is found."""


class SeekableSource:
    """What files of both kinds do with `_seek`, which gives -1 for a bad position, and `_read`."""

    seekable = True

    def _seek(self, offset: int, whence: int = 0) -> int:
        raise NotImplementedError

    def _read(self, size: int) -> bytes:
        raise NotImplementedError

    def forget(self) -> None:
        """Do nothing: nothing is held."""

    def keep(self, offset: int) -> None:
        """Do nothing: all bytes are there."""

    def restart(self) -> Callable[[int], bytes]:
        """Give a function that reads from the first byte on."""
        self._seek(0)
        return self._read

    def read_at(self, offset: int, size: int) -> bytes:
        """Give the bytes at `offset`, and leave the position as it was."""
        position = self._seek(0, io.SEEK_CUR)
        found = self._read(size) if self._seek(offset) >= 0 else b""
        self._seek(position)
        return found

    def read_ahead(self, offset: int, size: int) -> bytes:
        """Give the bytes at `offset`."""
        return self.read_at(offset, size)

    def read_ending(self) -> bytes:
        """Give the last bytes."""
        return self.read_at(max(self.measure() - _ENDING, 0), _ENDING)

    def measure(self) -> int:
        """Give the size of the file."""
        position = self._seek(0, io.SEEK_CUR)
        size = self._seek(0, io.SEEK_END)
        self._seek(position)
        return size


class FileSource(SeekableSource):
    """A file of the system; its libraries share one position with us."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()
        self._seek(0)

    def for_ffmpeg(self) -> tuple[Any, dict[str, str]]:
        """Give the descriptor; it has no name, so that only content counts."""
        return "fd:", {"protocol_whitelist": "fd", "fd": str(self._descriptor)}

    def for_sndfile(self) -> Any:
        """Give the descriptor."""
        self._seek(0)
        return self._descriptor

    def _seek(self, offset: int, whence: int = 0) -> int:
        try:
            return os.lseek(self._descriptor, offset, whence)
        except (OSError, OverflowError):
            return -1

    def _read(self, size: int) -> bytes:
        return os.read(self._descriptor, size)

    def check(self) -> None:
        """Raise the error of a disk, which FFmpeg may take for the end."""
        self._seek(-len(os.read(self._descriptor, 1)), io.SEEK_CUR)


class ObjectSource(SeekableSource):
    """An object that seeks, as BytesIO; answers a bad position as the system would."""

    def __init__(self, file: "BinaryIO | Shifted | Patched") -> None:
        self._file = file
        self._seek(0)
        self._interrupt: BaseException | None = None

    def for_ffmpeg(self) -> tuple[Any, dict[str, str]]:
        """Give what does not raise; `check` does."""
        stream = SimpleNamespace(read=self._read, seek=self._seek, tell=self._file.tell)
        return stream, {"protocol_whitelist": "none"}

    def for_sndfile(self) -> Any:
        """Give what does not raise."""
        self._seek(0)
        return SimpleNamespace(
            read=self._read, seek=self._seek, tell=self._file.tell, write=lambda _: 0
        )

    def _seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except BaseException as error:
            self._interrupt = error
            return b""

    def check(self) -> None:
        """Raise what happened inside a read."""
        if self._interrupt is not None:
            raise self._interrupt


class Shifted:
    """A file as it is behind its first bytes."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file, self._offset = file, offset
        self.read = file.read

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place, as the file would."""
        if whence == io.SEEK_SET and offset < 0:
            raise ValueError("before the first byte")
        start = self._offset if whence == io.SEEK_SET else 0
        return self._file.seek(offset + start, whence) - self._offset

    def tell(self) -> int:
        """Give the place."""
        return self._file.tell() - self._offset


class Patched:
    """A file in which other bytes stand at some places."""

    def __init__(self, file: BinaryIO | Shifted, patches: Mapping[int, bytes]) -> None:
        self._file = file
        self._patches = patches  # by offset
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        """Read as the file would."""
        start = self._file.tell()
        data = self._file.read(size)
        for offset, patch in self._patches.items():
            first, last = max(offset - start, 0), min(offset + len(patch) - start, len(data))
            if first < last:
                shown = patch[start + first - offset : start + last - offset]
                data = data[:first] + shown + data[last:]
        return data


class Stream(Protocol):
    """What comes once."""

    def read(self, size: int, /) -> bytes:
        """Give at most so many bytes; none at the end."""


class PipeSource:
    """A stream that comes once: its opening and its ending are remembered as they pass."""

    seekable = False

    def __init__(self, file: Stream) -> None:
        # read1 hands out what has come so far; read would wait for all that was asked for
        self._take: Callable[[int], bytes] = getattr(file, "read1", file.read)
        self._opening = bytearray()
        self._remembering = True
        self._ending: deque[bytes] = deque()
        self._ending_size = 0
        self._count = 0
        self._kept: tuple[int, bytearray] = 1 << 63, bytearray()  # from an offset on
        self._interrupt: BaseException | None = None
        self._waiting: bytes = self._take(4096)  # so that `read_at` knows what it is from the start
        self._remember(self._waiting)

    def for_ffmpeg(self) -> tuple[Any, dict[str, str]]:
        """Give what only reads."""
        return SimpleNamespace(read=self._read), {"protocol_whitelist": "none"}

    def for_sndfile(self) -> Any:
        """Refuse: libsndfile wants to seek."""
        raise UndecodableError("can only be read as a file, not through a pipe")

    def restart(self) -> Callable[[int], bytes]:
        """Give a function that reads what has come already, and then the rest."""
        self._waiting = bytes(self._opening)
        return self._read_on

    def _read_on(self, size: int) -> bytes:
        data = self._read(size)
        self.check()
        return data

    def _read(self, size: int) -> bytes:
        data, self._waiting = self._waiting[:size], self._waiting[size:]
        if data:
            return data
        if self._remembering and self._count >= _REMEMBERED:
            words = f"has {_REMEMBERED >> 20} MB before its sound; give it as a file"
            self._interrupt = UndecodableError(words)
            return b""
        try:
            data = self._take(size)
        except BaseException as error:
            # FFmpeg drops exceptions; `check` raises it when FFmpeg has returned
            self._interrupt = error
            return b""
        self._remember(data)
        self._waiting = data[size:]  # more than was asked for would overrun FFmpeg's buffer
        return data[:size]

    def _remember(self, data: bytes) -> None:
        start, kept = self._kept
        if len(kept) < _READ and self._count + len(data) > start:
            kept += data[max(start - self._count, 0) :]
        self._count += len(data)
        if self._remembering:
            self._opening += data
        self._ending.append(data)
        self._ending_size += len(data)
        while self._ending_size - len(self._ending[0]) >= _ENDING:
            self._ending_size -= len(self._ending.popleft())

    def forget(self) -> None:
        """Keep no more of the opening: its decoder is found."""
        self._remembering = False
        self._opening = bytearray()

    def keep(self, offset: int) -> None:
        """Keep some bytes from `offset` on, which have passed or will."""
        known = bytearray(self.read_at(offset, _READ))
        if known or offset >= self._count:
            self._kept = offset, known

    def read_at(self, offset: int, size: int) -> bytes:
        """Give bytes of the opening, the ending, or what was kept, as far as they have come."""
        if found := bytes(self._opening[offset : offset + size]):
            return found
        start, kept = self._kept
        if not 0 <= offset - start < len(kept):
            start, kept = self._count - self._ending_size, bytearray(self.read_ending())
        return bytes(kept[offset - start : offset - start + size]) if offset >= start else b""

    def read_ahead(self, offset: int, size: int) -> bytes:
        """Wait for bytes of the opening, and put back what came meanwhile."""
        self._waiting = b""
        while len(self._opening) < offset + size and self._read(_READ):
            self._waiting = b""
        self._waiting = bytes(self._opening)
        return self.read_at(offset, size)

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
    if not file.seekable():
        return PipeSource(file)
    plain = isinstance(getattr(file, "raw", file), io.FileIO)  # unlike one that is unpacked
    return FileSource(file) if plain else ObjectSource(file)

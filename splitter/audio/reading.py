"""A song file as blocks of sound."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import soundfile

from splitter.audio.blocks import Block
from splitter.errors import AudioError

_BITS = {"PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 32}  # all else is given back as 16


class SongReader:
    """A song that is being read, from first to last sample; made by `open_song`."""

    def __init__(self, source: str, file: BinaryIO) -> None:
        self.source = source
        try:
            self._sound = soundfile.SoundFile(file)
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{source}: no sound that can be read ({error.error_string})"
            ) from error
        self.rate: int = self._sound.samplerate  # Hz
        self.channels: int = self._sound.channels
        self.samples: int | None = self._sound.frames  # None: unknown, as in a pipe
        self.bits: int = _BITS.get(self._sound.subtype, 16)  # the depth to give back
        self.floating: bool = self._sound.subtype in ("FLOAT", "DOUBLE")
        self._file = file

    def read_blocks(self, size: int = 65536) -> Iterator[Block]:
        """Yield the song in blocks of `size` samples; the last one may be shorter."""
        while True:
            samples = self._sound.read(size, dtype="float32", always_2d=True)
            if not len(samples):
                return
            yield np.ascontiguousarray(samples.T)  # (samples, channels) -> (channels, samples)

    def close(self) -> None:
        """Close the file."""
        self._sound.close()
        self._file.close()

    def __enter__(self) -> "SongReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_song(source: Path | BinaryIO) -> SongReader:
    """Open a song for reading; what it is is decided by its content, never by its name."""
    if not isinstance(source, Path):
        return SongReader(str(getattr(source, "name", "the stream")), source)
    try:
        file = source.open("rb")
    except OSError as error:
        raise AudioError(f"{source}: cannot be opened ({error.strerror})") from error
    try:
        return SongReader(str(source), file)
    except AudioError:
        file.close()
        raise

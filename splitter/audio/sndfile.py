"""Decoding by libsndfile: what only it reads, and empty files that FFmpeg refuses."""

from collections.abc import Iterator

import soundfile

from splitter.audio.announced import read_ogg_ending
from splitter.audio.blocks import Block
from splitter.audio.decoder import DamagedError, UndecodableError, describe_break
from splitter.audio.sources import Source

_DEPTHS = {"PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 32}  # all else is given back as 16


class SndfileDecoder:
    """A file that seeks."""

    cover: bytes | None = None

    def __init__(self, source: Source) -> None:
        self._source = source
        source.stream.seek(0)
        try:
            self._sound = soundfile.SoundFile(source.stream)
        except (soundfile.LibsndfileError, TypeError) as error:
            raise UndecodableError("no sound that can be read; is it a song?") from error
        self.rate: int = self._sound.samplerate
        self.channels: int = self._sound.channels
        self.samples: int | None = self._sound.frames
        self.bits = _DEPTHS.get(self._sound.subtype, 16)
        self.floating = self._sound.subtype in ("FLOAT", "DOUBLE")
        self.metadata: dict[str, str] = self._sound.copy_metadata()

    def read_arrays(self, patient: bool) -> Iterator[Block]:
        """Yield (channels, samples)."""
        while True:
            try:
                array = self._sound.read(4096, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                if patient:
                    return
                raise DamagedError("damaged") from error
            if not len(array):
                return
            yield array.T  # (samples, channels) -> (channels, samples)

    def find_end(self, decoded: int) -> int:
        """Keep all: libsndfile leaves no padding."""
        return decoded

    def find_fault(self, decoded: int) -> str | None:
        """Compare with the announced length."""
        if decoded < self._sound.frames:
            return describe_break(decoded, self.rate, self._sound.frames)
        if self._sound.format == "OGG" and not read_ogg_ending(self._source.read_ending()).whole:
            return describe_break(decoded, self.rate)
        return None

    def close(self) -> None:
        """Free what libsndfile holds."""
        self._sound.close()

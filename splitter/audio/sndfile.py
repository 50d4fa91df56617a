"""libsndfile: decoding what only it reads, and empty files that FFmpeg refuses."""

from collections.abc import Iterator

import soundfile

from splitter.audio.blocks import Block
from splitter.audio.decoder import DamagedError, Fault, UndecodableError, describe_break
from splitter.audio.ogg import read_ending
from splitter.audio.sources import Source

_MOST_OF_NOTHING = 16384  # bytes of a file without a sample: its head, and some tags
_DEPTHS = {"PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 32}  # all else is given back as 16


class SndfileDecoder:
    """A file that seeks."""

    cover: bytes | memoryview | None = None
    places: str | None = None  # soundfile does not tell
    most: int | None = None  # libsndfile looks itself
    sure = True

    def __init__(self, source: Source) -> None:
        self._source = source
        self.remarks: list[str] = []
        try:
            self._sound = soundfile.SoundFile(source.for_sndfile(), closefd=False)
        except (soundfile.LibsndfileError, TypeError) as error:
            source.check()
            raise UndecodableError("not an audio file, or its format is unknown") from error
        self.rate: int = self._sound.samplerate
        self.channels: int = self._sound.channels
        self.samples: int | None = self._sound.frames
        if not self.samples and source.measure() > _MOST_OF_NOTHING:
            raise UndecodableError("its header says that it is empty, but it is not")
        self.bits = _DEPTHS.get(self._sound.subtype, 16)
        self.floating = self._sound.subtype in ("FLOAT", "DOUBLE")
        self.metadata: dict[str, str] = self._sound.copy_metadata()
        self.native: dict[str, list[str]] = {}

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

    def find_fault(self, decoded: int) -> Fault | None:
        """Compare with the length that the header states."""
        if decoded < self._sound.frames:
            return describe_break(decoded, self.rate, self._sound.frames)
        if self._sound.format == "OGG" and not read_ending(self._source.read_ending()).whole:
            return describe_break(decoded, self.rate)
        return None

    def close(self) -> None:
        """Free what libsndfile holds."""
        self._sound.close()

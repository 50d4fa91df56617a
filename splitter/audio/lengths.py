"""How long a track is, by what its file states, or by what FFmpeg makes of that."""

import re
from fractions import Fraction
from typing import Any

from splitter.audio.headers import Header
from splitter.audio.ogg import Ending, find_ending, find_last_granule, read_ending
from splitter.audio.rest import MOV
from splitter.audio.sources import Source

# FFmpeg takes a track's duration from the file, not from an estimate; tolerance in seconds
DURATION_IS_EXACT = {
    "flac": 0.0,
    "aiff": 0.0,
    "au": 0.0,
    "wv": 0.0,
    "tta": 0.0,
    "ape": 0.0,
    MOV: 0.002,  # an edit list may count in milliseconds
}
_ITUNES_GAPLESS = re.compile(r"(?:\s*[0-9A-F]{8}){3}\s+([0-9A-F]{16})")  # …, samples


class StatedLength:
    """The part of a decoder that asks its file how long the sound is, in samples."""

    rate: int  # Hz
    channels: int
    metadata: dict[str, str]
    _source: Source
    _container: Any
    _track: Any
    _format: str
    _codec: str
    _header: Header
    _duration: int | None  # samples, exact
    _ogg_stream: bytes
    _ogg_alone: bool

    def _find_duration(self) -> int | None:
        """Give the track's duration in samples where the file states it."""
        track = self._track
        if self._format not in DURATION_IS_EXACT or not track.duration:
            return None
        if self._format == "aiff" and not self._codec.startswith("pcm_"):
            return None  # FFmpeg counts bytes there
        if self._format == MOV and ((track.start_time or 0) > 0 or self._is_first_part):
            return None  # an empty edit is a part of it, or is not
        if self._format == "flac":
            return int(track.duration)  # in samples, also where the head states a wrong rate
        return self._to_samples(track.duration, track)

    @property
    def _itunes(self) -> str:
        """Give iTunes' note of delay and length; in another container it is of another file."""
        return str(self.metadata.get("itunsmpb", "")) if self._format == MOV else ""

    def _find_samples(self) -> int | None:
        """Give the number of samples that the file states, exactly; None where it does not."""
        gapless = _ITUNES_GAPLESS.match(self._itunes)
        if gapless:
            return int(gapless[1], 16)
        return self._header.samples or (None if self._is_open else self._duration)

    @property
    def _is_open(self) -> bool:
        """Tell whether its head was written before anybody knew how long the sound would be."""
        return self._header.sound is not None

    @property
    def _is_first_part(self) -> bool:
        """Tell whether the index that FFmpeg has seen tells of the first fragment alone."""
        return not self._header.timed and not self._source.seekable

    def _measure_sound(self) -> int | None:
        """Count the samples of PCM from its first byte to the end of the file."""
        if not self._source.seekable or not self._codec.startswith("pcm_"):
            return None
        bits = re.search(r"\d+", self._codec)  # none in the names of a-law and µ-law, which have 8
        size = (int(bits[0]) if bits else 8) // 8 * self.channels  # bytes
        return max(self._source.measure() - (self._header.sound or 0), 0) // size if size else None

    def _estimate_samples(self) -> int | None:
        """Give FFmpeg's own idea of the length, good enough for a progress bar."""
        if self._is_open:  # FFmpeg would believe other sizes in the same head
            return self._measure_sound()
        skipped = 0
        if self._codec == "opus" and self._format == "ogg":
            head = self._track.codec_context.extradata or b""
            skipped = int.from_bytes(head[10:12], "little") * self.rate // 48000
        if self._source.seekable and not self._ogg_alone:
            end = self._find_ogg_end()
            return None if end is None else max(end - skipped, 0)
        duration: int | None = self._container.duration  # microseconds
        if not duration or duration < 0 or self._is_first_part:
            return None
        return max(round(duration * self.rate / 1_000_000) - skipped, 0)

    def _find_ogg_end(self) -> int | None:
        """Give what the last page of the track states: samples, or those at 48 kHz of Opus."""
        if self._source.seekable and not self._ogg_alone:
            return find_last_granule(self._source.read_at, self._ogg_stream)
        ending = self._find_page(self._ogg_stream)
        return ending.granule if ending.granule >= 0 else None

    def _find_page(self, stream: bytes = b"") -> Ending:
        """Find the last page of an Ogg stream, or of any."""
        if self._source.seekable:
            return find_ending(self._source.read_at, self._source.measure(), stream)
        return read_ending(self._source.read_ending(), stream)

    def _to_samples(self, duration: int, timed: Any) -> int:
        """Convert from the time base of a packet or a track."""
        seconds: Fraction = duration * timed.time_base
        rate: int = self._track.codec_context.sample_rate
        return round(seconds * rate)

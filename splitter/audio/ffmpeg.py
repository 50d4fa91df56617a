"""Decoding by FFmpeg, through PyAV, which brings its own: nothing has to be installed."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from splitter.audio.blocks import Block
from splitter.audio.decoder import PADDING, DamagedError, UndecodableError, describe_break
from splitter.audio.headers import (
    Header,
    measure_mp3_frame,
    read_header,
    read_ogg_ending,
)
from splitter.audio.options import RAW_ENCODINGS, RawFormat
from splitter.audio.sources import Source

_PCM_MAGIC = (b"RIFF", b"RF64", b"FORM")
_MOV = "mov,mp4,m4a,3gp,3g2,mj2"
# FFmpeg takes a track's duration from the file, not from an estimate; tolerance in seconds
_DURATION_IS_EXACT = {
    "flac": 0.0,
    "aiff": 0.0,
    "caf": 0.0,
    "w64": 0.0,
    "au": 0.0,
    "wv": 0.0,
    "tta": 0.0,
    "ape": 0.0,
    _MOV: 0.002,  # an edit list may count in milliseconds
}
_TOGETHER = 4096  # samples at least that are passed on: each array costs Python time of its own
_ITUNES_GAPLESS = re.compile(r"(?:\s*[0-9A-F]{8}){3}\s+([0-9A-F]{16})")  # …, samples
_DEPTHS = {"u8": 16, "s16": 16, "s32": 24, "s64": 32, "flt": 32, "dbl": 32}


class FFmpegDecoder:
    """The first sound track of whatever FFmpeg reads."""

    def __init__(self, source: Source, raw: RawFormat | None) -> None:
        self._source = source
        self._container = _open_container(source, raw)
        try:
            self._choose_track(raw)
        except BaseException:
            self._container.close()
            raise

    def _choose_track(self, raw: RawFormat | None) -> None:
        if not self._container.streams.audio:
            raise UndecodableError("no sound in it; is it a song?")
        self._track = self._container.streams.audio[0]
        if self._track.codec_context is None:
            raise UndecodableError("its sound is encrypted or in an unknown codec")
        self._format: str = self._container.format.name
        self._codec: str = self._track.codec_context.name
        self._ogg_vorbis = self._codec == "vorbis" and self._format == "ogg"
        if self._ogg_vorbis:
            # FFmpeg cuts the end of short files too early; `find_end` knows better. This also
            # keeps what the first packet gives, which is no sound; `_decode` drops that.
            self._track.codec_context.flags2 |= av.codec.context.Flags2.skip_manual
        self._packer: Any = None
        self.cover: bytes | None = None
        self._failed = False  # something could not be decoded, and nothing good has come since
        self._torn = False  # a packet is shorter than it should be
        self._damage: str | None = None  # where something good has come since
        self._priming = 0  # samples before the song that a track's duration may include
        self._last_packet = b"", 0  # its first bytes, its size
        self._last_frame = 0, 0  # samples: decoded, and by the container
        self._packets = self._container.demux(self._track, *self._find_pictures())
        self._frames = self._decode()
        self._first = next(self._frames, None)  # only now rate and channels are certain
        self._describe(raw)
        if self._first is None and (self._failed or self._exact):
            raise UndecodableError("not one sample of it can be decoded")

    def _describe(self, raw: RawFormat | None) -> None:
        context = self._track.codec_context
        shape = self._first or context
        self.rate: int = shape.sample_rate
        self.channels: int = len(shape.layout.channels)
        sample_format = context.format.name.rstrip("p") if context.format else "s16"
        lossless = context.codec.lossless
        self.floating = lossless and sample_format in ("flt", "dbl")
        self.bits = _DEPTHS.get(sample_format, 16) if lossless else 16
        if self._codec.startswith("pcm_s32"):
            self.bits = 32
        if raw:
            self.bits = RAW_ENCODINGS[raw.encoding]
        self.metadata = _join_metadata(self._container.metadata, self._track.metadata)
        self._header = Header() if raw else read_header(self._source.read_at)
        self._duration = self._find_duration()
        self._exact = self._find_samples()
        self.samples = self._exact if self._exact is not None else self._estimate_samples()

    def _find_pictures(self) -> list[Any]:
        attached = av.stream.Disposition.attached_pic
        return [v for v in self._container.streams.video if v.disposition & attached]

    def _find_duration(self) -> int | None:
        """Give the track's duration in samples where the file states it."""
        track = self._track
        if self._format not in _DURATION_IS_EXACT or not track.duration:
            return None
        return self._to_samples(track.duration, track)

    def _find_samples(self) -> int | None:
        """Give the number of samples that the file states, exactly; None where it does not."""
        gapless = _ITUNES_GAPLESS.match(self.metadata.get("itunsmpb", ""))
        if gapless:
            return int(gapless[1], 16)
        return self._header.samples or self._duration

    def _estimate_samples(self) -> int | None:
        """Give FFmpeg's own idea of the length, good enough for a progress bar."""
        duration: int | None = self._container.duration  # microseconds
        if not duration or duration < 0:
            return None
        skipped = 0
        if self._codec == "opus" and self._format == "ogg":
            head = self._track.codec_context.extradata or b""
            skipped = int.from_bytes(head[10:12], "little") * self.rate // 48000
        return max(round(duration * self.rate / 1_000_000) - skipped, 0)

    def read_arrays(self, patient: bool) -> Iterator[Block]:
        """Yield what is decoded as (channels, samples), some frames at a time."""
        frame, decoded = self._first, 0
        waiting: list[Block] = []
        passed = 0
        while frame is not None:
            if self._failed:
                self._damage = self._damage or f"damaged near {decoded / self.rate:.2f} s"
                if not patient:
                    yield from waiting
                    raise DamagedError(self._damage)
            self._failed = False
            decoded += frame.samples
            waiting.append(_to_block(self._pack(frame)))
            if decoded - passed >= _TOGETHER:
                yield np.concatenate(waiting, axis=1)
                waiting, passed = [], decoded
            frame = next(self._frames, None)
        yield from waiting

    def _decode(self) -> Iterator[Any]:
        """Yield frames of one shape; what cannot be decoded only leaves its mark."""
        shape, first = None, self._ogg_vorbis
        for packet in self._read_packets():
            try:
                frames = packet.decode()[int(first) :]
            except av.FFmpegError:
                self._failed = True
                continue
            first = False
            for frame in frames:
                shape = shape or _shape(frame)
                if _shape(frame) != shape:
                    self._failed = True
                elif frame.samples:
                    self._last_frame = frame.samples, self._stated_samples(frame, packet)
                    yield frame
            # a short packet of PCM is no more than that: `find_fault` counts
            self._torn |= packet.is_corrupt and not self._codec.startswith("pcm_")

    def _read_packets(self) -> Iterator[Any]:
        while True:
            try:
                packet = next(self._packets, None)
            except av.FFmpegError:
                self._failed, packet = True, None
            self._source.check()
            if packet is None:
                return
            if packet.stream is not self._track:
                self.cover = bytes(packet) if packet.size else self.cover
                continue
            if packet.size:
                self._last_packet = bytes(memoryview(packet)[:4]), packet.size
                if packet.pts is not None and packet.pts < 0:
                    self._priming = max(self._priming, self._to_samples(-packet.pts, packet))
            yield packet

    def _pack(self, frame: Any) -> Any:
        """Interleave frames of 8 channels and more: PyAV reads beyond the eighth plane."""
        if not frame.format.is_planar or frame.layout.nb_channels < 8:
            return frame
        self._packer = self._packer or av.AudioResampler(frame.format.packed.name)
        (packed,) = self._packer.resample(frame)
        return packed

    def _stated_samples(self, frame: Any, packet: Any) -> int:
        """Give the frame's length as the container has it, which cuts the last one to measure."""
        if self._format == _MOV and packet.duration and packet.time_base:
            return self._to_samples(packet.duration, packet)
        return int(frame.samples)

    def _to_samples(self, duration: int, timed: Any) -> int:
        """Convert from the time base of a packet or a track."""
        seconds: Fraction = duration * timed.time_base
        rate: int = self._track.codec_context.sample_rate
        return round(seconds * rate)

    def find_end(self, decoded: int) -> int:
        """Drop the padding that fills the last frames of lossy codecs."""
        last, stated = self._last_frame
        end = self._exact
        if self._ogg_vorbis:
            end = read_ogg_ending(self._source.read_ending()).granule
        elif stated < last and "itunsmpb" not in self.metadata:
            end = decoded - last + stated
        return end if end is not None and 0 <= decoded - end <= PADDING else decoded

    def find_fault(self, decoded: int) -> str | None:
        """Compare what came with what the header states."""
        exact = self._exact
        tolerance = round(_DURATION_IS_EXACT.get(self._format, 0.0) * self.rate) + self._priming
        if exact is not None and decoded < exact - tolerance:
            return describe_break(decoded, self.rate, exact)
        if self._torn or self._lacks_bytes() or (self._failed and self._failure_counts(decoded)):
            return describe_break(decoded, self.rate)
        return self._damage

    def _lacks_bytes(self) -> bool:
        head, size = self._last_packet
        if self._header.end is not None and self._source.measure() < self._header.end:
            return True
        if self._format == "ogg":
            return not read_ogg_ending(self._source.read_ending()).whole
        return self._codec.startswith("mp3") and size < measure_mp3_frame(head)

    def _failure_counts(self, decoded: int) -> bool:
        """Tell sound that is missing at the end from tags and junk behind the sound."""
        if self._exact is not None:
            return decoded < self._exact
        return not self._codec.startswith("mp3")  # no mp3 frame fails for being cut short

    def close(self) -> None:
        """Free what FFmpeg holds."""
        self._container.close()


def _open_container(source: Source, raw: RawFormat | None) -> Any:
    # A playlist in the disguise of a song must not open other files.
    options = {"protocol_whitelist": "none"}
    if not source.seekable and source.read_at(0, 4) in _PCM_MAGIC:
        options["probesize"] = "65536"  # bytes; FFmpeg would look for other codecs for 5 seconds
    if raw:
        options |= {"sample_rate": str(raw.rate), "ch_layout": f"{raw.channels}C"}
    try:
        return av.open(
            source.stream,
            format=raw.encoding if raw else None,
            options=options,
            metadata_errors="replace",
        )
    except av.FFmpegError as error:
        source.check()
        raise UndecodableError("no sound that can be read; is it a song?") from error


def _shape(frame: Any) -> tuple[int, int, str]:
    return frame.sample_rate, frame.layout.nb_channels, frame.format.name


def _to_block(frame: Any) -> Block:
    """Bring any sample format to float32 (channels, samples)."""
    if frame.format.name == "fltp":  # of most lossy codecs; to_ndarray takes as long as decoding
        return np.array([np.frombuffer(p, np.float32, frame.samples) for p in frame.planes])
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, len(frame.layout.channels)).T  # (1, samples · channels)
    if array.dtype == np.uint8:
        array = array.astype(np.float32) - 128
        return np.asarray(array / 128, np.float32)
    if np.issubdtype(array.dtype, np.integer):
        scale = np.float32(-float(np.iinfo(array.dtype).min))
        return np.asarray(array.astype(np.float32) / scale)
    return np.asarray(array, np.float32)


def _join_metadata(container: dict[str, str], track: dict[str, str]) -> dict[str, str]:
    """Join the two places where formats keep their tags; the container's come first."""
    return {key.lower(): value for key, value in [*track.items(), *container.items()]}

"""Decoding by FFmpeg, through PyAV, which brings its own: nothing has to be installed."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from splitter.audio.blocks import Block
from splitter.audio.decoder import (
    INAUDIBLE,
    PADDING,
    DamagedError,
    Fault,
    UndecodableError,
    describe_break,
)
from splitter.audio.fields import read_text
from splitter.audio.fitting import Fitter
from splitter.audio.frames import Unpacker
from splitter.audio.headers import (
    Header,
    read_header,
)
from splitter.audio.layouts import name_layout
from splitter.audio.mpeg import ADTS, has_gap
from splitter.audio.native import read_native
from splitter.audio.ogg import (
    find_last_granule,
    has_broken_pages,
    is_one_page,
    list_streams,
    read_ending,
)
from splitter.audio.options import RAW_ENCODINGS, RawFormat
from splitter.audio.sources import Source
from splitter.audio.tracks import choose_track

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
# containers that count without a pause; seconds that may be missing all the same
_WITHOUT_GAPS = {"flac": 0.0, "asf": INAUDIBLE}
# they begin and end anywhere, so that what comes before the first good frame is no damage
_STREAMS = ("aac", "ac3", "eac3", "dts", "loas", "mp3", "mpeg", "mpegts")
_CHECKSUMS = ("flac", "wavpack", "tta", "ape", "ac3")  # codecs whose frames have one
_DSD_RATE = 352_800  # Hz, of DSD64: faster DSD has nothing but noise above
_DENSEST = 6000  # samples per byte: FLAC has silence of 65,535 in 11 bytes (RFC 9639)
_TOGETHER = 4096  # samples at least that are passed on: each array costs Python time of its own
_ITUNES_GAPLESS = re.compile(r"(?:\s*[0-9A-F]{8}){3}\s+([0-9A-F]{16})")  # …, samples
_DEPTHS = {"u8": 16, "s16": 16, "s32": 24, "s64": 32, "flt": 32, "dbl": 32}


class FFmpegDecoder:
    """One sound track of whatever FFmpeg reads; closes the container in the end."""

    def __init__(
        self, source: Source, container: Any, raw: RawFormat | None, track: str | None
    ) -> None:
        self._source = source
        self._container = container
        self._track, self.remarks = choose_track(container, track)
        self._format: str = container.format.name
        self._codec: str = self._track.codec_context.name
        if self._codec in _CHECKSUMS:
            # a frame whose checksum does not fit is an error: FFmpeg would decode it all the same
            self._track.codec_context.options = {"err_detect": "crccheck+explode"}
        self._ogg_vorbis = self._codec == "vorbis" and self._format == "ogg"
        streams = list_streams(source.read_at) if self._format == "ogg" else []
        self._ogg_stream = streams[self._track.index] if self._track.index < len(streams) else b""
        self._ogg_alone = len(streams) < 2
        if self._ogg_vorbis or self._format == "caf":
            # FFmpeg cuts the end of short files too early, and that of ALAC twice; `find_end` knows
            # better. This also keeps what Vorbis' first packet gives, which is no sound; `_decode`
            # drops that.
            self._track.codec_context.flags2 |= av.codec.context.Flags2.skip_manual
        self.cover: bytes | memoryview | None = None
        self._failed = False  # something could not be decoded, and nothing good has come since
        self._undecoded = 0  # packets
        self._torn = False  # a packet is shorter than it should be
        self._damage: str | None = None  # where something good has come since
        self._sound_end = 0  # bytes, behind the last packet
        self._priming = 0  # samples before the song that a track's duration may include
        self._last_frame = 0, 0  # samples: decoded, and by the container
        self._first_granule = 0
        self._decoded = 0  # samples
        self._first_place: Fraction | None = None  # seconds, by the container
        self._lost = 0  # samples that it has counted on its way to the last frame, and nobody got
        self._packets = self._read_packets()
        self._frames = self._decode()
        self._first = next(self._frames, None)  # only now rate and channels are certain
        self._describe(raw)
        if self._first is None and (self._failed or self.samples):
            raise UndecodableError("not one sample of it can be decoded")
        if self._ogg_vorbis and self._first and not is_one_page(source.read_at, self._ogg_stream):
            self._first_granule = self._first.pts or 0  # not 0 in what was cut out
        if self._format in _STREAMS:
            self._failed = False
            if self._undecoded > 1:  # one may have been cut
                frames = f"its first {self._undecoded} frames cannot be decoded"
                self.remarks.append(f"{frames}; it begins behind them")

    def _describe(self, raw: RawFormat | None) -> None:
        context = self._track.codec_context
        shape = self._first or context
        rate = self._rate_of(shape) if self._first else shape.sample_rate
        self.rate: int = min(rate, _DSD_RATE) if self._is_dsd else rate
        self.layout: Any = shape.layout
        self.places = name_layout(shape.layout)
        self.channels: int = len(shape.layout.channels)
        sample_format = context.format.name.rstrip("p") if context.format else "s16"
        lossless = context.codec.lossless
        if context.codec.lossy and self._codec != "wavpack" and sample_format in ("flt", "dbl"):
            lossless = False  # DTS is both, and without loss gives integers
        self.floating = lossless and sample_format in ("flt", "dbl")
        self.bits = _DEPTHS.get(sample_format, 16) if lossless else 16
        if self._codec.startswith("pcm_s32"):
            self.bits = 32
        if self._is_dsd:
            self.bits, self.floating = 24, False
        if raw:
            self.bits = RAW_ENCODINGS[raw.encoding]
        self.metadata = _join_metadata(self._container.metadata, self._track.metadata)
        self.native = {} if raw else read_native(self._source, self._format)
        self._header = Header() if raw else read_header(self._source.read_at)
        self._duration = self._find_duration()
        self._skipped = self._header.skipped
        self._exact = self._find_samples()
        self.samples = self._exact if self._exact is not None else self._estimate_samples()
        paged = self._format == "ogg" and (self._ogg_alone or self.samples is not None)
        self.sure = self._exact is not None or paged
        self.most: int | None = None
        if self._source.seekable:
            densest = 1 if self._codec.startswith("pcm_") else _DENSEST
            self.most = self._source.measure() * densest + PADDING

    @property
    def _is_dsd(self) -> bool:
        return self._codec.startswith("dsd_")

    def _find_pictures(self) -> list[Any]:
        """Give the tracks that are a picture each, the front cover first."""
        attached = av.stream.Disposition.attached_pic
        pictures = [v for v in self._container.streams.video if v.disposition & attached]
        return sorted(pictures, key=lambda v: v.metadata.get("comment") != "Cover (front)")

    def _find_duration(self) -> int | None:
        """Give the track's duration in samples where the file states it."""
        track = self._track
        if self._format not in _DURATION_IS_EXACT or not track.duration:
            return None
        if self._format in ("w64", "aiff") and not self._codec.startswith("pcm_"):
            return None  # FFmpeg counts bytes there
        if self._format == _MOV and (track.start_time or 0) > 0:
            return None  # an empty edit is a part of it, or is not
        if self._format == "flac":
            return int(track.duration)  # in samples, also where the head states a wrong rate
        return self._to_samples(track.duration, track)

    @property
    def _itunes(self) -> str:
        """Give iTunes' note of delay and length; in another container it is of another file."""
        return str(self.metadata.get("itunsmpb", "")) if self._format == _MOV else ""

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
        if not duration or duration < 0:
            return None
        return max(round(duration * self.rate / 1_000_000) - skipped, 0)

    def _find_ogg_end(self) -> int | None:
        """Give what the last page of the track states: samples, or those at 48 kHz of Opus."""
        if self._source.seekable and not self._ogg_alone:
            return find_last_granule(self._source.read_at, self._ogg_stream)
        ending = read_ending(self._source.read_ending(), self._ogg_stream)
        return ending.granule if ending.granule >= 0 else None

    def read_arrays(self, patient: bool) -> Iterator[Block]:
        """Yield what is decoded as (channels, samples), some frames at a time."""
        frame, decoded, skipped = self._first, 0, self._skipped
        unpack = Unpacker().unpack
        fitter = Fitter(self.rate, self.layout, self.remarks.append)
        waiting: list[Block] = []
        passed = 0
        while frame is not None:
            if self._failed:
                self._damage = self._damage or f"damaged near {decoded / self.rate:.2f} s"
                if not patient:
                    yield from waiting
                    raise DamagedError(self._damage)
            self._failed, self._undecoded = False, 0
            for block in fitter.feed(unpack(frame), self._rate_of(frame), frame.layout):
                waiting.append(block[:, skipped:])
                decoded += waiting[-1].shape[1]
                skipped = max(skipped - block.shape[1], 0)
            if decoded - passed >= _TOGETHER:
                yield np.concatenate(waiting, axis=1)
                waiting, passed = [], decoded
            frame = next(self._frames, None)
        yield from [*waiting, fitter.finish()]

    def _rate_of(self, frame: Any) -> int:
        """Return the rate in Hz of a frame that was just decoded."""
        rate: int = frame.sample_rate
        return rate

    def _decode(self) -> Iterator[Any]:
        """Yield frames; what cannot be decoded only leaves its mark."""
        first = self._ogg_vorbis
        for packet in self._packets:
            try:
                frames = self._track.codec_context.decode(packet)[int(first) :]
            except av.FFmpegError:
                self._failed = True
                self._undecoded += 1
                continue
            first = False
            for frame in frames:
                if frame.samples:
                    self._last_frame = frame.samples, self._stated_samples(frame, packet)
                    self._note_place(frame)
                    yield frame
            # a short packet of PCM is no more than that: `find_fault` counts
            self._torn |= packet.is_corrupt and not self._codec.startswith("pcm_")

    def _read_packets(self) -> Iterator[Any]:
        packets = self._container.demux(self._track, *self._find_pictures()[:1])
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                self._failed, packet = True, None
            if packet is None:
                self._source.check()
                return
            if packet.stream is not self._track:
                self.cover = memoryview(packet) if packet.size else self.cover
                continue
            if packet.size and packet.pts is not None and packet.pts < 0:
                self._priming = max(self._priming, self._to_samples(-packet.pts, packet))
            if packet.size:
                self._sound_end = (packet.pos or 0) + packet.size
            yield packet

    def _note_place(self, frame: Any) -> None:
        """Compare the place of a frame with the number of samples before it."""
        if frame.pts is not None:
            place = Fraction(frame.pts * frame.time_base)
            self._first_place = place if self._first_place is None else self._first_place
            self._lost = round((place - self._first_place) * frame.sample_rate) - self._decoded
        self._decoded += frame.samples

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
        if self._codec.startswith("pcm_") and self._format != _MOV:
            return decoded  # has no padding, and FFmpeg's count of it may be an estimate
        last, stated = self._last_frame
        end = self._exact
        if self._ogg_vorbis:
            place = self._find_ogg_end()
            end = None if place is None else place - self._first_granule
        elif stated < last and not self._itunes:
            end = decoded - last + stated
        return end if end is not None and 0 <= decoded - end <= PADDING else decoded

    def find_fault(self, decoded: int) -> Fault | None:
        """Compare what came with what the header states."""
        exact = self._exact
        tolerance = self._header.slack + self._priming
        tolerance += round(_DURATION_IS_EXACT.get(self._format, 0.0) * self.rate)
        fault = None
        if exact is not None and decoded < exact - tolerance:
            fault = self._describe_shortage(decoded, exact)
        elif end := self._find_missing_end(decoded):
            fault = describe_break(decoded, self.rate, end)
        elif self._is_torn() or (self._failed and self._failure_counts(decoded)):
            fault = describe_break(decoded, self.rate, exact)
        elif self._failed and self._format == _MOV:  # tags and junk are no packets of it
            fault = describe_break(decoded, self.rate, decoded + self._last_frame[0])
        if fault is None:
            fault = self._find_gap(decoded)
        if self._damage and (fault is None or fault.inaudible):
            return Fault(self._damage)
        return fault

    def _find_gap(self, decoded: int) -> Fault | None:
        """Look for what FFmpeg passes over without a word: by pages or frames, else by time."""
        if self._format == "ogg":
            broken = self._source.seekable and has_broken_pages(self._source.restart())
            return Fault("damaged: some of its pages are broken or missing") if broken else None
        if self._format == "aac" and self._source.seekable:
            broken = has_gap(self._source.restart(), ADTS)
            return Fault("damaged: some bytes in its middle are no sound") if broken else None
        if not self._has_gaps():
            return None
        text = f"has gaps: {self._lost / self.rate:.2f} s of its sound are missing"
        if self._format in _WITHOUT_GAPS:
            return Fault(text)
        self.remarks.append(text)  # a recorder may have paused: the picture goes on meanwhile
        return None

    def _has_gaps(self) -> bool:
        allowed = _WITHOUT_GAPS.get(self._format, INAUDIBLE)
        untimed = self._format in _STREAMS and self._format != "mpegts"
        return not untimed and self._lost > allowed * self.rate

    def _describe_shortage(self, decoded: int, exact: int) -> Fault | None:
        if self._has_gaps():
            if self._format == _MOV and exact - decoded - self._lost <= INAUDIBLE * self.rate:
                return None  # the rest is there: `_find_gap` tells
            return Fault(f"has gaps: {exact - decoded} of its samples are missing")
        if self._format == "flac" and not self._failed:
            # a file that breaks off does so within a frame; tools that cut leave the old length
            share = f"{decoded / self.rate:.2f} of {exact / self.rate:.2f} s"
            self.remarks.append(f"was cut from a longer song: {share} are left")
            return None
        return describe_break(decoded, self.rate, exact)

    def _find_missing_end(self, decoded: int) -> int | None:
        """Estimate where the song would end, in samples, if the file lacks bytes."""
        stated, size = self._header.end, self._source.measure()
        if stated is None or size >= stated:
            return self._find_missing_time(decoded)
        return max(round(decoded * stated / size), decoded + 1)

    def _find_missing_time(self, decoded: int) -> int | None:
        """Compare with the duration of a Matroska file of one track, in samples, or of a WAV.

        Behind damage FFmpeg may find no other cluster, and end as if that were the end. A WAV
        whose codec is not what its head says gives much less than its bytes a second promise.
        """
        if self._format == "wav" and not self._codec.startswith("pcm_"):
            return self.samples if self.samples and 2 * decoded < self.samples else None
        tracks = len(self._container.streams) - len(self._find_pictures())
        stated = self._header.timed and self._container.duration  # or else FFmpeg has estimated it
        if "matroska" not in self._format or tracks > 1 or not stated:
            return None
        seconds = self._container.duration / 1e6 - float(self._first_place or 0)
        end = round(seconds * self.rate)
        return end if end - decoded > INAUDIBLE * self.rate else None

    def _is_torn(self) -> bool:
        """Tell whether it ends within a page or a packet; without an end it may be a recording."""
        if self._torn or self._format != "ogg":
            return self._torn and not self._is_open
        ending = read_ending(self._source.read_ending())
        if ending.whole and not ending.last:
            self.remarks.append("is a recording without an end; its last moment may be missing")
        return not ending.whole

    def _failure_counts(self, decoded: int) -> bool:
        """Tell sound that is missing at the end from tags and junk behind the sound."""
        if self._is_open and self._undecoded <= 1:
            return False  # what was written into a pipe ends anywhere
        if self._exact is None and self._format == "wv" and self._ends_in_tags():
            return False  # which FFmpeg knows of a file only
        return self._exact is None or decoded < self._exact

    def _ends_in_tags(self) -> bool:
        """Tell whether nothing but tags comes behind the last packet."""
        rest, ending = self._source.measure() - self._sound_end, self._source.read_ending()
        if rest <= len(ending):
            return rest > 0 and ending[-rest:].startswith((b"APETAGEX", b"TAG", b"ID3"))
        if ending[-128:].startswith(b"TAG"):
            rest, ending = rest - 128, ending[:-128]
        size = int.from_bytes(ending[-20:-16], "little")  # of a large cover, without the tag's head
        return ending[-32:-24] == b"APETAGEX" and rest - size in (0, 32)

    def close(self) -> None:
        """Free what FFmpeg holds."""
        self._container.close()


def _join_metadata(container: dict[str, str], track: dict[str, str]) -> dict[str, str]:
    """Join the two places where formats keep their tags; the container's come first."""
    texts = [*track.items(), *container.items()]
    return {read_text(key).lower(): read_text(value) for key, value in texts}

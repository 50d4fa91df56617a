"""Decoding by FFmpeg, through PyAV, which brings its own: nothing has to be installed."""

from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from splitter.audio.ac3 import divide_packet
from splitter.audio.blocks import Block
from splitter.audio.decoder import (
    INAUDIBLE,
    PADDING,
    DamagedError,
    Fault,
    UndecodableError,
    describe_break,
)
from splitter.audio.fields import join_metadata
from splitter.audio.fitting import Fitter
from splitter.audio.frames import Unpacker
from splitter.audio.headers import Header, read_header
from splitter.audio.layouts import name_layout
from splitter.audio.lengths import DURATION_IS_EXACT, StatedLength
from splitter.audio.mpeg import ADTS, has_gap, measure_tag
from splitter.audio.native import read_native
from splitter.audio.ogg import has_broken_pages, is_one_page, list_streams
from splitter.audio.options import RAW_ENCODINGS, RawFormat
from splitter.audio.padding import cut_out
from splitter.audio.rest import MOV, Rest, find_rest, has_rest, is_counted_by_packets, measure_tags
from splitter.audio.segments import MOST, begins_unlike
from splitter.audio.sources import Source
from splitter.audio.tracks import choose_track

# containers that count without a pause; seconds that may be missing all the same
_WITHOUT_GAPS = {"flac": 0.0, "asf": INAUDIBLE}
# they begin and end anywhere, so that what comes before the first good frame is no damage
_STREAMS = ("aac", "ac3", "eac3", "dts", "loas", "mp3", "mpeg", "mpegts")
_CHECKSUMS = ("flac", "wavpack", "tta", "ape", "ac3")  # codecs whose frames have one
_DSD_RATE = 352_800  # Hz, of DSD64: faster DSD has nothing but noise above
_DENSEST = 6000  # samples per byte: FLAC has silence of 65,535 in 11 bytes (RFC 9639)
_OGG_TAIL = 60_000  # bytes, in which FFmpeg surely finds a last page
_TOGETHER = 4096  # samples at least that are passed on: each array costs Python time of its own
_JOINED = "is joined from unlike recordings, of which only the first can be read; split it"
_DEPTHS = {"u8": 16, "s16": 16, "s32": 24, "s64": 32, "flt": 32, "dbl": 32}


class FFmpegDecoder(StatedLength):
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
        self._sound_end = 0  # bytes, behind the last packet that could be decoded
        self._joined = False  # a recording has begun that the decoder does not fit
        self._priming = 0  # samples before the song that a track's duration may include
        self._last_frame = 0, 0  # samples: decoded, and by the container
        self._first_granule = 0
        self._decoded = 0  # samples
        self._first_place: float | None = None  # seconds, by the container
        self._following = 0.0  # seconds, where the last frame ends
        self._lost = 0  # samples that it has counted on its way to the last frame, and nobody got
        self._packets = self._read_packets()
        self._frames = self._decode()
        self._first: Any = None
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
        self.metadata = join_metadata(self._container.metadata, self._track.metadata)
        self.native = {} if raw else read_native(self._source, self._format)
        source = self._source
        self._header = Header() if raw else read_header(source.read_at, source.seekable)
        self.remarks += filter(None, [self._header.remark])
        source.keep(self._header.stop or 0)
        self._duration = self._find_duration()
        self._skipped = self._header.skipped
        self._exact = self._find_samples()
        self.samples = self._exact if self._exact is not None else self._estimate_samples()
        paged = self._format == "ogg" and (self._ogg_alone or self.samples is not None)
        if paged and source.seekable and self._ogg_alone:  # FFmpeg looks at the last 64 KB only
            paged = source.measure() - (self._find_page().end or 0) < _OGG_TAIL
        self.sure = self._exact is not None or paged
        self.most: int | None = None
        if source.seekable:
            densest = 1 if self._codec.startswith("pcm_") else _DENSEST
            self.most = source.measure() * densest + PADDING

    @property
    def _is_dsd(self) -> bool:
        return self._codec.startswith("dsd_")

    def _find_pictures(self) -> list[Any]:
        """Give the tracks that are a picture each, the front cover first."""
        attached = av.stream.Disposition.attached_pic
        pictures = [v for v in self._container.streams.video if v.disposition & attached]
        return sorted(pictures, key=lambda v: v.metadata.get("comment") != "Cover (front)")

    def read_arrays(self, patient: bool) -> Iterator[Block]:
        """Yield what is decoded as (channels, samples), some frames at a time."""
        return cut_out(self._read_frames(patient), 0, self._header.cut)

    def _read_frames(self, patient: bool) -> Iterator[Block]:
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
        if self._joined:
            place = min(decoded, self._exact or decoded)
            self._damage = self._damage or f"{_JOINED} after {place / self.rate:.2f} s"
            if not patient:
                raise DamagedError(self._damage)

    def _rate_of(self, frame: Any) -> int:
        """Return the rate in Hz of a frame that was just decoded."""
        rate: int = frame.sample_rate
        return rate

    def _decode(self) -> Iterator[Any]:
        """Yield frames; what cannot be decoded only leaves its mark."""
        first = self._ogg_vorbis
        for packet in self._packets:
            if self._begins_another(packet):
                return
            shorter, junk = self._cut_junk(packet)
            try:
                frames = self._track.codec_context.decode(shorter)[int(first) :]
            except av.FFmpegError:
                self._failed = True
                self._undecoded += 1
                continue
            first = False
            for frame in frames:
                if self._changes_flac(frame):
                    return
                if frame.samples:
                    self._last_frame = frame.samples, self._stated_samples(frame, packet)
                    self._note_place(frame)
                    yield frame
            if packet.size and packet.pos is not None:
                self._sound_end = packet.pos + packet.size - len(junk.rstrip(b"\0"))
            self._failed |= len(junk) > measure_tag(junk[:32])
            # a short packet of PCM is no more than that: `find_fault` counts
            self._torn |= packet.is_corrupt and not self._codec.startswith("pcm_")

    def _cut_junk(self, packet: Any) -> tuple[Any, bytes]:
        """Divide a packet of AC-3 in its frame and what FFmpeg has joined to it."""
        if self._format not in ("ac3", "eac3") or not packet.size:
            return packet, b""
        frame, junk = divide_packet(bytes(packet))
        return (av.Packet(frame), junk) if junk else (packet, b"")

    def _read_packets(self) -> Iterator[Any]:
        packets = self._container.demux(self._track, *self._find_pictures()[:1])
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                # in Ogg the pages tell, and what lies behind them is no damage
                self._failed, packet = self._failed or self._format != "ogg", None
            if packet is None:
                self._source.check()
                return
            if packet.stream is not self._track:
                self.cover = memoryview(packet) if packet.size else self.cover
                continue
            if packet.size and packet.pts is not None and packet.pts < 0:
                self._priming = max(self._priming, self._to_samples(-packet.pts, packet))
            yield packet

    def _begins_another(self, packet: Any) -> bool:
        """Note a packet of a joined Matroska file that is not for this decoder."""
        if "matroska" not in self._format or not packet.size or packet.pts is None:
            return False
        jump = packet.pts * packet.time_base - self._following
        if jump < -INAUDIBLE and packet.pos:
            size = min(max(packet.pos - self._sound_end, 0), MOST)
            between = self._source.read_at(self._sound_end, size)
            self._joined = begins_unlike(self._track.codec_context, between)
        return self._joined

    def _changes_flac(self, frame: Any) -> bool:
        """Note a FLAC joined from unlike ones: FFmpeg gives some of it twice, and some not."""
        first = self._first
        self._joined |= bool(
            self._format == "flac"
            and first
            and (frame.sample_rate, frame.layout.name) != (first.sample_rate, first.layout.name)
        )
        return self._joined

    def _note_place(self, frame: Any) -> None:
        """Compare the place of a frame with the number of samples before it."""
        place: float | None = frame.time  # fractions would take as long as decoding
        if place is not None:
            self._following = place + frame.samples / frame.sample_rate
            self._first_place = place if self._first_place is None else self._first_place
            self._lost = round((place - self._first_place) * frame.sample_rate) - self._decoded
        self._decoded += frame.samples

    def _stated_samples(self, frame: Any, packet: Any) -> int:
        """Give the frame's length as the container has it, which cuts the last one to measure."""
        if self._format == MOV and packet.duration and packet.time_base:
            return self._to_samples(packet.duration, packet)
        return int(frame.samples)

    def find_end(self, decoded: int) -> int:
        """Drop the padding that fills the last frames of lossy codecs."""
        if self._codec.startswith("pcm_") and self._format != MOV:
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
        rest = self._find_rest().describe()  # first: a pipe remembers little
        exact = self._exact
        tolerance = self._header.slack + self._priming
        tolerance += round(DURATION_IS_EXACT.get(self._format, 0.0) * self.rate)
        fault = None
        if exact is not None and decoded < exact - tolerance:
            fault = self._describe_shortage(decoded, exact)
        elif end := self._find_missing_end(decoded):
            fault = describe_break(decoded, self.rate, end)
        elif self._is_torn() or (self._failed and self._failure_counts(decoded)):
            fault = describe_break(decoded, self.rate, exact)
        elif self._failed and self._format == MOV:  # tags and junk are no packets of it
            fault = describe_break(decoded, self.rate, decoded + self._last_frame[0])
        if fault is None:
            fault = self._find_gap(decoded)
        if self._damage and (fault is None or fault.inaudible or self._joined):
            return Fault(self._damage)
        if fault is None and rest:
            self.remarks.append(rest)
        return fault

    def _find_rest(self) -> Rest:
        """Look for what lies behind the sound, where its format tells where that is."""
        place = self._sound_end if is_counted_by_packets(self._format) else self._header.stop
        if self._format == "ogg":
            place = self._find_page().end
        if not place or not has_rest(self._format):
            return Rest()
        heard = place if self._header.cut else self._sound_end
        return find_rest(self._source, self._format, place, heard)

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
            if self._format == MOV and exact - decoded - self._lost <= INAUDIBLE * self.rate:
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
        seconds = self._container.duration / 1e6 - (self._first_place or 0.0)
        end = round(seconds * self.rate)
        return end if end - decoded > INAUDIBLE * self.rate else None

    def _is_torn(self) -> bool:
        """Tell whether it ends within a page or a packet; without an end it may be a recording."""
        if self._torn or self._format != "ogg":
            return self._torn and not self._is_open
        ending = self._find_page()
        if ending.whole and not ending.last:
            self.remarks.append("is a recording without an end; its last moment may be missing")
        return not ending.whole

    def _failure_counts(self, decoded: int) -> bool:
        """Tell sound that is missing at the end from tags and junk behind the sound."""
        if self._is_open and self._undecoded <= 1:
            return False  # what was written into a pipe ends anywhere
        if self._exact is None and self._ends_in_tags():
            return False
        return self._exact is None or decoded < self._exact

    def _ends_in_tags(self) -> bool:
        """Tell whether nothing but tags and zeros comes behind the last packet."""
        rest = find_rest(self._source, "", self._sound_end)
        return rest.size <= measure_tags(self._source.read_ending())

    def close(self) -> None:
        """Free what FFmpeg holds."""
        self._container.close()

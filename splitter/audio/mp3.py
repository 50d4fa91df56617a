"""Decoding MPEG audio frame by frame, so that nothing sound is refused and nothing is lost."""

from collections.abc import Iterator
from typing import Any

import av

from splitter.audio.decoder import PADDING, Fault, describe_break
from splitter.audio.ffmpeg import FFmpegDecoder
from splitter.audio.mpeg import Claim, Frame, FrameHeader, Gap, Start, Torn, walk
from splitter.audio.resampling import resampled_length

_SLACK = 3  # frames by which a header may err; it counts its own frame, or one that was cut off
_LONGEST = 1729  # bytes of a frame
_JUNK = 1 << 17  # bytes before or behind the frames that are no part of a song


class MpegDecoder(FFmpegDecoder):
    """The frames of an mp3, found by `walk`; FFmpeg only decodes them.

    What is missing is decided by what its own first frame claims, if it has such a tag, within
    three frames: tags are made by many programs, and that much nobody hears (see `Fault`).
    Without, damage is what lies between two frames and is neither a tag nor a beginning.
    """

    _claim: Claim | None = None  # of the first recording
    _last: Claim | None = None  # of the recording that is being read
    _missing = 0  # frames of it
    _frame_samples, _frame_rate = 1152, 44100
    _torn_frame: FrameHeader | None = None
    _recorded = False  # it began within a frame, so it may end there
    _lost = 0  # bytes before and behind the frames

    def _read_packets(self) -> Iterator[Any]:
        self.cover = self._read_cover()
        first = True
        for piece in walk(self._source.restart()):
            if isinstance(piece, Frame):
                self._missing -= 1
                self._frame_samples, self._frame_rate = piece.header.samples, piece.header.rate
                yield av.Packet(piece.data)
            elif isinstance(piece, Start):
                self._failed |= self._missing > _SLACK
                self._last = piece.claim
                self._missing = piece.claim.frames if piece.claim else 0
                self._claim = piece.claim if first else self._claim
                first = False
            elif isinstance(piece, Torn):
                self._torn_frame = piece.header
            elif isinstance(piece, Gap):
                self._note_gap(piece)
        self._failed |= first

    def _rate_of(self, _: Any) -> int:
        """Return what the frame's own header says: FFmpeg gives the first of a new rate the old."""
        return self._frame_rate

    def _note_gap(self, gap: Gap) -> None:
        if gap.place == "middle":
            self._failed = True
        elif gap.place in ("head", "end"):
            self._lost += gap.size
            self._recorded |= gap.place == "head"

    def _find_samples(self) -> int | None:
        if self._claim is None:
            return None
        self._skipped = self._claim.skipped
        return self._claim.samples

    def find_end(self, decoded: int) -> int:
        """Drop the encoder's padding, if no frame is missing; there may be more than claimed."""
        if self._last is None or self._missing > 0 or self._torn_frame:
            return decoded
        padding = resampled_length(self._last.padding, self._frame_rate, self.rate)
        return max(decoded - min(padding, PADDING), 0)

    @property
    def _claimed(self) -> bool:
        return self._last is not None and self._last.frames > 0

    def find_fault(self, decoded: int) -> Fault | None:
        """Compare the frames that came with those that the first one claims."""
        frame = self._torn_frame.samples if self._torn_frame else self._frame_samples
        if self._missing > _SLACK:
            return describe_break(decoded, self.rate, decoded + self._missing * frame)
        if self._damage:
            return Fault(self._damage)
        if self._torn_frame and (self._claimed or self._recorded):
            torn = max(self._missing, 1) * frame * self.rate // self._torn_frame.rate
            return describe_break(decoded, self.rate, decoded + torn)
        if self._torn_frame or self._failed:
            return describe_break(decoded, self.rate)
        if self._lost > 2 * _LONGEST and not self._claimed:  # more than two frames that were cut
            text = f"{self._lost} bytes before or behind its sound are not audio"
            if self._lost > _JUNK:
                return Fault(text)
            self.remarks.append(text)
        return None

    def _read_cover(self) -> bytes | memoryview | None:
        pictures = self._find_pictures()
        if not pictures:
            return None
        try:
            return memoryview(next(self._container.demux(pictures[0])))
        except (StopIteration, av.FFmpegError):
            return None

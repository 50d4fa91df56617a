"""From FFmpeg's frames to blocks of one shape, be the frames of another.

frame ── to_block ──▶ ── mix ──▶ (the song's channels) ── Resampler ──▶ (the song's rate)
"""

from collections.abc import Callable
from typing import Any

import av
import numpy as np

from splitter.audio.blocks import Block
from splitter.audio.resampling import Resampler


class Fitter:
    """Makes blocks of frames; those unlike the song are converted, as in joined recordings."""

    def __init__(self, rate: int, layout: Any, tell: Callable[[str], None]) -> None:
        self._rate, self._layout = rate, layout
        self._tell = tell  # once, that the recording changes
        self._told = False
        self._given = 0  # samples
        self._channels: int = layout.nb_channels
        self._shape = rate, self._channels
        self._resampler = Resampler(rate, rate, self._channels)
        self._packer: Any = None

    def feed(self, frame: Any) -> list[Block]:
        """Take a frame, and give the blocks (channels, samples) that are ready."""
        shape = frame.sample_rate, frame.layout.nb_channels
        ready = []
        if shape != self._shape:
            ready.append(self.finish())
            self._resampler = Resampler(shape[0], self._rate, self._channels)
            self._describe(shape)
            self._shape = shape
        ready.append(self._resampler.feed(self._mix(frame)))
        self._given += sum(block.shape[1] for block in ready)
        return ready

    def _describe(self, shape: tuple[int, int]) -> None:
        if self._told or not self._given:
            return
        self._told = True
        place = f"after {self._given / self._rate:.2f} s"
        change = f"from {_name(self._shape)} to {_name(shape)}"
        self._tell(f"changes {change} {place}; its stems stay as it began")

    def finish(self) -> Block:
        """Give what is left."""
        return self._resampler.finish()

    def _mix(self, frame: Any) -> Block:
        """Bring a frame to the song's channels; one without one-channel sound as FFmpeg mixes."""
        channels = frame.layout.nb_channels
        if channels == self._channels:
            return _to_block(self._pack(frame))
        if 1 in (channels, self._channels):
            mono = _to_block(self._pack(frame)).mean(axis=0, dtype=np.float32)
            return np.tile(mono, (self._channels, 1))
        frame.pts = None
        (mixed,) = av.AudioResampler("fltp", self._layout).resample(frame)
        return _to_block(mixed)

    def _pack(self, frame: Any) -> Any:
        """Interleave frames of 8 channels and more: PyAV reads beyond the eighth plane."""
        if not frame.format.is_planar or frame.layout.nb_channels < 8:
            return frame
        self._packer = self._packer or av.AudioResampler(frame.format.packed.name)
        (packed,) = self._packer.resample(frame)
        return packed


def _name(shape: tuple[int, int]) -> str:
    rate, channels = shape
    return f"{rate} Hz {({1: 'mono', 2: 'stereo'}).get(channels, f'{channels} channels')}"


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

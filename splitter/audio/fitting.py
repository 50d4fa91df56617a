"""Sound of another shape, brought to the one that a song began with, as in joined recordings.

block ── mix ──▶ (the song's channels) ── Resampler ──▶ (the song's rate)
"""

from collections.abc import Callable
from typing import Any

import av
import numpy as np

from splitter.audio.blocks import Block
from splitter.audio.resampling import Resampler


class Fitter:
    """Passes blocks on; converts those unlike the song, and tells the first change."""

    def __init__(self, rate: int, layout: Any, tell: Callable[[str], None]) -> None:
        self._rate, self._layout = rate, layout
        self._tell = tell
        self._told = False
        self._given = 0  # samples
        self._shape = rate, layout.nb_channels
        self._resampler = Resampler(rate, rate, layout.nb_channels)

    def feed(self, block: Block, rate: int, layout: Any) -> list[Block]:
        """Take a block (channels, samples), and give those that are ready."""
        shape = rate, layout.nb_channels
        ready = []
        if shape != self._shape:
            ready.append(self.finish())
            self._resampler = Resampler(rate, self._rate, self._layout.nb_channels)
            self._describe(shape)
            self._shape = shape
        ready.append(self._resampler.feed(_mix(block, layout, self._layout)))
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


def _mix(block: Block, source: Any, target: Any) -> Block:
    """Bring a block to other channels: mono is copied, or the mean of all; else as FFmpeg does."""
    if source.nb_channels == target.nb_channels:
        return block
    if 1 in (source.nb_channels, target.nb_channels):
        mean = block.mean(axis=0, dtype=np.float32, keepdims=True)
        return np.repeat(mean, target.nb_channels, axis=0)
    # interleaved: of eight channels and more PyAV (18) takes no planes
    interleaved = np.ascontiguousarray(block.T).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(interleaved, "flt", source)
    frame.sample_rate = 48000  # any
    (mixed,) = av.AudioResampler("flt", target).resample(frame)
    found: Block = np.asarray(mixed.to_ndarray(), np.float32).reshape(-1, target.nb_channels).T
    return found


def _name(shape: tuple[int, int]) -> str:
    rate, channels = shape
    return f"{rate} Hz {({1: 'mono', 2: 'stereo'}).get(channels, f'{channels} channels')}"

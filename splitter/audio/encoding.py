"""What happens to a stem's blocks on their way into a file.

    blocks ── mono ── resample ── peak ── gain ── count and clamp ── dither ── encoder ──▶ bytes

With `clip` float or rescale, what has to be done is known only at the end of the song. Until then
the samples wait in a hidden file, as floats, so that memory stays small. The peak is that of what
is written: at another rate a song may exceed full scale where it did not at its own.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from splitter.audio.blocks import Block, Dither, find_peak, full_scale
from splitter.audio.encoders import open_encoder
from splitter.audio.files import PARTS, PartFile
from splitter.audio.formats import OutputFormat, find_container, find_shape
from splitter.audio.resampling import Resampler

_REPLAYED = 65536  # samples at a time
_TOGETHER = 65536  # samples that an encoder gets at a time, at its own rate


class StemEncoder(Protocol):
    """Takes a stem's blocks, at its own rate, until it is closed; the file stays open."""

    format: OutputFormat
    clipped: int  # samples cut off at full scale
    gain: float

    def write(self, block: Block) -> None:
        """Add a block (channels, samples)."""

    def close(self, peak: float) -> None:
        """Write what is left; `peak` is the largest magnitude in all stems of the song."""

    def discard(self) -> None:
        """Free what is held, and remove what only this encoder knows of."""


class Converter:
    """Brings blocks to the channels and the rate of a settled format."""

    def __init__(self, settled: OutputFormat, rate: int, channels: int) -> None:
        self.rate, self.channels = find_shape(settled, rate, channels)
        self._mono = settled.mono
        self._resampler = Resampler(rate, self.rate, self.channels)
        # samples at a time: from 8 to 384 kHz a block becomes 48 times as long
        self._piece = max(_TOGETHER * rate // self.rate, 1)

    def feed(self, block: Block) -> Iterator[Block]:
        """Take (channels, samples); yield what is ready of them."""
        if self._mono:
            block = block.mean(axis=0, keepdims=True)  # (channels, samples) -> (1, samples)
        for start in range(0, block.shape[1], self._piece):
            yield self._resampler.feed(block[:, start : start + self._piece])

    def finish(self) -> Iterator[Block]:
        """Yield what is left."""
        yield self._resampler.finish()


class DirectEncoder:
    """Writes blocks as they come, in a settled format (see `fit_format`)."""

    gain = 1.0

    def __init__(
        self,
        file: BinaryIO,
        settled: OutputFormat,
        shape: tuple[int, int],
        layout: str | None = None,
    ) -> None:
        self.format = settled
        self.clipped = 0
        self._encoder = open_encoder(file, settled, *shape, layout)
        bits = settled.bits or 16
        lossy = find_container(settled.container).lossy
        self._clamps = settled.clip != "float" if lossy else bits < 32
        self._dither = Dither(bits, settled.dither) if settled.dither else None

    def write(self, block: Block) -> None:
        """Add a block (channels, samples)."""
        if self._clamps and find_peak(block) > 1:
            self.clipped += int(np.count_nonzero(np.abs(block) > 1))
            block = np.clip(block, -1, 1)
        self._encoder.write(self._dither.add(block) if self._dither else block)

    def close(self, peak: float) -> None:
        """Write what is left."""
        self._encoder.close()

    def discard(self) -> None:
        """Free what is held."""
        self._encoder.discard()


class WaitingEncoder:
    """Keeps the blocks as floats until the peak is known, and encodes them then."""

    def __init__(
        self,
        file: BinaryIO,
        settled: OutputFormat,
        shape: tuple[int, int],
        beside: Path,
        layout: str | None = None,
    ) -> None:
        self.format = settled
        self.clipped = 0
        self.gain = 1.0
        self._file = file
        self._shape, self._layout = shape, layout
        _, self._channels = shape
        self._floats = PartFile(beside, PARTS[1])
        self._encoder: DirectEncoder | None = None

    def write(self, block: Block) -> None:
        """Add a block (channels, samples)."""
        self._floats.file.write(block.T.astype("<f4").tobytes())

    def close(self, peak: float) -> None:
        """Settle format and gain, and encode everything."""
        if self.format.clip == "float" and peak > 1:
            self.format = replace(self.format, bits=32, dither=0)
        elif self.format.clip == "rescale" and peak > 1:
            self.gain = _largest(self.format) / peak
        self._encoder = DirectEncoder(self._file, self.format, self._shape, self._layout)
        for block in self._replay():
            self._encoder.write(block * np.float32(self.gain))
        self._encoder.close(peak)
        self.clipped = self._encoder.clipped
        self._floats.discard()

    def _replay(self) -> Iterator[Block]:
        self._floats.file.seek(0)
        while data := self._floats.file.read(4 * self._channels * _REPLAYED):
            # (samples, channels) -> (channels, samples)
            yield np.frombuffer(data, "<f4").reshape(-1, self._channels).T

    def discard(self) -> None:
        """Free what is held, and remove the hidden file."""
        if self._encoder:
            self._encoder.discard()
        self._floats.discard()


def _largest(settled: OutputFormat) -> float:
    """Give the largest sample that a format holds."""
    if find_container(settled.container).lossy or settled.bits == 32:
        return 1.0
    return 1 - 1 / full_scale(settled.bits or 16)


def must_wait(settled: OutputFormat) -> bool:
    """Tell whether a format is settled only at the end of the song."""
    lossy = find_container(settled.container).lossy
    holds_floats = lossy or settled.bits == 32
    return settled.clip == "rescale" or (settled.clip == "float" and not holds_floats)

"""From one sample rate to another, by blocks, with soxr.

soxr takes its own delay back: sample `k` of the output lies at the time `k / target_rate` of the
input, and `n` samples become `resampled_length(n, …)`, whatever the size of the blocks.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from splitter.audio.blocks import Block


class Resampler:
    """A stream of blocks that is pushed through; with equal rates it passes untouched."""

    def __init__(self, source_rate: int, target_rate: int, channels: int) -> None:
        self._stream = None
        self._nothing: Block = np.zeros((channels, 0), np.float32)
        if source_rate != target_rate:
            self._stream = soxr.ResampleStream(
                source_rate, target_rate, channels, dtype="float32", quality="HQ"
            )

    def feed(self, block: Block) -> Block:
        """Take a block, and give what is ready: nothing, while the filter is filling up."""
        if self._stream is None:
            return block
        ready = self._stream.resample_chunk(block.T.copy())
        return np.ascontiguousarray(ready.T)

    def finish(self) -> Block:
        """Give what is left."""
        if self._stream is None:
            return self._nothing
        return np.ascontiguousarray(self._stream.resample_chunk(self._nothing.T, last=True).T)


def resampled_length(samples: int, source_rate: int, target_rate: int) -> int:
    """Give the number of samples after resampling: `samples * target / source`, rounded."""
    return (2 * samples * target_rate + source_rate) // (2 * source_rate)


def resample(
    blocks: Iterable[Block], source_rate: int, target_rate: int, channels: int
) -> Iterator[Block]:
    """Resample a stream of blocks; with equal rates they pass through untouched."""
    resampler = Resampler(source_rate, target_rate, channels)
    for block in blocks:
        ready = resampler.feed(block)
        if ready.size:
            yield ready
    rest = resampler.finish()
    if rest.size:
        yield rest


def resample_signal(
    signal: Block, source_rate: int, target_rate: int, quality: str = "HQ"
) -> Block:
    """Resample a whole signal (channels, samples) at once; `quality` is one of soxr's QQ to VHQ."""
    if source_rate == target_rate:
        return signal
    samples = signal.T.copy()  # (channels, samples) -> (samples, channels), as soxr wants it
    resampled = soxr.resample(samples, source_rate, target_rate, quality=quality)
    return np.ascontiguousarray(resampled.T, np.float32)

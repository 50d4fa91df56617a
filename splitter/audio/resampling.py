"""From one sample rate to another, by blocks, with soxr.

soxr takes its own delay back: sample `k` of the output lies at the time `k / target_rate` of the
input, and `n` samples become `resampled_length(n, …)`, whatever the size of the blocks.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from splitter.audio.blocks import Block


def resampled_length(samples: int, source_rate: int, target_rate: int) -> int:
    """Give the number of samples after resampling: `samples * target / source`, rounded."""
    return (2 * samples * target_rate + source_rate) // (2 * source_rate)


def resample(
    blocks: Iterable[Block], source_rate: int, target_rate: int, channels: int
) -> Iterator[Block]:
    """Resample a stream of blocks; with equal rates they pass through untouched."""
    if source_rate == target_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(source_rate, target_rate, channels, dtype="float32", quality="HQ")
    for block in blocks:
        yield from _filled(stream.resample_chunk(block.T))
    yield from _filled(stream.resample_chunk(np.zeros((0, channels), np.float32), last=True))


def resample_signal(
    signal: Block, source_rate: int, target_rate: int, quality: str = "HQ"
) -> Block:
    """Resample a whole signal (channels, samples) at once; `quality` is one of soxr's QQ to VHQ."""
    if source_rate == target_rate:
        return signal
    resampled = soxr.resample(signal.T, source_rate, target_rate, quality=quality)
    return np.ascontiguousarray(resampled.T, np.float32)


def _filled(samples: Block) -> Iterator[Block]:
    """Yield (samples, channels) as a block, unless the filter is still filling up."""
    if len(samples):
        yield np.ascontiguousarray(samples.T)

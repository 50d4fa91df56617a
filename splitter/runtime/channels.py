"""Which channels of a song a network hears together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Signals = npt.NDArray[np.float32]

# Which channels a listener hears as one pair, by number of channels, in the order of WAV files
# (front left and right, centre, low, back, side): a network for stereo gets them together.
PAIRS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((0,),),
    2: ((0, 1),),
    3: ((0, 1), (2,)),
    4: ((0, 1), (2, 3)),
    5: ((0, 1), (2,), (3, 4)),
    6: ((0, 1), (2,), (3,), (4, 5)),
    7: ((0, 1), (2,), (3,), (4,), (5, 6)),
    8: ((0, 1), (2,), (3,), (4, 5), (6, 7)),
}


def channel_pairs(channels: int, at_once: int) -> Sequence[Sequence[int]]:
    """Group a song's channels into those that a network of `at_once` channels gets together."""
    if channels == at_once:
        return [range(channels)]
    alone = [(channel,) for channel in range(channels)]
    return PAIRS.get(channels, alone) if at_once == 2 else alone


def take_pair(signals: Signals, pair: Sequence[int], at_once: int) -> Signals:
    """Take a pair's (…, at_once, samples) of (…, channels, samples).

    A channel on its own is heard on both sides.
    """
    if [*pair] == [*range(at_once)] == [*range(signals.shape[-2])]:
        return signals  # no copy: a tile is large
    return signals[..., [pair[min(i, len(pair) - 1)] for i in range(at_once)], :]


def give_pair(answer: Signals, pair: Sequence[int]) -> Signals:
    """Keep of (…, stems, at_once, samples) as many channels as the pair has."""
    return answer if len(pair) == answer.shape[-2] else answer.mean(axis=-2, keepdims=True)

"""Examples side by side, made ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from splitter.training.augmentation import Array
from splitter.training.critics import Loose
from splitter.training.mixing import Example, Mixer
from splitter.training.ranks import Ranks
from splitter.training.recipe import Recipe

AHEAD = 4  # batches
LooseExample = tuple[Array, Array, Array, float]


@dataclass(frozen=True)
class Batch:
    """Examples side by side."""

    mixture: Tensor  # (batch, channels, samples)
    vocals: Tensor  # (batch, channels, samples)
    bandwidth: Tensor  # (batch,), Hz
    loose: Loose | None = None  # what critics compare, if there are any


def batches(
    mixer: Mixer, recipe: Recipe, first: int, until: int, workers: int = 1, ranks: Ranks = Ranks()
) -> Generator[Batch]:
    """Yield the batches of the steps `first` to `until`, made ahead of their use by threads.

    With several ranks each gets its own part of every batch.
    """
    pool = ThreadPoolExecutor(workers)
    waiting: deque[tuple[list[Future[Example]], list[Future[LooseExample]]]] = deque()
    try:
        for step in range(first, until):
            indices = ranks.share(range(step * recipe.batch, (step + 1) * recipe.batch))
            loose = indices if recipe.adversarial.weight else ()
            examples = [pool.submit(mixer.example, i) for i in indices]
            waiting.append((examples, [pool.submit(mixer.loose, i) for i in loose]))
            if len(waiting) > AHEAD:
                yield _stack(*waiting.popleft())
        while waiting:
            yield _stack(*waiting.popleft())
    finally:  # what was made ahead would keep a training that is stopped for minutes
        pool.shutdown(cancel_futures=True)


def _stack(examples: list[Future[Example]], loose: list[Future[LooseExample]]) -> Batch:
    done = [example.result() for example in examples]
    return Batch(
        _join([example.mixture for example in done]),
        _join([example.vocals for example in done]),
        torch.tensor([example.bandwidth for example in done]),
        _stack_loose([each.result() for each in loose]) if loose else None,
    )


def _stack_loose(examples: list[LooseExample]) -> Loose:
    songs, voices, music, bandwidths = zip(*examples, strict=True)
    return Loose(_join(songs), (_join(voices), _join(music)), torch.tensor(bandwidths))


def _join(signals: Sequence[Array]) -> Tensor:
    return torch.stack([torch.as_tensor(signal) for signal in signals])


def is_finite(batch: Batch) -> Tensor:
    """Tell whether all that is heard is a number."""
    signals = [batch.mixture]
    if batch.loose:
        signals += [batch.loose.mixture, *batch.loose.stems]
    return torch.stack([torch.isfinite(signal).all() for signal in signals]).all()

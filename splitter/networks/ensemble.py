"""Several estimates of one song, averaged: of several networks, or of one that hears it anew.

What an estimate gets wrong by chance differs from one to the next, and averaging makes it smaller;
what all get wrong stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.contract import Network
from splitter.tiling import TileShape

SHIFT = 3  # shifts are a third of the grid: no step of 2ⁿ frames, nor the hop, divides that


class Average(Network):
    """Average the estimates of networks that are alike in rate and channels.

    Of each network `picks` says which of its stems they are, if not all; one behind the last is
    what these leave of the signal. `weights` say how much it counts: a number, or one for each
    stem. Where some see without bounds, all get the shortest of their tiles, with the widest
    context of all. Costs as much as all of them together.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        picks: Sequence[Sequence[int]] | None = None,
        weights: Sequence[float | Sequence[float]] = (),
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.picks = picks
        self.weights: list[float | Sequence[float]] = list(weights) or [1.0] * len(networks)
        tiles = [network.own_tiles for network in networks if network.own_tiles is not None]
        self._tiles = min(tiles, key=lambda shape: shape.core, default=None)
        self._grid = math.lcm(*(network.grid for network in networks))
        self._context = max(network.context for network in networks)
        if self._tiles is not None:
            grid = self._tiles.grid if self._tiles.grid < self._tiles.core else 1
            # what a network sees beyond the context of its own tiles, it does not hear alone either
            context = max((network.own_tiles or network).context for network in networks)
            self._tiles = replace(self._tiles, context=-(-context // grid) * grid)

    @property
    def grid(self) -> int:
        """Return the samples by which a tile may move: what all grids divide."""
        return self._grid

    @property
    def context(self) -> int:
        """Return how many samples to either side an output depends on: the widest of all."""
        return self._context

    @property
    def own_tiles(self) -> TileShape | None:
        """Return the shortest tiles that any of the networks has."""
        return self._tiles

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim)."""
        return _mean(self._estimates(signal, trim), self.weights)

    def _estimates(self, signal: Tensor, trim: int) -> Iterator[Tensor]:
        for index, network in enumerate(self.networks):
            assert isinstance(network, Network)
            surplus = _surplus(network.own_tiles, signal.shape[-1], trim)
            heard = signal[..., surplus : signal.shape[-1] - surplus]
            estimate: Tensor = network(heard, trim - surplus)
            if self.picks:
                own = signal[..., trim : signal.shape[-1] - trim]
                estimate = _pick(estimate, self.picks[index], own)
            yield estimate


def _pick(estimate: Tensor, picks: Sequence[int], signal: Tensor) -> Tensor:
    """Take stems by their ranks; one behind the last is what all of them leave of the signal."""
    if estimate.shape[1] in picks:
        left = signal[:, None] - estimate.float().sum(1, keepdim=True)
        estimate = torch.cat([estimate.float(), left], dim=1)  # a stem more
    return estimate[:, list(picks)]


class AverageOfUnlike(Average):
    """Average networks whose tiles differ: who runs them cuts the song anew for each of `parts`.

    So each gives what it gives alone. What is given to all of them at once is averaged as ever.
    """

    def __init__(self, parts: Sequence[Network], shares: Sequence[float]) -> None:
        super().__init__(parts, weights=shares)
        self.parts, self.shares = tuple(parts), tuple(shares)


def _surplus(tiles: TileShape | None, samples: int, trim: int) -> int:
    """Return the samples at both ends that a network without bounds would not hear alone."""
    if tiles is None:
        return 0
    if tiles.centred:  # a short core hears what is around it as well
        return min(trim, max(0, samples - tiles.core - 2 * tiles.context) // 2)
    return max(0, trim - tiles.context)


class Augmented(Network):
    """Average what a network makes of a song and of its changed copies (test-time augmentation).

    The copies have left and right swapped, lie a third of the grid later, or both: four times the
    network. Its frames and the steps of all its levels fall elsewhere on a copy that is moved.
    Polarity is not among the changes: a network that masks magnitudes is blind to it.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        # the song as it is, and moved, unless the network hears no difference at all; tiles of
        # their own length cannot be made longer
        shift = 0 if network.own_tiles else network.grid // SHIFT
        self.shifts = sorted({0, shift})

    @property
    def grid(self) -> int:
        """Return the network's own grid: copies move along with their tile."""
        return self.network.grid

    @property
    def context(self) -> int:
        """Return the network's own context: an output lies as far from what it sees as ever."""
        return self.network.context

    @property
    def own_tiles(self) -> TileShape | None:
        """Return the network's own tiles."""
        return self.network.own_tiles

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim)."""
        return _mean(self._views(signal, trim))

    def _views(self, signal: Tensor, trim: int) -> Iterator[Tensor]:
        for shift in self.shifts:
            moved = F.pad(signal, (shift, 0))
            yield self.network(moved, trim)[..., shift:]
            if signal.shape[1] > 1:
                yield self.network(moved.flip(1), trim)[..., shift:].flip(2)


def _mean(
    estimates: Iterable[Tensor], weights: Iterable[float | Sequence[float]] = repeat(1.0)
) -> Tensor:
    """Average tensors as they come; only the sum and one of them are in memory."""
    pairs = zip(estimates, weights, strict=False)
    estimate, stated = next(pairs)
    whole = _spread(stated, estimate)
    total = estimate.float() * whole
    for estimate, stated in pairs:
        weight = _spread(stated, estimate)
        total = total + estimate.float() * weight
        whole = whole + weight
    return total / whole


def _spread(weight: float | Sequence[float], estimate: Tensor) -> float | Tensor:
    """Return a weight, or those of each stem, as what (batch, stems, …) can be multiplied by."""
    if isinstance(weight, Sequence):
        return torch.tensor(weight, device=estimate.device)[:, None, None]
    return weight

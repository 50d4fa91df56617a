"""What every network promises."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn


class Network(nn.Module):
    """Map (batch, channels, samples) to (batch, stems, channels, samples), any samples ≥ 1."""

    @property
    @abstractmethod
    def grid(self) -> int:
        """Return the samples by which a tile may move without changing the result."""

    @property
    @abstractmethod
    def context(self) -> int:
        """Return how many samples to either side an output depends on."""

    @abstractmethod
    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim).

        `trim` samples at both ends are heard, but not given back: nothing need be computed for
        them alone.
        """

"""What every network promises."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, Protocol

import torch
from torch import Tensor, nn

from splitter.schema import Range
from splitter.tiling import TileShape

Window = Annotated[int, Range(16, 65536)]  # samples
Hop = Annotated[int, Range(8, 32768)]  # samples
Tile = Annotated[int, Range(256, 10_000_000)]  # samples; that of an unbounded network
Share = Annotated[float, Range(0, 0.99)]  # of a tile


class Network(nn.Module):
    """Map (batch, channels, samples) to (batch, stems, channels, samples), any samples ≥ 1.

    Making one on the device "meta" must tell its shapes: that is how a size is known beforehand.
    """

    @property
    @abstractmethod
    def grid(self) -> int:
        """Return the samples by which a tile may move without changing the result."""

    @property
    @abstractmethod
    def context(self) -> int:
        """Return how many samples to either side an output depends on."""

    @property
    def own_tiles(self) -> TileShape | None:
        """Return how a song must be cut for a network that sees without bounds; see Unbounded."""
        return None

    @abstractmethod
    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim).

        `trim` samples at both ends are heard, but not given back: nothing need be computed for
        them alone.
        """


class Unbounded(Network):
    """A network whose outputs depend on all that it is given: an LSTM, a transformer, a norm.

    A tile is not what the whole song would have given, so tiles overlap, and are faded into each
    other. Nothing can be left out, either: `trim` is cut off what was computed.
    """

    def __init__(self, tiles: TileShape) -> None:
        super().__init__()
        self._tiles = tiles

    @property
    def grid(self) -> int:
        """Return the core of a tile: all are whole."""
        return self._tiles.grid

    @property
    def context(self) -> int:
        """Return the context of a tile."""
        return self._tiles.context

    @property
    def own_tiles(self) -> TileShape:
        """Return the length, overlap and window that the network was made for."""
        return self._tiles


class Auxiliary(nn.Module):
    """A part of a network that adds to the loss of its training, and can say how it fares."""

    loss: Tensor | None = None  # of the last forward pass of a training

    def measure(self) -> Mapping[str, float]:
        """Return what a training's log is to say of this part."""
        return {}


def find_auxiliaries(network: nn.Module) -> Iterator[Auxiliary]:
    """Yield the parts of a network that have a loss of their own."""
    return (part for part in network.modules() if isinstance(part, Auxiliary))


class PictureNetwork(Protocol):
    """What draws a mask on a spectrogram."""

    @property
    def stride(self) -> int:
        """Return the number of frames that must come together: a picture has a multiple."""

    @property
    def rows(self) -> int:
        """Return the number of bands that must come together: a picture has a multiple."""

    @property
    def reach(self) -> int:
        """Return how many frames to either side an output depends on."""

    @property
    def span(self) -> int:
        """Return the frames that are seen at once, if an output depends on all; else 0."""

    def __call__(self, picture: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Map (batch, inputs, bands, frames) to logits (batch, outputs, bands, stop − start)."""


def move_network(network: nn.Module, device: torch.device | str) -> None:
    """Move a network to a device, and lay its 2-D convolutions' features side by side in memory."""
    network.to(device)
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)

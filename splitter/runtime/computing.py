"""What is asked of whoever runs a model, and how it is to be run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from splitter.errors import SplitterError
from splitter.registry import Config
from splitter.tiling import Block, Tile, TileShape

if TYPE_CHECKING:
    from splitter.networks import Network

Piece = npt.NDArray[np.float32]  # (stems, channels, samples): what a model makes of some sound
Runner = Callable[[Iterable[Tile]], Iterator[Piece]]
PRECISIONS = ("auto", "float32")
LEAST_CORE = 12 << 16  # samples of a tile that are kept: 18 s at 44.1 kHz


def check_precision(name: str) -> None:
    """Raise SplitterError for a precision that there is not."""
    if name not in PRECISIONS:
        raise SplitterError(f"no precision is called {name!r}; use {' or '.join(PRECISIONS)}")


@runtime_checkable
class Streaming(Protocol):
    """A model that is ready to go through songs as they come."""

    name: str
    hash: str
    config: Config
    lanes: int  # songs at a time that keep it busy
    precision: str  # of products: float32 or bfloat16

    @property
    def stems(self) -> tuple[str, ...]:
        """Return the names of all stems, the residual last."""

    def estimate(self, blocks: Iterable[Block], channels: int) -> Iterator[Piece]:
        """Yield the estimates of a song's blocks (channels, samples) at the model's rate."""

    def stop(self) -> None:
        """Have songs under way end early, by a StoppedError."""

    def close(self) -> None:
        """Stop, for good."""


@dataclass(frozen=True)
class Computing:
    """How, and by whom, a network is run.

    None of it changes what is computed, rounding apart, but `overlap`.
    """

    core: int = 0  # samples of a tile that are kept; 0: no fewer than are lost as context
    batch: int = 1  # tiles at a time; for lanes 0 is what memory holds
    precision: str = "auto"  # "auto": the fastest that the device has; or "float32"
    overlap: float | None = None  # of tiles, 0…1, where the network has its own; None: as it says
    runner: Runner | None = None  # who runs it, for many songs say; None: whoever asks for stems

    def tile_shape(self, network: Network) -> TileShape:
        """Say how songs are cut for a network: its context is computed with each tile, and lost."""
        if network.own_tiles is not None:
            tiles = network.own_tiles
            return tiles if self.overlap is None else tiles.overlapping(self.overlap)
        core = self.core or max(LEAST_CORE, 2 * network.context)
        return TileShape.for_network(core, network.context, network.grid)

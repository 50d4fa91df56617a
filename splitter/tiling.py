"""Overlap-tile: cut a stream into tiles with context, keep the core of each (Ronneberger 2015).

    song      ······················································
    tile 0    ctx|======core======|ctx
    tile 1                     ctx|======core======|ctx
    tile 2                                      ctx|==core==|ctx      the last core may be shorter

The network sees core and context; only the core is kept. Context that the song does not have, at
its two ends, is mirrored. When cores start on the network's grid and the context is as long as the
network can see, the kept cores are what the network would have made of the whole song: there is no
seam to hide. Memory is a tile, whatever the length of the song.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Block = npt.NDArray[np.float32]  # (channels, samples), as in splitter.audio
Item = TypeVar("Item")


@dataclass(frozen=True)
class TileShape:
    """How a song is cut; all in samples."""

    core: int  # a multiple of grid
    context: int  # on each side, a multiple of grid
    grid: int  # tiles start, and are long, multiples of this

    def __post_init__(self) -> None:
        if self.core < 1 or self.core % self.grid or self.context % self.grid:
            raise ValueError(f"core and context must be multiples of the grid: {self}")

    @classmethod
    def for_network(cls, core: int, context: int, grid: int) -> TileShape:
        """Return the smallest shape with at least this core and context that fits the grid."""
        return cls(max(1, -(-core // grid)) * grid, -(-context // grid) * grid, grid)


@dataclass(frozen=True)
class Tile:
    """A piece of song with context, and how many samples of its core are song."""

    signal: Block  # (channels, context + core + context)
    context: int  # samples on each side of the core
    kept: int  # samples of the core

    def keep(self, output: Block) -> Block:
        """Cut what is song out of what the network made of the core, (..., samples)."""
        return output[..., : self.kept]


def cut(blocks: Iterable[Block], shape: TileShape) -> Iterator[Tile]:
    """Cut a stream of (channels, samples) into tiles; the last one is as short as the grid allows.

    A song of no samples has no tiles.
    """
    source = iter(blocks)
    held: Block | None = None  # from where the next tile's context begins
    behind = 0  # samples of `held` before the next core
    while True:
        held = _fill(held, source, behind + shape.core + shape.context)
        if held is None or held.shape[-1] <= behind:
            return
        yield _first_tile(held, behind, shape)
        behind += shape.core
        surplus = max(0, behind - shape.context)
        held, behind = held[:, surplus:], behind - surplus


def _fill(held: Block | None, source: Iterator[Block], samples: int) -> Block | None:
    """Return `held` with as many blocks joined on as it takes to have `samples`, if there are."""
    parts = [] if held is None else [held]
    count = sum(part.shape[-1] for part in parts)
    while count < samples and (block := next(source, None)) is not None:
        parts.append(block)
        count += block.shape[-1]
    if len(parts) < 2:
        return parts[0] if parts else None
    return np.concatenate(parts, axis=-1)


def _first_tile(held: Block, behind: int, shape: TileShape) -> Tile:
    """Make the tile whose core begins after `behind` (at most the context) samples of `held`."""
    kept = min(shape.core, held.shape[-1] - behind)
    core = -(-kept // shape.grid) * shape.grid
    end = behind + core + shape.context
    after = max(0, end - held.shape[-1])
    return Tile(mirror(held[:, :end], shape.context - behind, after), shape.context, kept)


def stack_signals(tiles: Sequence[Tile]) -> Block:
    """Join the signals of tiles of one shape: (batch, channels, samples)."""
    if len(tiles) == 1:
        return tiles[0].signal[None]  # no copy: a tile is large
    return np.stack([tile.signal for tile in tiles])


def mirror(signal: Block, before: int, after: int) -> Block:
    """Extend (channels, samples) by its mirror image, as often as it takes.

    The first and last samples are not repeated; a single sample has no mirror image but itself.
    """
    if not before and not after:
        return signal
    return np.pad(signal, ((0, 0), (before, after)), mode="reflect")


def batched(items: Iterable[Item], size: int) -> Iterator[Sequence[Item]]:
    """Group a stream into lists of up to `size`."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

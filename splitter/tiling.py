r"""Overlap-tile: cut a stream into tiles with context, keep the core of each (Ronneberger 2015).

    song      ······················································
    tile 0    ctx|======core======|ctx
    tile 1                     ctx|======core======|ctx
    tile 2                                      ctx|==core==|ctx      the last core may be shorter

The network sees core and context; only the core is kept. Context that the song does not have, at
its two ends, is mirrored. When cores start on the network's grid and the context is as long as the
network can see, the kept cores are what the network would have made of the whole song: there is no
seam to hide. Memory is a tile, whatever the length of the song.

A network that sees without bounds (an LSTM, a transformer, a norm over time) has no such context.
The cores of its tiles overlap, and each is faded into the next by a window:

    core 0    /¯¯¯¯¯¯¯¯\
    core 1          /¯¯¯¯¯¯¯¯\              weights of one sample are divided by their sum
    core 2                /¯¯¯¯¯¯¯¯\
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Block = npt.NDArray[np.float32]  # (channels, samples), as in splitter.audio
Item = TypeVar("Item")
LEAST_WEIGHT = 1e-6  # a sample that no other tile has must not be divided by nothing


def _fade_linearly(samples: int) -> Block:
    """Rise and fall in a tenth of the samples."""
    window = np.ones(samples, np.float32)
    ramp = np.linspace(0, 1, samples // 10, dtype=np.float32)
    window[: len(ramp)] *= ramp
    window[samples - len(ramp) :] *= ramp[::-1]
    return window


def _rise_and_fall(samples: int) -> Block:
    """Rise to the middle, and fall."""
    rank = np.arange(1, samples + 1, dtype=np.float32)
    return np.asarray(np.minimum(rank, rank[::-1]) / ((samples + 1) // 2), np.float32)


WINDOWS: Mapping[str, Callable[[int], Block]] = {
    "flat": lambda samples: np.ones(samples, np.float32),
    "linear": _fade_linearly,
    "triangle": _rise_and_fall,
    "hann": lambda samples: np.hanning(samples).astype(np.float32),
}
BEYOND = {"mirror": "reflect", "silence": "constant"}  # in the words of np.pad


@dataclass(frozen=True)
class TileShape:
    """How a song is cut, and how what becomes of it is joined; all lengths in samples."""

    core: int  # a multiple of grid
    context: int  # on each side, a multiple of grid
    grid: int  # tiles start, and are long, multiples of this; as long as the core: all are whole
    overlap: int = 0  # of a core with the next one
    window: str = "flat"  # of WINDOWS: what a core's samples count where cores overlap
    border: int = 0  # from the start of the first core to that of the song
    beyond: str = "mirror"  # of BEYOND: what lies beyond the song's ends
    centred: bool = False  # a core that the song does not fill sees what is before it as well

    def __post_init__(self) -> None:
        off = self.context % self.grid and self.grid < self.core  # whole tiles may begin anywhere
        if self.core < 1 or self.core % self.grid or off:
            raise ValueError(f"core and context must be multiples of the grid: {self}")
        if not 0 <= self.overlap < self.core or not 0 <= self.border < self.core:
            raise ValueError(f"overlap and border must be shorter than the core: {self}")
        if self.window not in WINDOWS or self.beyond not in BEYOND:
            raise ValueError(f"unknown window; choose from {', '.join(WINDOWS)}: {self}")

    @classmethod
    def for_network(cls, core: int, context: int, grid: int) -> TileShape:
        """Return the smallest shape with at least this core and context that fits the grid."""
        return cls(max(1, -(-core // grid)) * grid, -(-context // grid) * grid, grid)

    @classmethod
    def faded(cls, core: int, overlap: float, window: str, even: bool = True) -> TileShape:
        """Return a shape whose cores share `overlap` (0…1) of themselves with the next.

        `even`: the first and last samples of the song lie in as many cores as all others.
        """
        return cls(core, 0, core, window=window).overlapping(overlap, even)

    def overlapping(self, share: float, even: bool | None = None) -> TileShape:
        """Return the same shape with another overlap, 0…1 of a core."""
        shared = self.core - max(1, int(self.core * (1 - share) + 1e-6))
        even = self.border == self.overlap if even is None else even
        return replace(self, overlap=shared, border=shared if even else self.border)

    @property
    def step(self) -> int:
        """Return the samples from the start of a core to that of the next."""
        return self.core - self.overlap

    @property
    def history(self) -> int:
        """Return how many samples before a core a tile may be made of."""
        return self.context + max(self.border, self.core // 2 if self.centred else 0)

    def weights(self) -> Block:
        """Return what each sample of a core counts, where others overlap it."""
        return np.maximum(WINDOWS[self.window](self.core), LEAST_WEIGHT).astype(np.float32)


@dataclass(frozen=True)
class Tile:
    """A piece of song with context, and where the song is in its core."""

    signal: Block  # (channels, context + core + context)
    context: int  # samples on each side of the core
    kept: int  # samples of the core that are song
    skipped: int = 0  # samples of the core before them
    last: bool = False  # the song has no tile after it, as far as is known
    part: int = 0  # which model hears it, of those that are averaged and have unlike tiles

    @property
    def kind(self) -> tuple[tuple[int, ...], int, int]:
        """Return what tiles of one batch have in common."""
        return self.signal.shape, self.context, self.part

    def keep(self, output: Block) -> Block:
        """Cut what is song out of what the network made of the core, (..., samples)."""
        return output[..., self.skipped : self.skipped + self.kept]


def cut(blocks: Iterable[Block], shape: TileShape) -> Iterator[Tile]:
    """Cut a stream of (channels, samples) into tiles; the last one is as short as the grid allows.

    Every tile whose core starts in the song, or before it, is made. A song of no samples has none.
    """
    source = iter(blocks)
    held: Block | None = None  # of the song, what the next tile may be made of
    core = -shape.border  # where it starts in `held`
    while True:
        # a mirror image before the song may need more of it than the tile
        end = max(core + shape.core, -core + 1) + shape.context
        held = _fill(held, source, end)
        if held is None or held.shape[-1] <= core:
            return
        yield _make_tile(held, core, shape)
        core += shape.step
        surplus = max(0, core - shape.history)
        held, core = held[:, surplus:], core - surplus


def join(pieces: Iterable[Block], shape: TileShape) -> Iterator[Block]:
    """Fade the pieces (..., samples) of a song's tiles into each other, in their order."""
    if not shape.overlap:
        yield from pieces
        return
    weights = shape.weights()
    start, done = -shape.border, 0  # of the next core; samples given back
    total = weight = np.zeros(0, np.float32)
    for piece in pieces:
        first = max(0, start)
        counts = weights[first - start :][: piece.shape[-1]]
        total = _add(total, piece * counts, first - done)
        weight = _add(weight, counts, first - done)
        start += shape.step
        ready = max(0, start - done)
        yield total[..., :ready] / weight[:ready]
        total, weight, done = total[..., ready:], weight[ready:], done + ready
    if weight.size:
        yield total / weight


def _add(total: Block, piece: Block, start: int) -> Block:
    """Add a piece to (..., samples) from `start` on, which may be made longer."""
    samples = max(total.shape[-1], start + piece.shape[-1])
    longer = np.zeros((*piece.shape[:-1], samples), np.float32)
    longer[..., : total.shape[-1]] = total
    longer[..., start : start + piece.shape[-1]] += piece
    return longer


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


def _make_tile(held: Block, start: int, shape: TileShape) -> Tile:
    """Make the tile whose core begins at sample `start` of `held`, or before it."""
    left = held.shape[-1] - start  # of the song, and of what lies before it
    core = min(shape.core, -(-left // shape.grid) * shape.grid)
    skipped, kept = max(0, -start), min(left, core) - max(0, -start)
    context = shape.context
    if shape.centred and left < core:
        more = (core - left) // 2
        context, core = context + more, core - 2 * more
    signal = _extend(held, start - context, start + core + context, shape)
    return Tile(signal, context, kept, skipped, last=left < shape.core and left <= shape.step)


def _extend(held: Block, start: int, end: int, shape: TileShape) -> Block:
    """Take samples `start` to before `end` of `held`, with what lies beyond it.

    What is beyond the border at the end is the mirror image of the tile, not of the song.
    """
    after = max(0, end - held.shape[-1])
    near = min(after, shape.border) if shape.border else after
    near_end = held.shape[-1] + near
    before = max(0, -start)
    tile = mirror(held[:, : max(end, before + 1)], before, near, shape.beyond)
    tile = tile[:, max(0, start) : before + min(end, near_end)]
    return mirror(tile, 0, after - near, shape.beyond)


def stack_signals(tiles: Sequence[Tile]) -> Block:
    """Join the signals of tiles of one shape: (batch, channels, samples)."""
    if len(tiles) == 1:
        return tiles[0].signal[None]  # no copy: a tile is large
    return np.stack([tile.signal for tile in tiles])


def mirror(signal: Block, before: int, after: int, beyond: str = "mirror") -> Block:
    """Extend (channels, samples) by its mirror image, as often as it takes; or by silence.

    The first and last samples are not repeated; a single sample has no mirror image but itself.
    """
    if not before and not after:
        return signal
    padded = np.pad(signal, ((0, 0), (before, after)), BEYOND[beyond])  # type: ignore[call-overload]
    return np.asarray(padded, np.float32)


def share_blocks(blocks: Iterable[Block], count: int) -> Sequence[Iterator[Block]]:
    """Give a stream to `count` readers; what waits in memory is as far as they are apart.

    `itertools.tee` would keep up to 57 blocks that all have read.
    """
    source, waiting = iter(blocks), [deque[Block]() for _ in range(count)]

    def read(own: deque[Block]) -> Iterator[Block]:
        while True:
            if not own:
                block = next(source, None)
                if block is None:
                    return
                for each in waiting:
                    each.append(block)
                del block
            yield own.popleft()

    return [read(own) for own in waiting]


def in_step(streams: Sequence[Iterator[Block]]) -> Iterator[Sequence[Block]]:
    """Cut streams of as many samples each, in pieces of any length, into pieces of the same."""
    rests = [np.zeros(0, np.float32)] * len(streams)
    while True:
        rests = [_fetch(rest, stream) for rest, stream in zip(rests, streams, strict=True)]
        samples = min(rest.shape[-1] for rest in rests)
        if not samples:
            return
        yield [rest[..., :samples] for rest in rests]
        rests = [rest[..., samples:] for rest in rests]


def _fetch(rest: Block, stream: Iterator[Block]) -> Block:
    """Return what is left of a piece, or the next one that is not empty, if there is one."""
    while not rest.shape[-1] and (piece := next(stream, None)) is not None:
        rest = piece
    return rest


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

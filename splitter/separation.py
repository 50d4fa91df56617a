"""The heart: a stream of sound in, a stream of stems out.

    blocks ─┬─ resample ── cut ── (tiles) ── network ── (pieces) ── resample ─┬──▶ vocals
            └─ waiting ───────────────────────────────────────────── minus ───┴──▶ instrumental

Everything is pulled: whoever asks for stems makes a piece wanted, which makes a tile wanted, which
makes blocks read. The residual stem is what is left of the song at its own sample rate, so the
stems sum to the song, also above the model's bandwidth. What waits in memory is what the network
has not answered yet: a few tiles. Many songs can share the network: see `Computing`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch

from splitter.audio import Block, resample
from splitter.devices import fast_dtype
from splitter.errors import SplitterError
from splitter.loading import Model, ModelChoice, load_model
from splitter.networks import Network
from splitter.registry import INSTRUMENTAL
from splitter.tiling import Tile, TileShape, batched, cut, join, stack_signals

Stems = dict[str, Block]  # name → (channels, samples)
Piece = npt.NDArray[np.float32]  # (stems, channels, samples): what a network makes of a tile
Runner = Callable[[Iterable[Tile]], Iterator[Piece]]
LEAST_CORE = 12 << 16  # samples of a tile that are kept: 18 s at 44.1 kHz
MOST_CHANNELS = 64  # of a signal with fewer samples: more are samples that have taken their place
PORTION = 1 << 16  # samples of stems at a time: they, and what becomes of them, fit into a cache

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


class Song:
    """One song on its way: tiles out at one end, stems out at the other."""

    def __init__(
        self, blocks: Iterable[Block], rate: int, channels: int, model: Model, bits: int = 32
    ) -> None:
        self.rate = rate  # Hz
        self.bits = bits  # of the samples that stems will be written as
        self.channels = channels
        self.model = model
        self._blocks = blocks
        self._waiting: deque[Block] = deque()

    def tiles(self, shape: TileShape) -> Iterator[Tile]:
        """Read the song, and cut it into tiles at the model's rate."""
        config = self.model.config
        return cut(resample(self._remembered(), self.rate, config.rate, self.channels), shape)

    def stems(self, pieces: Iterable[npt.NDArray[np.float32]]) -> Iterator[Stems]:
        """Turn the network's answers (stems, channels, samples) into blocks of all stems."""
        flat = (
            piece[..., start : start + PORTION].reshape(-1, min(PORTION, piece.shape[-1] - start))
            for piece in pieces
            for start in range(0, piece.shape[-1], PORTION)
        )
        config = self.model.config
        count = len(config.stems) * self.channels
        for estimates in resample(flat, config.rate, self.rate, count):
            yield self._with_residual(self._take(estimates.shape[-1]), estimates)
        # rounding of lengths on the way to the model's rate and back: a sample at most
        rest = self._take(None)
        if rest.shape[-1]:
            yield self._with_residual(rest, np.zeros((count, rest.shape[-1]), np.float32))

    def _remembered(self) -> Iterator[Block]:
        """Yield the blocks, and keep each until its stems are known."""
        for block in self._blocks:
            self._waiting.append(block)
            # what is no number would silence the whole tile
            yield block if np.isfinite(block).all() else np.nan_to_num(block, posinf=0, neginf=0)

    def _take(self, samples: int | None) -> Block:
        """Remove up to `samples` samples of song from what waits; None takes all."""
        taken = [np.zeros((self.channels, 0), np.float32)]
        while self._waiting and (samples is None or samples > 0):
            block = self._waiting.popleft()
            taken.append(block[:, :samples])
            if samples is not None:
                if block.shape[-1] > samples:
                    self._waiting.appendleft(block[:, samples:])
                samples -= taken[-1].shape[-1]
        return np.concatenate(taken, axis=-1)

    def _with_residual(self, song: Block, estimates: Block) -> Stems:
        """Name the estimates (stems · channels, samples) and add what they leave of the song."""
        estimates = round_to(self.bits, estimates[:, : song.shape[-1]])
        shaped = estimates.reshape(-1, self.channels, song.shape[-1])  # stems
        config = self.model.config
        stems = dict(zip(config.stems, shaped, strict=True))
        stems[config.residual] = song - shaped.sum(axis=0)
        if INSTRUMENTAL in config.known_stems and INSTRUMENTAL not in stems:
            stems[INSTRUMENTAL] = song - stems["vocals"]
        return stems


def separate_blocks(
    blocks: Iterable[Block],
    rate: int,
    channels: int,
    model: Model,
    computing: Computing = Computing(),
    bits: int = 32,
) -> Iterator[Stems]:
    """Separate a stream of (channels, samples) at `rate` Hz into blocks of its stems.

    With `bits` below 32 the estimates are rounded to integers of so many bits before the residual
    is taken: stems that are written in this depth sum to a song of this depth without any error.
    """
    song = Song(blocks, rate, channels, model, bits)
    shape = computing.tile_shape(model.network)
    tiles = song.tiles(shape)
    run = computing.runner
    pieces = run(tiles) if run else infer(tiles, model, computing)
    return song.stems(join(pieces, shape))


def separate(
    signal: npt.ArrayLike,
    rate: int,
    model: Model | ModelChoice | str | None = None,
    computing: Computing = Computing(),
) -> Stems:
    """Separate a signal (channels, samples) or (samples,) at `rate` Hz into its stems.

    The stems have the shape and rate of the signal, are float32, and sum to it. Integers are taken
    at their scale: 32767 of int16 is 1. What is no number is silence to the network, and stays what
    it is in the residual.
    """
    song = _as_block(signal, rate)
    if not isinstance(model, Model):
        model = load_model(model) if model else load_model()
    parts = list(separate_blocks([song], rate, song.shape[0], model, computing))
    return {
        name: np.concatenate([song[:, :0], *(part[name] for part in parts)], axis=-1).reshape(
            np.shape(signal)
        )
        for name in model.stems
    }


def _as_block(signal: npt.ArrayLike, rate: int) -> Block:
    """Bring a signal into the shape (channels, samples) and to full scale at 1."""
    given = np.asarray(signal)
    song = np.atleast_2d(given)
    if song.ndim != 2 or rate < 1:
        raise SplitterError(f"a signal is (channels, samples) at a rate > 0, not {given.shape}")
    if song.shape[0] > max(MOST_CHANNELS, song.shape[1]):
        raise SplitterError(
            f"a signal is (channels, samples), and {given.shape} looks like (samples, channels); "
            "pass signal.T"
        )
    if not (np.issubdtype(song.dtype, np.integer) or np.issubdtype(song.dtype, np.floating)):
        raise SplitterError(f"a signal is of floats or integers, not of {song.dtype}")
    if np.issubdtype(song.dtype, np.floating):
        return np.asarray(song, np.float32)
    limits = np.iinfo(song.dtype)
    middle = (limits.max + limits.min + 1) // 2  # 128 of uint8, else 0
    return np.asarray((song.astype(np.float64) - middle) / (limits.max + 1 - middle), np.float32)


@cache
def _survive_forks() -> None:
    """Have a forked child compute in one thread, since it would wait forever for the others."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def infer(tiles: Iterable[Tile], model: Model, computing: Computing) -> Iterator[Piece]:
    """Run the network on tiles; yield the piece of each, in their order.

    Tiles of one batch that differ in shape are computed one shape after the other.
    """
    for batch in batched(tiles, computing.batch):
        for _, same in groupby(batch, key=lambda tile: tile.kind):
            group = list(same)
            outputs = compute(stack_signals(group), model, computing, group[0].context)
            for tile, output in zip(group, outputs, strict=True):
                yield tile.keep(output)


@torch.inference_mode()
def compute(
    signals: npt.NDArray[np.float32], model: Model, computing: Computing, trim: int
) -> npt.NDArray[np.float32]:
    """Run the network on (batch, channels, samples): (batch, stems, channels, samples − 2 · trim).

    `trim` samples at both ends are context, which the network hears and does not give back. It gets
    one pair of channels at a time: what it needs of memory does not grow with their number.
    """
    _survive_forks()
    dtype = fast_dtype(model.device) if computing.precision == "auto" else torch.float32
    answers = []
    for pair in channel_pairs(signals.shape[1], model.config.channels):
        heard = torch.from_numpy(_take_pair(signals, pair, model.config.channels))
        # without the cache of weights: all threads of a process share it, and one lane's stream
        # would read what another's has not written yet
        with torch.autocast(
            model.device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False
        ):
            answer = model.network(_send(heard, model.device), trim)
        answers.append(_give_pair(_fetch(answer.float()).numpy(), pair))
    return answers[0] if len(answers) == 1 else np.concatenate(answers, axis=2)


def _send(signals: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to a device; to a GPU from pinned memory, so that its other stream need not wait."""
    if device.type != "cuda":
        return signals.to(device)
    return signals.pin_memory().to(device, non_blocking=True)


def _fetch(answer: torch.Tensor) -> torch.Tensor:
    """Copy back; from a GPU into pinned memory, and wait for this stream alone."""
    if answer.device.type != "cuda":
        return answer.cpu()
    pinned = torch.empty(answer.shape, dtype=answer.dtype, pin_memory=True)
    pinned.copy_(answer, non_blocking=True)
    torch.cuda.current_stream(answer.device).synchronize()
    return pinned


def round_to(bits: int, signal: Block) -> Block:
    """Round a signal to the values of `bits`-bit integers; 32 bits are float and stay."""
    if bits >= 32:
        return signal
    scale = np.float32(2 ** (bits - 1))
    return np.asarray(np.rint(signal * scale) / scale, np.float32)


def channel_pairs(channels: int, at_once: int) -> Sequence[Sequence[int]]:
    """Group a song's channels into those that a network of `at_once` channels gets together."""
    alone = [(channel,) for channel in range(channels)]
    return PAIRS.get(channels, alone) if at_once == 2 else alone


def _take_pair(
    signals: npt.NDArray[np.float32], pair: Sequence[int], at_once: int
) -> npt.NDArray[np.float32]:
    """Take a pair's (batch, at_once, samples) of (batch, channels, samples).

    A channel on its own is heard on both sides.
    """
    if [*pair] == [*range(at_once)] == [*range(signals.shape[1])]:
        return signals  # no copy: a tile is large
    return signals[:, [pair[min(i, len(pair) - 1)] for i in range(at_once)]]


def _give_pair(answer: npt.NDArray[np.float32], pair: Sequence[int]) -> npt.NDArray[np.float32]:
    """Keep of (batch, stems, at_once, samples) as many channels as the pair has."""
    return answer if len(pair) == answer.shape[2] else answer.mean(axis=2, keepdims=True)

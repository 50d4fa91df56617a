"""The heart: a stream of sound in, a stream of stems out.

    blocks ─┬─ resample ── a model ── (pieces) ── resample ─┬──▶ vocals
            └─ waiting ─────────────────────────── minus ───┴──▶ instrumental

Everything is pulled: whoever asks for stems makes a piece wanted, which makes blocks read. Who runs
the model is no concern of this module: see `splitter.runtime`. The residual stem is what is left of
the song at its own sample rate, so the stems sum to the song, also above the model's bandwidth.
What waits in memory is what the model has not answered yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from splitter.audio import Block, resample
from splitter.errors import SplitterError, reason
from splitter.registry import DEFAULT_MODEL, INSTRUMENTAL, ModelChoice
from splitter.runtime.computing import Computing as Computing
from splitter.runtime.computing import Piece, Streaming
from splitter.runtime.ready import make_ready

if TYPE_CHECKING:
    from splitter.loading import Model

Stems = dict[str, Block]  # name → (channels, samples)
RATES = (1000, 768_000)  # Hz, of signals: at 1 Hz a second would take gigabytes
MOST_CHANNELS = 64  # of a signal with fewer samples: more are samples that have taken their place
LOUDEST = 1e6  # 120 dB beyond full scale: more is taken for garbage
PORTION = 1 << 16  # samples of stems at a time: they, and what becomes of them, fit into a cache


class Song:
    """One song on its way: tiles out at one end, stems out at the other."""

    def __init__(
        self,
        blocks: Iterable[Block],
        rate: int,
        channels: int,
        model: Model | Streaming,
        bits: int = 32,
        in_scale: bool = False,
    ) -> None:
        self.rate = rate  # Hz
        self.bits = bits  # of the samples that stems will be written as
        self.in_scale = in_scale  # whether what is beyond full scale would be cut off
        self.channels = channels
        self.model = model
        self._blocks = blocks
        self._waiting: deque[Block] = deque()

    def heard(self) -> Iterator[Block]:
        """Read the song at the model's rate."""
        config = self.model.config
        return resample(self._remembered(), self.rate, config.rate, self.channels)

    def stems(self, pieces: Iterable[Piece]) -> Iterator[Stems]:
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
            yield block if _is_sound(block) else _mend(block)

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
        if self.in_scale and self.bits < 32 and len(estimates) == len(song):
            estimates = keep_in_scale(self.bits, estimates, song)
        shaped = estimates.reshape(-1, self.channels, song.shape[-1])  # stems
        config = self.model.config
        stems = dict(zip(config.stems, shaped, strict=True))
        stems[config.residual] = song - shaped.sum(axis=0)
        if INSTRUMENTAL in config.known_stems and INSTRUMENTAL not in stems:
            stems[INSTRUMENTAL] = song - stems["vocals"]
        return stems


def _is_sound(block: Block) -> bool:
    """Tell whether all samples are numbers that a network can take; of no number neither is so."""
    return not block.size or bool(block.max() <= LOUDEST and block.min() >= -LOUDEST)


def _mend(block: Block) -> Block:
    """Silence what is no number, and bound the rest: either would spoil all around it."""
    return np.clip(np.nan_to_num(block, posinf=0, neginf=0), -LOUDEST, LOUDEST)


def separate_blocks(
    blocks: Iterable[Block],
    rate: int,
    channels: int,
    model: Model | Streaming,
    computing: Computing = Computing(),
    bits: int = 32,
    in_scale: bool = False,
) -> Iterator[Stems]:
    """Separate a stream of (channels, samples) at `rate` Hz into blocks of its stems.

    With `bits` below 32 the estimates are rounded to integers of so many bits before the residual
    is taken: stems that are written in this depth sum to a song of this depth without any error.
    `in_scale` bounds the estimate of a model that has one, so that this holds at full scale, too.
    """
    song = Song(blocks, rate, channels, model, bits, in_scale)
    if isinstance(model, Streaming):
        return _bearing_underflow(song.stems(model.estimate(song.heard(), channels)))
    from splitter.runtime.tiles import estimate

    return _bearing_underflow(song.stems(estimate(song.heard(), model, computing)))


def _bearing_underflow(stems: Iterator[Stems]) -> Iterator[Stems]:
    """Have what no float is small enough for be 0, also where a program has NumPy raise."""
    while True:
        with np.errstate(under="ignore"):  # around a yield it would hold for the program, too
            block = next(stems, None)
        if block is None:
            return
        yield block


def separate(
    signal: npt.ArrayLike,
    rate: int,
    model: Model | Streaming | ModelChoice | Path | str | None = None,
    computing: Computing = Computing(),
) -> Stems:
    """Separate a signal (channels, samples) or (samples,) at `rate` Hz into its stems.

    The stems have the shape and rate of the signal, are float32, and sum to it. Integers are taken
    at their scale: 32767 of int16 is 1. What is no number is silence to the network, and stays what
    it is in the residual.
    """
    song = _as_block(signal, rate)
    model = make_ready(model or DEFAULT_MODEL, computing)
    parts = list(separate_blocks([song], rate, song.shape[0], model, computing))
    return {
        name: np.concatenate([song[:, :0], *(part[name] for part in parts)], axis=-1).reshape(
            np.shape(signal)
        )
        for name in model.stems
    }


def _as_block(signal: npt.ArrayLike, rate: int) -> Block:
    """Bring a signal into the shape (channels, samples) and to full scale at 1."""
    try:
        given = np.asarray(signal)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SplitterError(f"a signal is an array of numbers ({reason(error)})") from error
    song = np.atleast_2d(given)
    low, high = RATES
    if not isinstance(rate, Real) or isinstance(rate, bool) or not low <= rate <= high:
        said = f"an array of {np.shape(rate)}" if np.ndim(rate) else repr(rate)
        raise SplitterError(f"a rate is a number of Hz from {low} to {high}, not {said}")
    if song.ndim != 2:
        raise SplitterError(f"a signal is (channels, samples), not {given.shape}")
    if song.shape[0] > max(MOST_CHANNELS, song.shape[1]):
        raise SplitterError(
            f"a signal is (channels, samples), and {given.shape} looks like (samples, channels); "
            "pass signal.T"
        )
    if not (np.issubdtype(song.dtype, np.integer) or np.issubdtype(song.dtype, np.floating)):
        raise SplitterError(f"a signal is of floats or integers, not of {song.dtype}")
    if np.issubdtype(song.dtype, np.floating):
        with np.errstate(under="ignore"):
            return np.asarray(song, np.float32)
    limits = np.iinfo(song.dtype)
    middle = (limits.max + limits.min + 1) // 2  # 128 of uint8, else 0
    return np.asarray((song.astype(np.float64) - middle) / (limits.max + 1 - middle), np.float32)


def round_to(bits: int, signal: Block) -> Block:
    """Round a signal to the values of `bits`-bit integers; 32 bits are float and stay."""
    if bits >= 32:
        return signal
    scale = np.float32(2 ** (bits - 1))
    return np.asarray(np.rint(signal * scale) / scale, np.float32)


def keep_in_scale(bits: int, estimate: Block, song: Block) -> Block:
    """Bound an estimate so that it, and what it leaves of a song of `bits` bits, fit into as many.

    A file would cut off what is beyond them, and the stems would not sum to the song any more.
    """
    largest = np.float32(1 - 2.0 ** (1 - bits))
    song = np.clip(song, -1, largest)
    return np.clip(estimate, np.maximum(song - largest, -1), np.minimum(song + 1, largest))

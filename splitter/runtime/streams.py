"""A song as a stream of spectra, and back: what a mask network on a processor needs, in NumPy.

    blocks ── mirror at both ends ── frames ── |X| ──▶ steps ──▶ mask, late ── · X ── overlap-add

It computes what `splitter.spectral` does. Steps go through a song once; see `splitter.graphs`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Protocol

import numpy as np
import numpy.typing as npt

from splitter.tiling import Block, mirror

Array = npt.NDArray[np.float32]
Spectrum = npt.NDArray[np.complex64]
PORTION = 32  # frames that are turned at a time: they, and what becomes of them, fit into a cache


class Steps(Protocol):
    """A network on its way through one song: a chunk is begun, and its answer taken later."""

    def begin(self, magnitude: Array) -> None:
        """Begin to look at (channels, frames, bins)."""

    def take(self) -> Array:
        """Return the mask (stems, channels, frames, bins) of what was begun; it comes late."""


@dataclass(frozen=True)
class Spectral:
    """How sound becomes spectra, and how a network goes through them."""

    size: int  # samples of a frame
    hop: int  # samples
    frames: int  # of a chunk
    late: int  # frames that masks come late
    context: int  # samples of mirror image at both ends of a song, a multiple of the grid
    grid: int  # samples
    low_latency: bool = False  # each mask is waited for before more sound is asked for

    @property
    def margin(self) -> int:
        """Return how many samples a frame sees on each side of its own hop."""
        return (self.size - self.hop) // 2

    @property
    def lost(self) -> int:
        """Return how many samples come out before the song's first."""
        return self.context + self.late * self.hop + self.margin

    @property
    def behind(self) -> int:
        """Return how many whole chunks masks come late."""
        return self.late // self.frames

    @property
    def unheard(self) -> int:
        """Return how many chunks come out before any frame that the song's first sample is in."""
        return max(0, (self.lost - self.size) // (self.frames * self.hop))

    def window(self) -> Array:
        """Return the periodic Hann window."""
        turns = np.arange(self.size) / self.size
        return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * turns), np.float32)


def estimate(blocks: Iterable[Block], steps: Steps, shape: Spectral) -> Iterator[Array]:
    """Yield the stems (stems, channels, samples) of blocks (channels, samples), as they come.

    While a chunk is computed, whoever asked for the last one works on it, and reads the next.
    """
    song = _Counted(blocks)
    made = _add_up(_mask(_transform(song, shape), steps, shape), shape)
    skipped = shape.lost - shape.unheard * shape.frames * shape.hop
    given = 0
    for piece in made:
        kept = piece[..., min(skipped, piece.shape[-1]) :]
        skipped -= piece.shape[-1] - kept.shape[-1]
        if song.ended:
            kept = kept[..., : song.samples - given]
        given += kept.shape[-1]
        if kept.shape[-1]:
            yield kept


class _Counted:
    """Blocks, and how many samples they were."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self.blocks = blocks
        self.samples = 0
        self.ended = False

    def __iter__(self) -> Iterator[Block]:
        for block in self.blocks:
            self.samples += block.shape[-1]
            if block.shape[-1]:
                yield block
        self.ended = True


def _extend(song: _Counted, shape: Spectral) -> Iterator[Block]:
    """Yield a song between its mirror images, and then silence for as long as it is asked for."""
    source = iter(song)
    held: list[Block] = []
    while song.samples <= shape.context and (block := next(source, None)) is not None:
        held.append(block)
    if not held:
        return
    last = deque([np.concatenate(held, axis=-1)])
    count = last[0].shape[-1]
    held.clear()
    yield mirror(last[0], shape.context, 0)
    most = shape.context + shape.grid + 1  # samples that the mirror image at the end is made of
    for block in source:
        yield block
        last.append(block)
        count += block.shape[-1]
        while count - last[0].shape[-1] >= most:
            count -= last.popleft().shape[-1]
    tail = np.concatenate(last, axis=-1)
    after = shape.context + -song.samples % shape.grid
    yield mirror(tail, 0, after)[:, tail.shape[-1] :]
    silence = np.zeros((tail.shape[0], shape.frames * shape.hop), np.float32)
    while True:
        yield silence


def _transform(song: _Counted, shape: Spectral) -> Iterator[Spectrum]:
    """Yield spectra (channels, frames, bins), a chunk at a time, until all masks have come."""
    # numpy is three times as fast where it is to divide by the length: without, it takes doubles
    window = shape.window() * np.float32(shape.size)
    done = 0  # samples
    chunk = shape.frames * shape.hop
    needed = chunk + shape.size - shape.hop
    parts: list[Block] = []
    count = 0
    ring: Iterator[Spectrum] = iter(())  # arrays that are used again, when their masks have come
    for block in _extend(song, shape):
        if not parts:
            parts.append(np.zeros((block.shape[0], shape.margin), np.float32))
            count = shape.margin
            sizes = block.shape[0], shape.frames, shape.size // 2 + 1
            ring = cycle([np.zeros(sizes, np.complex64) for _ in range(shape.behind + 3)])
        parts.append(block)
        count += block.shape[-1]
        if count < needed:
            continue
        sound = np.concatenate(parts, axis=-1)
        start = 0
        while count - start >= needed:
            if song.ended and done >= shape.lost + song.samples:
                return
            part = sound[:, start : start + needed]
            frames = np.lib.stride_tricks.sliding_window_view(part, shape.size, -1)[:, :: shape.hop]
            spectra = next(ring)
            for some in _portions(shape.frames):
                spectra[:, some] = np.fft.rfft(frames[:, some] * window, norm="forward")
            yield spectra
            start += chunk
            done += chunk
        parts, count = [sound[:, start:]], count - start


def _portions(frames: int) -> Iterator[slice]:
    """Cut frames into as many as are turned at a time."""
    return (slice(start, min(start + PORTION, frames)) for start in range(0, frames, PORTION))


def _mask(spectra: Iterable[Spectrum], steps: Steps, shape: Spectral) -> Iterator[Spectrum]:
    """Yield portions of masked spectra (stems, channels, frames, bins), unless before the song.

    While a mask is computed, the one before it is put to use, and the next sound is read; unless
    masks are wanted at once.
    """
    first = shape.late % shape.frames
    heard: deque[Spectrum] = deque(maxlen=shape.behind + 2)

    def masked(number: int, mask: Array, old: Spectrum, new: Spectrum) -> Iterator[Spectrum]:
        if number < shape.unheard:
            return
        rest = shape.frames - first
        for part, spectrum in (mask[:, :, :first], old[:, rest:]), (mask[:, :, first:], new):
            for some in _portions(part.shape[2]):
                yield part[:, :, some] * spectrum[:, some]

    due: tuple[int, Spectrum, Spectrum] | None = None  # whose last, and whose other frames
    for number, spectrum in enumerate(spectra):
        magnitude = np.abs(spectrum)
        ready = due and (due[0], steps.take(), *due[1:])
        steps.begin(magnitude)
        heard.extend([] if heard else [np.zeros_like(spectrum)] * (shape.behind + 1))
        heard.append(spectrum)
        due = number, heard[0], heard[1]
        if ready:
            yield from masked(*ready)
        if shape.low_latency:
            yield from masked(number, steps.take(), heard[0], heard[1])
            due = None
    if due:
        yield from masked(due[0], steps.take(), *due[1:])


def _add_up(spectra: Iterable[Spectrum], shape: Spectral) -> Iterator[Array]:
    """Yield the sound (stems, channels, samples) of masked spectra, a chunk at a time."""
    window = shape.window()
    parts = shape.size // shape.hop
    power = (window**2).reshape(parts, shape.hop).sum(0)
    scaled = (window.reshape(parts, shape.hop) / power).reshape(-1)
    rest: Array | None = None
    for spectrum in spectra:
        frames = np.fft.irfft(spectrum, n=shape.size).astype(np.float32, copy=False)
        frames *= scaled
        blocks = frames.reshape(*frames.shape[:-1], parts, shape.hop)
        count = frames.shape[-2]
        total = np.zeros((*frames.shape[:-2], count + parts - 1, shape.hop), np.float32)
        if rest is not None:
            total[..., : parts - 1, :] = rest
        for part in range(parts):
            total[..., part : part + count, :] += blocks[..., part, :]
        rest = total[..., count:, :].copy()
        yield total[..., :count, :].reshape(*total.shape[:-2], -1)

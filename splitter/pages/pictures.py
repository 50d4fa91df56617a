"""What a stem looks like: its waveform, and its spectrogram at a scale where harmonics can be seen.

    blocks ── mean of the channels ── peaks of each column ──▶ waveform
                                   ── STFT ── rows of the mel scale ── tiles ──▶ pictures

A column is a fortieth of a second. The rows lie evenly on the mel scale (O'Shaughnessy 1987), which
leaves the harmonics of a voice apart from each other up to some 5 kHz.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splitter.audio import Block, open_song
from splitter.plots import draw_levels

COLUMNS = 40  # a second
TILE = 1200  # columns of a picture
ROWS = 256
LOWEST, HIGHEST = 40.0, 16000.0  # Hz
QUIETEST, LOUDEST = -100.0, -16.0  # dB of a bin, 0 being a sine at full scale

Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Scale:
    """How a sound of one sample rate is drawn."""

    rate: int  # Hz

    @property
    def hop(self) -> int:
        """Return the samples of a column."""
        return max(round(self.rate / COLUMNS), 1)

    @property
    def window(self) -> int:
        """Return the samples of an STFT frame: a power of two, near to 90 ms."""
        return 1 << max(round(math.log2(0.09 * self.rate)), 4)

    @property
    def highest(self) -> float:
        """Return the frequency of the upper edge in Hz."""
        return min(HIGHEST, self.rate / 2)

    @cached_property
    def bins(self) -> npt.NDArray[np.int64]:
        """Return the first STFT bin of each row, from the lowest row up."""
        from librosa import mel_frequencies

        edges = mel_frequencies(ROWS, fmin=LOWEST, fmax=self.highest, htk=True)
        return np.asarray(np.minimum(edges * self.window / self.rate, self.window // 2), np.int64)


@dataclass(frozen=True)
class Sketch:
    """A stem's looks."""

    seconds: float
    column: float  # seconds of a column
    highest: float  # Hz at the upper edge of the pictures
    peaks: bytes  # lowest and highest sample of each column, as int8, in turn
    pictures: list[bytes]  # WebP, TILE columns each, the last one maybe fewer


def sketch(path: Path) -> Sketch:
    """Read a stem once, in blocks, and draw it; raise AudioError if it is no sound."""
    with open_song(path) as song:
        scale = Scale(song.rate)
        peaks, pictures, samples = bytearray(), [], 0
        for tile in cut_tiles(song.read_blocks(), scale):
            samples += tile.shape[-1] - scale.window
            peaks += _find_peaks(tile[scale.window // 2 :][: tile.shape[-1] - scale.window], scale)
            pictures.append(draw_levels(find_levels(tile, scale)))
    column = scale.hop / scale.rate
    return Sketch(samples / scale.rate, column, scale.highest, bytes(peaks), pictures)


def cut_tiles(blocks: Iterable[Block], scale: Scale) -> Iterator[Block]:
    """Yield one channel in tiles of TILE columns, with half a window more at both ends."""
    size, around = TILE * scale.hop, scale.window
    waiting = np.zeros(around // 2, np.float32)  # samples
    for block in blocks:
        waiting = np.concatenate([waiting, block.mean(axis=0)])
        while waiting.shape[-1] >= size + around:
            yield waiting[: size + around]
            waiting = waiting[size:]
    rest = np.pad(waiting, (0, around // 2))
    if rest.shape[-1] > size + around:  # the end needs what was kept back as the next tile's start
        yield rest[: size + around]
        rest = rest[size:]
    if rest.shape[-1] > around:
        yield rest


def _find_peaks(signal: Block, scale: Scale) -> bytes:
    """Find the lowest and highest sample of each column."""
    columns = np.pad(signal, (0, -signal.shape[-1] % scale.hop), "edge").reshape(-1, scale.hop)
    ends = np.stack([columns.min(axis=1), columns.max(axis=1)], axis=1)  # columns, 2
    return np.asarray(np.clip(np.rint(ends * 127), -127, 127), np.int8).tobytes()


def find_levels(tile: Block, scale: Scale) -> Levels:
    """Find the level of each row in each column: (rows, columns), the highest row first."""
    from librosa import stft

    signal = np.pad(tile, (0, -(tile.shape[-1] - scale.window) % scale.hop))
    spectrum = np.abs(stft(signal, n_fft=scale.window, hop_length=scale.hop, center=False))
    columns = (signal.shape[-1] - scale.window) // scale.hop
    rows = np.maximum.reduceat(spectrum[:, :columns], scale.bins, axis=0)
    decibels = 20 * np.log10(np.maximum(rows * (4 / scale.window), 1e-9))  # Hann: a half of a half
    shares = (decibels - QUIETEST) / (LOUDEST - QUIETEST)
    return np.asarray(np.clip(np.rint(255 * shares[::-1]), 0, 255), np.uint8)

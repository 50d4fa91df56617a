"""Floors, ceilings and a classic: what stands beside a model in a table.

Floors hand back the mixture, or half of it. Ceilings (oracles) mask the mixture's spectrogram with
what only the references know, and so show what no mask at this STFT can beat. REPET-SIM knows
nothing and learns nothing: it takes for music what repeats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from splitter.datasets import Signal, Tracks
from splitter.spectral import Stft, find_stft

# REPET-SIM: Rafii and Pardo (2012) take up to 100 frames; 50 score the same in less time
SIMILAR_FRAMES = 50
MIN_DISTANCE = 1.0  # seconds between frames that are taken for a repetition


@dataclass(frozen=True)
class Grid:
    """The STFT at which a mask lies."""

    size: int = 4096  # samples
    hop: int = 1024  # samples
    rate: int = 44100  # Hz

    def stft(self, rate: int) -> Stft:
        """Make the STFT that has this resolution, in seconds and Hz, at another rate."""
        hop = 2 * max(1, round(self.hop * rate / self.rate / 2))
        return Stft(hop * (self.size // self.hop), hop)

    def __str__(self) -> str:
        return f"{self.size}/{self.hop} at {self.rate} Hz"


def find_grid(network: nn.Module, rate: int) -> Grid | None:
    """Return the STFT that a network masks; none for a network without."""
    stft = find_stft(network)
    return Grid(stft.size, stft.hop, rate) if stft else None


Stems = tuple[Signal, Signal]  # vocals, instrumental
Baseline = Callable[[Tracks, Grid], Stems]


def give_mixture(tracks: Tracks, _: Grid) -> Stems:
    """Give the mixture for both stems."""
    return tracks.mixture, tracks.mixture


def give_half(tracks: Tracks, _: Grid) -> Stems:
    """Give half of the mixture for both stems."""
    half: Signal = tracks.mixture * np.float32(0.5)
    return half, half


def mask_by_magnitude(tracks: Tracks, grid: Grid) -> Stems:
    """Mask with the ratio of the references' magnitudes (IRM1)."""
    return _mask_ideally(tracks, grid, lambda voice, music: _share(voice, music))


def mask_by_power(tracks: Tracks, grid: Grid) -> Stems:
    """Mask with the ratio of the references' powers (IRM2)."""
    return _mask_ideally(tracks, grid, lambda voice, music: _share(voice**2, music**2))


def mask_by_winner(tracks: Tracks, grid: Grid) -> Stems:
    """Give each bin to the louder reference (IBM)."""
    return _mask_ideally(tracks, grid, lambda voice, music: (voice > music).float())


def repeat_by_similarity(tracks: Tracks, grid: Grid) -> Stems:
    """Take for music what each frame shares with the frames most like it (REPET-SIM).

    One mask serves all channels.
    """
    from librosa.decompose import nn_filter
    from librosa.util import softmask

    if not tracks.mixture.any():
        return give_half(tracks, grid)
    stft = grid.stft(tracks.rate)
    magnitudes = [stft(channel).abs()[0, 0].numpy() for channel in _channels(tracks.mixture)]
    # frame by frame in memory: the filter would copy the whole array for each frame otherwise
    magnitude = np.asfortranarray(np.mean(magnitudes, axis=0))
    frames = magnitude.shape[-1]
    distance = min(round(MIN_DISTANCE * tracks.rate / stft.hop), (frames - 1) // 2 - 1)
    if distance < 1:
        return give_half(tracks, grid)
    neighbours = min(SIMILAR_FRAMES, frames - 2 * distance)
    repeating = nn_filter(
        magnitude, aggregate=np.median, metric="cosine", width=distance, k=neighbours
    )
    music = np.minimum(repeating, magnitude)
    mask = torch.from_numpy(softmask(magnitude - music, music, power=1, split_zeros=True))
    return _apply(tracks.mixture, stft, lambda _: mask)


BASELINES: dict[str, Baseline] = {
    "mixture": give_mixture,
    "half": give_half,
    "IRM1": mask_by_magnitude,
    "IRM2": mask_by_power,
    "IBM": mask_by_winner,
    "REPET-SIM": repeat_by_similarity,
}
MASKED = {"IRM1", "IRM2", "IBM", "REPET-SIM"}  # those with an STFT


def _mask_ideally(tracks: Tracks, grid: Grid, mask: Callable[[Tensor, Tensor], Tensor]) -> Stems:
    stft = grid.stft(tracks.rate)
    voices, musics = _channels(tracks.vocals), _channels(tracks.instrumental)
    return _apply(
        tracks.mixture, stft, lambda n: mask(stft(voices[n]).abs(), stft(musics[n]).abs())
    )


def _apply(mixture: Signal, stft: Stft, mask_of: Callable[[int], Tensor]) -> Stems:
    """Mask channel by channel, which bounds memory; the instrumental is what is left."""
    samples = mixture.shape[-1]
    if not samples:
        return mixture, mixture
    masked = [
        stft.inverse(stft(channel) * mask_of(number), samples)[0, 0].numpy()
        for number, channel in enumerate(_channels(mixture))
    ]
    vocals = np.stack(masked)
    return vocals, mixture - vocals


def _share(voice: Tensor, music: Tensor) -> Tensor:
    """Give the part of the sum that is voice; half where there is nothing."""
    total = voice + music
    return torch.where(total > 0, voice / total, 0.5)


def _channels(signal: Signal) -> Tensor:
    """View `(channels, samples)` as one batch of one channel each: `(channels, 1, 1, samples)`."""
    return torch.from_numpy(signal)[:, None, None]

"""Elastic deformation of spectrograms (Ronneberger et al. 2015, section 3.1).

Their U-Net learned from 30 pictures, deformed by random displacements on a coarse grid, smooth
between. Here places of a spectrogram are moved in time and frequency: voice and music of an example
alike, so that what belongs together stays together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from splitter.spectral import Stft
from splitter.training.augmentation import Array

WINDOW, HOP = 2048, 512  # samples
SECONDS, HERTZ = 0.5, 1000.0  # between the points of the grid
DELAY = 0.03  # seconds, the standard deviation of how far a point is moved in time
BEND = 0.015  # and in frequency, as a part of it: harmonics stay harmonics
TINY = 1e-12


def deform(signals: Sequence[Array], rate: int, random: np.random.Generator) -> list[Array]:
    """Move places of the spectrograms of signals (channels, samples), all by the same field.

    Magnitudes move, phases stay.
    """
    sounds = torch.stack([torch.as_tensor(signal) for signal in signals])
    stft = Stft(WINDOW, HOP).to(sounds.device)
    spectrogram = stft(sounds)  # signals, channels, bins, frames
    size = spectrogram.abs()
    field = draw_field(size.shape[-2], size.shape[-1], rate, random).to(size.device)
    moved = F.grid_sample(
        size, field.expand(len(size), -1, -1, -1), padding_mode="border", align_corners=True
    )
    bent = stft.inverse(spectrogram * (moved / size.clamp_min(TINY)), sounds.shape[-1])
    parts = list(bent.unbind(0))
    return [part.numpy() if isinstance(signals[0], np.ndarray) else part for part in parts]


def draw_field(bins: int, frames: int, rate: int, random: np.random.Generator) -> Tensor:
    """Draw where each place is taken from: (1, bins, frames, 2), frames and bins in −1…1."""
    points = (
        2,
        max(2, round(rate / 2 / HERTZ) + 1),
        max(2, round(frames * HOP / rate / SECONDS) + 1),
    )
    coarse = torch.from_numpy(random.standard_normal(points, np.float32))[None]
    delay, bend = F.interpolate(coarse, (bins, frames), mode="bicubic", align_corners=True)[0]
    time = torch.arange(frames) + delay * (DELAY * rate / HOP)
    frequency = torch.arange(bins)[:, None] * (1 + BEND * bend)
    return torch.stack([_centre(time, frames), _centre(frequency, bins)], dim=-1)[None]


def _centre(places: Tensor, count: int) -> Tensor:
    return places * (2 / max(1, count - 1)) - 1

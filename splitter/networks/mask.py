"""Separation by masking: a network looks at a spectrogram and says how much of it is voice.

    signal ── Stft ── |X| ── fold ── log ── network ── sigmoid ── spread ── M · X ── Stft.inverse
                 └────────────────────────────────────────────────────────┘

Folding joins neighbouring bins into bands: full resolution where voices have their harmonics, bands
of 2, 4, 8 and 16 bins above. The network sees (and pays for) bands only; the mask of a band holds
for all its bins, so the whole bandwidth is separated at less than half the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.blocks import BandNorm
from splitter.networks.contract import Network
from splitter.networks.tfctdf import TfcTdf
from splitter.networks.unet import UNet
from splitter.spectral import Stft

LOUDNESS = 4.0  # log1p(4·|X|): −60 dBFS noise lies in the linear part, music in the logarithmic one


class Bands(nn.Module):
    """Fold bins into bands, and spread bands over bins.

    `layout` lists (bands, bins a band) from 0 Hz up. Bins above the last band, at least Nyquist's,
    are left out of the fold and get the last band's mask.
    """

    def __init__(self, layout: Sequence[tuple[int, int]], bins: int) -> None:
        super().__init__()
        self.layout = [(int(bands), int(width)) for bands, width in layout]
        self.bins = bins
        used = sum(bands * width for bands, width in self.layout)
        if not 0 <= bins - used <= 1:
            raise ValueError(f"the bands cover {used} bins, but the STFT has {bins}")

    @property
    def bands(self) -> int:
        """Return the number of bands."""
        return sum(bands for bands, _ in self.layout)

    def fold(self, magnitude: Tensor) -> Tensor:
        """Average (..., bins, frames) within each band: (..., bands, frames)."""
        folded, start = [], 0
        for bands, width in self.layout:
            part = _lie(magnitude)[..., start : start + bands * width]  # frames, bins
            folded.append(part if width == 1 else part.unflatten(-1, (bands, width)).mean(-1))
            start += bands * width
        return _lie(torch.cat(folded, dim=-1))

    def spread(self, mask: Tensor) -> Tensor:
        """Repeat each band's value for its bins: (..., bands, frames) to (..., bins, frames)."""
        sizes = [bands for bands, _ in self.layout]
        split = _lie(mask).contiguous().split(sizes, dim=-1)  # frames, bands
        parts = [
            part if width == 1 else part.repeat_interleave(width, dim=-1)
            for part, (_, width) in zip(split, self.layout, strict=True)
        ]
        covered = sum(part.shape[-1] for part in parts)
        parts += [parts[-1][..., -1:]] * (self.bins - covered)
        return _lie(torch.cat(parts, dim=-1))


def _lie(picture: Tensor) -> Tensor:
    """Swap frames and frequency, the last two axes.

    An STFT leaves the bins of a frame beside each other in memory. Whatever is done to a whole
    spectrogram is done in this order: turning it over would take as long as the transform.
    """
    return picture.transpose(-1, -2)


def _magnitude(spectrogram: Tensor) -> Tensor:
    """Compute |X|; Tensor.abs takes twice as long."""
    return (spectrogram.real.square() + spectrogram.imag.square()).sqrt()


class MaskModel(Network):
    """Separate signals by a mask that a U-Net draws on their spectrogram.

    (batch, channels, samples) → (batch, stems, channels, samples), any number of samples ≥ 1.
    """

    def __init__(
        self, stft: Stft, bands: Bands, unet: UNet | TfcTdf, channels: int, stems: int
    ) -> None:
        super().__init__()
        self.stft = stft
        self.bands = bands
        self.norm = BandNorm(bands.bands)
        self.unet = unet
        self.channels = channels
        self.stems = stems
        if bands.bands % unet.rows:
            raise ValueError(f"{bands.bands} bands are no multiple of {unet.rows}")

    @property
    def grid(self) -> int:
        """Return the samples by which tiles may move without changing the result."""
        return self.stft.hop * self.unet.stride

    @property
    def context(self) -> int:
        """Return how many samples to either side an output depends on.

        The mask's reach in frames, and half the overlap of a frame on the way in and out.
        """
        return self.unet.reach * self.stft.hop + self.stft.size

    def forward(self, signal: Tensor) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples)."""
        spectrogram = self.stft(signal)
        mask = self.mask(spectrogram)
        # one channel after the other: what lies between mask and signal is the largest of all
        channels = [
            self.stft.inverse(mask[:, :, channel] * spectrogram[:, None, channel], signal.shape[-1])
            for channel in range(signal.shape[1])
        ]
        return torch.stack(channels, dim=2)

    def mask(self, spectrogram: Tensor) -> Tensor:
        """Return (batch, stems, channels, bins, frames) in 0…1 for a complex spectrogram."""
        frames = spectrogram.shape[-1]
        picture = torch.log1p(LOUDNESS * self.bands.fold(_magnitude(spectrogram)))
        picture = self.norm(F.pad(picture, (0, -frames % self.unet.stride)))
        logits = self.unet(picture.contiguous(memory_format=torch.channels_last))
        mask = torch.sigmoid(logits[..., :frames].float())
        return self.bands.spread(mask.unflatten(1, (self.stems, self.channels)))

"""Architectures: from (batch, channels, samples) to (batch, stems, channels, samples).

Every network keeps the number of samples and says two things about itself, both in samples:
`grid`, the steps by which a tile may move, and `context`, how far an output sees. `build` is the one
place where the name in a config meets a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from splitter.networks.mask import Bands, MaskModel
from splitter.networks.unet import UNet
from splitter.spectral import Stft


class Network(Protocol):
    """What `separation` asks of a network."""

    @property
    def grid(self) -> int:
        """Samples by which a tile may move without changing the result."""

    @property
    def context(self) -> int:
        """Samples to either side that an output depends on."""

    def __call__(self, signal: Tensor) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples)."""


@dataclass(frozen=True)
class MaskUNet:
    """Sizes of a spectrogram-mask U-Net."""

    window: int = 4096  # samples
    hop: int = 1024  # samples
    # (bands, bins a band): full resolution to 4.1 kHz at 44.1 kHz, coarser above
    bands: Sequence[Sequence[int]] = ((384, 1), (192, 2), (128, 4), (32, 8), (32, 16))
    width: int = 16  # features after the first level; each further level doubles them
    levels: int = 6
    dropout: float = 0.1

    def build(self, channels: int, stems: int) -> MaskModel:
        """Make the network with random weights."""
        stft = Stft(self.window, self.hop)
        bands = Bands([(count, bins) for count, bins in self.bands], stft.bins)
        unet = UNet(channels, stems * channels, self.width, self.levels, self.dropout)
        return MaskModel(stft, bands, unet, channels, stems)


ARCHITECTURES = {"mask-unet": MaskUNet}

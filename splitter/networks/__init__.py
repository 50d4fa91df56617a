"""Architectures: from (batch, channels, samples) to (batch, stems, channels, samples).

Every architecture is a dataclass of sizes with `build`; `ARCHITECTURES` is the one place where the
name in a config meets a class. What all networks promise stands in `contract`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from splitter.networks.contract import Network
from splitter.networks.mask import Bands, MaskModel
from splitter.networks.unet import UNet
from splitter.spectral import Stft


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

    def build(self, channels: int, stems: int) -> Network:
        """Make the network with random weights."""
        stft = Stft(self.window, self.hop)
        bands = Bands([(count, bins) for count, bins in self.bands], stft.bins)
        unet = UNet(channels, stems * channels, self.width, self.levels, self.dropout)
        return MaskModel(stft, bands, unet, channels, stems)


ARCHITECTURES = {"mask-unet": MaskUNet}

__all__ = ["ARCHITECTURES", "Bands", "MaskModel", "MaskUNet", "Network", "UNet"]

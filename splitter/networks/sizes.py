"""Sizes of networks: dataclasses that a config fills, each with `build`.

Each field declares type and range of its size: see `schema`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol

from splitter.networks.contract import Network, PictureNetwork
from splitter.networks.mask import Bands, FadedMask, MaskModel
from splitter.networks.picture import Parts, PictureUNet
from splitter.networks.tfctdf import TfcTdf
from splitter.networks.unet import UNet
from splitter.schema import Length, Range
from splitter.spectral import Stft

Width = Annotated[int, Range(1, 1024)]  # features
Levels = Annotated[int, Range(1, 10)]
Blocks = Annotated[int, Range(0, 10)]
Band = tuple[Annotated[int, Range(1, 65536)], Annotated[int, Range(1, 4096)]]


class Sizes(Protocol):
    """What a config fills."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def build(self, channels: int, stems: int) -> Network:
        """Make the network with random weights."""


@dataclass(frozen=True)
class MaskSizes:
    """Sizes of the spectrogram that any mask network looks at."""

    window: Annotated[int, Range(16, 65536)] = 4096  # samples
    hop: Annotated[int, Range(8, 32768)] = 1024  # samples
    # (bands, bins a band): full resolution to 4.1 kHz at 44.1 kHz, coarser above
    bands: Annotated[Sequence[Band], Length(1, 64)] = (
        (384, 1),
        (192, 2),
        (128, 4),
        (32, 8),
        (32, 16),
    )
    # frames to either side over which loudness is measured; 0: it is absolute
    level_span: Annotated[int, Range(0, 4096)] = 0

    def spectrogram(self) -> tuple[Stft, Bands]:
        """Make the transform and the bands."""
        stft = Stft(self.window, self.hop)
        return stft, Bands(self.bands, stft.bins)

    def mask_with(
        self, network: PictureNetwork, channels: int, stems: int, views: int = 1
    ) -> MaskModel:
        """Make a network that masks what it hears by what `network` draws."""
        model = FadedMask if network.span else MaskModel
        return model(*self.spectrogram(), network, channels, stems, self.level_span, views)


@dataclass(frozen=True)
class MaskUNet(MaskSizes):
    """Sizes of a spectrogram-mask U-Net of strided convolutions."""

    width: Width = 16  # features after the first level; each further level doubles them
    levels: Levels = 6
    dropout: Annotated[float, Range(0, 1)] = 0.1
    blocks: Blocks = 0  # upper levels that have a TFC-TDF block on the way down
    blocks_up: Blocks = 0  # and on the way up

    def build(self, channels: int, stems: int) -> Network:
        """Make the network with random weights."""
        bands = self.spectrogram()[1].bands
        unet = UNet(
            channels,
            stems * channels,
            self.width,
            self.levels,
            self.dropout,
            self.blocks,
            self.blocks_up,
            bands,
        )
        return self.mask_with(unet, channels, stems)


@dataclass(frozen=True)
class MaskTfcTdf(MaskSizes):
    """Sizes of a spectrogram-mask U-Net of TFC-TDF blocks."""

    width: Width = 32  # features of the first level; the n-th has n times as many
    levels: Levels = 3
    patch: Annotated[int, Range(1, 256)] = 8  # bands that are joined before the first level

    def build(self, channels: int, stems: int) -> Network:
        """Make the network with random weights."""
        bands = self.spectrogram()[1].bands
        inputs, outputs = channels, stems * channels
        unet = TfcTdf(inputs, outputs, bands, self.width, self.levels, self.patch)
        return self.mask_with(unet, channels, stems)


@dataclass(frozen=True)
class MaskParts(Parts, MaskSizes):
    """Sizes of a spectrogram-mask U-Net of any parts."""

    views: Annotated[int, Range(1, 8)] = 1  # windows that it sees through, each half the one before

    def build(self, channels: int, stems: int) -> Network:
        """Make the network with random weights."""
        bands = self.spectrogram()[1].bands
        network = PictureUNet(self, channels, stems * channels, bands, self.views)
        return self.mask_with(network, channels, stems, self.views)

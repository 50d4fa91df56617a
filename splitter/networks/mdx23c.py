"""TFC-TDF v3, as MDX23C has it (Kim et al. 2023): pre-norm blocks over subbands of a spectrogram.

    signal ── STFT ── real, imaginary; subbands as channels ── U-Net of blocks ──▶ spectrograms

As in `tfctdf`, a block convolves over time and frequency and has dense layers along frequency; here
norms come first, skips are joined as channels, and the net makes whole spectrograms, not masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.contract import Hop, Network, Share, Tile, Unbounded, Window
from splitter.schema import Range, Words
from splitter.spectral import CentredStft, from_planes, to_planes
from splitter.tiling import TileShape

Width = Annotated[int, Range(1, 4096)]
ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "elu1.0": nn.ELU}


def _is_norm(name: str) -> bool:
    groups = name.removeprefix("GroupNorm")
    return name in ("InstanceNorm", "BatchNorm") or (groups != name and groups.isdecimal())


@dataclass(frozen=True)
class Mdx23cSizes:
    """Sizes of the U-Net."""

    channels: Width = 128  # of the first level
    growth: Width = 128  # more channels with each level
    levels: Annotated[int, Range(0, 10)] = 5
    blocks: Annotated[int, Range(1, 16)] = 2  # of a level
    bottleneck: Annotated[int, Range(1, 64)] = 4  # rows, over those between two dense layers
    subbands: Annotated[int, Range(1, 64)] = 4
    bins: Annotated[int, Range(1, 32769)] = 4096  # that are looked at, from 0 Hz up
    norm: Annotated[str, Words(_is_norm, "of a norm")] = "InstanceNorm"
    activation: Annotated[str, Words(ACTIVATIONS.__contains__, "of an activation")] = "gelu"
    window: Window = 8192  # samples
    hop: Hop = 1024  # samples
    tile: Tile = 261120  # samples
    overlap: Share = 0.875  # of a tile

    def build(self, channels: int, stems: int) -> Network:
        """Make the network with random weights."""
        return Mdx23c(self, channels, stems)

    def before(self, features: int) -> list[nn.Module]:
        """Make what stands before each layer: a norm and an activation."""
        norm: nn.Module
        if self.norm == "InstanceNorm":
            norm = nn.InstanceNorm2d(features, affine=True)
        elif self.norm == "BatchNorm":
            norm = nn.BatchNorm2d(features)
        else:
            norm = nn.GroupNorm(int(self.norm.removeprefix("GroupNorm")), features)
        return [norm, ACTIVATIONS[self.activation]()]


class Block(nn.Module):
    """Convolve (batch, features, frames, rows), add dense layers along rows, convolve again."""

    def __init__(self, sizes: Mdx23cSizes, inputs: int, features: int, rows: int) -> None:
        super().__init__()

        def convolve(given: int) -> nn.Module:
            layer = nn.Conv2d(given, features, 3, padding=1, bias=False)
            return nn.Sequential(*sizes.before(given), layer)

        narrow = rows // sizes.bottleneck
        self.tfc1 = convolve(inputs)
        self.tdf = nn.Sequential(
            *sizes.before(features),
            nn.Linear(rows, narrow, bias=False),
            *sizes.before(features),
            nn.Linear(narrow, rows, bias=False),
        )
        self.tfc2 = convolve(features)
        self.shortcut = nn.Conv2d(inputs, features, 1, bias=False)

    def forward(self, signal: Tensor) -> Tensor:
        """Map to (batch, features, frames, rows)."""
        first = self.tfc1(signal)
        answer: Tensor = self.tfc2(first + self.tdf(first)) + self.shortcut(signal)
        return answer


class Level(nn.Module):
    """Blocks, and what leads to the next level: down behind them, or up before them."""

    def __init__(
        self, sizes: Mdx23cSizes, inputs: int, features: int, rows: int, *turn: nn.Module
    ) -> None:
        super().__init__()
        widths = [inputs, *[features] * (sizes.blocks - 1)]
        self.blocks = nn.Sequential(*(Block(sizes, width, features, rows) for width in widths))
        self.turn = nn.Sequential(*turn)


def _levels(parts: nn.ModuleList) -> Iterator[Level]:
    for part in parts:
        assert isinstance(part, Level)
        yield part


class Mdx23c(Unbounded):
    """Separate (batch, channels, samples) into (batch, stems, channels, samples)."""

    def __init__(self, sizes: Mdx23cSizes, channels: int, stems: int) -> None:
        super().__init__(TileShape.faded(sizes.tile, sizes.overlap, "linear"))
        rows = sizes.bins // sizes.subbands
        if rows * sizes.subbands != sizes.bins or rows % 2**sizes.levels:
            raise ValueError(
                f"{sizes.bins} bins are not {sizes.subbands} subbands that every level can halve"
            )
        self.sizes, self.stems = sizes, stems
        self.stft = CentredStft(sizes.window, sizes.hop)
        planes = 2 * channels * sizes.subbands
        widths = [sizes.channels + level * sizes.growth for level in range(sizes.levels + 1)]
        self.enter = nn.Conv2d(planes, widths[0], 1, bias=False)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level in range(sizes.levels):
            here, deeper, height = widths[level], widths[level + 1], rows // 2**level
            narrow = nn.Conv2d(here, deeper, 2, 2, bias=False)
            widen = nn.ConvTranspose2d(deeper, here, 2, 2, bias=False)
            down, up = (*sizes.before(here), narrow), (*sizes.before(deeper), widen)
            self.down.append(Level(sizes, here, here, height, *down))
            self.up.insert(0, Level(sizes, 2 * here, here, height, *up))
        self.deepest = Level(sizes, widths[-1], widths[-1], rows // 2**sizes.levels)
        self.leave = nn.Sequential(
            nn.Conv2d(widths[0] + planes, widths[0], 1, bias=False),
            ACTIVATIONS[sizes.activation](),
            nn.Conv2d(widths[0], stems * planes, 1, bias=False),
        )

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim)."""
        spectrogram = self.stft(signal)
        frames = spectrogram.shape[-1]
        planes = to_planes(spectrogram[:, :, : self.sizes.bins])
        planes = planes.unflatten(2, (self.sizes.subbands, -1)).flatten(1, 2)
        answer = self._run(F.pad(planes, (0, -frames % 2**self.sizes.levels)))[..., :frames]
        made = answer.float().unflatten(1, (self.stems, -1, self.sizes.subbands)).flatten(3, 4)
        whole = F.pad(from_planes(made), (0, 0, 0, self.stft.bins - self.sizes.bins))
        return self.stft.inverse(whole, signal.shape[-1])[..., trim : signal.shape[-1] - trim]

    def _run(self, planes: Tensor) -> Tensor:
        """Run the U-Net on (batch, planes, rows, frames)."""
        entered = self.enter(planes)
        signal, skips = entered.transpose(-1, -2), []
        for level in _levels(self.down):
            skips.append(level.blocks(signal))
            signal = level.turn(skips[-1])
        signal = self.deepest.blocks(signal)
        for level in _levels(self.up):
            signal = level.blocks(torch.cat([level.turn(signal), skips.pop()], dim=1))
        masked = signal.transpose(-1, -2) * entered
        answer: Tensor = self.leave(torch.cat([planes, masked], dim=1))
        return answer

"""MDX-Net (Kim et al. 2021): TFC-TDF blocks on a spectrogram, skips that are multiplied.

    signal ── CentredStft ── bins below a limit, without the lowest three ── U-Net ── inverse

It was made for tiles of one length, of which half a window at both ends is not kept; they do not
overlap. Norms behind convolutions are part of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.contract import Hop, Network, Unbounded, Window
from splitter.schema import Range
from splitter.spectral import CentredStft, from_planes, to_planes
from splitter.tiling import TileShape

SILENT = 3  # of the lowest bins, which UVR does not let the network hear


@dataclass(frozen=True)
class MdxNetSizes:
    """Sizes of the U-Net."""

    width: Annotated[int, Range(1, 4096)] = 48  # features of the first level; the n-th has n times
    levels: Annotated[int, Range(0, 10)] = 5
    convolutions: Annotated[int, Range(0, 16)] = 3  # of a block
    kernel: Annotated[int, Range(1, 15)] = 3
    dense: Annotated[int, Range(0, 2)] = 2  # layers across rows, of a block
    narrow: Annotated[int, Range(1, 64)] = 8  # rows, over those between two dense layers
    bins: Annotated[int, Range(8, 32769)] = 3072  # that are looked at
    frames: Annotated[int, Range(2, 8192)] = 256  # of a tile
    window: Window = 6144  # samples
    hop: Hop = 1024  # samples

    def build(self, channels: int, stems: int) -> Network:
        """Make the network with random weights."""
        return MdxNet(self, channels, stems)


class Dense(nn.Module):
    """A dense layer across rows, then a gain and an offset for each feature, and ReLU."""

    def __init__(self, features: int, rows: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(rows, outputs)
        self.gain = nn.Parameter(torch.ones(features))
        self.offset = nn.Parameter(torch.zeros(features))

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, features, frames, rows) to (batch, features, frames, outputs)."""
        made: Tensor = self.layer(signal)
        return F.relu(made * self.gain[:, None, None] + self.offset[:, None, None])


class Block(nn.Module):
    """Convolutions over time and frequency; what dense layers make of their answer is added."""

    def __init__(self, sizes: MdxNetSizes, features: int, rows: int) -> None:
        super().__init__()
        kernel = sizes.kernel
        if kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}; it must be odd")
        self.convolve = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(features, features, kernel, padding=kernel // 2), nn.ReLU())
                for _ in range(sizes.convolutions)
            )
        )
        between = rows if sizes.dense < 2 else rows // sizes.narrow
        heights = [rows, between, rows][: sizes.dense + 1]
        self.dense = nn.Sequential(*(Dense(features, *pair) for pair in pairwise(heights)))

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, features, frames, rows) to the same shape."""
        local: Tensor = self.convolve(signal)
        return local + self.dense(local) if len(self.dense) else local


class MdxNet(Unbounded):
    """Separate (batch, channels, samples) into (batch, stems, channels, samples)."""

    def __init__(self, sizes: MdxNetSizes, channels: int, stems: int) -> None:
        tile, trim = sizes.hop * (sizes.frames - 1), sizes.window // 2
        core = max(1, tile - 2 * trim)
        super().__init__(TileShape(core, trim, core, window="hann", beyond="silence"))
        if sizes.bins > sizes.window // 2 + 1 or sizes.bins % 2**sizes.levels:
            raise ValueError(
                f"{sizes.bins} bins are too many for the window, or cannot be halved at every level"
            )
        self.sizes, self.stems = sizes, stems
        self.stft = CentredStft(sizes.window, sizes.hop)
        widths = [sizes.width * (level + 1) for level in range(sizes.levels + 1)]
        rows = [sizes.bins // 2**level for level in range(sizes.levels + 1)]
        planes = 2 * channels
        self.enter = nn.Conv2d(planes, widths[0], 1)
        levels = range(sizes.levels)
        self.before = nn.ModuleList(Block(sizes, widths[i], rows[i]) for i in levels)
        self.down = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 2, 2) for i in levels)
        self.deepest = Block(sizes, widths[-1], rows[-1])
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(widths[i + 1], widths[i], 2, 2) for i in reversed(levels)
        )
        self.after = nn.ModuleList(Block(sizes, widths[i], rows[i]) for i in reversed(levels))
        self.leave = nn.Conv2d(widths[0], stems * planes, 1)

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim)."""
        spectrogram = self.stft(signal)
        bins, frames = self.sizes.bins, spectrogram.shape[-1]
        planes = to_planes(spectrogram[:, :, :bins])
        planes = F.pad(planes[:, :, SILENT:], (0, -frames % 2**self.sizes.levels, SILENT, 0))
        made = self._run(planes)[..., :frames].float()
        stems = from_planes(made.unflatten(1, (self.stems, -1)))
        whole = F.pad(stems, (0, 0, 0, self.stft.bins - bins))
        return self.stft.inverse(whole, signal.shape[-1])[..., trim : signal.shape[-1] - trim]

    def _run(self, planes: Tensor) -> Tensor:
        """Run the U-Net on (batch, planes, rows, frames)."""
        signal, skips = F.relu(self.enter(planes)).transpose(-1, -2), []
        for block, down in zip(self.before, self.down, strict=True):
            skips.append(block(signal))
            signal = F.relu(down(skips[-1]))
        signal = self.deepest(signal)
        for up, block in zip(self.up, self.after, strict=True):
            signal = block(F.relu(up(signal)) * skips.pop())
        answer: Tensor = self.leave(signal.transpose(-1, -2))
        return answer

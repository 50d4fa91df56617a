"""Conv-TasNet (Luo and Mesgarani 2019): masks on what a learned transform hears.

    signal ─ encoder ─┬─ norm ─ dilated convolutions ─ sigmoid ─┐
                      └──────────────────────────────────────── × ─ decoder ─ stems

The paper's norm is over all frames, so that each sample depends on the whole song. By default it is
over the features of each frame, and tiles are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.contract import Network, Share, Tile
from splitter.schema import Range
from splitter.tiling import TileShape

TINY = 1e-8
Features = Annotated[int, Range(1, 4096)]


@dataclass(frozen=True)
class ConvTasNetSizes:
    """Sizes of a Conv-TasNet, in the letters of the paper's table where there is one."""

    window: Annotated[int, Range(2, 65536)] = 256  # samples, L
    stride: Annotated[int, Range(1, 32768)] = 128  # samples
    filters: Features = 256  # N
    bottleneck: Features = 96  # B and Sc
    hidden: Features = 384  # H
    kernel: Annotated[int, Range(1, 63)] = 3  # frames, P; odd
    blocks: Annotated[int, Range(1, 12)] = 8  # X: dilations from 1 to 2^(X − 1) frames
    repeats: Annotated[int, Range(1, 12)] = 2  # R
    # over the features of each frame; also over all frames before it; or over all frames
    norm: Literal["frame", "cumulative", "global"] = "frame"
    tile: Tile = 262144  # samples; where the norm has no bounds
    overlap: Share = 0.25

    def build(self, channels: int, stems: int) -> Network:
        """Make the network with random weights."""
        return ConvTasNet(self, channels, stems)


class FrameNorm(nn.Module):
    """Give the features of each frame zero mean and unit variance; `past`: of all frames so far."""

    def __init__(self, features: int, past: bool = False) -> None:
        super().__init__()
        self.past = past
        self.gain = nn.Parameter(torch.ones(features, 1))
        self.bias = nn.Parameter(torch.zeros(features, 1))

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, features, frames) to the same shape."""
        mean, square = signal.mean(1, keepdim=True), signal.square().mean(1, keepdim=True)
        if self.past:
            count = torch.ones_like(mean).cumsum(-1)
            mean, square = mean.cumsum(-1) / count, square.cumsum(-1) / count
        variance = (square - mean.square()).clamp_min(0)
        return (signal - mean) * torch.rsqrt(variance + TINY) * self.gain + self.bias


def make_norm(kind: str, features: int) -> nn.Module:
    """Make a norm of a kind that ConvTasNetSizes knows."""
    if kind == "global":
        return nn.GroupNorm(1, features, TINY)
    return FrameNorm(features, past=kind == "cumulative")


class Dilated(nn.Sequential):
    """A 1×1 convolution, and one of each feature alone over frames far apart."""

    def __init__(self, sizes: ConvTasNetSizes, dilation: int) -> None:
        hidden, padding = sizes.hidden, sizes.kernel // 2 * dilation
        super().__init__(
            nn.Conv1d(sizes.bottleneck, hidden, 1),
            nn.PReLU(),
            make_norm(sizes.norm, hidden),
            nn.Conv1d(hidden, hidden, sizes.kernel, 1, padding, dilation, groups=hidden),
            nn.PReLU(),
            make_norm(sizes.norm, hidden),
        )


class ConvTasNet(Network):
    """Separate (batch, channels, samples) into (batch, stems, channels, samples)."""

    def __init__(self, sizes: ConvTasNetSizes, channels: int, stems: int) -> None:
        super().__init__()
        if sizes.window < sizes.stride or (sizes.window - sizes.stride) % 2 or not sizes.kernel % 2:
            raise ValueError(
                "the window must exceed its stride by an even number, and kernels be odd"
            )
        self.sizes, self.channels, self.stems = sizes, channels, stems
        window, stride, filters = sizes.window, sizes.stride, sizes.filters
        self.encoder = nn.Conv1d(channels, filters, window, stride, bias=False)
        self.enter = nn.Sequential(
            make_norm(sizes.norm, filters), nn.Conv1d(filters, sizes.bottleneck, 1)
        )
        dilations = [2**block for _ in range(sizes.repeats) for block in range(sizes.blocks)]
        self.blocks = nn.ModuleList(Dilated(sizes, dilation) for dilation in dilations)
        # each block answers to the mask, and all but the last one to the next
        self.aside, self.onwards = (
            nn.ModuleList(nn.Conv1d(sizes.hidden, sizes.bottleneck, 1) for _ in blocks)
            for blocks in (dilations, dilations[1:])
        )
        mask = nn.Conv1d(sizes.bottleneck, stems * filters, 1)
        self.leave = nn.Sequential(nn.PReLU(), mask, nn.Sigmoid())
        self.decoder = nn.ConvTranspose1d(filters, channels, window, stride, bias=False)

    @property
    def own_tiles(self) -> TileShape | None:
        """Return faded tiles where the norm has no bounds."""
        if self.sizes.norm == "frame":
            return None
        core = -(-self.sizes.tile // self.sizes.stride) * self.sizes.stride
        return TileShape.faded(core, self.sizes.overlap, "hann")

    @property
    def grid(self) -> int:
        """Return the samples from frame to frame; a whole tile where the norm has no bounds."""
        tiles = self.own_tiles
        return self.sizes.stride if tiles is None else tiles.grid

    @property
    def context(self) -> int:
        """Return what all dilated convolutions see to either side, and a window on both ways."""
        tiles, sizes = self.own_tiles, self.sizes
        if tiles is not None:
            return tiles.context
        frames = sizes.repeats * ((1 << sizes.blocks) - 1) * (sizes.kernel // 2)
        return frames * sizes.stride + sizes.window

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim)."""
        samples, margin = signal.shape[-1], (self.sizes.window - self.sizes.stride) // 2
        missing = -samples % self.sizes.stride
        heard = self.encoder(F.pad(signal, (margin, margin + missing)))
        below, answers = self.enter(heard), []
        for number, block in enumerate(self.blocks):
            answer = block(below)
            answers.append(self.aside[number](answer))
            if number < len(self.onwards):
                below = below + self.onwards[number](answer)
        masks = self.leave(sum(answers)).unflatten(1, (self.stems, -1))  # stems, filters
        estimate: Tensor = self.decoder((masks * heard[:, None]).flatten(0, 1))
        estimate = estimate.unflatten(0, (-1, self.stems))  # batch, stems
        return estimate[..., margin + trim : margin + samples - trim]

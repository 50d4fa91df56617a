"""Wave-U-Net (Stoller et al. 2018): a U-Net on samples.

Each level convolves, then drops every other sample; on the way up samples are put between others by
linear interpolation. The last layer sees the song itself. What the voice leaves of the song is the
other stem: the paper's difference output is how all models here make their residual.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.blocks import keep_level
from splitter.networks.contract import Network
from splitter.schema import Range

SLOPE = 0.2  # of LeakyReLU below zero


@dataclass(frozen=True)
class WaveUNetSizes:
    """Sizes of a Wave-U-Net; the paper's have a width of 24."""

    width: Annotated[int, Range(1, 1024)] = 9  # features that each level adds
    levels: Annotated[int, Range(1, 16)] = 12
    down: Annotated[int, Range(1, 255)] = 15  # samples of a kernel on the way down; odd
    up: Annotated[int, Range(1, 255)] = 5  # and on the way up
    padded: bool = False  # with silence at each convolution, not with the song around a tile

    def build(self, channels: int, stems: int) -> Network:
        """Make the network with random weights."""
        return WaveUNet(self, channels, stems)


class WaveUNet(Network):
    """Separate (batch, channels, samples) into (batch, stems, channels, samples)."""

    def __init__(self, sizes: WaveUNetSizes, channels: int, stems: int) -> None:
        super().__init__()
        if not sizes.down % 2 or not sizes.up % 2:
            raise ValueError("kernels must have an odd number of samples")
        self.sizes, self.channels = sizes, channels
        pad_down, pad_up = (sizes.down // 2, sizes.up // 2) if sizes.padded else (0, 0)
        widths = [channels, *(sizes.width * (level + 1) for level in range(sizes.levels + 1))]
        self.before = nn.ModuleList(
            keep_level(nn.Conv1d(inputs, outputs, sizes.down, padding=pad_down), SLOPE)
            for inputs, outputs in pairwise(widths)
        )
        self.after = nn.ModuleList(
            keep_level(nn.Conv1d(lower + upper, upper, sizes.up, padding=pad_up), SLOPE)
            for upper, lower in reversed(list(pairwise(widths[1:])))
        )
        self.leave = nn.Conv1d(sizes.width + channels, stems * channels, 1)

    @property
    def grid(self) -> int:
        """Return the samples that the deepest level sees as one."""
        return 1 << self.sizes.levels

    @property
    def context(self) -> int:
        """Return what valid convolutions eat on each side, and what is made together."""
        return self.margin + self.grid + self.sizes.up

    @property
    def margin(self) -> int:
        """Return the samples that valid convolutions eat on each side."""
        down, up = self.sizes.down, self.sizes.up
        return (self.grid * (2 * down - 3 + up) - down + 2 - up) // 2

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim)."""
        samples = signal.shape[-1]
        # what is left out keeps the grid: levels halve where they would
        start = 0 if self.sizes.padded else trim // self.grid * self.grid
        before, end = self._surroundings(start, samples - trim)
        around = (before, end - samples)
        # a tile brings its surroundings; an example has its mirror image, if it is long enough
        mirrored = self.training and not self.sizes.padded and max(around) < samples
        estimate = self.draw(F.pad(signal, around, "reflect" if mirrored else "constant"))
        stems: Tensor = estimate.unflatten(1, (-1, self.channels))
        return stems[..., trim - start :][..., : samples - 2 * trim]

    def _surroundings(self, start: int, stop: int) -> tuple[int, int]:
        """Return how far before the song an input begins, and where it ends, for some outputs.

        An input of 2ⁿ (k + 2 d − 3) − d + 2 samples has 2ⁿ (k − u) + u outputs, in its middle.
        """
        if self.sizes.padded:
            return 0, -(-(stop + self.context) // self.grid) * self.grid
        down, up = self.sizes.down, self.sizes.up
        deepest = up + max(1, -(-(stop - start - up) // self.grid))
        needed = self.grid * (deepest + 2 * down - 3) - down + 2
        before = self.margin - start
        return before, needed - before

    def draw(self, signal: Tensor) -> Tensor:
        """Compute as many samples as there are surroundings for."""
        heard, skipped = signal, []
        for convolution in self.before[:-1]:
            skipped.append(F.leaky_relu(convolution(heard), SLOPE))
            heard = skipped[-1][..., ::2]
        heard = F.leaky_relu(self.before[-1](heard), SLOPE)
        for convolution in self.after:
            heard = interpolate(heard, self.sizes.padded)
            joined = torch.cat([heard, _crop(skipped.pop(), heard)], dim=1)
            heard = F.leaky_relu(convolution(joined), SLOPE)
        estimate: Tensor = self.leave(torch.cat([heard, _crop(signal, heard)], dim=1))
        return estimate


def interpolate(signal: Tensor, padded: bool) -> Tensor:
    """Put the mean of each two samples between them; padded, the last one is repeated."""
    later = torch.cat([signal[..., 1:], signal[..., -1:]], dim=-1)
    doubled = torch.stack([signal, (signal + later) / 2], dim=-1).flatten(-2)
    return doubled if padded else doubled[..., :-1]


def _crop(signal: Tensor, like: Tensor) -> Tensor:
    """Cut as many samples from both ends as the other has fewer."""
    start = (signal.shape[-1] - like.shape[-1]) // 2
    return signal[..., start : start + like.shape[-1]]

"""Spleeter's U-Nets (Hennequin et al. 2020): one for each stem, over blocks of 512 frames.

Frames are not centred, and a song begins with a window of silence. Blocks of frames know nothing of
each other, so a tile is a number of blocks, and one more for the frames that reach into it: tiles
leave no seam that Spleeter itself does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.contract import Hop, Network, Unbounded, Window
from splitter.schema import Length, Range
from splitter.spectral import overlap_add
from splitter.tiling import TileShape

LEVELS = 6
KERNEL = 5
LEAST = 1e-10
TILE_BLOCKS = 3  # that are kept of a tile
Filters = Annotated[int, Range(1, 4096)]


@dataclass(frozen=True)
class SpleeterSizes:
    """Sizes of the U-Nets."""

    filters: Annotated[tuple[Filters, ...], Length(LEVELS, LEVELS)] = (16, 32, 64, 128, 256, 512)
    activation: Literal["relu", "elu"] = "relu"  # LeakyReLU down and ReLU up, or ELU both ways
    masks: Literal["sigmoid", "softmax"] = "sigmoid"  # softmax over stems
    frames: Annotated[int, Range(64, 8192)] = 512  # of a block
    bins: Annotated[int, Range(64, 32768)] = 1024  # that have masks; above there is nothing
    window: Window = 4096  # samples
    hop: Hop = 1024  # samples

    def build(self, channels: int, stems: int) -> Network:
        """Make the networks with random weights."""
        return Spleeter(self, channels, stems)


class StemUNet(nn.Module):
    """Map magnitudes (blocks, channels, frames, bins) to a mask before its activation."""

    def __init__(self, sizes: SpleeterSizes, channels: int) -> None:
        super().__init__()
        down = [channels, *sizes.filters]
        up = [*reversed(sizes.filters[:-1]), 1]
        heard = [down[-1], *(2 * filters for filters in up[:-1])]
        self.slope = 0.2 if sizes.activation == "relu" else None
        self.down = nn.ModuleList(
            nn.Conv2d(before, after, KERNEL, 2) for before, after in pairwise(down)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(before, after, KERNEL, 2, padding=1)
            for before, after in zip(heard, up, strict=True)
        )
        self.down_norms = nn.ModuleList(nn.BatchNorm2d(n, eps=1e-3) for n in down[1:])
        self.up_norms = nn.ModuleList(nn.BatchNorm2d(n, eps=1e-3) for n in up)
        self.leave = nn.Conv2d(1, channels, 4, dilation=2, padding=3)

    def forward(self, magnitude: Tensor) -> Tensor:
        """Return (blocks, channels, frames, bins)."""
        signal, skips = magnitude, []
        for convolve, norm in zip(self.down, self.down_norms, strict=True):
            skips.append(convolve(F.pad(signal, (1, 2, 1, 2))))  # as TensorFlow pads
            normed = norm(skips[-1])
            signal = F.elu(normed) if self.slope is None else F.leaky_relu(normed, self.slope)
        signal = skips.pop()  # the deepest norm is never heard
        for convolve, norm in zip(self.up, self.up_norms, strict=True):
            wider = convolve(signal)[..., :-1, :-1]
            signal = norm(F.elu(wider) if self.slope is None else F.relu(wider))
            if skips:
                signal = torch.cat([skips.pop(), signal], dim=1)
        answer: Tensor = self.leave(signal)
        return answer


class Spleeter(Unbounded):
    """Separate (batch, channels, samples) into (batch, stems, channels, samples)."""

    window: Tensor

    def __init__(self, sizes: SpleeterSizes, channels: int, stems: int) -> None:
        block = sizes.frames * sizes.hop
        super().__init__(TileShape(TILE_BLOCKS * block, block, block, beyond="silence"))
        if sizes.window % sizes.hop or sizes.bins > sizes.window // 2 + 1:
            raise ValueError(
                "the window must be a multiple of the hop, and have at least that many bins"
            )
        if sizes.frames % 2**LEVELS or sizes.bins % 2**LEVELS:
            raise ValueError(f"frames and bins must be multiples of {2**LEVELS}")
        self.sizes = sizes
        window = torch.hann_window(sizes.window, device="cpu")
        self.register_buffer("window", window, persistent=False)
        self.unets = nn.ModuleList(StemUNet(sizes, channels) for _ in range(stems))

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim).

        `trim` is a number of blocks.
        """
        sizes = self.sizes
        samples = signal.shape[-1] - 2 * trim
        blocks = -(-(samples + sizes.window) // (sizes.frames * sizes.hop))
        first, length = trim - sizes.window, (blocks * sizes.frames - 1) * sizes.hop + sizes.window
        heard = F.pad(signal, (max(0, -first), max(0, first + length - signal.shape[-1])))
        heard = heard[..., max(0, first) :][..., :length].float()
        frames = heard.unfold(-1, sizes.window, sizes.hop) * self.window
        spectrogram = torch.fft.rfft(frames)  # batch, channels, frames, bins
        masks = self._masks(spectrogram[..., : sizes.bins].abs())
        masked = F.pad(masks, (0, spectrogram.shape[-1] - sizes.bins)) * spectrogram[:, None]
        # windows that are squared and overlap by three quarters sum to 3/2
        back = torch.fft.irfft(masked, n=sizes.window) * (self.window * (2 / 3))
        return overlap_add(back, sizes.hop)[..., sizes.window : sizes.window + samples]

    def _masks(self, magnitude: Tensor) -> Tensor:
        """Return masks (batch, stems, channels, frames, bins)."""
        cut = magnitude.unflatten(2, (-1, self.sizes.frames)).transpose(1, 2)
        heard = cut.flatten(0, 1)  # blocks, channels, frames, bins
        drawn = torch.stack([unet(heard).float() for unet in self.unets], dim=1)
        soft = self.sizes.masks == "softmax"
        power = ((drawn.softmax(1) if soft else drawn.sigmoid()) * heard[:, None]).square()
        ratio = (power + LEAST / len(self.unets)) / (power.sum(1, keepdim=True) + LEAST)
        back = ratio.unflatten(0, (magnitude.shape[0], -1))  # batch, blocks, stems, channels, …
        joined: Tensor = back.permute(0, 2, 3, 1, 4, 5).flatten(3, 4)
        return joined

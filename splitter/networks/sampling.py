"""Ways down and up between the levels of a U-Net: each halves, or doubles, both axes.

Their `reach` is counted in frames of the finer side. `ENDS` are what stands before the first level
and behind the last.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.blocks import Part, convolve


class Sampling(nn.Sequential, Part):
    """Layers that change the size of a picture."""

    def __init__(self, *layers: nn.Module, outputs: int, reach: int = 0) -> None:
        super().__init__(*layers)
        self.outputs, self.reach = outputs, reach


def _pool(features: int) -> Sampling:
    """Keep the largest of 2×2; an odd row or frame at the end is kept."""
    return Sampling(nn.MaxPool2d(2, ceil_mode=True), outputs=features)


def _pool_volume(features: int) -> Sampling:
    """Keep the largest of 2×2 of each picture of a stack."""
    return Sampling(nn.MaxPool3d((1, 2, 2)), outputs=features)


def _stride(features: int) -> Sampling:
    return Sampling(*convolve(features, features, step=2), outputs=features, reach=1)


def _leave(features: int) -> Sampling:
    """Leave it to the next block, whose first convolution has a stride of 2."""
    return Sampling(outputs=features, reach=1)


def _transpose(inputs: int, outputs: int) -> Sampling:
    return Sampling(nn.ConvTranspose2d(inputs, outputs, 2, 2), outputs=outputs)


def _transpose_volume(inputs: int, outputs: int) -> Sampling:
    layer = nn.ConvTranspose3d(inputs, outputs, (1, 2, 2), (1, 2, 2))
    return Sampling(layer, outputs=outputs)


class Bilinear(Part):
    """Double both axes by linear interpolation; features stay what they are."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs, self.reach = inputs, 1

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, features, rows, frames) to (batch, features, 2 · rows, 2 · frames)."""
        return F.interpolate(signal, scale_factor=2, mode="bilinear")


def _repeat(inputs: int, outputs: int) -> Sampling:
    """Repeat each value, and convolve."""
    layers = nn.Upsample(scale_factor=2), *convolve(inputs, outputs)
    return Sampling(*layers, outputs=outputs, reach=1)


def _shuffle(inputs: int, outputs: int) -> Sampling:
    """Make four features of each and lay them side by side (Shi et al. 2016)."""
    layers = nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2)
    return Sampling(*layers, outputs=outputs)


DOWN: dict[str, Callable[[int], Part]] = {
    "pool": _pool,
    "strided": _stride,
    "in-block": _leave,
    "volume": _pool_volume,
}
UP: dict[str, Callable[[int, int], Part]] = {
    "transposed": _transpose,
    "bilinear": Bilinear,
    "repeated": _repeat,
    "sub-pixel": _shuffle,
    "volume": _transpose_volume,
}


class Stack(nn.Module):
    """Take channels that are pictures of `depth` windows each for a stack of them."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth

    def forward(self, picture: Tensor) -> Tensor:
        """Map (batch, inputs · depth, bands, frames) to (batch, inputs, depth, bands, frames)."""
        volume: Tensor = picture.unflatten(1, (-1, self.depth))
        return volume


class Flatten(nn.Module):
    """Average over a stack: (batch, outputs, depth, …) to (batch, outputs, …)."""

    def forward(self, volume: Tensor) -> Tensor:
        """Return what all pictures say together."""
        return volume.mean(2)


def _enter_pixels(inputs: int, pack: int, views: int) -> Sampling:
    fold = [nn.PixelUnshuffle(pack)] if pack > 1 else []
    return Sampling(*fold, outputs=inputs * views * pack**2)


def _leave_pixels(features: int, outputs: int, pack: int) -> Sampling:
    head = nn.Conv2d(features, outputs * pack**2, 1)
    unfold = [nn.PixelShuffle(pack)] if pack > 1 else []
    return Sampling(head, *unfold, outputs=outputs)


def _enter_stack(inputs: int, pack: int, views: int) -> Sampling:
    if pack > 1:
        raise ValueError("a stack of pictures is not packed; leave pack at 1")
    return Sampling(Stack(views), outputs=inputs)


def _leave_stack(features: int, outputs: int, pack: int) -> Sampling:
    return Sampling(nn.Conv3d(features, outputs, 1), Flatten(), outputs=outputs)


# name → from (inputs, pack, views) what makes the first features of a picture's channels, each seen
# through `views` windows; and from (features, outputs, pack) what makes logits of the last features
ENDS = {"pixels": (_enter_pixels, _leave_pixels), "stack": (_enter_stack, _leave_stack)}

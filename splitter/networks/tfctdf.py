"""A U-Net of TFC-TDF blocks (Choi et al. 2020), for pictures of bands × frames.

Strided convolutions see a neighbourhood; a voice's harmonics are spread over all frequencies. So a
block convolves over time and frequency (TFC), then passes each frame through a dense layer across
all its bands (TDF). A first convolution without overlap joins `patch` bands into one row of
features: the full resolution has few features, and would take most of the time.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

CONVOLUTIONS = 2  # in a block
BOTTLENECK = 4  # a dense layer's rows, over the rows between its two halves


class Block(nn.Module):
    """Map (batch, features, rows, frames) to the same shape: convolutions, then dense layers."""

    def __init__(self, features: int, rows: int) -> None:
        super().__init__()
        parts = [
            _norm(nn.Conv2d(features, features, 3, padding=1, bias=False), features)
            for _ in range(CONVOLUTIONS)
        ]
        self.convolve = nn.Sequential(*(layer for part in parts for layer in part))
        self.narrow = nn.Linear(rows, rows // BOTTLENECK, bias=False)
        self.widen = nn.Linear(rows // BOTTLENECK, rows, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(features) for _ in range(2))

    def forward(self, signal: Tensor) -> Tensor:
        """Add to the convolutions' answer what the dense layers make of it."""
        local: Tensor = signal + self.convolve(signal)
        narrow = torch.relu(self.norms[0](_across_rows(self.narrow, local)))
        return local + torch.relu(self.norms[1](_across_rows(self.widen, narrow)))


def _norm(layer: nn.Module, features: int) -> nn.Sequential:
    """Put batch norm and ReLU behind a convolution."""
    return nn.Sequential(layer, nn.BatchNorm2d(features), nn.ReLU(inplace=True))


def _across_rows(dense: nn.Linear, signal: Tensor) -> Tensor:
    """Apply a dense layer to the rows of (batch, features, rows, frames).

    Where features lie beside each other in memory (channels last) it is one product of matrices.
    """
    frames_features = signal.permute(0, 2, 3, 1).flatten(2)  # batch, rows, frames · features
    product: Tensor = torch.matmul(dense.weight, frames_features)
    batch, features, _, frames = signal.shape
    return product.view(batch, -1, frames, features).permute(0, 3, 1, 2)


class TfcTdf(nn.Module):
    """Map (batch, inputs, bands, frames) to (batch, outputs, bands, frames).

    Bands must be a multiple of patch · 2**levels, frames of 2**levels.
    """

    def __init__(
        self, inputs: int, outputs: int, bands: int, width: int, levels: int, patch: int
    ) -> None:
        super().__init__()
        self.levels = levels
        self.patch = patch
        sizes = [(width * (level + 1), bands // patch // 2**level) for level in range(levels + 1)]
        self.enter = nn.Conv2d(inputs, width, (patch, 1), (patch, 1), bias=False)
        self.before = nn.ModuleList(Block(*size) for size in sizes[:-1])
        self.deepest = Block(*sizes[-1])
        self.after = nn.ModuleList(Block(*size) for size in sizes[:-1])
        pairs = list(pairwise(sizes))
        self.down = nn.ModuleList(
            _norm(nn.Conv2d(upper, lower, 2, 2, bias=False), lower)
            for (upper, _), (lower, _) in pairs
        )
        self.up = nn.ModuleList(
            _norm(nn.ConvTranspose2d(lower, upper, 2, 2, bias=False), upper)
            for (upper, _), (lower, _) in pairs
        )
        self.leave = nn.ConvTranspose2d(width, outputs, (patch, 1), (patch, 1))

    span = 0  # what an output depends on has bounds

    @property
    def stride(self) -> int:
        """Return the number of frames that the deepest level sees as one."""
        return int(2**self.levels)

    @property
    def rows(self) -> int:
        """Return the number of bands that the deepest level sees as one."""
        return self.patch * self.stride

    @property
    def reach(self) -> int:
        """Return how many frames to either side an output depends on.

        At each level but the deepest two blocks and the frames that are joined with its own.
        """
        block = CONVOLUTIONS  # a convolution of 3 frames sees one more to either side
        return block * self.stride + (2 * block + 1) * (self.stride - 1)

    def forward(self, picture: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Compute the outputs before any activation, of frames `start` to before `stop`."""
        signal = self.enter(picture)
        skips = []
        for block, down in zip(self.before, self.down, strict=True):
            skips.append(block(signal))
            signal = down(skips[-1])
        signal = self.deepest(signal)
        for block, up in zip(reversed(self.after), reversed(self.up), strict=True):
            signal = block(up(signal) + skips.pop())
        output: Tensor = self.leave(signal[..., start:stop])
        return output

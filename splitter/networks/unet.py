"""The U-Net of Jansson et al. 2017, for pictures of bands × frames.

Each of `levels` strided convolutions halves both axes; transposed convolutions double them again,
each joined by the picture of its own size from the way down (Ronneberger et al. 2015). The upper
levels may have a TFC-TDF block each (Choi et al. 2020) behind their convolution on the way down.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.blocks import Down, Up
from splitter.networks.tfctdf import CONVOLUTIONS, Block

DROPOUT_LEVELS = 3  # Jansson et al. drop half of the features in the three deepest levels


class Added(nn.Module):
    """Add a block's answer times a gain that begins at zero (ReZero, Bachlechner et al. 2020).

    Each feature has its gain. A trained network can be given blocks, and begins as it was.
    """

    def __init__(self, features: int, rows: int) -> None:
        super().__init__()
        self.block = Block(features, rows)
        self.gain = nn.Parameter(torch.zeros(features, 1, 1))

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, features, rows, frames) to the same shape."""
        return torch.addcmul(signal, self.gain.to(signal.dtype), self.block(signal))


class UNet(nn.Module):
    """Map (batch, inputs, bands, frames) to (batch, outputs, bands, frames).

    Bands and frames must be multiples of 2**levels; the number of bands matters only to `blocks`,
    the number of upper levels that have one. For how many frames an output sees, see `reach`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        channels: int = 16,
        levels: int = 6,
        dropout: float = 0.1,
        blocks: int = 0,
        bands: int = 0,
    ) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(levels)]
        self.levels = levels
        self.down = nn.ModuleList(
            Down(before, after) for before, after in zip([inputs, *widths], widths, strict=False)
        )
        self.added = nn.ModuleList(
            Added(widths[level], bands >> (level + 1)) for level in range(blocks)
        )
        ups = []
        for level in reversed(range(levels)):
            before = widths[level] * (1 if level == levels - 1 else 2)
            after = widths[level - 1] if level else channels
            ups.append(Up(before, after, dropout if level >= levels - DROPOUT_LEVELS else 0.0))
        self.up = nn.ModuleList(ups)
        self.head = nn.Conv2d(channels + inputs, outputs, kernel_size=1)

    @property
    def stride(self) -> int:
        """Return the number of frames that the deepest level sees as one."""
        return int(2**self.levels)

    @property
    def rows(self) -> int:
        """Return the number of bands that the deepest level sees as one."""
        return self.stride

    @property
    def reach(self) -> int:
        """Return how many frames to either side an output depends on.

        Down: 2 (2**levels − 1) frames; up: the same again; and what each block sees.
        """
        blocks: int = sum(CONVOLUTIONS * 2 ** (level + 1) for level in range(len(self.added)))
        return 4 * (self.stride - 1) + blocks

    def forward(self, picture: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Compute the outputs before any activation, of frames `start` to before `stop`.

        The way up computes only what these frames depend on: fewer and fewer to either side.
        """
        skips = [picture]
        for level, down in enumerate(self.down):
            skips.append(down(skips[-1]))
            if level < len(self.added):
                skips[-1] = self.added[level](skips[-1])
        spans = [(start, picture.shape[-1] if stop is None else stop)]
        for skip in skips[1:]:
            spans.append(_span_below(*spans[-1], skip.shape[-1]))
        first, last = spans.pop()
        signal = _only(skips.pop(), first, last)
        for up in self.up:
            before = 2 * first
            first, last = spans.pop()
            signal = _only(up(signal), first - before, last - before)
            skip = _only(skips.pop(), first, last).to(signal.dtype)
            if skips:
                signal = torch.cat([signal, skip], dim=1)
        return self._look(signal, skip)

    def _look(self, signal: Tensor, skip: Tensor) -> Tensor:
        """Apply the head to both parts of its input: joined, they would be the largest of all."""
        weight = self.head.weight.flatten(1)  # outputs, inputs
        count = signal.shape[1]
        output = F.linear(signal.movedim(1, -1), weight[:, :count], self.head.bias)
        output = output + F.linear(skip.movedim(1, -1), weight[:, count:])
        return output.movedim(-1, 1)  # bands, frames, outputs → outputs, bands, frames


def _only(signal: Tensor, start: int, stop: int) -> Tensor:
    """Return the frames `start` to before `stop`.

    If these are all, nothing is done: the gradient of a cut lies in another order in memory, and
    the convolutions' backward passes would take half as long again.
    """
    return signal if stop - start == signal.shape[-1] else signal[..., start:stop]


def _span_below(start: int, stop: int, frames: int) -> tuple[int, int]:
    """Say which of `frames` frames an `Up` needs to compute those from `start` to before `stop`.

    Output o is a sum of inputs i for which o = 2 i − 2 + k, k in 0…4.
    """
    return max(0, (start - 1) // 2), min(frames, (stop + 3) // 2)

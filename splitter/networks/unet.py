"""The U-Net of Jansson et al. 2017, for pictures of bands × frames.

Each of `levels` strided convolutions halves both axes; transposed convolutions double them again,
each joined by the picture of its own size from the way down (Ronneberger et al. 2015). The upper
levels may have TFC-TDF blocks (Choi et al. 2020), one behind the convolution on the way down, one
behind that on the way up.
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

    Bands and frames must be multiples of 2**levels; the number of bands matters only to `blocks`
    and `blocks_up`, the numbers of upper levels that have one on the way down, and up to them. For
    how many frames an output sees, see `reach`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        channels: int = 16,
        levels: int = 6,
        dropout: float = 0.1,
        blocks: int = 0,
        blocks_up: int = 0,
        bands: int = 0,
    ) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(levels)]
        self.levels = levels
        self.down = nn.ModuleList(
            Down(before, after) for before, after in zip([inputs, *widths], widths, strict=False)
        )
        sizes = [(width, bands >> (level + 1)) for level, width in enumerate(widths)]
        self.added = nn.ModuleList(Added(*size) for size in sizes[:blocks])
        # the deepest level has no way up to it
        self.added_up = nn.ModuleList(Added(*size) for size in sizes[:-1][:blocks_up])
        ups = []
        for level in reversed(range(levels)):
            before = widths[level] * (1 if level == levels - 1 else 2)
            after = widths[level - 1] if level else channels
            ups.append(Up(before, after, dropout if level >= levels - DROPOUT_LEVELS else 0.0))
        self.up = nn.ModuleList(ups)
        self.head = nn.Conv2d(channels + inputs, outputs, kernel_size=1)

    span = 0  # what an output depends on has bounds

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
        levels = [*range(len(self.added)), *range(len(self.added_up))]
        blocks: int = sum(CONVOLUTIONS * 2 ** (level + 1) for level in levels)
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
        for level, skip in enumerate(skips[1:]):
            wide = self._widen(spans[-1], level, skips[level].shape[-1])
            spans.append(_span_below(*wide, skip.shape[-1]))
        first, last = spans.pop()
        signal = _only(skips.pop(), first, last)
        for up in self.up:
            level = len(skips) - 1  # of what comes out
            before, skip = 2 * first, skips.pop()
            first, last = spans.pop()
            wide_first, wide_last = self._widen((first, last), level, skip.shape[-1])
            signal = _only(up(signal), wide_first - before, wide_last - before)
            if self._has_block_up(level):
                signal = self.added_up[level - 1](signal)
            signal = _only(signal, first - wide_first, last - wide_first)
            skip = _only(skip, first, last).to(signal.dtype)
            if skips:
                signal = torch.cat([signal, skip], dim=1)
        return self._look(signal, skip)

    def _has_block_up(self, level: int) -> bool:
        """Tell whether a block follows what comes up to a level; 0 is the picture's own size."""
        return 0 < level <= len(self.added_up)

    def _widen(self, span: tuple[int, int], level: int, frames: int) -> tuple[int, int]:
        """Say which of `frames` frames the block of a level, if it has one, needs for a span."""
        margin = CONVOLUTIONS if self._has_block_up(level) else 0
        return max(0, span[0] - margin), min(frames, span[1] + margin)

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

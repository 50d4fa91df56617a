"""A U-Net of parts, for pictures of bands × frames: which ones, a config says.

picture ─ enter ─ block ────────── skip ── block ─ leave ─ logits
└ down ─ block ─ skip ─ block ─ up ┘
└ down ─ block ─ bottom ─ up ┘
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.blocks import BLOCKS, Part
from splitter.networks.bottoms import BOTTOMS
from splitter.networks.sampling import DOWN, ENDS, UP
from splitter.networks.skips import SKIPS
from splitter.schema import Range, Words


def one_of(table: Mapping[str, object]) -> Words:
    """Say that a text must be a key of a table."""
    return Words(table.__contains__, f"of {', '.join(table)}")


@dataclass(frozen=True)
class Parts:
    """Which parts, and how many features they have."""

    block: Annotated[str, one_of(BLOCKS)] = "plain"
    down: Annotated[str, one_of(DOWN)] = "pool"
    up: Annotated[str, one_of(UP)] = "transposed"
    skip: Annotated[str, one_of(SKIPS)] = "join"
    bottom: Annotated[str, one_of(BOTTOMS)] = "plain"
    ends: Annotated[str, one_of(ENDS)] = "pixels"
    width: Annotated[int, Range(1, 1024)] = 16  # features of the first level; each doubles them
    levels: Annotated[int, Range(1, 10)] = 4  # of halving
    pack: Annotated[int, Range(1, 16)] = 1  # bands and frames that are joined before the first
    span: Annotated[int, Range(0, 4096)] = 0  # frames of the deepest level that are seen at once
    latent: Annotated[int, Range(1, 65536)] = 512  # features of a vector at the deepest level
    codes: Annotated[int, Range(2, 65536)] = 512  # of each quantised level


class PictureUNet(nn.Module):
    """Map (batch, inputs, bands, frames) to (batch, outputs, bands, frames), logits of a mask.

    `rows`, `stride`: the bands and frames that the deepest level sees as one. `reach`: the frames
    to either side that an output depends on. `span`: the frames that are seen at once by a network
    whose outputs depend on all that it is given; else 0.
    """

    def __init__(self, parts: Parts, inputs: int, outputs: int, bands: int, views: int = 1) -> None:
        super().__init__()
        make_block, (enter, leave) = BLOCKS[parts.block], ENDS[parts.ends]
        step = {"step": 2} if parts.down == "in-block" else {}
        widths = [parts.width << level for level in range(parts.levels + 1)]
        rows = [bands // parts.pack >> level for level in range(parts.levels + 1)]
        self.levels, self.pack = parts.levels, parts.pack
        self.enter: Part = enter(inputs, parts.pack, views)
        features, before, down, up, skips, after = self.enter.outputs, [], [], [], [], []
        for level in range(parts.levels):
            before.append(make_block(features, widths[level], rows[level], **step if level else {}))
            down.append(DOWN[parts.down](before[-1].outputs))
            features = down[-1].outputs
        self.deepest = make_block(features, widths[-1], rows[-1], **step)
        features = self.deepest.outputs
        bottom = BOTTOMS[parts.bottom](features, rows[-1], parts.span, parts.latent, parts.codes)
        for level in reversed(range(parts.levels)):
            up.append(UP[parts.up](features, widths[level]))
            skipped = before[level].outputs
            skips.append(SKIPS[parts.skip](skipped, up[-1].outputs, level, parts.codes))
            after.append(make_block(skips[-1].outputs, widths[level], rows[level]))
            features = after[-1].outputs
        self.leave = leave(features, outputs, parts.pack)
        self.before, self.down = nn.ModuleList(before), nn.ModuleList(down)
        self.bottom = bottom
        self.up, self.skips, self.after = map(nn.ModuleList, (up, skips, after))
        parts_of = zip(before, down, up[::-1], skips[::-1], after[::-1], strict=True)
        levels = [Level(*level) for level in parts_of]
        self.rows = parts.pack << parts.levels
        self.stride = self.rows * bottom.stride
        self.span = self.rows * bottom.span
        self.margin = self.deepest.margin
        reach = max(see(frame, levels, self.deepest) for frame in range(1 << parts.levels))
        self.reach = (reach + 1) * parts.pack - 1
        if max(self._surroundings(bands)) >= bands:
            raise ValueError(f"{bands} bands are too few for {parts.levels} levels of such blocks")

    def forward(self, picture: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Compute the outputs before any activation, of frames `start` to before `stop`."""
        bands, frames = picture.shape[-2:]
        logits = self.draw(self._surround(picture))
        inside = logits[..., self.margin * self.pack :, self.margin * self.pack :]
        return inside[..., :bands, :frames][..., start:stop]

    def draw(self, picture: Tensor) -> Tensor:
        """Compute as many outputs as the picture has surroundings for."""
        signal, skipped = self.enter(picture), []
        for block, down in zip(self.before, self.down, strict=True):
            skipped.append(block(signal))
            signal = down(skipped[-1])
        signal = self.bottom(self.deepest(signal))
        for up, skip, block in zip(self.up, self.skips, self.after, strict=True):
            signal = block(skip(skipped.pop(), up(signal)))
        logits: Tensor = self.leave(signal)
        return logits

    def _surround(self, picture: Tensor) -> Tensor:
        """Add what valid convolutions eat.

        Bands are mirrored, and so are the frames of an example in training, if it is long enough. A
        tile has more context than that, which is cut off later: of its frames none here is kept.
        """
        if not self.margin:
            return picture
        bands, frames = map(self._surroundings, picture.shape[-2:])
        mode = "reflect" if self.training and max(frames) < picture.shape[-1] else "constant"
        return F.pad(F.pad(picture, (0, 0, *bands), "reflect"), (*frames, 0, 0), mode)

    def _surroundings(self, size: int) -> tuple[int, int]:
        """Return how many rows or frames must lie before and behind `size` of them.

        Outputs begin `margin` before the first, so that levels halve where the grid does: with
        blocks that eat m at each side, a level that begins at s goes on below at (s + m) / 2.
        """
        margin, whole = self.margin, 1 << self.levels
        deepest = -(-(size // self.pack + margin * (2 * whole - 1)) // whole)
        needed = whole * (deepest + 2 * margin) + 2 * margin * (whole - 1)
        before = margin * (3 * whole - 1)
        behind = needed - before - size // self.pack if margin else 0
        return before * self.pack, behind * self.pack


@dataclass(frozen=True)
class Level:
    """The parts of one level."""

    before: Part
    down: Part
    up: Part
    skip: Part
    after: Part


def see(frame: int, levels: Sequence[Level], deepest: Part) -> int:
    """Return how far from itself a frame that comes out sees, of all that go in."""
    first = last = frame
    spans = []
    for level in levels:
        first, last = first - level.after.reach, last + level.after.reach
        spans.append((first - level.skip.reach, last + level.skip.reach))
        first, last = (first - level.up.reach) // 2, (last + level.up.reach) // 2
    first, last = first - deepest.reach, last + deepest.reach
    for level in reversed(levels):
        first, last = 2 * first - level.down.reach, 2 * last + 1 + level.down.reach
        beside = spans.pop()
        first, last = min(first, beside[0]), max(last, beside[1])
        first, last = first - level.before.reach, last + level.before.reach
    return max(frame - first, last - frame)

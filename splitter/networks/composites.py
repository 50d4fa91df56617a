"""Operations of PyTorch, written as several that graphs know (`splitter.networks.tracing`).

They compute the same but at a picture's first and last frames, where a song is mirrored anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten


def unshuffle_pixels(picture: Tensor, factor: int) -> Tensor:
    """Lay (batch, features, n · rows, n · frames) out as (batch, n² · features, rows, frames)."""
    parts: Tensor = picture.unflatten(-1, (-1, factor)).unflatten(-3, (-1, factor))
    return parts.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)  # places among n · n, rows, frames


def shuffle_pixels(picture: Tensor, factor: int) -> Tensor:
    """Lay (batch, n² · features, rows, frames) out as (batch, features, n · rows, n · frames)."""
    parts: Tensor = picture.unflatten(1, (-1, factor, factor))
    return parts.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)  # rows, frames


def repeat(picture: Tensor, size: Sequence[int], *_: float | None) -> Tensor:
    """Repeat rows and frames until there are so many."""
    rows, frames = (new // old for new, old in zip(size, picture.shape[-2:], strict=True))
    parts = picture[:, :, :, None, :, None].expand(-1, -1, -1, rows, -1, frames)
    return parts.flatten(4, 5).flatten(2, 3)


def double(picture: Tensor, size: Sequence[int], corners: bool, *_: float | None) -> Tensor:
    """Double rows and frames by linear interpolation."""
    if corners or [2 * old for old in picture.shape[-2:]] != [*size]:
        raise NotImplementedError("upsample_bilinear2d: by another factor than 2")
    rows = torch.cat([picture[:, :, :1], picture, picture[:, :, -1:]], 2)
    return _between(F.pad(_between(rows, 2), (1, 1)), 3)


def _between(signal: Tensor, axis: int) -> Tensor:
    """Put two values around each but the outermost: a quarter of the way to its neighbours."""
    count = signal.shape[axis] - 2
    before, own, behind = (signal.narrow(axis, start, count) for start in range(3))
    parts = [(each + 3 * own).unsqueeze(axis + 1) for each in (before, behind)]
    return torch.cat(parts, axis + 1).flatten(axis, axis + 1) / 4


COMPOSITES: Mapping[torch._ops.OpOverload, Callable[..., Tensor]] = {
    aten.pixel_unshuffle.default: unshuffle_pixels,
    aten.pixel_shuffle.default: shuffle_pixels,
    aten.upsample_nearest2d.default: repeat,
    aten.upsample_bilinear2d.default: double,
}

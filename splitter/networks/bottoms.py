"""What a U-Net does at its deepest level, behind its block there."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.quantising import Codebook


class Bottom(nn.Module):
    """Map (batch, features, rows, frames) to the same shape."""

    span: int = 0  # frames that are seen at once; 0: each sees no further than its blocks do
    stride: int = 1  # frames that must come together


class Plain(nn.Identity, Bottom):
    """Do nothing."""

    def __init__(self, features: int, rows: int, span: int, latent: int, codes: int = 0) -> None:
        super().__init__()


class NonLocal(Bottom):
    """Let each place see all others (Wang et al. 2020): attention with one head, added.

    What a place sees has no bounds in time; `span` is what it sees of a song at once.
    """

    def __init__(self, features: int, rows: int, span: int, latent: int, codes: int = 0) -> None:
        super().__init__()
        if not span:
            raise ValueError(
                "a non-local level needs a span: how many frames of the deepest level it sees"
            )
        self.span = span
        self.query, self.key, self.value = (nn.Conv2d(features, features, 1) for _ in range(3))
        self.answer = nn.Conv2d(features, features, 1)

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, features, rows, frames) to the same shape."""
        query, key, value = self.query(signal), self.key(signal), self.value(signal)
        places = [_list_places(each) for each in (query, key, value)]
        seen = F.scaled_dot_product_attention(places[0], places[1], places[2])
        answer: Tensor = self.answer(seen.transpose(1, 2).unflatten(2, signal.shape[2:]))
        return signal + answer


def _list_places(signal: Tensor) -> Tensor:
    return signal.flatten(2).transpose(1, 2)  # places, features


class Vector(Bottom):
    """Press `span` frames with all their rows through one vector (Wu and Lin 2019).

    What does not fit into it is lost: what went down keeps no place of its own.
    """

    def __init__(self, features: int, rows: int, span: int, latent: int, codes: int = 0) -> None:
        super().__init__()
        if not span:
            raise ValueError("a vector needs a span: how many frames of the deepest level it holds")
        self.span = self.stride = span
        self.features, self.rows = features, rows
        size = features * rows * span
        self.press = nn.Sequential(nn.Linear(size, latent), nn.LeakyReLU(0.2))
        self.unfold = nn.Sequential(nn.Linear(latent, size), nn.LeakyReLU(0.2))

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, features, rows, frames), a multiple of span, to the same shape."""
        pieces = signal.unflatten(-1, (-1, self.span)).permute(0, 3, 1, 2, 4)  # pieces
        answer = self.unfold(self.press(pieces.flatten(2)))
        places: Tensor = answer.unflatten(2, (self.features, self.rows, self.span))
        return places.permute(0, 2, 3, 1, 4).flatten(-2)  # frames


class Quantised(Codebook, Bottom):
    """Let one of so many codes pass at each place (Razavi et al. 2019)."""

    def __init__(self, features: int, rows: int, span: int, latent: int, codes: int = 0) -> None:
        super().__init__(features, codes)


# from (features, rows, span, latent, codes)
BOTTOMS: dict[str, Callable[[int, int, int, int, int], Bottom]] = {
    "plain": Plain,
    "non-local": NonLocal,
    "vector": Vector,
    "quantised": Quantised,
}

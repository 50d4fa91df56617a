"""Codebooks: what passes is one of a few vectors (van den Oord et al. 2017, Razavi et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.devices import exact
from splitter.networks.contract import Auxiliary

CODE = 32  # features of a code
COMMITMENT = 0.25  # weight of the loss that keeps what comes in near its code (β)
DECAY = 0.99  # a step, of the averages that codes are
DEAD = 0.05  # of the mean use; codes that are used less begin anew, where a vector lies
SMALL = 1e-3  # use of the codes before the first step


class Codebook(Auxiliary):
    """Replace each place's features by the nearest code, by way of 1×1 convolutions.

    A code is the mean of the vectors that chose it, an exponential average over steps; the
    gradient passes as if nothing was replaced. Two codes can be equally near: which is chosen then
    may depend on rounding.
    """

    sizes: Tensor  # (codes,), how many vectors of a batch choose each; revived ones the mean
    sums: Tensor  # (codes, CODE), what these add up to
    uses: Tensor  # (codes,), how many vectors of a batch chose each

    def __init__(self, features: int, codes: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(features, CODE, 1)
        self.expand = nn.Conv2d(CODE, features, 1)
        self.register_buffer("sizes", torch.full((codes,), SMALL))
        self.register_buffer("sums", torch.randn(codes, CODE) * SMALL)
        self.register_buffer("uses", torch.full((codes,), SMALL))

    @property
    def codes(self) -> Tensor:
        """Return the vectors, (codes, CODE)."""
        return self.sums / self.sizes[:, None]

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, features, rows, frames) to the same shape."""
        vectors = self.project(signal).float().movedim(1, -1)  # features last
        chosen = self.choose(vectors)
        nearest = self._look_up(chosen)  # before codes move: a dead one goes anywhere
        if self.training:
            self._follow(vectors.detach().flatten(0, -2), chosen.flatten())
            self.loss = COMMITMENT * F.mse_loss(vectors, nearest)
        return self._leave(vectors + (nearest - vectors).detach(), signal.dtype)

    def choose(self, vectors: Tensor) -> Tensor:
        """Return the number of the code nearest to each of (…, CODE)."""
        codes = exact(self.codes)  # which no autocast rounds: neighbours lie close together
        # |v − c|² without |v|², which is the same for all
        distances = codes.square().sum(1) - 2 * exact(vectors.detach()) @ codes.T
        return distances.argmin(-1).to(vectors.device)

    def encode(self, signal: Tensor) -> Tensor:
        """Return the numbers (batch, rows, frames) of the codes for (batch, features, …)."""
        return self.choose(self.project(signal).float().movedim(1, -1))

    def decode(self, chosen: Tensor) -> Tensor:
        """Return the features (batch, features, rows, frames) that numbers of codes stand for."""
        return self._leave(self._look_up(chosen), self.expand.weight.dtype)

    def measure(self) -> Mapping[str, float]:
        """Return the perplexity: how many codes, all used alike, would be as hard to guess."""
        shares = self.uses / self.uses.sum()
        return {"perplexity": float(torch.exp(torch.special.entr(shares).sum()))}

    def _look_up(self, chosen: Tensor) -> Tensor:
        return F.embedding(chosen, self.codes)

    def _leave(self, vectors: Tensor, dtype: torch.dtype) -> Tensor:
        answer: Tensor = self.expand(vectors.to(dtype).movedim(-1, 1))
        return answer

    @torch.no_grad()
    def _follow(self, vectors: Tensor, chosen: Tensor) -> None:
        """Move each code towards the mean of the vectors that chose it; revive dead ones."""
        count = len(self.sizes)
        sizes = torch.bincount(chosen, minlength=count).to(vectors.dtype)
        sums = torch.zeros_like(self.sums).index_add_(0, chosen, vectors)
        self.uses.lerp_(sizes, 1 - DECAY)
        self.sizes.lerp_(sizes, 1 - DECAY)
        self.sums.lerp_(sums, 1 - DECAY)
        usual = len(vectors) / count
        dead = self.sizes < DEAD * usual
        drawn = vectors[torch.randint(len(vectors), (count,), device=vectors.device)]
        self.sums.copy_(torch.where(dead[:, None], drawn * usual, self.sums))
        self.sizes.copy_(torch.where(dead, torch.full_like(self.sizes, usual), self.sizes))

"""How weights follow their gradients; a recipe names one of `OPTIMIZERS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
NARROWEST = 8  # features in or out: weights with fewer are left to AdamW
# of the quintic that takes all singular values near 1 in a few rounds (Jordan et al. 2024)
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
TINY = 1e-12


class Muon(torch.optim.Optimizer):
    """Step along the momentum with all its singular values made equal (Jordan et al. 2024).

    A few directions have most of a gradient; here the others move a weight as far. A convolution's
    weight is the matrix of its first axis × all others, features in × out or out × in as it lies
    there. The learning rate is the root mean square of a step, for matrices of any shape.
    """

    def __init__(
        self, weights: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__(weights, {"lr": learning_rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change the weights by their gradients."""
        for group in self.param_groups:
            for weight in group["params"]:
                if "momentum" not in self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
                momentum = self.state[weight]["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
                ahead = weight.grad.lerp(momentum, MOMENTUM).flatten(1)  # Nesterov's
                step = orthogonalise(ahead).view(weight.shape) * max(ahead.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(step, alpha=group["lr"])


def orthogonalise(matrix: Tensor) -> Tensor:
    """Return about U·Vᵀ for a matrix U·S·Vᵀ: all singular values lie between 0.7 and 1.2.

    Those below some thousandths of the largest are not lifted so far. Newton's and Schulz' rounds
    with a quintic are done on M·Mᵀ, which is small, and their product meets M only once.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalise(matrix.T).T
    matrix = matrix / matrix.norm().clamp_min(TINY)
    gram = matrix @ matrix.T
    unit = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    product = unit
    first, second, third = QUINTIC
    for _ in range(ROUNDS):
        factor = first * unit + second * gram + third * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    return product @ matrix


def adamw(
    network: nn.Module, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Give all weights to AdamW (Loshchilov and Hutter 2019)."""
    return [torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay)]


def muon(
    network: nn.Module, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Give matrices to Muon; norms, gains and narrow layers (most first and last ones) to AdamW."""
    wide: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for weight in network.parameters():
        is_wide = weight.ndim >= 2 and min(weight.shape[:2]) >= NARROWEST
        (wide if is_wide else others).append(weight)
    rest = torch.optim.AdamW(others, learning_rate, weight_decay=weight_decay)
    return [rest, *([Muon(wide, learning_rate, weight_decay)] if wide else [])]


OPTIMIZERS: dict[str, Callable[[nn.Module, float, float], list[torch.optim.Optimizer]]] = {
    "adamw": adamw,
    "muon": muon,
}

"""How what was seen on the way down meets what comes up to the same level."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.blocks import Part
from splitter.networks.quantising import Codebook


class Join(Part):
    """Lay both side by side (Ronneberger et al. 2015).

    The way down is cropped to what came up, where valid convolutions have eaten, or padded, where
    an odd size was rounded up (Yang and Ma 2019).
    """

    def __init__(self, skipped: int, risen: int, level: int, codes: int = 0) -> None:
        super().__init__()
        self.outputs, self.reach = skipped + risen, 0

    def forward(self, skipped: Tensor, risen: Tensor) -> Tensor:
        """Return (batch, outputs, …) in the size of what came up."""
        return torch.cat([fit(skipped, risen), risen], dim=1)


def fit(signal: Tensor, like: Tensor) -> Tensor:
    """Crop the last two axes around their middle, or pad them at their ends with silence."""
    rows, frames = (
        target - size for target, size in zip(like.shape[-2:], signal.shape[-2:], strict=True)
    )
    if rows == frames == 0:
        return signal
    before = min(rows, 0) // 2, min(frames, 0) // 2
    return F.pad(signal, (before[1], frames - before[1], before[0], rows - before[0]))


class Nothing(Part):
    """Forget the way down (Wu and Lin 2019)."""

    def __init__(self, skipped: int, risen: int, level: int, codes: int = 0) -> None:
        super().__init__()
        self.outputs, self.reach = risen, 0

    def forward(self, skipped: Tensor, risen: Tensor) -> Tensor:
        """Return what came up."""
        return risen


class ResPath(Join):
    """Bring the way down closer to the way up by residual convolutions (Ibtehaz and Rahman 2020).

    Four at the first level, where both lie the furthest apart, one fewer at each below it.
    """

    LONGEST = 4

    def __init__(self, skipped: int, risen: int, level: int, codes: int = 0) -> None:
        super().__init__(skipped, risen, level)
        self.reach = max(1, self.LONGEST - level)
        self.outputs = 2 * risen
        widths = [skipped, *[risen] * (self.reach - 1)]
        self.wide = nn.ModuleList(nn.Conv2d(width, risen, 3, padding=1) for width in widths)
        self.short = nn.ModuleList(nn.Conv2d(width, risen, 1) for width in widths)
        self.norms = nn.ModuleList(nn.BatchNorm2d(risen) for _ in widths)

    def forward(self, skipped: Tensor, risen: Tensor) -> Tensor:
        """Return (batch, 2 · features, rows, frames)."""
        for wide, short, norm in zip(self.wide, self.short, self.norms, strict=True):
            skipped = norm(torch.relu(wide(skipped) + short(skipped)))
        return super().forward(skipped, risen)


class Attention(Join):
    """Let pass only what the way up asks for (Oktay et al. 2018).

    An additive gate: σ(ψ(ReLU(W·risen + V·skipped))), one coefficient for each row and frame.
    """

    def __init__(self, skipped: int, risen: int, level: int, codes: int = 0) -> None:
        super().__init__(skipped, risen, level)
        inner = max(1, skipped // 2)
        self.asked = nn.Sequential(nn.Conv2d(risen, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.seen = nn.Sequential(nn.Conv2d(skipped, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.ask = nn.Conv2d(inner, 1, 1)
        self.coefficients = nn.Sigmoid()  # a module of its own: a hook there sees what to draw

    def forward(self, skipped: Tensor, risen: Tensor) -> Tensor:
        """Return (batch, outputs, rows, frames)."""
        skipped = fit(skipped, risen)
        gate = self.coefficients(self.ask(torch.relu(self.asked(risen) + self.seen(skipped))))
        return super().forward(skipped * gate, risen)


class Quantised(Join):
    """Let codes pass that say what those below left open (Razavi et al. 2019)."""

    def __init__(self, skipped: int, risen: int, level: int, codes: int = 0) -> None:
        super().__init__(skipped, risen, level)
        self.join = nn.Conv2d(skipped + risen, skipped, 1)
        self.codebook = Codebook(skipped, codes)

    def forward(self, skipped: Tensor, risen: Tensor) -> Tensor:
        """Return (batch, outputs, rows, frames)."""
        return super().forward(self.codebook(self.ask(skipped, risen)), risen)

    def ask(self, skipped: Tensor, risen: Tensor) -> Tensor:
        """Return what is to be coded."""
        asked: Tensor = self.join(super().forward(skipped, risen))
        return asked

    def decode(self, chosen: Tensor, risen: Tensor) -> Tensor:
        """Return the outputs for codes that were chosen before."""
        return super().forward(self.codebook.decode(chosen), risen)


def attention_maps(network: nn.Module, picture: Tensor) -> list[Tensor]:
    """Return the coefficients (batch, 1, rows, frames) in 0…1 of each gate, the deepest first."""
    maps: list[Tensor] = []
    gates = [module for module in network.modules() if isinstance(module, Attention)]
    handles = [
        gate.coefficients.register_forward_hook(lambda _, __, output: maps.append(output))
        for gate in gates
    ]
    with torch.no_grad():
        network(picture)
    for handle in handles:
        handle.remove()
    return maps


# from (features skipped, risen, level, codes)
SKIPS: dict[str, Callable[[int, int, int, int], Part]] = {
    "join": Join,
    "none": Nothing,
    "res-path": ResPath,
    "attention": Attention,
    "quantised": Quantised,
}

"""Other rates of samples, inside a network."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.contract import Network, Unbounded
from splitter.tiling import TileShape

CORE = 20  # seconds of a tile of a network that has none of its own


class Resampler(nn.Module):
    """Change a rate by up / down, through a low-pass of an odd number of taps.

    The taps are at the rate of `up` times the signal's. Beyond its ends a signal is silent, or
    stays (`held`) what it is there.
    """

    kernels: Tensor

    def __init__(self, up: int, down: int, taps: Tensor, held: bool = False) -> None:
        super().__init__()
        self.up, self.down, self.held = up, down, held
        self.reach = len(taps) // 2
        first, last = -(self.reach // up), (self.reach + (up - 1) * down) // up  # samples heard
        # of each of `up` samples that are made in one step (polyphase), so none is made in vain
        places = self.reach + down * torch.arange(up, device="cpu")[:, None]
        places = places - up * torch.arange(first, last + 1, device="cpu")
        heard = (places >= 0) & (places < len(taps))
        kernels = taps[places.clamp(0, len(taps) - 1)] * heard
        self.before, self.after = -first, last
        self.register_buffer("kernels", kernels[:, None], persistent=False)

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, channels, samples) to ceil(samples · up / down) samples."""
        if self.up == self.down:
            return signal
        flat, samples = signal.reshape(-1, 1, signal.shape[-1]), signal.shape[-1]
        wanted = -(-samples * self.up // self.down)
        last = (wanted - 1) // self.up * self.down + self.after
        beyond = (self.before, max(0, last + 1 - samples))
        padded = F.pad(flat.to(self.kernels), beyond, "replicate" if self.held else "constant")
        with torch.autocast(signal.device.type, enabled=False):  # half precision is for networks
            made = F.conv1d(padded, self.kernels, stride=self.down)
        whole = made.transpose(1, 2).flatten(1)
        return whole[..., :wanted].reshape(*signal.shape[:-1], wanted)


def change_rate(rate: int, wanted: int) -> Resampler:
    """Change a rate (Hz) by a windowed sinc, as `scipy.signal.resample_poly` does."""
    common = math.gcd(rate, wanted)
    up, down = wanted // common, rate // common
    most = max(up, down)
    rank = torch.arange(-10 * most, 10 * most + 1, dtype=torch.float64, device="cpu")
    window = torch.kaiser_window(
        len(rank), periodic=False, beta=5.0, dtype=torch.float64, device="cpu"
    )
    taps = torch.sinc(rank / most) * window
    return Resampler(up, down, (up * taps / taps.sum()).float())


class AtRate(Unbounded):
    """Run a network on songs of another rate, in tiles that are faded into each other."""

    def __init__(self, network: Network, rate: int, heard: int) -> None:
        """`rate` is the network's, `heard` that of the songs, Hz."""

        def scale(samples: int) -> int:
            return -(-samples * heard // rate)

        shape = network.own_tiles
        if shape is None:
            core = CORE * rate
            shape = TileShape(core, network.context, 1, core // 10, "linear")
        there, back = change_rate(heard, rate), change_rate(rate, heard)
        core, reach = scale(shape.core), -(-there.reach // there.up)
        super().__init__(
            replace(
                shape, core=core, grid=core if shape.grid == shape.core else 1,
                context=scale(shape.context) + 2 * reach,
                overlap=scale(shape.overlap), border=scale(shape.border),
            )
        )  # fmt: skip
        self.network, self.there, self.back = network, there, back

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim)."""
        samples = signal.shape[-1]
        answer: Tensor = self.back(self.network(self.there(signal)).float())
        missing = max(0, samples - answer.shape[-1])
        return F.pad(answer, (0, missing))[..., trim : samples - trim]

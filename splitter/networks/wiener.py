"""Where in the stereo image a source lies helps to tell it from the others: a Wiener filter.

    network ── estimates ── Stft ─┬─▶ power vⱼ and place Rⱼ of each source ─▶ filter ─ Stft.inverse
    signal ──────────────── Stft ─┴──────────────────────────────────────────────┘

At each bin and frame, source j is taken for Gaussian with the covariance vⱼ Rⱼ over left and right
(Duong, Vincent & Gribonval 2010, "Under-determined reverberant audio source separation using a
full-rank spatial covariance model"). Given all of them, the best linear estimate of the source is
the multichannel Wiener filter, vⱼ Rⱼ (Σ vₖ Rₖ)⁻¹ x. What the filter finds tells vⱼ and Rⱼ better
than what it began with did, so it can be repeated: expectation maximisation, started from what a
network estimates (Nugraha, Liutkus & Vincent 2016, "Multichannel audio source separation with deep
neural networks", algorithm 1).

Both papers average Rⱼ over the whole song. Here it is averaged over the frames around each frame:
sources may move, memory does not grow with the song, and tiles leave no seam.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from splitter.networks.contract import Network
from splitter.spectral import Stft, find_stft
from splitter.tiling import TileShape

REACH = 32  # frames before, and about as many after: 1.5 s in all at 44.1 kHz and a hop of 1024
PORTION = 64  # bins that are filtered at a time, for the processor's cache
DIFFUSE = 1e-2  # of a source comes from everywhere: no covariance is singular
FLOOR = 1e-10  # power of an STFT's bin: less, about −160 dBFS, is silence


class Wiener(Network):
    """Filter the mixture by what `network` estimates, with `iterations` of EM.

    The residual is a source like the stems. A song of one channel has no image; its filter is the
    ratio of the sources' powers. Every iteration sees REACH frames further.
    """

    def __init__(self, network: Network, iterations: int, stft: Stft | None = None) -> None:
        super().__init__()
        self.network = network
        self.iterations = iterations
        self.stft = stft or find_stft(network) or Stft(4096, 1024)

    @property
    def grid(self) -> int:
        """Return the samples by which a tile may move: what the network's grid and hop divide."""
        return math.lcm(self.network.grid, self.stft.hop)

    @property
    def context(self) -> int:
        """Return how many samples to either side an output depends on.

        A frame on the way in and out, the frames around it in each iteration, and the network.
        """
        return self.network.context + self._reach

    @property
    def own_tiles(self) -> TileShape | None:
        """Return the network's own tiles; the filter sees no further than they."""
        return self.network.own_tiles

    @property
    def _reach(self) -> int:
        """Return how many samples to either side of its own the filter looks at estimates."""
        return self.stft.size + self.iterations * REACH * self.stft.hop

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples), at most 2 channels, into (…, stems, channels, …)."""
        hop = self.stft.hop
        unseen = max(0, trim - self._reach) // hop * hop  # by the filter
        estimates = self.network(signal, unseen).float()
        signal = signal[..., unseen : signal.shape[-1] - unseen]
        mixture = self._transform(signal)
        stems = self._transform(estimates)
        portions = zip(mixture.split(PORTION, -1), stems.split(PORTION, -1), strict=True)
        refined = torch.cat([refine(*portion, self.iterations) for portion in portions], dim=-1)
        channels = refined[:, :, : signal.shape[1]]
        kept = slice(trim - unseen, signal.shape[-1] - (trim - unseen))
        return self.stft.inverse(channels.transpose(-1, -2), signal.shape[-1])[..., kept]

    def _transform(self, signal: Tensor) -> Tensor:
        """Transform (…, channels, samples) to (…, 2, frames, bins): one channel is heard twice."""
        spectrogram: Tensor = self.stft(signal).transpose(-1, -2)  # as it lies in memory
        return spectrogram.repeat_interleave(2 // spectrogram.shape[-3], dim=-3)


@dataclass(frozen=True)
class Covariance:
    """Hermitian 2 × 2 matrices over left and right, as planes (batch, sources, frames, bins)."""

    left: Tensor  # real: power of the left
    right: Tensor
    cross: Tensor  # complex: left times the conjugate of right

    @classmethod
    def of(cls, sources: Tensor) -> Covariance:
        """Multiply each of (batch, sources, 2, frames, bins) by its own conjugate transpose."""
        left, right = sources.unbind(-3)
        return cls(_power(left), _power(right), left * right.conj())

    @property
    def power(self) -> Tensor:
        """Return the mean power of both channels."""
        return (self.left + self.right) / 2

    def __add__(self, other: Covariance) -> Covariance:
        return Covariance(
            self.left + other.left, self.right + other.right, self.cross + other.cross
        )

    def __sub__(self, other: Covariance) -> Covariance:
        return Covariance(
            self.left - other.left, self.right - other.right, self.cross - other.cross
        )

    def times(self, factor: Tensor) -> Covariance:
        """Multiply each matrix by a real number."""
        return Covariance(self.left * factor, self.right * factor, self.cross * factor)

    def total(self) -> Covariance:
        """Sum over sources."""
        return Covariance(*(_sum(plane) for plane in (self.left, self.right, self.cross)))

    def over_frames(self) -> Covariance:
        """Sum over frames."""
        planes = (self.left, self.right, self.cross)
        return Covariance(*(plane.sum(-2, keepdim=True) for plane in planes))

    def plus(self, noise: float) -> Covariance:
        """Add a power that comes from everywhere."""
        return Covariance(self.left + noise, self.right + noise, self.cross)

    def inverse(self) -> Covariance:
        """Invert each matrix."""
        scale = 1 / (self.left * self.right - _power(self.cross))
        return Covariance(self.right * scale, self.left * scale, -self.cross * scale)

    def apply(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply each matrix by a vector."""
        return (
            self.left * left + self.cross * right,
            self.cross.conj() * left + self.right * right,
        )

    def around(self, middle: Covariance) -> Covariance:
        """Multiply `middle` by these matrices from both sides."""
        first, second = self.apply(middle.left, middle.cross.conj())  # its left column
        third, fourth = self.apply(middle.cross, middle.right)
        return Covariance(
            (first * self.left + third * self.cross.conj()).real,
            (second * self.cross + fourth * self.right).real,
            first * self.cross + third * self.right,
        )


def refine(mixture: Tensor, stems: Tensor, iterations: int) -> Tensor:
    """Filter complex `mixture` (batch, 2, frames, bins) by EM that starts from `stems`.

    `stems`, and what is returned, are (batch, stems, 2, frames, bins). What the stems leave of the
    mixture is one more source. Silence stays silent.

    A network's estimate is taken for what an E-step gives, the posterior mean. Its own power is
    less than the source's, by what remains uncertain; but with the mixture it correlates as the
    source does, E[ĉⱼ xᴴ] = E[cⱼ cⱼᴴ], and so tells vⱼ. By this the filter of a song without an
    image is the mask that the network drew; by |ĉⱼ|² it would be a sharper one.
    """
    left, right = mixture[:, None].unbind(-3)  # source
    sources = torch.cat([stems, mixture[:, None] - stems.sum(1, keepdim=True)], dim=1)
    seen = Covariance.of(sources)
    power = (sources * mixture[:, None].conj()).real.mean(-3).clamp(min=0)
    for iteration in range(iterations):
        power = power + FLOOR
        whole = _sum(power)
        shares = _place(seen).times(power / whole)  # vⱼ Rⱼ / Σ vₖ: of order 1, also in silence
        inverse = shares.total().inverse()
        sources = torch.stack(shares.apply(*inverse.apply(left, right)), dim=-3)
        if iteration < iterations - 1:
            # E-step: what is found, and what remains uncertain, (I − Wⱼ) vⱼ Rⱼ
            uncertain = (shares - shares.around(inverse)).times(whole)
            seen = Covariance.of(sources) + uncertain
            power = seen.power
    return sources[:, :-1]


def _place(seen: Covariance) -> Covariance:
    """Average covariances over the frames around each: spatial covariances Rⱼ of trace 2."""
    around = Covariance(*(_sum_around(plane) for plane in (seen.left, seen.right, seen.cross)))
    return around.times(1 / (around.power + FLOOR)).plus(DIFFUSE)


def _sum_around(plane: Tensor) -> Tensor:
    """Sum (…, frames, bins) over 2 · REACH frames around each, by doubling.

    A running sum would be faster, but remember where the tile began.
    """
    total = F.pad(plane, (0, 0, REACH, REACH - 1))
    step = 1
    while step < 2 * REACH:
        total = total[..., step:, :] + total[..., :-step, :]
        step *= 2
    return total


def _sum(plane: Tensor) -> Tensor:
    return plane.sum(1, keepdim=True)  # sources


def _power(signal: Tensor) -> Tensor:
    return signal.real.square() + signal.imag.square()

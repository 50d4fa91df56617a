"""Open-Unmix (Stöter et al. 2019): an LSTM over time draws each target's magnitude.

    signal ── CentredStft ── |X| ── for each target: dense, LSTM, dense ── Wiener filter ── inverse

The targets' magnitudes, with the mixture's phase, may be refined by expectation maximisation as
Uhlich et al. 2017 have it: spatial covariances are averaged over WINDOW frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.devices import exact
from splitter.networks.contract import Hop, Network, Share, Tile, Unbounded, Window
from splitter.networks.wiener import PORTION, Covariance
from splitter.schema import Range
from splitter.spectral import CentredStft
from splitter.tiling import TileShape

WINDOW = 300  # frames
LEAST = 1e-10


@dataclass(frozen=True)
class OpenUnmixSizes:
    """Sizes of the network of each target."""

    hidden: Annotated[int, Range(1, 8192)] = 512
    bins: Annotated[int, Range(1, 32769)] = 1487  # that are looked at, from 0 Hz up
    layers: Annotated[int, Range(1, 16)] = 3
    bidirectional: bool = True
    wiener: Annotated[int, Range(0, 16)] = 1  # iterations
    window: Window = 4096  # samples
    hop: Hop = 1024  # samples
    tile: Tile = 30 << 16  # samples: 45 s, for a network that was made to hear whole songs
    overlap: Share = 0.1  # of a tile

    def build(self, channels: int, stems: int) -> Network:
        """Make the network with random weights."""
        if channels > 2:
            raise ValueError("it hears one channel or two")
        return OpenUnmix(self, channels, stems)


class Target(nn.Module):
    """Draw the magnitude of one target."""

    def __init__(self, sizes: OpenUnmixSizes, channels: int) -> None:
        super().__init__()
        hidden, bins = sizes.hidden, sizes.window // 2 + 1
        self.bins = sizes.bins
        self.input_mean = nn.Parameter(torch.zeros(sizes.bins))  # added
        self.input_scale = nn.Parameter(torch.ones(sizes.bins))
        self.output_mean = nn.Parameter(torch.ones(bins))
        self.output_scale = nn.Parameter(torch.ones(bins))
        self.fc1 = nn.Linear(channels * sizes.bins, hidden, bias=False)
        self.bn1 = nn.BatchNorm1d(hidden)
        self.lstm = nn.LSTM(
            hidden,
            hidden // 2 if sizes.bidirectional else hidden,
            sizes.layers,
            bidirectional=sizes.bidirectional,
        )
        self.fc2 = nn.Linear(2 * hidden, hidden, bias=False)
        self.bn2 = nn.BatchNorm1d(hidden)
        self.fc3 = nn.Linear(hidden, channels * bins, bias=False)
        self.bn3 = nn.BatchNorm1d(channels * bins)

    def forward(self, magnitude: Tensor) -> Tensor:
        """Map (frames, batch, channels, bins) to the same shape."""
        frames, batch = magnitude.shape[:2]
        heard = (magnitude[..., : self.bins] + self.input_mean) * self.input_scale
        first = torch.tanh(self.bn1(self.fc1(heard.flatten(2).flatten(0, 1))))
        along = first.unflatten(0, (frames, batch))
        both = torch.cat([along, self.lstm(along)[0]], dim=-1).flatten(0, 1)
        drawn = self.bn3(self.fc3(torch.relu(self.bn2(self.fc2(both)))))
        mask = drawn.float().view_as(magnitude) * self.output_scale + self.output_mean
        return torch.relu(mask) * magnitude


class OpenUnmix(Unbounded):
    """Separate (batch, channels, samples) into (batch, stems, channels, samples)."""

    def __init__(self, sizes: OpenUnmixSizes, channels: int, stems: int) -> None:
        super().__init__(TileShape(sizes.tile, 0, 1, int(sizes.tile * sizes.overlap), "triangle"))
        self.stft = CentredStft(sizes.window, sizes.hop)
        self.wiener = sizes.wiener
        self.targets = nn.ModuleList(Target(sizes, channels) for _ in range(stems))

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim)."""
        mixture = self.stft(signal).permute(3, 0, 1, 2)  # frames, batch, channels, bins
        magnitude = mixture.abs()
        drawn = torch.stack([target(magnitude) for target in self.targets])  # stems, frames, …
        alone = len(self.targets) == 1  # a filter tells one source from another
        stems = draw_stems(drawn, mixture, self.wiener, alone).permute(2, 0, 3, 4, 1)
        return self.stft.inverse(stems, signal.shape[-1])[..., trim : signal.shape[-1] - trim]


def draw_stems(drawn: Tensor, mixture: Tensor, iterations: int, residual: bool = False) -> Tensor:
    """Give magnitudes (stems, frames, batch, channels, bins) the mixture's phase; filter them.

    With a `residual` what they leave of the mixture is one more source of the filter.
    """
    stems = drawn * (mixture / mixture.abs().clamp(min=1e-30))
    if residual:
        stems = torch.cat([stems, mixture[None] - stems.sum(0, keepdim=True)])
    windows = zip(stems.split(WINDOW, 1), mixture.split(WINDOW), strict=True)
    refined = torch.cat([filter_mixture(*window, iterations) for window in windows], dim=1)
    return refined[: len(drawn)]


def filter_mixture(stems: Tensor, mixture: Tensor, iterations: int) -> Tensor:
    """Refine complex stems (stems, frames, batch, channels, bins) of a mixture by EM.

    Each song of a batch has covariances of its own, averaged over all frames.
    """
    if not iterations or stems.shape[0] == 1:
        return stems
    loudest = mixture.abs().amax(dim=(0, 2, 3), keepdim=True)
    scale = (loudest / 10).clamp(min=1)  # as the program has it
    heard, sources = mixture / scale, stems / scale
    portions = zip(sources.split(PORTION, -1), heard.split(PORTION, -1), strict=True)
    return torch.cat([_filter_bins(*portion, iterations) for portion in portions], -1) * scale


def _filter_bins(stems: Tensor, mixture: Tensor, iterations: int) -> Tensor:
    """Refine a few bins, each of which is filtered alone."""
    channels = mixture.shape[2]
    # in double precision: covariances of a single voice are all but singular; one channel has
    # silence beside it
    beside = (0, 0, 0, 0, 0, 2 - channels)
    heard = F.pad(exact(mixture).permute(1, 2, 0, 3), beside)
    sources = F.pad(exact(stems).permute(2, 0, 3, 1, 4), beside)
    left, right = heard[:, None].unbind(-3)  # batch, source, frames, bins
    for _ in range(iterations):
        seen = Covariance.of(sources)
        power = seen.power
        place = seen.over_frames().times(1 / (LEAST + power.sum(-2, keepdim=True)))
        shares = place.times(power)
        inverse = shares.total().plus(LEAST**0.5).inverse()
        sources = torch.stack(shares.apply(*inverse.apply(left, right)), dim=-3)
    return sources[:, :, :channels].permute(1, 3, 0, 2, 4).to(mixture)

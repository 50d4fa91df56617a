"""Demucs of waveforms alone (Défossez 2019, and as its third version has it): a U-Net over time.

    signal ── twice the rate ── encoders ── LSTM ── decoders ── its own rate
                                   └──── skips ────────┘

Convolutions are not padded: what is heard is made so long that no step is left over, of the song
around a tile where there is some.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.contract import Network, Share, Tile, Unbounded
from splitter.networks.demucsparts import (
    Branches,
    LevelSizes,
    LongShort,
    find_level,
    make_norm,
)
from splitter.networks.resampling import Resampler
from splitter.schema import Range
from splitter.tiling import TileShape

ZEROS, PASSED = 24, 0.945  # of the rates' low-pass: zero crossings, share of the band


@dataclass(frozen=True)
class WaveDemucsSizes(LevelSizes):
    """Sizes of a Demucs of waveforms."""

    gelu: bool = True  # or ReLU
    lstm_layers: Annotated[int, Range(0, 8)] = 0  # at the deepest level
    padded: bool = True  # the decoders' narrow convolutions
    normed: bool = True  # its input, tile by tile
    resampled: bool = True
    tile: Tile = 1764000  # samples
    overlap: Share = 0.25  # of a tile

    def build(self, channels: int, stems: int) -> Network:
        """Make the network with random weights."""
        return WaveDemucs(self, channels, stems)

    def valid(self, samples: int) -> int:
        """Return the least length from `samples` on of which no step is left over."""
        steps = samples * 2 if self.resampled else samples
        for _ in range(self.depth):
            steps = max(1, -(-(steps - self.kernel) // self.stride) + 1)
            steps += 0 if self.padded else 2 * self.context
        for _ in range(self.depth):
            steps = (steps - 1) * self.stride + self.kernel
        return -(-steps // 2) if self.resampled else steps


def _low_pass(up: int) -> Tensor:
    """Return the taps that change a rate by 2; each phase sums to 1, (taps,) at the higher rate."""
    reach = math.ceil(2 * ZEROS / PASSED) - 1
    place = torch.arange(-reach, reach + 1, dtype=torch.float64, device="cpu") * PASSED / 2
    taps = torch.sinc(place) * torch.cos(math.pi / 2 * place / ZEROS).square()
    for phase in range(up):
        taps[(reach + phase) % up :: up] /= taps[(reach + phase) % up :: up].sum()
    return taps.float()


class WaveDemucs(Unbounded):
    """Separate (batch, channels, samples) into (batch, stems, channels, samples).

    The tile's level is taken for the song's, as in a hybrid Demucs.
    """

    def __init__(self, sizes: WaveDemucsSizes, channels: int, stems: int) -> None:
        overlap = sizes.tile - int(sizes.tile * (1 - sizes.overlap))
        context = sizes.valid(1) // 2 + 1  # the most that any length lacks
        super().__init__(TileShape(sizes.tile, context, 1, overlap, "triangle", 0, "silence"))
        self.sizes, self.stems = sizes, stems
        self.faster = Resampler(2, 1, _low_pass(2), held=True)
        self.slower = Resampler(1, 2, _low_pass(1), held=True)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        inputs, outputs = channels, sizes.channels
        for index in range(sizes.depth):
            self.encoder.append(_encoder(sizes, index, inputs, outputs))
            self.decoder.insert(
                0, _decoder(sizes, index, outputs, inputs if index else stems * channels)
            )
            inputs, outputs = outputs, sizes.growth * outputs
        self.lstm = LongShort(inputs, sizes.lstm_layers, None) if sizes.lstm_layers else None

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim)."""
        samples = signal.shape[-1] - 2 * trim
        wanted = self.sizes.valid(samples)
        before = (wanted - samples) // 2
        first = trim - before
        _, level = find_level(signal[..., trim : trim + samples])
        heard = F.pad(signal / level, (-first, first + wanted - signal.shape[-1]))
        stems: Tensor = self._separate(heard).unflatten(1, (self.stems, -1))
        return stems[..., before : before + samples] * level[:, None]

    def _separate(self, signal: Tensor) -> Tensor:
        """Separate a signal of unit level and valid length into (batch, stems · channels, …)."""
        mean, deviation = find_level(signal, 1e-5)
        if self.sizes.normed:
            signal = (signal - mean) / deviation
        along = self.faster(signal) if self.sizes.resampled else signal
        skips = []
        for encode in self.encoder:
            along = encode(along)
            skips.append(along)
        if self.lstm is not None:
            along = self.lstm(along)
        for decode in self.decoder:
            skip = skips.pop()
            surplus = (skip.shape[-1] - along.shape[-1]) // 2
            along = decode(along + skip[..., surplus : surplus + along.shape[-1]])
        along = along.float()
        along = self.slower(along) if self.sizes.resampled else along
        missing = signal.shape[-1] - along.shape[-1]
        along = F.pad(along, (missing // 2, missing - missing // 2))
        return along * deviation + mean if self.sizes.normed else along


def _branches(sizes: LevelSizes, mode: int, features: int, index: int) -> list[nn.Module]:
    return [Branches(sizes, features, index)] if sizes.dconv_mode & mode else []


def _encoder(sizes: WaveDemucsSizes, index: int, inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, sizes.kernel, sizes.stride),
        make_norm(sizes, index, outputs),
        nn.GELU() if sizes.gelu else nn.ReLU(),
        *_branches(sizes, 1, outputs, index),
        nn.Conv1d(outputs, 2 * outputs, 1),
        make_norm(sizes, index, 2 * outputs),
        nn.GLU(1),
    )


def _decoder(sizes: WaveDemucsSizes, index: int, inputs: int, outputs: int) -> nn.Module:
    context = sizes.context
    last = [make_norm(sizes, index, outputs), nn.GELU() if sizes.gelu else nn.ReLU()]
    return nn.Sequential(
        nn.Conv1d(inputs, 2 * inputs, 1 + 2 * context, padding=context * sizes.padded),
        make_norm(sizes, index, 2 * inputs),
        nn.GLU(1),
        *_branches(sizes, 2, inputs, index),
        nn.ConvTranspose1d(inputs, outputs, sizes.kernel, sizes.stride),
        *(last if index else []),
    )

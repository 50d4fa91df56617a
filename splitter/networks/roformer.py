"""Transformers over bands: BS-RoFormer (Lu et al. 2023) and Mel-Band RoFormer (Wang et al. 2023).

    signal ── CentredStft ── bands ──▶ features ── along time and bands, … ── masks · X ── inverse

Each band of the spectrogram, real and imaginary parts of all channels together, becomes a vector of
features. Transformers with rotary positions (Su et al. 2021) look along time, then along bands, and
again. A small network for each band makes its complex mask of them; where bands overlap, as those
of the mel scale do, masks are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.contract import Hop, Network, Share, Tile, Unbounded, Window
from splitter.schema import Length, Range
from splitter.spectral import CentredStft
from splitter.tiling import TileShape

Bin = Annotated[int, Range(0, 65536)]


@dataclass(frozen=True)
class RoFormerSizes:
    """Sizes of a transformer over bands."""

    # (first bin, bin behind the last) of each
    bands: Annotated[Sequence[tuple[Bin, Bin]], Length(1, 512)]
    width: Annotated[int, Range(1, 4096)] = 384  # features of a band
    depth: Annotated[int, Range(1, 64)] = 12  # pairs of transformers
    heads: Annotated[int, Range(1, 64)] = 8
    head: Annotated[int, Range(2, 512)] = 64  # features of one
    time_blocks: Annotated[int, Range(0, 16)] = 1  # in a transformer along time
    band_blocks: Annotated[int, Range(0, 16)] = 1
    normed: Literal["each", "last"] = "last"  # each transformer's output, or the last one's
    mask_layers: Annotated[int, Range(1, 8)] = 2
    mask_width: Annotated[int, Range(1, 16384)] = 1536  # features between them
    zero_dc: bool = False  # nothing comes out at 0 Hz
    window: Window = 2048  # samples
    hop: Hop = 441  # samples
    tile: Tile = 352800  # samples
    overlap: Share = 0.75  # of a tile

    def build(self, channels: int, stems: int) -> Network:
        """Make the network with random weights."""
        return RoFormer(self, channels, stems)


class RmsNorm(nn.Module):
    """Give the last axis unit mean square, times a gain for each feature."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(features))

    def forward(self, signal: Tensor) -> Tensor:
        """Map (..., features) to the same shape."""
        gain: Tensor = self.gain * self.gain.numel() ** 0.5
        return F.normalize(signal, dim=-1) * gain


class Attention(nn.Module):
    """Attend along (batch, places, features), each head's answer through a gate."""

    turns: Tensor

    def __init__(self, width: int, heads: int, head: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = RmsNorm(width)
        turns = 10000 ** (-torch.arange(0, head, 2, device="cpu") / head)  # radian a place
        self.register_buffer("turns", turns)
        self.enter = nn.Linear(width, 3 * heads * head, bias=False)
        self.gates = nn.Linear(width, heads)
        self.leave = nn.Linear(heads * head, width, bias=False)

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, places, features) to the same shape."""
        normed = self.norm(signal)
        split = self.enter(normed).unflatten(-1, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)  # batch, heads, places, head
        places = torch.arange(signal.shape[1], device=signal.device, dtype=torch.float32)
        angles = torch.outer(places, self.turns.float())
        turn = torch.polar(torch.ones_like(angles), angles)
        query, key = (_rotate(vectors, turn).to(value.dtype) for vectors in (query, key))
        answer = F.scaled_dot_product_attention(query, key, value)
        gates = self.gates(normed).sigmoid().transpose(1, 2)[..., None]
        output: Tensor = self.leave((answer * gates).transpose(1, 2).flatten(2))
        return output


def _rotate(vectors: Tensor, turn: Tensor) -> Tensor:
    """Turn each pair of neighbouring features by its place."""
    pairs = torch.view_as_complex(vectors.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2)


class Block(nn.Sequential):
    """Attention, then two dense layers; each is added to what it heard."""

    def __init__(self, sizes: RoFormerSizes) -> None:
        width = sizes.width
        dense = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        attention = Attention(width, sizes.heads, sizes.head)
        super().__init__(attention, nn.Sequential(RmsNorm(width), *dense))

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, places, features) to the same shape."""
        for layer in self:
            signal = signal + layer(signal)
        return signal


class Transformer(nn.Module):
    """Blocks, one after the other, and perhaps a norm."""

    def __init__(self, sizes: RoFormerSizes, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(sizes) for _ in range(blocks)))
        self.norm = RmsNorm(sizes.width) if sizes.normed == "each" else nn.Identity()

    def forward(self, signal: Tensor) -> Tensor:
        """Map (..., places, features) to the same shape."""
        heard: Tensor = self.norm(self.blocks(signal.flatten(0, 1)))
        return heard.view_as(signal)


class Pair(nn.Sequential):
    """Transform (batch, frames, bands, features) along time, then along bands."""

    def __init__(self, sizes: RoFormerSizes) -> None:
        blocks = sizes.time_blocks, sizes.band_blocks
        super().__init__(*(Transformer(sizes, number) for number in blocks))

    def forward(self, signal: Tensor) -> Tensor:
        """Map a picture of features to the same shape."""
        along_time, along_bands = self
        answer: Tensor = along_bands(along_time(signal.transpose(1, 2)).transpose(1, 2))
        return answer


def _mask_layers(sizes: RoFormerSizes, outputs: int) -> nn.Module:
    """Make the layers from a band's features to its mask, and to what gates it."""
    widths = [sizes.width, *[sizes.mask_width] * (sizes.mask_layers - 1)]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 2 * outputs), nn.GLU(dim=-1))


class RoFormer(Unbounded):
    """Separate (batch, channels, samples) into (batch, stems, channels, samples)."""

    counts: Tensor

    def __init__(self, sizes: RoFormerSizes, channels: int, stems: int) -> None:
        super().__init__(TileShape.faded(sizes.tile, sizes.overlap, "linear"))
        self.stft = CentredStft(sizes.window, sizes.hop)
        self.bands = [(int(start), int(stop)) for start, stop in sizes.bands]
        self.zeroed = int(sizes.zero_dc)  # bins from 0 Hz up
        counts = torch.zeros(self.stft.bins, device="cpu")
        for start, stop in self.bands:
            if not 0 <= start < stop <= self.stft.bins:
                raise ValueError(
                    f"band {start}-{stop} is not within the {self.stft.bins} bins of the window"
                )
            counts[start:stop] += 1
        if not counts.all():
            raise ValueError(f"the bands do not cover the {self.stft.bins} bins of the window")
        self.register_buffer("counts", counts, persistent=False)
        numbers = [2 * channels * (stop - start) for start, stop in self.bands]
        self.enter = nn.ModuleList(
            nn.Sequential(RmsNorm(number), nn.Linear(number, sizes.width)) for number in numbers
        )
        self.layers = nn.Sequential(*(Pair(sizes) for _ in range(sizes.depth)))
        self.norm = RmsNorm(sizes.width) if sizes.normed == "last" else nn.Identity()
        self.masks = nn.ModuleList(
            nn.ModuleList(_mask_layers(sizes, number) for number in numbers) for _ in range(stems)
        )

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim)."""
        spectrogram = self.stft(signal)
        parts = torch.view_as_real(spectrogram).permute(0, 3, 2, 1, 4)  # frames, bins, channels, 2
        features = torch.stack(
            [
                enter(parts[:, :, start:stop].flatten(2))
                for enter, (start, stop) in zip(self.enter, self.bands, strict=True)
            ],
            dim=2,
        )  # batch, frames, bands, features
        heard = self.norm(self.layers(features)).unbind(2)
        masks = torch.stack([self._mask(stem, heard, parts) for stem in self.masks], dim=1)
        masked = torch.view_as_complex(masks).permute(0, 1, 4, 3, 2) * spectrogram[:, None]
        masked[..., : self.zeroed, :] = 0
        return self.stft.inverse(masked, signal.shape[-1])[..., trim : signal.shape[-1] - trim]

    def _mask(self, stem: nn.Module, heard: Sequence[Tensor], parts: Tensor) -> Tensor:
        """Make one stem's mask, (batch, frames, bins, channels, 2), of each band's features."""
        total = torch.zeros_like(parts, memory_format=torch.contiguous_format)
        for layers, (start, stop), band in zip(stem.children(), self.bands, heard, strict=True):
            total[:, :, start:stop] += layers(band).float().unflatten(-1, (stop - start, -1, 2))
        return total / self.counts[:, None, None]

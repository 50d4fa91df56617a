"""Rouard et al. 2023's transformer across a picture and a wave, at the deepest of a hybrid Demucs.

picture ── norm, places ── itself ── the wave ── itself ── …
wave ───── norm, places ── itself ── the picture ── itself ── …
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.demucsparts import Scale


class WholeNorm(nn.GroupNorm):
    """Norm (batch, places, features) over places and features together."""

    def __init__(self, features: int) -> None:
        super().__init__(1, features)

    def forward(self, signal: Tensor) -> Tensor:
        """Map to the same shape."""
        return super().forward(signal.transpose(1, 2)).transpose(1, 2)


class Layer(nn.Module):
    """Attention to oneself, or across to the other branch, and two dense layers."""

    def __init__(self, width: int, heads: int, hidden: int, cross: bool) -> None:
        super().__init__()
        attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross = cross
        if cross:
            self.cross_attn = attention
            self.norm3 = nn.LayerNorm(width)
        else:
            self.self_attn = attention
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.gamma_1, self.gamma_2 = Scale(width, last=True), Scale(width, last=True)
        self.norm_out = WholeNorm(width)

    def forward(self, signal: Tensor, other: Tensor) -> Tensor:
        """Map (batch, places, features) to the same shape."""
        query = self.norm1(signal)
        key = self.norm2(other) if self.cross else query
        attention = self.cross_attn if self.cross else self.self_attn
        signal = signal + self.gamma_1(attention(query, key, key, need_weights=False)[0])
        normed = (self.norm3 if self.cross else self.norm2)(signal)
        dense = self.linear2(F.gelu(self.linear1(normed)))
        answer: Tensor = self.norm_out(signal + self.gamma_2(dense))
        return answer


class CrossTransformer(nn.Module):
    """Layers for both branches in turn: each hears itself, then what the other one was."""

    def __init__(self, layers: int, width: int, heads: int, hidden_scale: float) -> None:
        super().__init__()
        self.norm_in, self.norm_in_t = nn.LayerNorm(width), nn.LayerNorm(width)
        crossing = [bool(index % 2) for index in range(layers)]
        hidden = int(width * hidden_scale)
        self.layers = nn.ModuleList(Layer(width, heads, hidden, cross) for cross in crossing)
        self.layers_t = nn.ModuleList(Layer(width, heads, hidden, cross) for cross in crossing)

    def forward(self, picture: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Map (batch, features, rows, steps) and (batch, features, steps) to the same shapes."""
        _, width, rows, steps = picture.shape
        places = _picture_places(width, rows, steps).to(picture)
        heard = self.norm_in(picture.permute(0, 3, 2, 1).flatten(1, 2)) + places
        wave = wave.transpose(1, 2)
        wave = self.norm_in_t(wave) + _wave_places(width, wave.shape[1]).to(wave)
        for layer, layer_t in zip(self.layers, self.layers_t, strict=True):
            heard, wave = layer(heard, wave), layer_t(wave, heard)
        return heard.unflatten(1, (steps, rows)).permute(0, 3, 2, 1), wave.transpose(1, 2)


def _wave_places(width: int, steps: int) -> Tensor:
    """Return cosines and sines of each step, (steps, features)."""
    half = width // 2
    rates = 10000 ** (torch.arange(half) / (half - 1))
    angles = torch.arange(steps)[:, None] / rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _picture_places(width: int, rows: int, steps: int) -> Tensor:
    """Return sines and cosines in turn of steps, then of rows, (steps · rows, features)."""
    half = width // 2
    rates = torch.exp(torch.arange(0, half, 2) * (-math.log(10000) / half))

    def waves(count: int) -> Tensor:
        angles = torch.arange(count)[:, None] * rates
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)

    along_time = waves(steps)[:, None].expand(-1, rows, -1)
    along_rows = waves(rows)[None].expand(steps, -1, -1)
    return torch.cat([along_time, along_rows], dim=-1).flatten(0, 1)

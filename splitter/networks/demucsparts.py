"""What every Demucs has: sizes of its levels, and the branches within them (Défossez 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.schema import Range

LSTM_STEPS = 200  # longer signals are cut into pieces of so many that overlap by half
DECAYS = 4  # of local attention
ATTENTION_HEADS = 4
Width = Annotated[int, Range(1, 4096)]


@dataclass(frozen=True)
class LevelSizes:
    """Sizes that every Demucs has."""

    channels: Width = 48  # of the first level
    growth: Annotated[int, Range(1, 4)] = 2
    depth: Annotated[int, Range(1, 10)] = 4
    kernel: Annotated[int, Range(4, 32)] = 8
    stride: Annotated[int, Range(1, 16)] = 4
    context: Annotated[int, Range(0, 8)] = 1  # of the decoders' narrow convolutions
    norm_starts: Annotated[int, Range(0, 100)] = 4  # the first level with norms
    norm_groups: Width = 4
    dconv_mode: Annotated[int, Range(0, 3)] = 1  # branches in encoders (1), decoders (2), both (3)
    dconv_depth: Annotated[int, Range(0, 8)] = 2
    dconv_comp: Annotated[float, Range(1, 64)] = 8  # channels of a level, over those of a branch
    dconv_attn: Annotated[int, Range(0, 100)] = 100  # first level whose branch has local attention
    dconv_lstm: Annotated[int, Range(0, 100)] = 100  # and an LSTM


class Scale(nn.Module):
    """Multiply each feature by a gain; features are the last axis, or the last but one."""

    def __init__(self, features: int, last: bool = False) -> None:
        super().__init__()
        self.last = last
        self.scale = nn.Parameter(torch.full((features,), 1e-3))

    def forward(self, signal: Tensor) -> Tensor:
        """Map a signal to its own shape."""
        scaled: Tensor = signal * (self.scale if self.last else self.scale[:, None])
        return scaled


class LongShort(nn.Module):
    """Map (batch, features, steps) by a bidirectional LSTM, in pieces of `most` steps.

    In pieces, what is made is added to the signal; as a whole it takes its place.
    """

    def __init__(self, features: int, layers: int = 2, most: int | None = LSTM_STEPS) -> None:
        super().__init__()
        self.most = most
        self.lstm = nn.LSTM(features, features, num_layers=layers, bidirectional=True)
        self.linear = nn.Linear(2 * features, features)

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, features, steps) to the same shape."""
        if self.most is None:
            return self._hear(signal)
        batch, _, steps = signal.shape
        if steps <= self.most:
            return signal + self._hear(signal)
        half, quarter = self.most // 2, self.most // 4
        padded = F.pad(signal, (0, (-(-steps // half) + 1) * half - steps))
        pieces = padded.unfold(-1, self.most, half).permute(2, 0, 1, 3)
        answer = self._hear(pieces.flatten(0, 1)).unflatten(0, (-1, batch))
        # of each piece the middle; of the first and last the ends, too
        first, last = answer[0, ..., :quarter], answer[-1, ..., -quarter:]
        parts = [first, *answer[..., quarter:-quarter], last]
        return signal + torch.cat(parts, -1)[..., :steps]

    def _hear(self, signal: Tensor) -> Tensor:
        answer: Tensor = self.linear(self.lstm(signal.permute(2, 0, 1))[0]).permute(1, 2, 0)
        return answer


class LocalAttention(nn.Module):
    """Attend along (batch, features, steps), the less the further away, by learned decays."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.content = nn.Conv1d(features, features, 1)
        self.query = nn.Conv1d(features, features, 1)
        self.key = nn.Conv1d(features, features, 1)
        self.query_decay = nn.Conv1d(features, ATTENTION_HEADS * DECAYS, 1)
        self.proj = nn.Conv1d(features, features, 1)

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, features, steps) to the same shape."""
        steps = signal.shape[-1]
        layers = (self.query, self.key, self.content, self.query_decay)
        query, key, content, decay = (
            layer(signal).unflatten(1, (ATTENTION_HEADS, -1)) for layer in layers
        )
        place = torch.arange(steps, device=signal.device, dtype=signal.dtype)
        away = (place[:, None] - place).abs()
        rates = torch.arange(1, DECAYS + 1, device=signal.device, dtype=signal.dtype)[:, None]
        fading = (torch.sigmoid(decay) / 2 * rates).sum(2, keepdim=True) / DECAYS**0.5
        scores = key.transpose(2, 3) @ query / key.shape[2] ** 0.5 - away * fading
        scores.masked_fill_(torch.eye(steps, device=signal.device, dtype=torch.bool), -100)
        answer: Tensor = content @ torch.softmax(scores, dim=2)
        projected: Tensor = self.proj(answer.flatten(1, 2))
        return signal + projected


class Branches(nn.Module):
    """Residual branches along time: narrow, dilated convolutions, an LSTM and attention if deep."""

    def __init__(self, sizes: LevelSizes, features: int, level: int) -> None:
        super().__init__()
        hidden = int(features / sizes.dconv_comp)
        if hidden < 1:
            raise ValueError(f"dconv_comp is {sizes.dconv_comp}, more than {features} channels")
        self.layers = nn.ModuleList()
        for depth in range(sizes.dconv_depth):
            dilation = 2**depth
            layers: list[nn.Module] = [
                nn.Conv1d(features, hidden, 3, dilation=dilation, padding=dilation),
                nn.GroupNorm(1, hidden),
                nn.GELU(),
            ]
            layers += [LongShort(hidden)] if level >= sizes.dconv_lstm else []
            layers += [LocalAttention(hidden)] if level >= sizes.dconv_attn else []
            layers += [nn.Conv1d(hidden, 2 * features, 1), nn.GroupNorm(1, 2 * features)]
            self.layers.append(nn.Sequential(*layers, nn.GLU(1), Scale(features)))

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, features, steps) or (batch, features, rows, steps) to the same shape."""
        along = signal
        if signal.dim() == 4:
            along = signal.transpose(1, 2).flatten(0, 1)  # rows are a batch
        for layer in self.layers:
            along = along + layer(along)
        if signal.dim() == 4:
            along = along.unflatten(0, (signal.shape[0], -1)).transpose(1, 2)
        return along


def make_norm(sizes: LevelSizes, index: int, features: int) -> nn.Module:
    """Make the norm of a level, which the first ones do without."""
    normed = index >= sizes.norm_starts
    return nn.GroupNorm(sizes.norm_groups, features) if normed else nn.Identity()


def find_level(signal: Tensor, least: float = 1e-8) -> tuple[Tensor, Tensor]:
    """Return the mean and deviation of the mean of all channels, (batch, 1, 1)."""
    mono = signal.mean(1, keepdim=True)
    mean = mono.mean(-1, keepdim=True)
    deviation = mono.std(-1, keepdim=True) if mono.shape[-1] > 1 else torch.zeros_like(mean)
    return mean, deviation + least

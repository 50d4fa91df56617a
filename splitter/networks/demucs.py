"""Hybrid Demucs (Défossez 2021) and its transformer (Rouard et al. 2023): two U-Nets side by side.

    signal ─┬─ STFT ── encoders over frequency ─┐               ┌─ decoders ── inverse ─┐
            │                                   ├─ transformer ─┤                       ├─ sum
            └───────── encoders over time ──────┘               └─ decoders ────────────┘

One looks at the spectrogram, real and imaginary parts as channels, and strides along frequency; the
other looks at the waveform. At their deepest both have the same number of steps in time: there the
one without a transformer joins them, and layers along time follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.contract import Network, Share, Tile, Unbounded, Window
from splitter.networks.crosstransformer import CrossTransformer
from splitter.networks.demucsparts import Branches, LevelSizes, find_level, make_norm
from splitter.networks.openunmix import draw_stems
from splitter.schema import Range
from splitter.spectral import CentredStft, from_planes, to_planes
from splitter.tiling import TileShape


@dataclass(frozen=True)
class DemucsSizes(LevelSizes):
    """Sizes of a hybrid Demucs; those of its transformer begin with `t_`."""

    window: Window = 4096  # samples
    time_stride: Annotated[int, Range(1, 16)] = 2  # of levels behind where both branches meet
    freq_emb: Annotated[float, Range(0, 10)] = 0.2
    emb_scale: Annotated[float, Range(0, 1000)] = 10.0
    bottom_channels: Annotated[int, Range(0, 4096)] = 0
    t_layers: Annotated[int, Range(0, 64)] = 0  # 0: no transformer
    t_heads: Annotated[int, Range(1, 64)] = 8
    t_hidden_scale: Annotated[float, Range(0.1, 16)] = 4.0
    cac: bool = True  # complex numbers as channels; otherwise it draws magnitudes
    wiener: Annotated[int, Range(-1, 16)] = 0  # iterations of a Wiener filter on magnitudes
    wiener_residual: bool = False  # what magnitudes leave is one more source of the filter
    padded_with_zeros: bool = False  # the signal, by some older models, and cut off otherwise
    whole: bool = True  # a shorter signal is filled up to a tile
    tile: Tile = 343980  # samples
    overlap: Share = 0.25  # of a tile

    def build(self, channels: int, stems: int) -> Network:
        """Make the network with random weights."""
        return HybridDemucs(self, channels, stems)


@dataclass(frozen=True)
class Level:
    """What a level of one branch is like."""

    index: int
    inputs: int
    outputs: int
    rows: bool  # along frequency, not time
    kernel: int
    stride: int
    padded: bool = True
    meets: bool = False  # the branch of time has only its strided convolution here

    @property
    def padding(self) -> int:
        """Return the padding that keeps a stride a stride."""
        return self.kernel // 4 if self.padded else 0

    def convolution(self, inputs: int, outputs: int, size: int, padding: int) -> nn.Module:
        """Make a convolution without a stride."""
        kind = nn.Conv2d if self.rows else nn.Conv1d
        return kind(inputs, outputs, size, padding=padding)


class Encoder(nn.Module):
    """One level down: a strided convolution, residual branches, a gated narrow convolution."""

    def __init__(self, sizes: DemucsSizes, level: Level) -> None:
        super().__init__()
        self.level = level
        outputs = level.outputs
        if level.rows:
            self.conv: nn.Module = nn.Conv2d(
                level.inputs, outputs, (level.kernel, 1), (level.stride, 1), (level.padding, 0)
            )
        else:
            self.conv = nn.Conv1d(level.inputs, outputs, level.kernel, level.stride, level.padding)
        if level.meets:
            return
        self.norm1 = make_norm(sizes, level.index, outputs)
        self.rewrite = level.convolution(outputs, 2 * outputs, 1, 0)
        self.norm2 = make_norm(sizes, level.index, 2 * outputs)
        branched = sizes.dconv_mode & 1
        self.dconv = Branches(sizes, outputs, level.index) if branched else nn.Identity()

    def forward(self, signal: Tensor, joined: Tensor | None = None) -> Tensor:
        """Map to the next level; `joined` is what the other branch adds where they meet."""
        if not self.level.rows:
            if signal.dim() == 4:
                signal = signal.flatten(1, 2)
            signal = F.pad(signal, (0, -signal.shape[-1] % self.level.stride))
        answer: Tensor = self.conv(signal)
        if self.level.meets:
            return answer
        if joined is not None:
            answer = answer + (joined[:, :, None] if answer.dim() == 4 else joined)
        answer = self.dconv(F.gelu(self.norm1(answer)))
        return F.glu(self.norm2(self.rewrite(answer)), dim=1)


class Decoder(nn.Module):
    """One level up: the skip is added, a gated convolution, branches, a transposed convolution."""

    def __init__(self, sizes: DemucsSizes, level: Level) -> None:
        super().__init__()
        self.level = level
        features = level.outputs
        if level.rows:
            self.conv_tr: nn.Module = nn.ConvTranspose2d(
                features, level.inputs, (level.kernel, 1), (level.stride, 1)
            )
        else:
            self.conv_tr = nn.ConvTranspose1d(features, level.inputs, level.kernel, level.stride)
        self.norm2 = make_norm(sizes, level.index, level.inputs)
        if level.meets:
            return
        context = sizes.context
        self.rewrite = level.convolution(features, 2 * features, 1 + 2 * context, context)
        self.norm1 = make_norm(sizes, level.index, 2 * features)
        branched = sizes.dconv_mode & 2
        self.dconv = Branches(sizes, features, level.index) if branched else nn.Identity()

    def forward(self, signal: Tensor, skip: Tensor | None, steps: int) -> tuple[Tensor, Tensor]:
        """Return the level above, and what it was made of."""
        if self.level.rows and signal.dim() == 3:
            signal = signal.unflatten(1, (self.level.outputs, -1))
        if skip is not None:
            signal = F.glu(self.norm1(self.rewrite(signal + skip)), dim=1)
            signal = self.dconv(signal)
        answer: Tensor = self.norm2(self.conv_tr(signal))
        padding = self.level.padding
        if self.level.rows:
            answer = answer[..., padding : answer.shape[-2] - padding, :]
        else:
            answer = answer[..., padding : padding + steps]
        return (F.gelu(answer) if self.level.index else answer), signal


class Embedding(nn.Module):
    """A vector for each row of a picture."""

    def __init__(self, rows: int, features: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(rows, features)


class HybridDemucs(Unbounded):
    """Separate (batch, channels, samples) into (batch, stems, channels, samples).

    The tile's level is taken for the song's: it is normed, and given back in the end. A song's mean
    is taken for zero.
    """

    def __init__(self, sizes: DemucsSizes, channels: int, stems: int) -> None:
        core, overlap = sizes.tile, sizes.tile - int(sizes.tile * (1 - sizes.overlap))
        grid = core if sizes.whole else 1  # or else the last tile is as short as the song has it
        super().__init__(
            TileShape(core, 0, grid, overlap, "triangle", 0, "silence", centred=sizes.whole)
        )
        self.sizes, self.stems = sizes, stems
        self.stft = CentredStft(sizes.window, sizes.window // 4, normed=True)
        picture, wave = _plan_levels(sizes, channels, stems)
        first = picture[0]
        self.encoder = nn.ModuleList(Encoder(sizes, down) for down, _ in picture)
        self.decoder = nn.ModuleList(Decoder(sizes, up) for _, up in reversed(picture))
        self.tencoder = nn.ModuleList(Encoder(sizes, down) for down, _ in wave)
        self.tdecoder = nn.ModuleList(Decoder(sizes, up) for _, up in reversed(wave))
        if sizes.freq_emb:
            rows = sizes.window // 2 // first[0].stride
            self.freq_emb = Embedding(rows, first[0].outputs)
        width = picture[-1][0].outputs
        if sizes.t_layers:
            bottom = sizes.bottom_channels
            if bottom:
                self.channel_upsampler = nn.Conv1d(width, bottom, 1)
                self.channel_downsampler = nn.Conv1d(bottom, width, 1)
                self.channel_upsampler_t = nn.Conv1d(width, bottom, 1)
                self.channel_downsampler_t = nn.Conv1d(bottom, width, 1)
            self.crosstransformer = CrossTransformer(
                sizes.t_layers, bottom or width, sizes.t_heads, sizes.t_hidden_scale
            )

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim)."""
        samples = signal.shape[-1]
        before = max(0, self.sizes.tile - samples) // 2 if self.sizes.whole else 0
        after = max(0, self.sizes.tile - samples - before) if self.sizes.whole else 0
        _, level = find_level(signal)
        stems = self._separate(F.pad(signal / level, (before, after)))
        kept = slice(before + trim, before + samples - trim)
        return stems[..., kept] * level[:, None]

    def _separate(self, signal: Tensor) -> Tensor:
        """Separate a signal of unit level."""
        spectrogram = self._transform(signal)
        parts = to_planes(spectrogram) if self.sizes.cac else spectrogram.abs()
        picture, mean, deviation = _norm_all(parts)
        wave, wave_mean, wave_deviation = _norm_all(signal)
        picture, wave = self._run(picture, wave)
        picture = picture.float().unflatten(1, (self.stems, -1))  # stems
        picture = picture * deviation[:, None] + mean[:, None]
        sound = self._invert(self._draw(picture, spectrogram), signal.shape[-1])
        wave = wave.float().unflatten(1, (self.stems, -1))
        stems: Tensor = sound + wave * wave_deviation[:, None] + wave_mean[:, None]
        return stems

    def _draw(self, picture: Tensor, spectrogram: Tensor) -> Tensor:
        """Make complex spectrograms of what was drawn, (batch, stems, …, bins, frames)."""
        if self.sizes.cac:
            return from_planes(picture)
        stems = draw_stems(
            picture.permute(1, 4, 0, 2, 3),  # stems, frames, batch, channels, bins
            spectrogram.permute(3, 0, 1, 2),
            max(0, self.sizes.wiener),
            self.sizes.wiener_residual and self.sizes.wiener >= 0,
        )
        return stems.permute(2, 0, 3, 4, 1)

    def _run(self, picture: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Run both branches down, across and up."""
        skips: list[tuple[Tensor, int]] = []
        wave_skips: list[tuple[Tensor | None, int]] = []
        for index, encode in enumerate(self.encoder):
            steps, joined = picture.shape[-1], None
            if index < len(self.tencoder):
                wave_steps, meets = wave.shape[-1], _level(self.tencoder[index]).meets
                wave = self.tencoder[index](wave)
                joined = wave if meets else None
                wave_skips.append((None if meets else wave, wave_steps))
            picture = encode(picture, joined)
            if index == 0 and self.sizes.freq_emb:
                weight = self.freq_emb.embedding.weight * self.sizes.emb_scale
                picture = picture + self.sizes.freq_emb * weight.t()[:, :, None]
            skips.append((picture, steps))
        picture, wave = self._cross(picture, wave)
        offset = len(self.decoder) - len(self.tdecoder)
        for index, decode in enumerate(self.decoder):
            picture, before = decode(picture, *skips.pop())
            if index >= offset:
                skip, wave_steps = wave_skips.pop()
                heard = wave if skip is not None else before[:, :, 0]
                wave, _ = self.tdecoder[index - offset](heard, skip, wave_steps)
        return picture, wave

    def _cross(self, picture: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Run the transformer; without one, decoders begin from nothing but skips."""
        if not self.sizes.t_layers:
            return torch.zeros_like(picture), torch.zeros_like(picture)
        rows = picture.shape[2]
        if self.sizes.bottom_channels:
            picture = self.channel_upsampler(picture.flatten(2)).unflatten(2, (rows, -1))
            wave = self.channel_upsampler_t(wave)
        picture, wave = self.crosstransformer(picture, wave)
        if self.sizes.bottom_channels:
            picture = self.channel_downsampler(picture.flatten(2)).unflatten(2, (rows, -1))
            wave = self.channel_downsampler_t(wave)
        return picture, wave

    def _transform(self, signal: Tensor) -> Tensor:
        """Transform to as many frames as there are hops, without Nyquist's bin."""
        hop = self.stft.hop
        frames, margin = -(-signal.shape[-1] // hop), hop // 2 * 3
        after = margin + frames * hop - signal.shape[-1]
        if self.sizes.padded_with_zeros:
            padded = F.pad(signal, (margin, after))
        else:
            # a signal that is too short to be mirrored is made longer by silence
            missing = max(0, max(margin, after) - signal.shape[-1] + 1)
            right = min(after, missing)
            left = missing - right
            padded = F.pad(F.pad(signal, (left, right)), (margin - left, after - right), "reflect")
        spectrogram: Tensor = self.stft(padded)
        return spectrogram[..., :-1, 2 : 2 + frames]

    def _invert(self, spectrogram: Tensor, samples: int) -> Tensor:
        """Transform back what `_transform` gave."""
        hop = self.stft.hop
        margin = 0 if self.sizes.padded_with_zeros else hop // 2 * 3
        padded = F.pad(spectrogram, (2, 2, 0, 1))
        length = spectrogram.shape[-1] * hop + 2 * margin
        return self.stft.inverse(padded, length)[..., margin : margin + samples]


def _norm_all(signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a signal of zero mean and unit deviation over all but the batch, and both."""
    axes = list(range(1, signal.dim()))
    mean, deviation = signal.mean(axes, keepdim=True), signal.std(axes, keepdim=True)
    return (signal - mean) / (1e-5 + deviation), mean, deviation


def _level(layer: nn.Module) -> Level:
    level = layer.level
    assert isinstance(level, Level)
    return level


def _plan_levels(
    sizes: DemucsSizes, channels: int, stems: int
) -> tuple[Sequence[tuple[Level, Level]], Sequence[tuple[Level, Level]]]:
    """Plan the levels, (on the way down, on the way up), of the picture and of the wave."""
    picture, wave = [], []
    rows, outputs = sizes.window // 2, sizes.channels
    planes = 2 * channels if sizes.cac else channels
    inputs, top = (planes, channels), (planes * stems, channels * stems)
    for index in range(sizes.depth):
        last = 1 < rows <= sizes.kernel
        kernel, stride = sizes.kernel, sizes.stride
        if rows == 1:
            kernel, stride = 2 * sizes.time_stride, sizes.time_stride
        elif last:
            kernel = rows
        given = inputs if index == 0 else (outputs // sizes.growth,) * 2
        made = top if index == 0 else given
        shape = (rows > 1, kernel, stride, not last)
        picture.append(
            (Level(index, given[0], outputs, *shape), Level(index, made[0], outputs, *shape))
        )
        if rows > 1:
            shape, meets = (False, sizes.kernel, sizes.stride, True), last
            down = Level(index, given[1], outputs, *shape, meets)
            wave.append((down, Level(index, made[1], outputs, *shape, meets)))
        rows = 1 if rows <= sizes.kernel else rows // sizes.stride
        outputs *= sizes.growth
    return picture, wave

"""Cascaded band nets of vocal-remover (tsurumeso), as UVR's "VR architecture" has them.

    signal ── bands at several rates ── STFT of each ── rows of all ── cascade ── mask ── inverse
                                                                                  from low to high

A table says which rows of which band's spectrogram are seen. The cascade looks at the lower and the
upper half of all rows with nets of their own, then at all again, with what was made so far beside.
Version 5 has separable convolutions at its deepest level; 5.1 has an LSTM along time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.contract import Hop, Network, Unbounded, Window
from splitter.networks.resampling import change_rate
from splitter.schema import Length, Range
from splitter.spectral import CentredStft
from splitter.tiling import TileShape

Rows = Annotated[int, Range(0, 32769)]
Slope = tuple[Annotated[int, Range(1, 32769)], Annotated[int, Range(-1, 32769)]]
Mix = Literal["plain", "mid_side", "mid_side_b2", "mid_side_c", "stereo_n"]
# what two channels are before a transform, and what they are behind its inverse
MIXES: dict[str, tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]]] = {
    "plain": (((1, 0), (0, 1)), ((1, 0), (0, 1))),
    "mid_side": (((0.5, 0.5), (1, -1)), ((1, 0.5), (1, -0.5))),
    "mid_side_b2": (((0.5, 1), (1, -0.5)), ((0.4, 0.8), (0.8, -0.4))),
    "mid_side_c": (((1, 0.25), (-0.25, 1)), ((16 / 17, -4 / 17), (4 / 17, 16 / 17))),
    "stereo_n": (((16 / 15, 4 / 15), (4 / 15, 16 / 15)), ((1, -0.25), (-0.25, 1))),
}
LEAST = 1e-10


@dataclass(frozen=True)
class Band:
    """A part of the spectrum, seen at a rate of its own."""

    rate: Annotated[int, Range(1000, 192000)] = 44100  # Hz
    hop: Hop = 512  # samples; the same time in all bands
    window: Window = 2048  # samples
    start: Rows = 0  # bins from here …
    stop: Annotated[int, Range(1, 32769)] = 1024  # … to here are seen
    falls: Slope | None = None  # bins between which it is faded out, before bands are added
    rises: Slope | None = None  # bins between which it is faded in, the upper one first
    mix: Mix = "plain"


@dataclass(frozen=True)
class VrSizes:
    """Sizes of the cascade, and the bands that it sees."""

    bands: Annotated[Sequence[Band], Length(1, 8)] = (Band(),)  # from low to high
    rows: Annotated[int, Range(32, 16384)] = 1024  # of all bands together
    falls: Slope | None = None  # rows between which what the cascade sees is faded out
    backwards: bool = False  # it hears songs from their ends
    width: Annotated[int, Range(1, 1024)] = 32  # features
    levels: Annotated[int, Range(1, 6)] = 4
    branches: Annotated[int, Range(5, 7)] = 5  # at the deepest level
    lstm: Annotated[int, Range(0, 4096)] = 0  # features; 0: version 5, otherwise 5.1
    # of the mask, in the rows of the lowest band and in all others
    exponents: tuple[Annotated[float, Range(0.01, 10)], Annotated[float, Range(0.01, 10)]] = (1, 1)
    frames: Annotated[int, Range(32, 16384)] = 1024  # of a tile

    def build(self, channels: int, stems: int) -> Network:
        """Make the network with random weights."""
        if channels != 2 or stems != 1:
            raise ValueError("it hears two channels and makes one stem")
        return Vr(self)

    @property
    def trim(self) -> int:
        """Return the frames at both ends of a tile that are not kept."""
        return 64 if self.lstm else 128


def convolve(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    dilation: tuple[int, int] = (1, 1),
    separable: bool = False,
    leak: float = 0,
) -> nn.Sequential:
    """Make a convolution, perhaps one over each feature and one across them, a norm and a ReLU."""
    padding = (kernel // 2 * dilation[0], kernel // 2 * dilation[1])
    made = inputs if separable else outputs
    groups = inputs if separable else 1
    over = nn.Conv2d(inputs, made, kernel, stride, padding, dilation, groups, bias=False)
    across = [nn.Conv2d(inputs, outputs, 1, bias=False)] if separable else []
    return nn.Sequential(over, *across, nn.BatchNorm2d(outputs), nn.LeakyReLU(leak))


class Deepest(nn.Module):
    """See (batch, features, rows, frames) at several widths at once (ASPP, Chen et al. 2017)."""

    def __init__(self, features: int, outputs: int, branches: int, recurrent: bool) -> None:
        super().__init__()
        square = [(4, 4), (8, 8), *[(16, 16)] * (branches - 4)]
        wide = [
            convolve(features, features, 3, dilation=dilation, separable=not recurrent)
            for dilation in ([(4, 2), (8, 4), (12, 6)] if recurrent else square)
        ]
        narrow = [convolve(features, features) for _ in range(2)]
        self.branches = nn.ModuleList([*narrow, *wide])
        self.join = convolve(len(self.branches) * features, outputs)

    def forward(self, signal: Tensor) -> Tensor:
        """Map to (batch, outputs, rows, frames); the first branch sees the mean of all rows."""
        flat, *branches = self.branches
        mean = flat(signal.mean(2, keepdim=True)).expand_as(signal)
        answer: Tensor = self.join(torch.cat([mean, *(one(signal) for one in branches)], dim=1))
        return answer


class Recurrent(nn.Module):
    """Make one more feature of all, by an LSTM along time that sees all rows."""

    def __init__(self, features: int, rows: int, hidden: int) -> None:
        super().__init__()
        self.enter = convolve(features, 1)
        self.lstm = nn.LSTM(rows, hidden // 2, bidirectional=True)
        self.dense = nn.Sequential(nn.Linear(hidden, rows), nn.BatchNorm1d(rows), nn.ReLU())

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, features, rows, frames) to (batch, 1, rows, frames)."""
        along = self.enter(signal)[:, 0].permute(2, 0, 1)  # frames, batch, rows
        made = self.dense(self.lstm(along)[0].flatten(0, 1)).unflatten(0, along.shape[:2])
        answer: Tensor = made.permute(1, 2, 0)[:, None]
        return answer


class Net(nn.Module):
    """A U-Net over (batch, features, rows, frames), down by strides and up by interpolation."""

    def __init__(self, sizes: VrSizes, inputs: int, width: int, rows: int, lstm: int) -> None:
        super().__init__()
        levels, recurrent = sizes.levels, lstm > 0
        growth = [2 * level if recurrent else 2**level for level in range(levels + 1)]
        widths = [width * max(1, times) for times in growth]
        # a step goes with the convolution behind it: in version 5 this one brings the new
        # features, and the deepest level has none; in 5.1 the step does
        leak = 0 if recurrent else 0.01
        self.down = nn.ModuleList([nn.Sequential(convolve(inputs, width, 3, leak=leak))])
        for above, here in pairwise(widths if recurrent else widths[:-1]):
            turn = here if recurrent else above
            self.down.append(
                nn.Sequential(
                    convolve(above, turn, 3, stride=2, leak=0.01),
                    convolve(turn, here, 3, leak=0.01),
                )
            )
        bottom = widths[-1] if recurrent else widths[-2]
        if not recurrent:
            self.down.append(nn.Sequential(convolve(bottom, bottom, 3, stride=2, leak=0.01)))
        self.deepest = Deepest(bottom, widths[-1], sizes.branches, recurrent)
        self.up = nn.ModuleList(
            convolve(widths[i] + widths[i + 1] + (recurrent and i == 0), widths[i], 3)
            for i in reversed(range(levels))
        )
        self.lstm = Recurrent(widths[1], rows // 2, lstm) if recurrent else None

    def forward(self, signal: Tensor) -> Tensor:
        """Map to (batch, width, rows, frames)."""
        skips = []
        for step in self.down:
            signal = step(signal)
            skips.append(signal)
        signal = self.deepest(skips.pop())
        for index, step in enumerate(self.up):
            if self.lstm is not None and index == len(self.up) - 1:
                signal = torch.cat([signal, self.lstm(signal)], dim=1)
            wide = F.interpolate(signal, scale_factor=2, mode="bilinear", align_corners=True)
            signal = step(torch.cat([wide, skips.pop()], dim=1))
        return signal


def _make_stages(sizes: VrSizes) -> Iterator[list[nn.Sequential]]:
    """Yield each stage's parts: one for all rows, or one for each half."""
    rows, width, lstm = sizes.rows, sizes.width, sizes.lstm

    def part(
        parts: int, inputs: int, features: int, before: int = 0, after: int = 0, hidden: int = 0
    ) -> nn.Sequential:
        net = Net(sizes, before or inputs, features, rows // parts, hidden)
        made = OrderedDict[str, nn.Module]()
        if before:
            made["before"] = convolve(inputs, before)
        made["net"] = net
        if after:
            made["after"] = convolve(features, after)
        return nn.Sequential(made)

    if lstm:
        half, quarter = width // 2, width // 4
        yield [part(2, 2, half, after=quarter, hidden=lstm), part(2, 2, quarter, hidden=lstm // 2)]
        seen = 2 + quarter
        yield [part(2, seen, width, after=half, hidden=lstm), part(2, seen, half, hidden=lstm // 2)]
        yield [part(1, seen + half, width, hidden=lstm)]
    else:
        half = width // 2
        yield [part(2, 2, width), part(2, 2, width)]
        yield [part(1, 2 + width, width, before=half)]
        yield [part(1, 2 + 2 * width, 2 * width, before=width)]


class Vr(Unbounded):
    """Separate (batch, 2, samples) into (batch, 1, 2, samples)."""

    def __init__(self, sizes: VrSizes) -> None:
        top, kept = sizes.bands[-1], sizes.frames - 2 * sizes.trim
        if kept < 1 or sizes.rows % 2 ** (sizes.levels + 1):
            raise ValueError(
                f"{sizes.rows} rows cannot be halved at every level, or {sizes.frames} frames are "
                f"not more than {2 * sizes.trim}"
            )
        core = kept * top.hop
        super().__init__(TileShape(core, sizes.trim * top.hop, core, beyond="silence"))
        if sum(band.stop - band.start for band in sizes.bands) > sizes.rows:
            raise ValueError(f"the bands have more than {sizes.rows} rows")
        self.sizes = sizes
        self.stfts = nn.ModuleList(
            CentredStft(band.window, band.hop, mirrored=False) for band in sizes.bands
        )
        pairs = list(pairwise(sizes.bands))
        self.lower = nn.ModuleList(change_rate(high.rate, low.rate) for low, high in pairs)
        self.higher = nn.ModuleList(change_rate(low.rate, high.rate) for low, high in pairs)
        self.stages = nn.ModuleList(nn.ModuleList(stage) for stage in _make_stages(sizes))
        self.leave = nn.Conv2d(2 * sizes.width if not sizes.lstm else sizes.width, 2, 1, bias=False)
        for index, band in enumerate(sizes.bands):
            gains = _shape_band(sizes, band, band is sizes.bands[-1])
            self.register_buffer(f"gains{index}", gains, persistent=False)
            for name, mix in zip(("mix", "unmix"), MIXES[band.mix], strict=True):
                self.register_buffer(
                    f"{name}{index}",
                    torch.tensor(mix, dtype=torch.float32, device="cpu"),
                    persistent=False,
                )
        self.register_buffer("gains", _shape_rows(sizes), persistent=False)
        low, high = sizes.exponents
        exponents = torch.full((sizes.rows + 1, 1), float(high), device="cpu")
        exponents[: sizes.bands[0].stop] = low
        self.register_buffer("exponents", exponents, persistent=False)

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim)."""
        samples = signal.shape[-1]
        signal = F.pad(signal, (0, max(0, 2 * self.sizes.bands[-1].hop - samples)))
        seen = self._look(signal.flip(-1) if self.sizes.backwards else signal)
        estimate = self._make_sound(seen * self._mask(seen.abs()))
        estimate = F.pad(estimate, (0, max(0, samples - estimate.shape[-1])))[..., :samples]
        estimate = estimate.flip(-1) if self.sizes.backwards else estimate
        return estimate[:, None, :, trim : samples - trim]

    def _look(self, signal: Tensor) -> Tensor:
        """Transform all bands, and lay the rows that are seen above each other."""
        waves = [signal.float()]
        for resample in reversed(self.lower):
            waves.insert(0, resample(waves[0]))
        parts = [
            stft(_mix(getattr(self, f"mix{index}"), wave))
            for index, (stft, wave) in enumerate(zip(self.stfts, waves, strict=True))
        ]
        frames = min(part.shape[-1] for part in parts)
        bands = zip(self.sizes.bands, parts, strict=True)
        rows = torch.cat([part[:, :, band.start : band.stop, :frames] for band, part in bands], 2)
        whole = F.pad(rows, (0, 0, 0, self.sizes.rows + 1 - rows.shape[2]))
        return whole * self.get_buffer("gains")

    def _mask(self, magnitude: Tensor) -> Tensor:
        """Run the cascade on (batch, channels, rows, frames); its level is that of the tile."""
        frames = magnitude.shape[-1]
        level = magnitude.amax((1, 2, 3), keepdim=True).clamp(min=LEAST)
        padded = F.pad(magnitude / level, (0, -frames % 2**self.sizes.levels))
        seen = [padded[:, :, : self.sizes.rows]]
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            halves = torch.cat(seen, dim=1).chunk(len(stage), dim=2)
            made = [part(half) for part, half in zip(stage, halves, strict=True)]
            seen.append(torch.cat(made, dim=2))
        mask = torch.sigmoid(self.leave(seen[-1]).float())[..., :frames]
        mask = torch.cat([mask, mask[:, :, -1:]], dim=2)  # the highest row is as the one below
        return mask ** self.get_buffer("exponents")

    def _make_sound(self, rows: Tensor) -> Tensor:
        """Add the bands' sounds from the lowest up, each at the rate of the next."""
        total, at = torch.zeros(0), 0
        for index, (band, stft) in enumerate(zip(self.sizes.bands, self.stfts, strict=True)):
            assert isinstance(stft, CentredStft)
            height = band.stop - band.start
            margin = (0, 0, band.start, stft.bins - band.stop)
            spectrum = F.pad(rows[:, :, at : at + height], margin)
            at += height
            spectrum = spectrum * getattr(self, f"gains{index}")
            wave = stft.inverse(spectrum, band.hop * (rows.shape[-1] - 1))
            wave = _mix(getattr(self, f"unmix{index}"), wave)
            total = self.higher[index - 1](total)[..., : wave.shape[-1]] + wave if index else wave
        return total


def _mix(matrix: Tensor, wave: Tensor) -> Tensor:
    """Mix channels by a matrix; half precision is for networks, not for sound."""
    with torch.autocast(wave.device.type, enabled=False):
        return matrix @ wave.to(matrix)


def _shape_rows(sizes: VrSizes) -> Tensor:
    """Return what each row is multiplied by before it is seen, (rows + 1, 1)."""
    gains = torch.ones(sizes.rows + 1, 1, device="cpu")
    if sizes.falls is None:
        return gains
    start, stop = sizes.falls
    if sizes.lstm or len(sizes.bands) == 1:
        return gains * _fall(len(gains), start, stop)
    gain = 1.0
    for row in range(start + 1, min(stop, len(gains))):
        gain = 10 ** (-(row - start) * (3.5 - gain) / 20)
        gains[row] = gain
    return gains


def _shape_band(sizes: VrSizes, band: Band, top: bool) -> Tensor:
    """Return what each bin of a band is multiplied by before bands are added, (bins, 1)."""
    gains = torch.ones(band.window // 2 + 1, 1, device="cpu")
    if band.rises is not None:
        start, stop = band.rises
        gains = gains * _rise(len(gains), start, stop - 1)
    if band.falls is not None and not top:
        gains = gains * _fall(len(gains), *band.falls)
    return gains


def _fall(bins: int, start: int, stop: int) -> Tensor:
    """Fade out from bin `start` on; from the one before `stop` on there is nothing."""
    rank = torch.arange(bins, device="cpu")
    fallen = (1 - (rank - start + 1) / max(1, stop - start)).clamp(0, 1)
    return torch.where(rank >= stop, 0.0, fallen)[:, None]


def _rise(bins: int, start: int, stop: int) -> Tensor:
    """Fade in from bin `stop` up to bin `start`."""
    return _fall(bins, bins - 1 - start, bins - 1 - stop).flip(0)

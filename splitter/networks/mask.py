"""Separation by masking: a network looks at a spectrogram and says how much of it is voice.

    signal ─ Stft ─ |X| ─ fold ─ level ─ log ─ network ─ sigmoid ─ spread ─ M · X ─ Stft.inverse
               └────────────────────────────────────────────────────────────┘

Folding joins neighbouring bins into bands: full resolution where voices have their harmonics, bands
of 2, 4, 8 and 16 bins above. The network sees (and pays for) bands only; the mask of a band holds
for all its bins, so the whole bandwidth is separated at less than half the arithmetic.

A song may be quiet, or louder on one side. `Level` divides each channel by its own loudness around
each frame, so the mask of a song is the mask of the same song at any level and any balance. What
is in the middle and what is wide can be told apart by one more picture: see `Views`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.blocks import BandNorm
from splitter.networks.contract import Network, PictureNetwork
from splitter.spectral import Stft
from splitter.stereo import FLOOR, align, measure_width
from splitter.tiling import TileShape

LOUDNESS = 4.0  # log1p(4·|X|): −60 dBFS noise lies in the linear part, music in the logarithmic one
USUAL = 2.0  # mean |X| of music at −21 dBFS (RMS), to which `Level` brings all music
SHARE = 16.0  # times what is drawn: shares begin at 0, beside weights that are large
INAUDIBLE = 2  # bands from 0 Hz up that hold a constant offset, and nothing that is heard
DEAF = 1e-3  # a channel so much weaker (−60 dB) than the strongest is taken for empty


class Bands(nn.Module):
    """Fold bins into bands, and spread bands over bins.

    `layout` lists (bands, bins a band) from 0 Hz up. Bins above the last band, at least Nyquist's,
    are left out of the fold and get the last band's mask.
    """

    def __init__(self, layout: Sequence[tuple[int, int]], bins: int) -> None:
        super().__init__()
        self.layout = [(int(bands), int(width)) for bands, width in layout]
        self.bins = bins
        used = sum(bands * width for bands, width in self.layout)
        if not 0 <= bins - used <= 1:
            raise ValueError(f"the bands cover {used} bins, but the STFT has {bins}")

    @property
    def bands(self) -> int:
        """Return the number of bands."""
        return sum(bands for bands, _ in self.layout)

    def fold(self, magnitude: Tensor) -> Tensor:
        """Average (..., bins, frames) within each band: (..., bands, frames)."""
        folded, start = [], 0
        for bands, width in self.layout:
            part = _lie(magnitude)[..., start : start + bands * width]  # frames, bins
            folded.append(_average(part, width))
            start += bands * width
        return _lie(torch.cat(folded, dim=-1))

    def spread(self, mask: Tensor) -> Tensor:
        """Repeat each band's value for its bins: (..., bands, frames) to (..., bins, frames)."""
        bands = _lie(mask)  # frames, bands
        parts, first = [], 0
        for count, width in self.layout:
            part = bands[..., first : first + count, None]
            parts.append(part.expand(*part.shape[:-1], width).flatten(-2))
            first += count
        left = self.bins - sum(count * width for count, width in self.layout)
        parts += [bands[..., -1:]] * left
        return _lie(torch.cat(parts, dim=-1))


def _average(bins: Tensor, width: int) -> Tensor:
    """Average each `width` neighbours of the last axis."""
    return bins if width == 1 else bins.unflatten(-1, (-1, width)).mean(-1)


def _lie(picture: Tensor) -> Tensor:
    """Swap frames and frequency, the last two axes.

    An STFT leaves the bins of a frame beside each other in memory. Whatever is done to a whole
    spectrogram is done in this order: turning it over would take as long as the transform.
    """
    return picture.transpose(-1, -2)


def _magnitude(spectrogram: Tensor) -> Tensor:
    """Compute |X|; Tensor.abs takes twice as long."""
    imaginary = spectrogram.imag
    return spectrogram.real.square().addcmul_(imaginary, imaginary).sqrt_()


def _only_audible(picture: Tensor) -> Tensor:
    """Make the bands that nobody hears zero: a constant offset is no part of a voice."""
    return F.pad(picture[..., INAUDIBLE:, :], (0, 0, INAUDIBLE, 0))


class Balance(NamedTuple):
    """How loud two channels are beside each other."""

    gain: Tensor  # (batch, 2, 1, frames): makes the other one as loud as each
    both: Tensor  # (batch, 1, 1, frames): 1, or 0 where one is empty


class Level(nn.Module):
    """Divide each channel of a picture by its mean over `span` frames to either side of each.

    What does not change with time is not heard, and neither measured nor passed on. Where a channel
    is empty, as in songs that are on one side only, the network sees the strongest in its place, as
    it sees a song of one channel on both sides. The picture of the width, if there is one behind
    those of two channels, is divided by the geometric mean of their levels.
    """

    def __init__(self, span: int, stereo: bool = False) -> None:
        super().__init__()
        self.span = span
        self.stereo = stereo

    def forward(self, picture: Tensor) -> tuple[Tensor, Balance | None]:
        """Map (batch, pictures, bands, frames) ≥ 0 to the same shape, in the unit of `USUAL`.

        The second result is the balance of two channels, in stereo.
        """
        picture = _only_audible(picture)
        sides = picture[:, :2] if self.stereo else picture
        level = F.avg_pool1d(
            sides.mean(2), 2 * self.span + 1, 1, self.span, count_include_pad=False
        )
        level = level[:, :, None]  # batch, channels, 1, frames
        strongest = level.amax(1, keepdim=True)
        empty = level < DEAF * strongest
        sides = torch.where(empty, sides.amax(1, keepdim=True), sides)
        full = torch.where(empty, strongest, level)
        sides = sides * (USUAL / (full + FLOOR))
        if not self.stereo:
            return sides, None
        left, right = full[:, :1] + FLOOR, full[:, 1:] + FLOOR
        width = picture[:, 2:] * (USUAL / (left * right).sqrt())
        gain = torch.cat([left / right, right / left], 1)
        one_sided = torch.minimum(level[:, :1], level[:, 1:]) < DEAF * strongest
        both = torch.where(one_sided, strongest * 0.0, strongest * 0.0 + 1.0)
        return torch.cat([sides, width * both], 1), Balance(gain, both)


class Views(nn.Module):
    """See a spectrogram through several windows, each half as long as the one before.

    The frames, turned back to sound, are cut shorter around their middle, and transformed again:
    the bins are as many, and lie where they lay. In `stereo` a picture of the width follows: of
    what two channels have out of phase.
    """

    def __init__(self, stft: Stft, count: int, stereo: bool = False) -> None:
        super().__init__()
        self.size, self.lengths = stft.size, [stft.size >> view for view in range(1, count)]
        self.stereo = stereo

    def count(self, channels: int) -> int:
        """Return how many pictures there are of so many channels."""
        return channels * (1 + len(self.lengths)) + self.stereo

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Map complex (batch, channels, bins, frames) to as many pictures as `count` says."""
        views = self._cut(spectrogram)
        if not self.stereo:
            return views
        return torch.cat([views, measure_width(spectrogram[:, :1], spectrogram[:, 1:])], 1)

    def _cut(self, spectrogram: Tensor) -> Tensor:
        if not self.lengths:
            return _magnitude(spectrogram)
        frames = torch.fft.irfft(_lie(spectrogram), n=self.size)  # frames, samples
        views = [_magnitude(spectrogram)]
        for length in self.lengths:
            window = torch.hann_window(length, device=frames.device) * (self.size / length)
            around = (self.size - length) // 2
            views.append(_magnitude(_lie(torch.fft.rfft(frames * F.pad(window, (around, around))))))
        return torch.stack(views, 2).flatten(1, 2)  # channels · views


class MaskModel(Network):
    """Separate signals by a mask that a U-Net draws on their spectrogram.

    In `stereo` each of two channels is mixed with the other one before it is masked, as far as both
    have the same phase: the network draws the other's share, −1…1, for each place. A share of ½ is
    the middle, freed from what is wide; a share below 0 strengthens what is wide.

    (batch, channels, samples) → (batch, stems, channels, samples), any number of samples ≥ 1.
    """

    def __init__(
        self,
        stft: Stft,
        bands: Bands,
        unet: PictureNetwork,
        channels: int,
        stems: int,
        level_span: int = 0,
        views: int = 1,
        stereo: bool = False,
    ) -> None:
        super().__init__()
        if stereo and (channels != 2 or not level_span):
            raise ValueError("stereo asks for two channels and a level_span")
        self.stft = stft
        self.bands = bands
        self.views = Views(stft, views, stereo)
        self.level = Level(level_span, stereo) if level_span else None  # None: it is absolute
        self.norm = BandNorm(bands.bands)
        self.unet = unet
        self.channels = channels
        self.stems = stems
        if bands.bands % unet.rows:
            raise ValueError(f"{bands.bands} bands are not a multiple of {unet.rows}")

    @property
    def grid(self) -> int:
        """Return the samples by which tiles may move without changing the result."""
        return self.stft.hop * self.unet.stride

    @property
    def context(self) -> int:
        """Return how many samples to either side an output depends on.

        The mask's reach in frames, and half the overlap of a frame on the way in and out.
        """
        reach = self.unet.reach + (self.level.span if self.level else 0)
        return reach * self.stft.hop + self.stft.size

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples − 2 · trim)."""
        hop, end = self.stft.hop, signal.shape[-1] - trim
        start = max(0, trim // hop - self.stft.overlap)  # frames
        stop = -(-end // hop) + self.stft.overlap
        spectrogram = self.stft(signal)
        mask = self.mask(spectrogram, start, stop)
        masked = self.put_on(mask, spectrogram[..., start:stop])
        return self.stft.inverse(masked, end - start * hop)[..., trim - start * hop :]

    def mask(self, spectrogram: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Return masks (batch, stems, channels, bins, frames) in 0…1 for a complex spectrogram.

        In stereo masks of the other channel follow: mask and mix are one. Of the frames only those
        from `start` to before `stop` are computed.
        """
        return self.look(self.views(spectrogram), start, stop)

    def put_on(self, mask: Tensor, spectrogram: Tensor) -> Tensor:
        """Return the stems (batch, stems, channels, bins, frames) that masks make of a spectrogram.

        It is complex, (batch, channels, bins, frames).
        """
        if not self.views.stereo:
            return mask * spectrogram[:, None]
        own, other = mask[:, :, :2], mask[:, :, 2:]
        aligned: Tensor = spectrogram.flip(1) * align(spectrogram[:, :1], spectrogram[:, 1:])
        return own * spectrogram[:, None] + other * aligned[:, None]

    def look(self, magnitude: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Return the mask for pictures of magnitudes (batch, pictures, bins, frames)."""
        frames = magnitude.shape[-1]
        stop = frames if stop is None else min(stop, frames)
        picture = self.bands.fold(magnitude)
        picture, balance = self.level(picture) if self.level else (picture, None)
        picture = torch.log1p(LOUDNESS * picture)
        picture = self._normalise(F.pad(picture, (0, -frames % self.unet.stride)))
        logits = self.unet(picture.contiguous(memory_format=torch.channels_last), start, stop)
        logits = logits.float().unflatten(1, (self.stems, -1))
        mask = torch.sigmoid(logits[:, :, : self.channels])
        if balance is not None:
            gain, both = (part[:, None, ..., start:stop] for part in balance)
            other = mask * torch.tanh(SHARE * logits[:, :, self.channels :]) * both
            mask = torch.cat([mask - other, other * gain], 2)
        mask = _only_audible(mask) if self.level else mask
        return self.bands.spread(mask)

    def _normalise(self, picture: Tensor) -> Tensor:
        """Bring bands to the same unit; without width, as in songs of one channel, it stays 0."""
        if self.views.stereo:
            return torch.cat([self.norm(picture[:, :-1]), self.norm.scale(picture[:, -1:])], 1)
        normal: Tensor = self.norm(picture)
        return normal


class FadedMask(MaskModel):
    """Separate by a mask whose every place depends on all frames: tiles are faded into each other.

    A tile is as long as the network sees at once.
    """

    @property
    def own_tiles(self) -> TileShape:
        """Return tiles that share a quarter with the next, over which one is faded into it."""
        return TileShape.faded(self.unet.span * self.stft.hop, 0.25, "hann")

    @property
    def grid(self) -> int:
        """Return the core of a tile: all are whole."""
        return self.own_tiles.grid

    @property
    def context(self) -> int:
        """Return the context of a tile."""
        return self.own_tiles.context

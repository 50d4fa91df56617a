"""Separation by masking: a network looks at a spectrogram and says how much of it is voice.

    signal ─ Stft ─ |X| ─ fold ─ level ─ log ─ network ─ sigmoid ─ spread ─ M · X ─ Stft.inverse
               └────────────────────────────────────────────────────────────┘

Folding joins neighbouring bins into bands: full resolution where voices have their harmonics, bands
of 2, 4, 8 and 16 bins above. The network sees (and pays for) bands only; the mask of a band holds
for all its bins, so the whole bandwidth is separated at less than half the arithmetic.

A song may be quiet, or louder on one side. `Level` divides each channel by its own loudness around
each frame, so the mask of a song is the mask of the same song at any level and any balance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.networks.blocks import BandNorm
from splitter.networks.contract import Network, PictureNetwork
from splitter.spectral import Stft
from splitter.tiling import TileShape

LOUDNESS = 4.0  # log1p(4·|X|): −60 dBFS noise lies in the linear part, music in the logarithmic one
USUAL = 2.0  # mean |X| of music at −21 dBFS (RMS), to which `Level` brings all music
INAUDIBLE = 2  # bands from 0 Hz up that hold a constant offset, and nothing that is heard
DEAF = 1e-3  # a channel so much weaker (−60 dB) than the strongest is taken for empty
FLOOR = 1e-6  # mean |X|, about −150 dBFS: weaker is silence


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
    return F.pad(picture[:, :, INAUDIBLE:], (0, 0, INAUDIBLE, 0))


class Level(nn.Module):
    """Divide each channel of a picture by its mean over `span` frames to either side of each.

    What does not change with time is not heard, and neither measured nor passed on. Where a channel
    is empty, as in songs that are on one side only, the network sees the strongest in its place, as
    it sees a song of one channel on both sides.
    """

    def __init__(self, span: int) -> None:
        super().__init__()
        self.span = span

    def forward(self, picture: Tensor) -> Tensor:
        """Map (batch, channels, bands, frames) ≥ 0 to the same shape, in the unit of `USUAL`."""
        picture = _only_audible(picture)
        level = F.avg_pool1d(
            picture.mean(2), 2 * self.span + 1, 1, self.span, count_include_pad=False
        )
        level = level[:, :, None]  # batch, channels, 1, frames
        strongest = level.amax(1, keepdim=True)
        empty = level < DEAF * strongest
        picture = torch.where(empty, picture.amax(1, keepdim=True), picture)
        level = torch.where(empty, strongest, level)
        return picture * (USUAL / (level + FLOOR))


class Views(nn.Module):
    """See a spectrogram through several windows, each half as long as the one before.

    The frames, turned back to sound, are cut shorter around their middle, and transformed again:
    the bins are as many, and lie where they lay.
    """

    def __init__(self, stft: Stft, count: int) -> None:
        super().__init__()
        self.size, self.lengths = stft.size, [stft.size >> view for view in range(1, count)]

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Map complex (batch, channels, bins, frames) to (batch, channels · views, …)."""
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
    ) -> None:
        super().__init__()
        self.stft = stft
        self.bands = bands
        self.views = Views(stft, views)
        self.level = Level(level_span) if level_span else None  # None: loudness is absolute
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
        masked = mask * spectrogram[:, None, ..., start:stop]
        return self.stft.inverse(masked, end - start * hop)[..., trim - start * hop :]

    def mask(self, spectrogram: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Return (batch, stems, channels, bins, frames) in 0…1 for a complex spectrogram.

        Of its frames only those from `start` to before `stop` are computed.
        """
        return self.look(self.views(spectrogram), start, stop)

    def look(self, magnitude: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Return the mask for magnitudes (batch, channels · views, bins, frames)."""
        frames = magnitude.shape[-1]
        stop = frames if stop is None else min(stop, frames)
        picture = self.bands.fold(magnitude)
        picture = torch.log1p(LOUDNESS * (self.level(picture) if self.level else picture))
        picture = self.norm(F.pad(picture, (0, -frames % self.unet.stride)))
        logits = self.unet(picture.contiguous(memory_format=torch.channels_last), start, stop)
        mask = torch.sigmoid(logits.float())
        mask = _only_audible(mask) if self.level else mask
        return self.bands.spread(mask.unflatten(1, (self.stems, self.channels)))


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

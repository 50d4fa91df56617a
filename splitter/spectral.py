"""Short-time Fourier transform with one frame a hop.

Frames are centred on their hop (frame t sees `size` samples around `t · hop + hop / 2`), so a
signal of n · hop samples has exactly n frames, and a frame never depends on where a tile began.
That is what makes tiles line up: see `splitter.tiling`.

           hop 0   hop 1   hop 2   hop 3
         |-------|-------|-------|-------|
     [·····frame 0·····]
             [·····frame 1·····]
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST_SHARE = 0.1  # of a window squared, by which a sample that it alone shows is divided


class Stft(nn.Module):
    """Transform signals to spectrograms and back, without loss.

    The window is a periodic Hann in both directions; the inverse divides by the sum of squared
    windows (Griffin & Lim 1984, eq. 6), which makes it the least-squares inverse also of a
    spectrogram that a mask has changed.
    """

    window: Tensor

    def __init__(self, size: int, hop: int) -> None:
        super().__init__()
        if size % hop or (size - hop) % 2:
            raise ValueError(f"the hop ({hop}) must divide the window ({size}) evenly")
        self.size = size
        self.hop = hop
        # not on "meta", where a sketch is made: to compute there takes seconds of imports
        window = torch.hann_window(size, device="cpu")
        self.register_buffer("window", window, persistent=False)

    @property
    def bins(self) -> int:
        """Return the number of frequency bins, 0 Hz and Nyquist included."""
        return self.size // 2 + 1

    @property
    def overlap(self) -> int:
        """Return how many frames before and behind its own hop a sample is in, at most."""
        return self.size // self.hop // 2

    def forward(self, signal: Tensor) -> Tensor:
        """Transform (batch, channels, samples) to complex (batch, channels, bins, frames).

        There are ceil(samples / hop) frames; what a frame sees beyond the signal is zero.
        """
        margin = (self.size - self.hop) // 2
        missing = -signal.shape[-1] % self.hop
        padded = F.pad(signal, (margin, margin + missing))
        frames = padded.unfold(-1, self.size, self.hop) * self.window  # frames, size
        spectrogram: Tensor = torch.fft.rfft(frames).transpose(-1, -2)  # bins, frames
        return spectrogram

    def inverse(self, spectrogram: Tensor, samples: int) -> Tensor:
        """Transform complex (batch, channels, bins, frames) back to (batch, channels, samples)."""
        margin = (self.size - self.hop) // 2
        frames = torch.fft.irfft(spectrogram.transpose(-1, -2), n=self.size)  # frames, size
        signal = overlap_add(frames.mul_(self.window), self.hop)
        power = overlap_add((self.window**2).expand(frames.shape[-2], -1), self.hop)
        kept = slice(margin, margin + samples)
        restored: Tensor = signal[..., kept] / power[kept]
        return restored


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """Sum (..., frames, size) into (..., samples), each frame one hop after the last."""
    count, parts = frames.shape[-2], frames.shape[-1] // hop
    total = frames.new_zeros(*frames.shape[:-2], count + parts - 1, hop)
    for part, piece in enumerate(frames.split(hop, dim=-1)):
        total[..., part : part + count, :] += piece
    return total.flatten(-2)


class CentredStft(nn.Module):
    """Transform signals to spectrograms and back as PyTorch and librosa do, with any hop.

    Frame t is centred on sample `hop · t`; what it sees beyond the signal is mirrored, or zero. It
    is the transform of most published networks. Where their tiles lie on a grid, or frames must
    not depend on where a tile began, `Stft` is the one to use.
    """

    window: Tensor

    def __init__(self, size: int, hop: int, mirrored: bool = True, normed: bool = False) -> None:
        super().__init__()
        if not 0 < hop <= size:
            raise ValueError(f"a hop of {hop} samples does not fit a window of {size}")
        self.size = size
        self.hop = hop
        self.mirrored = mirrored
        self.normed = normed  # divided by the root of the size
        window = torch.hann_window(size, device="cpu")  # as above
        self.register_buffer("window", window, persistent=False)

    @property
    def bins(self) -> int:
        """Return the number of frequency bins, 0 Hz and Nyquist included."""
        return self.size // 2 + 1

    def forward(self, signal: Tensor) -> Tensor:
        """Transform (..., samples) to complex (..., bins, 1 + samples // hop)."""
        margin = self.size // 2
        mode = "reflect" if self.mirrored and signal.shape[-1] > margin else "constant"
        padded = F.pad(signal.float(), (margin, margin), mode=mode)
        flat = padded.reshape(-1, padded.shape[-1])
        spectrogram: Tensor = torch.stft(
            flat, self.size, self.hop, window=self.window, center=False,
            normalized=self.normed, return_complex=True,
        )  # fmt: skip
        return spectrogram.unflatten(0, signal.shape[:-1])  # type: ignore[no-any-return]

    def inverse(self, spectrogram: Tensor, samples: int) -> Tensor:
        """Transform complex (..., bins, frames) back to (..., samples).

        What lies at the edge of the last window alone is divided by next to nothing where hops are
        half a window, so it fades there.
        """
        signal = torch.istft(
            spectrogram.flatten(0, -3), self.size, self.hop, window=self.window,
            normalized=self.normed, length=samples,
        )  # fmt: skip
        edge = self.window[self.size // 2 :][: samples % self.hop]
        if len(edge) and spectrogram.shape[-1] <= samples // self.hop + 1:
            signal[..., -len(edge) :] *= (edge.square() / LEAST_SHARE).clamp(max=1)
        return signal.unflatten(0, spectrogram.shape[:-2])  # type: ignore[no-any-return]


def to_planes(spectrogram: Tensor) -> Tensor:
    """Lay complex (batch, channels, bins, frames) out as (batch, 2 · channels, bins, frames).

    Behind the real part of a channel comes its imaginary part.
    """
    return torch.view_as_real(spectrogram).permute(0, 1, 4, 2, 3).flatten(1, 2)


def from_planes(planes: Tensor) -> Tensor:
    """Join (..., 2 · channels, bins, frames) to complex (..., channels, bins, frames) again."""
    return torch.view_as_complex(planes.unflatten(-3, (-1, 2)).movedim(-3, -1).contiguous())


def find_stft(network: nn.Module) -> Stft | None:
    """Return the (first) STFT that a network has inside; none for a network without."""
    return next((part for part in network.modules() if isinstance(part, Stft)), None)

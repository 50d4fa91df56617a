from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch

from splitter.spectral import CentredStft, Stft, from_planes, to_planes
from tests.sounds import noise

SIZE, HOP = 256, 64


@pytest.mark.parametrize("samples", [1, HOP - 1, HOP, HOP + 1, SIZE - 1, SIZE, SIZE + 1, 5000])
def test_the_inverse_gives_the_signal_back(samples: int) -> None:
    stft = Stft(SIZE, HOP)
    signal = torch.from_numpy(noise(samples))[None]
    restored = stft.inverse(stft(signal), samples)
    # float32 FFTs of 256 points round at about 1e-7 of full scale
    torch.testing.assert_close(restored, signal, atol=1e-6, rtol=0)


@pytest.mark.parametrize("samples", [1, HOP, HOP + 1, 1000])
def test_there_is_a_frame_for_each_hop_begun(samples: int) -> None:
    spectrogram = Stft(SIZE, HOP)(torch.zeros(2, 1, samples))
    assert spectrogram.shape == (2, 1, SIZE // 2 + 1, -(-samples // HOP))


def test_frames_are_those_of_scipy() -> None:
    signal = noise(HOP * 20, channels=1)
    window = scipy.signal.get_window("hann", SIZE)
    margin = (SIZE - HOP) // 2
    padded = np.pad(signal[0].astype(np.float64), (margin, margin))
    frames = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[::HOP]
    expected = np.fft.rfft(frames * window).T
    actual = Stft(SIZE, HOP)(torch.from_numpy(signal)[None])[0, 0].numpy()
    assert np.abs(actual - expected).max() < 1e-5  # of values up to 3


def test_a_shift_by_hops_shifts_the_frames() -> None:
    stft = Stft(SIZE, HOP)
    signal = torch.from_numpy(noise(HOP * 40))[None]
    late = stft(signal[..., HOP * 10 :])
    torch.testing.assert_close(stft(signal)[..., 15:35], late[..., 5:25])


def test_a_hop_that_does_not_divide_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="must divide"):
        Stft(256, 100)


def test_planes_are_real_and_imaginary_parts_in_turn() -> None:
    spectrogram = torch.randn(2, 3, 5, 7, dtype=torch.complex64)
    planes = to_planes(spectrogram)
    assert torch.equal(planes[:, 0::2], spectrogram.real)
    assert torch.equal(planes[:, 1::2], spectrogram.imag)
    assert torch.equal(from_planes(planes), spectrogram)


def test_a_song_that_ends_between_two_frames_of_half_a_window_ends_without_a_bang() -> None:
    stft = CentredStft(1024, 512)
    for samples in (3000, 5119, 5120, 5121):
        signal = torch.from_numpy(noise(samples))
        plain = stft.inverse(stft(signal), samples)
        assert (plain - signal)[..., :-200].abs().max() < 1e-4
        mask = torch.rand(513, 1 + samples // 512, generator=torch.Generator().manual_seed(0))
        assert stft.inverse(stft(signal) * mask, samples).abs().max() < 2 * signal.abs().max()

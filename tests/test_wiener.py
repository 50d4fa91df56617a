"""The multichannel Wiener filter: where theory says what it must give, and at its edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from splitter.loading import Model
from splitter.networks import Augmented, MaskUNet, Network, Wiener
from splitter.networks.wiener import refine
from splitter.separation import separate
from splitter.spectral import Stft, find_stft
from tests.sounds import SMALL_SIZES, noise
from tests.test_ensemble import Echo, check_tiled_equals_whole
from tests.test_separation import EXACT, decibels

STFT = Stft(1024, 256)


class Oracle(Network):
    """Masks by the ratio of powers that only the references know, bin by bin, in both channels."""

    def __init__(self, vocals: np.ndarray, rest: np.ndarray) -> None:
        super().__init__()
        powers = [STFT(torch.from_numpy(part)[None]).abs() ** 2 for part in (vocals, rest)]
        self.mask = powers[0] / (powers[0] + powers[1] + 1e-9)

    @property
    def grid(self) -> int:
        return 256

    @property
    def context(self) -> int:
        return 1024

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        whole = STFT.inverse(self.mask * STFT(signal), signal.shape[-1])[:, None]
        return whole[..., trim : signal.shape[-1] - trim]


def pan(mono: np.ndarray, left: float, right: float) -> np.ndarray:
    return np.float32([[left], [right]]) * mono


def make_mix(samples: int = 64000) -> tuple[np.ndarray, np.ndarray]:
    """Two noises in the same bins at the same time, each heard more on a side of its own."""
    return pan(noise(samples, 1, 1), 0.5, 1.0), pan(noise(samples, 1, 2), 1.0, 0.3)


@pytest.mark.parametrize("iterations", [1, 2, 4])
def test_sources_at_two_places_are_told_apart_better_than_by_any_mask_of_powers(
    iterations: int,
) -> None:
    vocals, rest = make_mix()
    mixture = torch.from_numpy(vocals + rest)[None]
    masked = Oracle(vocals, rest)
    filtered = Wiener(masked, iterations, STFT)
    before, after = (
        decibels(vocals, net(mixture)[0, 0].numpy() - vocals) for net in (masked, filtered)
    )
    assert after > before + 2


def test_a_song_of_one_channel_gets_the_ratio_of_powers() -> None:
    vocals, rest = (part[:1] for part in make_mix())
    mixture = torch.from_numpy(vocals + rest)[None]
    spectrogram = STFT(mixture).transpose(-1, -2).expand(1, 2, -1, -1)
    share = 0.1 + 0.8 * torch.rand(spectrogram[:, :1].shape)
    refined = refine(spectrogram, (share * spectrogram)[:, None], 1)
    torch.testing.assert_close(refined[:, 0], share * spectrogram, atol=1e-4, rtol=1e-4)
    masked = Oracle(vocals, rest)
    expected = masked(mixture)
    filtered = Wiener(masked, 1, STFT)(mixture)
    assert filtered.shape == expected.shape
    # a mask's estimate is no consistent spectrogram, so that it is not found again to the digit
    assert decibels(expected.numpy(), (filtered - expected).numpy()) > 12


def test_one_iteration_is_the_filter_of_the_papers_equation() -> None:
    """Against complex 2 × 2 matrices in double precision, where the covariance never changes."""
    random = np.random.default_rng(0)
    draws = random.standard_normal((2, 2, 2, 1))
    found = (draws[0] + 1j * draws[1]) @ np.ones((1, 200))  # source, channel, frame
    mixture = found.sum(0)
    covariances = []
    for source in found[..., 0]:
        place = np.outer(source, source.conj())
        place = place / np.trace(place).real * 2 + 0.01 * np.eye(2)
        covariances.append(max((source * mixture[:, 0].conj()).real.mean(), 0) * place)
    expected = covariances[0] @ np.linalg.inv(sum(covariances)) @ mixture[:, 0]
    planes = torch.from_numpy(np.complex64(mixture))[None, :, :, None]
    stems = torch.from_numpy(np.complex64(found[:1]))[None, ..., None]
    refined = refine(planes, stems, 1)[0, 0, :, 100, 0].numpy()
    np.testing.assert_allclose(refined, expected, rtol=1e-3)


@pytest.mark.parametrize("iterations", [1, 3])
def test_silence_stays_silent_and_so_does_what_is_silent_on_one_side(
    small_model: Model, iterations: int
) -> None:
    model = replace(small_model, network=Wiener(small_model.network, iterations))
    assert not separate(np.zeros((2, 5000), np.float32), 44100, model, EXACT)["vocals"].any()
    signal = noise(9000)
    signal[0] = 0
    signal[:, 3000:6000] = 0
    vocals = separate(signal, 44100, model, EXACT)["vocals"]
    assert np.isfinite(vocals).all() and vocals[1].any()
    assert not vocals[0].any() and not vocals[:, 3300:5700].any()


@pytest.mark.parametrize("level", [1e-3, 1e3])
def test_the_filter_does_not_depend_on_the_level(level: float) -> None:
    vocals, rest = make_mix(16000)
    masked = Oracle(vocals, rest)
    mixture = torch.from_numpy(vocals + rest)[None]
    expected = Wiener(masked, 2, STFT)(mixture)
    scaled = Wiener(masked, 2, STFT)(mixture * level) / level
    assert decibels(expected.numpy(), (scaled - expected).numpy()) > 60


@pytest.mark.parametrize("iterations", [1, 2])
def test_tiled_equals_whole_and_an_output_sees_no_further_than_it_says(
    small_model: Model, iterations: int
) -> None:
    network = Wiener(small_model.network, iterations)
    assert network.stft is small_model.network.stft
    check_tiled_equals_whole(replace(small_model, network=network), 1024)
    position = network.context + 317
    signal = torch.from_numpy(noise(2 * position))[None].requires_grad_()
    network(signal)[0, 0, 0, position].backward()
    assert signal.grad is not None
    (seen,) = signal.grad[0].abs().sum(0).nonzero(as_tuple=True)
    assert position - network.context <= seen[0] and seen[-1] <= position + network.context


def test_tiled_equals_whole_with_everything_at_once(small_model: Model) -> None:
    network = Wiener(Augmented(small_model.network), 1)
    assert network.stft is small_model.network.stft
    check_tiled_equals_whole(replace(small_model, network=network), 1024)


def test_a_network_without_an_stft_is_lent_one() -> None:
    network = Wiener(Echo(grid=60), 1)
    assert find_stft(network.network) is None
    assert network.grid == 15 * 1024 and network.stft.size == 4096
    assert network(torch.from_numpy(noise(3000))[None]).shape == (1, 1, 2, 3000)


def test_several_stems_are_filtered_together() -> None:
    network = MaskUNet(**SMALL_SIZES).build(channels=2, stems=3).eval()  # type: ignore[arg-type]
    signal = torch.from_numpy(noise(3000))[None]
    with torch.no_grad():
        assert Wiener(network, 2)(signal).shape == (1, 3, 2, 3000)


@pytest.mark.parametrize("trim", [1, 64, 3000, 6016])
def test_what_is_trimmed_changes_nothing_of_the_rest(small_model: Model, trim: int) -> None:
    signal = torch.from_numpy(noise(16000))[None]
    network = Wiener(small_model.network, 1)
    with torch.inference_mode():
        expected = network(signal)[..., trim:-trim]
        # the filter divides by covariances: rounding is larger than the network's own
        torch.testing.assert_close(network(signal, trim), expected, atol=1e-5, rtol=0)

"""Averages of estimates: of several networks, and of one that hears a song anew."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from splitter.loading import Model
from splitter.networks import Augmented, Average, MaskUNet, Network
from splitter.separation import Computing, separate
from tests.sounds import SMALL_SIZES, noise
from tests.test_separation import decibels, whole


class Echo(Network):
    """A filter, the same at any time and in both channels; `skew` makes the left one louder."""

    def __init__(self, grid: int = 60, skew: float = 0.0) -> None:
        super().__init__()
        self.steps = grid
        self.gains = torch.tensor([1 + skew, 1.0])[:, None]

    @property
    def grid(self) -> int:
        return self.steps

    @property
    def context(self) -> int:
        return 8

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        echo = 0.5 * F.pad(signal, (8, 0))[..., : signal.shape[-1]]
        return (self.gains * (signal + echo))[:, None, :, trim : signal.shape[-1] - trim]


def build(seed: int, **sizes: object) -> Network:
    torch.manual_seed(seed)
    return MaskUNet(**{**SMALL_SIZES, **sizes}).build(channels=2, stems=1).eval()  # type: ignore[arg-type]


def check_tiled_equals_whole(model: Model, core: int) -> None:
    """Whatever wraps a network, tiles leave no seam and the stems sum to the song."""
    signal = noise(2 * core + 999)
    stems = separate(signal, 44100, model, Computing(core, batch=2, precision="float32"))
    expected = whole(signal, model)
    assert decibels(expected, stems["vocals"] - expected) > 100  # float32 rounding, apart
    assert np.abs(stems["vocals"] + stems["instrumental"] - signal).max() < 2e-7


def test_copies_change_nothing_where_the_network_hears_no_difference() -> None:
    signal = torch.from_numpy(noise(1000))[None]
    network = Echo()
    torch.testing.assert_close(Augmented(network)(signal), network(signal), atol=1e-6, rtol=0)


def test_swapping_evens_out_what_a_network_does_to_one_side_alone() -> None:
    signal = torch.from_numpy(noise(1000))[None]
    expected = Echo()(signal) * 1.1
    torch.testing.assert_close(Augmented(Echo(skew=0.2))(signal), expected, atol=1e-6, rtol=0)


def test_a_song_is_heard_four_times_and_with_one_channel_twice(small_model: Model) -> None:
    heard: list[Tensor] = []
    network = build(1)
    network.register_forward_hook(lambda _m, inputs, _o: heard.append(inputs[0]))
    signal = torch.from_numpy(noise(700))[None]
    Augmented(network)(signal)
    shift = network.grid // 3
    assert [part.shape[-1] - 700 for part in heard] == [0, 0, shift, shift]
    assert torch.equal(heard[3][0, :, shift:], signal[0].flip(0))
    heard.clear()
    mono = MaskUNet(**SMALL_SIZES).build(channels=1, stems=1)  # type: ignore[arg-type]
    mono.register_forward_hook(lambda _m, inputs, _o: heard.append(inputs[0]))
    Augmented(mono)(signal[:, :1])
    assert len(heard) == 2


def test_shifts_do_change_what_a_network_of_steps_hears() -> None:
    network = build(1)
    signal = torch.from_numpy(noise(9000))[None]
    with torch.no_grad():
        assert (Augmented(network)(signal) - network(signal)).abs().max() > 1e-4


def test_tiled_equals_whole_with_copies(small_model: Model) -> None:
    check_tiled_equals_whole(replace(small_model, network=Augmented(small_model.network)), 1024)


def test_a_network_averaged_with_itself_is_itself() -> None:
    network = build(1)
    signal = torch.from_numpy(noise(3000))[None]
    assert torch.equal(Average([network, network])(signal), network(signal))


def test_an_average_lies_in_the_middle() -> None:
    first, second = build(1), build(2)
    signal = torch.from_numpy(noise(3000))[None]
    middle = (first(signal) + second(signal)) / 2
    torch.testing.assert_close(Average([first, second])(signal), middle)


def test_tiled_equals_whole_with_networks_of_unlike_grids(small_model: Model) -> None:
    other = build(2, hop=96, window=192, bands=[[40, 1], [8, 2], [8, 5]])
    average = Average([small_model.network, other])
    assert average.grid == math.lcm(8 * 64, 8 * 96)
    check_tiled_equals_whole(replace(small_model, network=average), average.grid)


def test_tiled_equals_whole_with_what_a_network_leaves(small_model: Model) -> None:
    average = Average([small_model.network, build(2)], [[0], [1]])
    check_tiled_equals_whole(replace(small_model, network=average), 1024)


@pytest.mark.parametrize("trim", [0, 64])
def test_what_a_network_leaves_is_one_stem_more(trim: int) -> None:
    network, signal = Echo(), torch.from_numpy(noise(1000))[None]
    own = slice(trim, 1000 - trim)
    estimate = network(signal)[..., own]
    both = Average([network], [[1, 0]])(signal, trim)
    torch.testing.assert_close(both[:, 1:], estimate)
    torch.testing.assert_close(both[:, :1], signal[:, None, :, own] - estimate)


@pytest.mark.parametrize("trim", [1, 64, 1000, 2048])
def test_averages_may_be_trimmed(small_model: Model, trim: int) -> None:
    signal = torch.from_numpy(noise(6001))[None]
    with torch.inference_mode():
        for network in (Augmented(small_model.network), Average([small_model.network] * 2)):
            expected = network(signal)[..., trim:-trim]
            # float32 sums in another order
            torch.testing.assert_close(network(signal, trim), expected, atol=1e-6, rtol=0)

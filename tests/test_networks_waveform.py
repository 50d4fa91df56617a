"""Networks on samples, held against the papers that they are from."""

from __future__ import annotations

import pytest
import torch

from splitter.networks.tasnet import ConvTasNet, ConvTasNetSizes, FrameNorm
from splitter.networks.waveunet import WaveUNet, interpolate
from splitter.separation import Computing, separate
from tests import zoo
from tests.sounds import noise
from tests.zoo import count_weights, on_paper

PAPER = {"filters": 512, "window": 16, "stride": 8, "bottleneck": 128, "hidden": 512, "repeats": 3}


def test_wave_u_net_needs_147443_samples_for_16389() -> None:
    network = on_paper("wave-u-net", width=24)
    assert isinstance(network, WaveUNet)
    assert network.draw(torch.zeros(1, 1, 147443, device="meta")).shape == (1, 1, 16389)
    assert network.margin == (147443 - 16389) // 2
    assert count_weights(network) / 1e6 == pytest.approx(10.26, abs=0.01)


def test_what_is_trimmed_of_a_padded_wave_u_net_changes_nothing_of_the_rest() -> None:
    network = zoo.build("wave-u-net", padded=True)
    signal = torch.from_numpy(noise(6000))[None]
    with torch.inference_mode():
        for trim in (0, 1, 16, 1000):
            expected = network(signal)[..., trim : 6000 - trim]
            torch.testing.assert_close(network(signal, trim), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["wave-u-net", "conv-tasnet"])
@pytest.mark.parametrize("trim", [0, 1, 15, 16, 17, 1000])
def test_what_is_trimmed_changes_nothing_of_the_rest(name: str, trim: int) -> None:
    network, signal = zoo.small(name), torch.from_numpy(noise(3001))[None]
    with torch.inference_mode():
        expected = network(signal)[..., trim : 3001 - trim]
        torch.testing.assert_close(network(signal, trim), expected, rtol=0, atol=1e-6)


def test_a_sample_put_between_two_is_their_mean() -> None:
    ramp = torch.arange(6.0)[None, None]
    assert interpolate(ramp, padded=False)[0, 0].tolist() == [n / 2 for n in range(11)]


def test_conv_tasnet_makes_185_frames_of_3200_samples() -> None:
    network = on_paper("conv-tasnet", window=256, stride=16)
    assert isinstance(network, ConvTasNet)
    assert network.encoder(torch.zeros(1, 1, 3200, device="meta")).shape == (1, 256, 185)


def test_conv_tasnet_has_the_papers_weights() -> None:
    network = on_paper("conv-tasnet", stems=2, **PAPER, norm="global")
    unused = 512 * 128 + 128  # what the last block would give to a next one
    assert (count_weights(network) + unused) / 1e6 == pytest.approx(5.1, abs=0.06)


def test_dilations_double_from_block_to_block() -> None:
    network = on_paper("conv-tasnet", **PAPER)
    dilations = [block[3].dilation[0] for block in network.blocks]
    assert dilations == [1, 2, 4, 8, 16, 32, 64, 128] * 3


def test_a_cumulative_norm_hears_all_that_was_and_nothing_that_will_be() -> None:
    norm = FrameNorm(3, past=True).double()
    signal = torch.randn(1, 3, 20, dtype=torch.float64, requires_grad=True)
    norm(signal)[0, 0, 9].backward()
    assert signal.grad is not None
    seen = signal.grad.abs().sum((0, 1)) > 0
    assert seen[:10].all()
    assert not seen[10:].any()
    past = signal.detach()[..., :10]
    expected = (past[0, :, 9] - past.mean()) / past.std(correction=0)
    torch.testing.assert_close(norm(signal.detach())[0, :, 9], expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("norm", ["cumulative", "global"])
def test_norms_without_bounds_have_tiles_that_are_faded(norm: str) -> None:
    sizes = {**zoo.small_sizes("conv-tasnet"), "norm": norm, "tile": 4096}
    network = zoo.build("conv-tasnet", **sizes)
    assert network.own_tiles is not None
    assert ConvTasNetSizes(**sizes).build(2, 1).grid == 4096
    model = zoo.model("conv-tasnet", network)
    song = noise(9001)
    tiled = separate(song, zoo.RATE, model, Computing(precision="float32"))["vocals"]
    with torch.inference_mode():
        whole = network(torch.from_numpy(song)[None])[0, 0].numpy()
    assert 10 < zoo.decibels(whole, tiled) < 70

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn

from splitter.loading import sketch_network
from splitter.networks import ARCHITECTURES, PRESETS, Bands, MaskTfcTdf, MaskUNet
from splitter.networks.contract import move_network
from splitter.networks.mask import MaskModel
from splitter.networks.tfctdf import Block
from splitter.networks.unet import UNet
from splitter.registry import Config
from splitter.schema import describe_fields, parse
from tests.sounds import SMALL_SIZES, noise


def small() -> MaskModel:
    torch.manual_seed(0)
    network = MaskUNet(**SMALL_SIZES).build(channels=2, stems=1).eval()
    assert isinstance(network, MaskModel)
    return network


def small_tfctdf() -> MaskModel:
    torch.manual_seed(0)
    spectrogram = {name: SMALL_SIZES[name] for name in ("window", "hop", "bands")}
    sizes = MaskTfcTdf(**spectrogram, width=4, levels=2, patch=4)
    network = sizes.build(channels=2, stems=1).eval()
    assert isinstance(network, MaskModel)
    return network


def small_with_blocks(down: int = 2, up: int = 0) -> MaskModel:
    torch.manual_seed(0)
    sizes = MaskUNet(**SMALL_SIZES, blocks=down, blocks_up=up)
    network = sizes.build(channels=2, stems=1).eval()
    assert isinstance(network, MaskModel)
    for added in (*network.unet.added, *network.unet.added_up):
        torch.nn.init.normal_(added.gain)  # they begin with nothing
    return network


def small_with_blocks_up() -> MaskModel:
    return small_with_blocks(down=1, up=2)


def small_with_level() -> MaskModel:
    torch.manual_seed(0)
    network = MaskUNet(**SMALL_SIZES, level_span=4).build(channels=2, stems=1).eval()
    assert isinstance(network, MaskModel)
    return network


NETWORKS = [small, small_tfctdf, small_with_blocks, small_with_blocks_up, small_with_level]


@pytest.mark.parametrize("name", PRESETS)
def test_defaults_cover_44100_hz_in_bands_that_the_levels_divide(name: str) -> None:
    network = PRESETS[name].sizes().build(channels=2, stems=1)
    assert network.context > 0 or network.own_tiles


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("samples", [1, 63, 64, 65, 511, 512, 513])
def test_a_network_keeps_the_number_of_samples(make: Callable[[], MaskModel], samples: int) -> None:
    signal = torch.from_numpy(noise(samples))[None]
    assert make()(signal).shape == (1, 1, 2, samples)


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("trim", [0, 1, 63, 64, 65, 511, 512, 2048, 3000])
@pytest.mark.parametrize("samples", [6001, 6144])
def test_what_is_trimmed_changes_nothing_of_the_rest(
    make: Callable[[], MaskModel], trim: int, samples: int
) -> None:
    network = make()
    signal = torch.from_numpy(noise(samples))[None]
    expected = network(signal)[..., trim : samples - trim]
    # float32 sums in another order
    torch.testing.assert_close(network(signal, trim), expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("make", NETWORKS)
def test_an_output_sees_its_context_and_no_further(make: Callable[[], MaskModel]) -> None:
    network = make()
    signal = torch.from_numpy(noise(6 * network.context))[None].requires_grad_()
    position = 3 * network.context + 17
    network(signal)[0, 0, 0, position].backward()
    (seen,) = signal.grad[0].abs().sum(0).nonzero(as_tuple=True)
    assert position - network.context <= seen[0]
    assert seen[-1] <= position + network.context
    # and the context is no larger than it must be, give or take one step of the deepest level
    assert seen[-1] - seen[0] > 2 * (network.context - network.grid)


def test_blocks_that_were_just_added_change_nothing() -> None:
    sizes = MaskUNet(**SMALL_SIZES, blocks=2, blocks_up=2)
    more = sizes.build(channels=2, stems=1).eval()
    fewer = small()
    more.load_state_dict(fewer.state_dict(), strict=False)
    signal = torch.from_numpy(noise(6144))[None]
    torch.testing.assert_close(more(signal), fewer(signal), rtol=0, atol=0)


def test_a_dense_layer_is_the_same_whatever_lies_beside_each_other_in_memory() -> None:
    block = Block(features=4, rows=16).eval()
    signal = torch.randn(2, 4, 16, 10)
    expected = block(signal)
    together = block.convolve(signal) + signal
    rows = together.transpose(-1, -2)
    narrow = torch.relu(block.norms[0](block.narrow(rows).transpose(-1, -2)))
    wide = torch.relu(block.norms[1](block.widen(narrow.transpose(-1, -2)).transpose(-1, -2)))
    torch.testing.assert_close(expected, together + wide)
    torch.testing.assert_close(
        block(signal.contiguous(memory_format=torch.channels_last)), expected
    )


def test_a_dense_layer_lets_every_band_see_every_other() -> None:
    network = small_tfctdf()
    picture = torch.randn(1, 2, network.bands.bands, 8, requires_grad=True)
    network.unet(picture)[0, 0, 0, 4].backward()
    assert (picture.grad[0].abs().sum((0, 2)) > 0).all()


def test_each_channel_gets_its_own_mask() -> None:
    network = small()
    with torch.no_grad():
        network.unet.head.weight.zero_()
        network.unet.head.bias.copy_(torch.tensor([20.0, -20.0]))  # left: all voice, right: none
    signal = torch.from_numpy(noise(4096))[None]
    vocals = network(signal)[:, 0]
    torch.testing.assert_close(vocals[:, 0], signal[:, 0], atol=1e-5, rtol=0)
    assert vocals[:, 1].abs().max() < 1e-6


def test_folding_averages_and_spreading_repeats() -> None:
    bands = Bands([(2, 1), (1, 2), (1, 4)], bins=9)
    folded = bands.fold(torch.arange(9.0)[:, None])
    assert folded[:, 0].tolist() == [0, 1, 2.5, 5.5]
    assert bands.spread(folded)[:, 0].tolist() == [0, 1, 2.5, 2.5, 5.5, 5.5, 5.5, 5.5, 5.5]


def test_bands_that_do_not_cover_the_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="cover 4 bins"):
        Bands([(4, 1)], bins=9)


def test_a_mask_lies_between_nothing_and_everything() -> None:
    network = small()
    mask = network.mask(network.stft(torch.from_numpy(noise(4096))[None]))
    assert 0 <= mask.min() < mask.max() <= 1


def test_a_unet_of_one_level_has_the_reach_that_it_says() -> None:
    unet = UNet(1, 1, channels=2, levels=1).eval()
    picture = torch.randn(1, 1, 2, 40, requires_grad=True)
    unet(picture)[0, 0, 0, 20].backward()
    seen = picture.grad[0, 0].abs().sum(0).nonzero()
    assert 20 - seen.min() <= unet.reach
    assert seen.max() - 20 <= unet.reach


@pytest.mark.parametrize(
    "gains", [(0.001, 0.001), (10.0, 10.0), (1.0, 0.03), (0.003, 1.0), (1.0, -1.0)]
)
def test_a_network_that_measures_levels_hears_a_song_the_same_at_any_level_and_balance(
    gains: tuple[float, float],
) -> None:
    network = small_with_level()
    signal = torch.from_numpy(noise(6000))[None]
    scale = torch.tensor(gains)[:, None]
    # what counts as silence lies 70 dB below the quietest of these
    torch.testing.assert_close(network(signal * scale) / scale, network(signal), atol=1e-4, rtol=0)


@pytest.mark.parametrize("crosstalk", [0.0, 0.0005])  # of something else, −66 dB
def test_a_network_that_measures_levels_hears_what_is_on_one_side_as_if_it_were_on_both(
    crosstalk: float,
) -> None:
    network = small_with_level()
    both = torch.from_numpy(noise(6000))[None, :1].repeat(1, 2, 1)
    left = both * torch.tensor([1.0, 0.0])[:, None]
    left[:, 1] = crosstalk * torch.from_numpy(noise(6000))[1]
    expected = network(both)[:, :, 0]
    torch.testing.assert_close(network(left)[:, :, 0], expected, atol=1e-6, rtol=0)


def test_a_network_that_measures_levels_is_deaf_to_a_constant_offset() -> None:
    network = small_with_level()
    signal = torch.from_numpy(noise(6000))[None]
    plain, moved = (network.mask(network.stft(each)) for each in (signal, signal + 0.3))
    away_from_the_ends = slice(45, 50)  # where the offset begins there is a click
    torch.testing.assert_close(
        moved[..., away_from_the_ends], plain[..., away_from_the_ends], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_features_are_dropped_in_the_three_deepest_levels_alone(levels: int) -> None:
    """As in Jansson et al. 2017."""
    unet = UNet(1, 1, channels=2, levels=levels, dropout=0.5)
    drops = [part.p for part in unet.modules() if isinstance(part, torch.nn.Dropout2d)]
    assert drops == [0.5] * min(levels, 3) + [0.0] * (levels - 3)  # from the deepest up


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_size_declares_its_range_and_a_sketch_takes_no_memory(name: str) -> None:
    for size, takes, _ in describe_fields(ARCHITECTURES[name]):
        assert takes not in ("a whole number", "a number", "a JSON object", "text"), size
    needed: dict[str, dict[str, object]] = {
        "roformer": {"bands": [[0, 1025]]},
        "demucs-bag": {"members": [{}], "weights": [[1.0]]},
    }
    config = Config(name, needed.get(name, {}))
    # what is made of defaults is read again, so that each lies in its range
    whole = asdict(parse(ARCHITECTURES[name], config.sizes))
    assert parse(ARCHITECTURES[name], json.loads(json.dumps(whole))) is not None
    sketch = sketch_network(config, Path("config.json"))
    real = [tensor.nbytes for tensor in sketch.state_dict().values() if not tensor.is_meta]
    assert sum(real) < 10_000  # bytes of tables that are computed, such as angles


def test_a_network_is_moved_whole() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Linear(2, 2))
    move_network(network, "meta")
    assert all(weight.is_meta for weight in network.parameters())


def test_a_sketch_loads_no_compiler() -> None:
    """That would take seconds, at the start of every run."""
    code = """
import sys
from pathlib import Path
from splitter.loading import sketch_network
from splitter.registry import Config
for name in ("mask-unet", "demucs"):
    sketch_network(Config(name), Path("config.json"))
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)

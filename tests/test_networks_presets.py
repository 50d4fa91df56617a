"""What all networks of the zoo promise, each held against its preset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splitter.loading import load_model, save_model
from splitter.networks import PRESETS
from splitter.networks.cost import measure
from splitter.networks.quantising import Codebook
from splitter.registry import Config
from splitter.separation import Computing, separate
from splitter.training.loop import Trainer, train_on
from splitter.training.recipe import Recipe
from splitter.training.seams import tell_seam
from splitter.training.sources import Pools
from tests import sounds, zoo
from tests.commands import call
from tests.sounds import noise

EXACT = [name for name in PRESETS if zoo.small(name).own_tiles is None]
FADED = [name for name in PRESETS if name not in EXACT]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Pictures this small are drawn faster by one thread than by several that wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("samples", [1, 63, 65, 3000])
def test_a_network_keeps_the_number_of_samples(name: str, samples: int) -> None:
    signal = torch.from_numpy(noise(samples))[None]
    with torch.inference_mode():
        assert zoo.small(name)(signal).shape == (1, 1, 2, samples)


@pytest.mark.parametrize("name", EXACT)
def test_tiles_are_what_the_whole_song_gives(name: str) -> None:
    model = zoo.model(name)
    core = 2 * model.network.grid
    for samples in (core - 1, core, core + 1, 3 * core + 17):
        song = noise(samples)
        whole, tiled = (
            separate(song, zoo.RATE, model, Computing(core=length, precision="float32"))["vocals"]
            for length in (100 * core, core)
        )
        assert zoo.decibels(whole, tiled) > 90


@pytest.mark.parametrize("name", FADED)
def test_a_network_without_bounds_says_so_and_its_tiles_are_faded(name: str) -> None:
    model = zoo.model(name)
    song = noise(3 * model.network.grid + 17)
    tiled = separate(song, zoo.RATE, model, Computing(precision="float32"))["vocals"]
    with torch.inference_mode():
        whole = model.network(torch.from_numpy(song)[None])[0, 0].numpy()
    # it hears something else where a tile ends, or there would be no need to fade
    assert 10 < zoo.decibels(whole, tiled) < 60


@pytest.mark.parametrize("name", EXACT)
def test_an_output_sees_its_context_and_no_further(name: str) -> None:
    network = zoo.small(name)
    length = 2 * (network.context // network.grid + 2) * network.grid
    for position in (length // 2, length // 2 + network.grid - 1):
        signal = torch.from_numpy(noise(length)[None]).requires_grad_()
        network(signal)[0, 0, :, position].sum().backward()
        assert signal.grad is not None
        (seen,) = signal.grad[0].abs().sum(0).nonzero(as_tuple=True)
        assert position - network.context <= seen[0]
        assert seen[-1] <= position + network.context


@pytest.mark.parametrize("name", PRESETS)
def test_each_weight_has_a_gradient(name: str) -> None:
    network = zoo.build(name)
    network(torch.from_numpy(noise(8192))[None]).square().sum().backward()
    for key, weight in network.named_parameters():
        gains = "added" in key  # blocks that begin with nothing
        assert weight.grad is not None, key
        assert gains or weight.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", PRESETS)
def test_a_saved_network_is_loaded_as_it_was(name: str, tmp_path: Path) -> None:
    network = zoo.build(name)
    rounded = {k: v.half().float() if v.ndim > 1 else v for k, v in network.state_dict().items()}
    network.load_state_dict(rounded)
    save_model(tmp_path, Config(name, zoo.small_sizes(name)), network)
    signal = torch.from_numpy(noise(3000))[None]
    with torch.inference_mode():
        loaded = load_model(str(tmp_path)).network(signal)
        torch.testing.assert_close(loaded, network(signal), rtol=0, atol=1e-6)


def test_what_a_network_keeps_beside_its_weights_is_not_rounded(tmp_path: Path) -> None:
    """Codes are sums over a training, which float16 may not hold."""
    network = zoo.build("vq-unet")
    book = next(module for module in network.modules() if isinstance(module, Codebook))
    book.sums.mul_(1e6 / book.sums.abs().max())
    save_model(tmp_path, Config("vq-unet", zoo.small_sizes("vq-unet")), network)
    kept = load_model(str(tmp_path)).network.state_dict()
    for name, tensor in network.state_dict().items():
        if name.endswith("sums"):
            assert torch.equal(kept[name], tensor)


@pytest.mark.parametrize("name", PRESETS)
def test_each_network_learns(name: str, pools: Pools, tmp_path: Path) -> None:
    sizes = zoo.small_sizes(name)
    recipe = Recipe(network=name, sizes=sizes, crop=8192, batch=2, steps=2, warmup=1)
    trainer = Trainer(recipe, tmp_path, torch.device("cpu"), torch.float32)
    before = {key: tensor.clone() for key, tensor in trainer.network.state_dict().items()}
    losses = [progress.loss for progress in train_on(pools, trainer)]
    assert losses
    assert np.isfinite(losses).all()
    weights = dict(trainer.network.named_parameters())
    still = [key for key, weight in weights.items() if torch.equal(weight, before[key])]
    assert not [key for key in still if "added" not in key]


def test_the_card_of_a_training_goes_with_its_weights(pools: Pools, tmp_path: Path) -> None:
    recipe, card = Recipe(rate=zoo.RATE), tmp_path / "card.md"

    def tell(name: str, **changes: Any) -> str:
        network = zoo.build(name, **changes)
        save_model(tmp_path, Config(name, {**zoo.small_sizes(name), **changes}), network)
        tell_seam(tmp_path, pools, recipe)
        return card.read_text("utf-8") if card.exists() else ""

    first = tell("non-local-unet")
    assert "tiles are faded" in first
    assert "tiles are faded" in tell("non-local-unet", span=2) != first
    assert tell("unet-bn") == ""
    card.write_text("# mine\n", encoding="utf-8")
    assert tell("non-local-unet") == "# mine\n"


@pytest.mark.parametrize("name", PRESETS)
def test_mono_stereo_and_surround_songs_go_through_the_command(name: str, tmp_path: Path) -> None:
    save_model(tmp_path / "mine", Config(name, zoo.small_sizes(name), 16000), zoo.small(name))
    songs = [
        sounds.write(tmp_path / f"{channels}.wav", noise(20000, channels)) for channels in (1, 2, 6)
    ]
    done = call("separate", *songs, "--model", "mine", "--device", "cpu", folder=tmp_path)
    assert done.status == 0, done.stderr
    stems = [sounds.read(tmp_path / line) for line in sorted(done.stdout.split())]
    for song, instrumental, vocals in zip(songs, stems[::2], stems[1::2], strict=True):
        assert vocals.shape == sounds.read(song).shape
        assert np.abs(vocals).max() > 0
        np.testing.assert_allclose(vocals + instrumental, sounds.read(song), atol=1e-6)


@pytest.mark.parametrize("name", PRESETS)
def test_a_batch_of_four_is_four_batches_of_one(name: str) -> None:
    network = zoo.small(name)
    signals = torch.from_numpy(np.stack([noise(5000, seed=seed) for seed in range(4)]))
    with torch.inference_mode():
        each = torch.cat([network(signal[None]) for signal in signals])
        torch.testing.assert_close(network(signals), each, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_costs_at_most_2_gflop_a_second_and_needs_no_numbers_to_know_shapes(
    name: str,
) -> None:
    # counted where there are no numbers: what a network does depends on none
    assert 0.75e9 < measure(name, {}).operations < 2.02e9

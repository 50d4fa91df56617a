"""Averages of models that differ: in stems, in reach, in weight."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from splitter.errors import ModelError
from splitter.graphs import GraphError
from splitter.loading import load_model
from splitter.registry import CONFIG, ModelChoice
from splitter.runtime.compiled import compile_model
from splitter.runtime.openvino import Settings
from splitter.separation import Computing, separate
from splitter.weights.adding import add_model
from tests.foreign import bag_of, checkpoint_files, reference_song
from tests.sounds import noise, write_small_model
from tests.test_separation import decibels


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without bounds that claims all of the song: vocals and instrumental."""
    return add_model(tmp_path_factory.mktemp("added") / "mdx23c", checkpoint_files("mdx23c"))


def test_the_stems_that_all_estimate_are_averaged_by_weight(
    small_model_folder: Path, foreign: Path
) -> None:
    model = load_model(ModelChoice.parse(f"{small_model_folder}:1,{foreign}:3"))
    assert model.stems == ("vocals", "instrumental")
    alone = [load_model(str(folder)).network for folder in (small_model_folder, foreign)]
    signal = torch.from_numpy(noise(9000))[None]
    with torch.inference_mode():
        expected = (alone[0](signal) + 3 * alone[1](signal)[:, :1]) / 4
        assert torch.allclose(model.network(signal), expected, atol=1e-6)
    song = noise(100_000)
    stems = separate(song, 44100, model, Computing(precision="float32"))
    assert np.abs(stems["vocals"] + stems["instrumental"] - song).max() < 1e-6


def test_the_one_with_the_shortest_tiles_hears_as_alone(
    small_model_folder: Path, foreign: Path, tmp_path: Path
) -> None:
    wide = add_model(tmp_path / "demucs", checkpoint_files("wave-demucs"))
    song, exact = reference_song(2.5), Computing(precision="float32")
    for one, other in ((foreign, wide), (wide, small_model_folder)):
        both = load_model(ModelChoice.parse(f"{one}:1000000,{other}:1"))
        assert both.network.own_tiles.context >= both.network.context
        alone, there = (
            separate(song, 44100, model, exact)["vocals"] for model in (load_model(str(one)), both)
        )
        assert decibels(alone, there - alone) > 80


def test_models_of_unlike_rates_are_averaged_at_the_higher_one(
    small_model_folder: Path, tmp_path: Path
) -> None:
    low = shutil.copytree(small_model_folder, tmp_path / "low")
    (low / CONFIG).write_text(json.dumps({**json.loads((low / CONFIG).read_text()), "rate": 22050}))
    choice = ModelChoice((str(small_model_folder), str(low)))
    both, exact = load_model(choice), Computing(precision="float32")
    assert both.config.rate == 44100
    song = reference_song(4)
    one, other = (separate(song, 48000, load_model(name), exact)["vocals"] for name in choice.names)
    stems = separate(song, 48000, both, exact)
    middle = (one + other) / 2
    assert decibels(middle, stems["vocals"] - middle) > 20  # it lies off its grid
    assert np.abs(sum(stems.values()) - song).max() < 1e-6
    with pytest.raises(GraphError, match="unlike rates"):
        compile_model(choice, Settings(1))


def test_weights_count_whoever_computes(small_model_folder: Path, tmp_path: Path) -> None:
    other = write_small_model(tmp_path / "other", seed=1)
    choice = ModelChoice.parse(f"{small_model_folder}:1,{other}:9")
    song = noise(30000)
    compiled = compile_model(choice, Settings(1))
    torch_made = separate(song, 44100, load_model(choice), Computing(precision="float32"))
    made = separate(song, 44100, compiled)
    assert decibels(torch_made["vocals"], made["vocals"] - torch_made["vocals"]) > 60


def test_weights_are_part_of_the_hash(small_model_folder: Path, foreign: Path) -> None:
    texts = [f"{small_model_folder}{one},{foreign}{two}" for one, two in (("", ""), (":1", ":2"))]
    plain, weighted = map(ModelChoice.parse, texts)
    assert plain.hash != weighted.hash
    assert plain == ModelChoice.parse(f"{small_model_folder}:2,{foreign}:2")
    with pytest.raises(ModelError, match="a weight must be above 0"):
        ModelChoice.parse("unet:0,unet-fast:1")


def test_models_without_a_stem_in_common_are_refused(
    small_model_folder: Path, foreign: Path, tmp_path: Path
) -> None:
    text = (foreign / CONFIG).read_text()
    (tmp_path / CONFIG).write_text(text.replace("vocals", "drums"))
    with pytest.raises(ModelError, match="its stems are drums, instrumental, not vocals"):
        ModelChoice((str(small_model_folder), str(tmp_path))).config  # noqa: B018


def test_a_bag_of_which_a_model_is_missing_names_both(tmp_path: Path) -> None:
    first, *_ = checkpoint_files("demucs-bag")
    with pytest.raises(ModelError, match=r"bag.yaml: its models are 00000000, 11111111; .* not 0"):
        add_model(tmp_path / "bag", [first], bag_of("demucs-bag"))

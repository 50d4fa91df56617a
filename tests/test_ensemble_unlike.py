"""Averages of models that differ: in stems, in reach, in weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from splitter.errors import ModelError
from splitter.loading import ModelChoice, load_model
from splitter.registry import CONFIG
from splitter.separation import Computing, separate
from splitter.weights.adding import add_model
from tests.foreign import bag_of, checkpoint_files
from tests.sounds import noise


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
    assert model.network.own_tiles == alone[1].own_tiles
    song = noise(100_000)
    stems = separate(song, 44100, model, Computing(precision="float32"))
    assert np.abs(stems["vocals"] + stems["instrumental"] - song).max() < 1e-6


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

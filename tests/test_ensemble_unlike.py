"""Averages of models that differ: in stems, in reach, in weight."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from splitter.engines.lanes import make_lanes
from splitter.engines.sharing import SharedNetwork
from splitter.errors import ModelError
from splitter.graphs import GraphError
from splitter.loading import Model, load_model
from splitter.networks import Average
from splitter.registry import CONFIG, ModelChoice
from splitter.runtime.compiled import compile_model
from splitter.runtime.openvino import Settings
from splitter.separation import Computing, separate, separate_blocks
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


@pytest.fixture(scope="module")
def folders(small_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of unlike tiles; those of `mask` are exact, and `low` is at half the rate."""
    folder = tmp_path_factory.mktemp("unlike")
    low = shutil.copytree(small_model_folder, folder / "low")
    (low / CONFIG).write_text(json.dumps({**json.loads((low / CONFIG).read_text()), "rate": 22050}))
    names = ("wave-demucs", "htdemucs", "bs-roformer", "mdx-net")
    added = {name: add_model(folder / name, checkpoint_files(name)) for name in names}
    return {**added, "mask": small_model_folder, "low": low}


EXACT = Computing(precision="float32")
PAIRS = [
    ("bs-roformer", "wave-demucs"), ("wave-demucs", "bs-roformer"), ("htdemucs", "bs-roformer"),
    ("mask", "bs-roformer"), ("wave-demucs", "mask"), ("htdemucs", "mdx-net"),
]  # fmt: skip


def separate_song(text: str, **given: int) -> np.ndarray:
    """The vocals that a choice of models hears in a song of more than one tile of each."""
    model = load_model(ModelChoice.parse(text, **given))  # type: ignore[arg-type]
    assert len(model.parts) == text.count(",") + 1
    return separate(reference_song(4.5), 44100, model, EXACT)["vocals"]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_each_gives_in_an_average_what_it_gives_alone(
    folders: dict[str, Path], one: str, other: str
) -> None:
    alone, quiet = separate_song(f"{folders[one]}"), separate_song(f"{folders[other]}")
    texts = [f"{folders[one]}:1000000", f"{folders[other]}:1"]
    for there in (separate_song(",".join(texts)), separate_song(",".join(texts[::-1]))):
        assert decibels(alone, there - alone) > 90  # the other one is 120 dB below
    there = separate_song(f"{folders[one]}:1,{folders[other]}:3")
    expected = (alone + 3 * quiet) / 4
    assert decibels(expected, there - expected) > 120  # float32 rounds at −150 dB


@pytest.mark.parametrize("given", [{"tta": True}, {"tta": True, "wiener": 1}])
def test_each_is_refined_as_it_is_alone(folders: dict[str, Path], given: dict[str, int]) -> None:
    texts = [str(folders[name]) for name in ("wave-demucs", "mask")]
    alone, both = (
        [load_model(ModelChoice.parse(text, **given)) for text in each]  # type: ignore[arg-type]
        for each in (texts, [",".join(texts)])
    )
    tiles = [EXACT.tile_shape(model.network) for model in alone]
    assert [EXACT.tile_shape(part.network) for part in both[0].parts] == tiles
    expected = sum(separate_song(text, **given) for text in texts) / 2
    there = separate_song(",".join(texts), **given)
    assert decibels(expected, there - expected) > 120  # float32 rounds at −150 dB


@pytest.mark.parametrize("order", [("mask", "low"), ("low", "mask")])
def test_a_model_of_another_rate_has_tiles_of_its_own(
    folders: dict[str, Path], order: tuple[str, ...]
) -> None:
    both = load_model(ModelChoice(tuple(str(folders[name]) for name in order)))
    song = noise(25 * 44100)  # of two tiles
    alone = [separate(song, 44100, part, EXACT)["vocals"] for part in both.parts]
    mask = separate(song, 44100, load_model(str(folders["mask"])), EXACT)["vocals"]
    np.testing.assert_array_equal(alone[order.index("mask")], mask)
    there = separate(song, 44100, both, EXACT)["vocals"]
    expected = sum(alone) / 2
    assert decibels(expected, there - expected) > 120  # float32 rounds at −150 dB


@pytest.mark.parametrize("samples", [0, 1, 100, 50_000])
def test_songs_shorter_than_a_tile_are_averaged(folders: dict[str, Path], samples: int) -> None:
    names = ("bs-roformer", "wave-demucs", "mask")
    choice, song = ModelChoice(tuple(str(folders[name]) for name in names)), noise(samples)
    stems = separate(song, 44100, load_model(choice), EXACT)
    alone = [separate(song, 44100, load_model(name), EXACT)["vocals"] for name in choice.names]
    np.testing.assert_allclose(stems["vocals"], sum(alone) / 3, atol=1e-6)
    assert stems["vocals"].shape == song.shape


def test_no_more_is_computed_than_by_each_alone(folders: dict[str, Path]) -> None:
    choice = ModelChoice((str(folders["bs-roformer"]), str(folders["mask"])))

    def count(model: Model) -> int:
        heard = 0

        def hear(_: object, inputs: tuple[torch.Tensor, ...], __: object) -> None:
            nonlocal heard
            heard += inputs[0].shape[0] * inputs[0].shape[-1]

        hooks = [part.network.register_forward_hook(hear) for part in model.parts]
        separate(noise(500_000), 44100, model, EXACT)
        for hook in hooks:
            hook.remove()
        return heard

    alone = [count(load_model(name)) for name in choice.names]
    assert count(load_model(choice)) == sum(alone)


def test_memory_does_not_grow_with_the_song(folders: dict[str, Path]) -> None:
    choice = ModelChoice((str(folders["bs-roformer"]), str(folders["wave-demucs"])))
    alive, held = 0, []

    def die() -> None:
        nonlocal alive
        alive -= 1

    def blocks() -> Iterator[np.ndarray]:
        nonlocal alive
        for _ in range(400):
            block = noise(4410)
            weakref.finalize(block, die)
            alive += 1
            held.append(alive)
            yield block

    for _ in separate_blocks(blocks(), 44100, 2, load_model(choice), EXACT):
        pass
    assert max(held[200:]) == max(held[:200]) < 60  # blocks of 0.1 s: a tile of 4 s, and a step


def test_lanes_share_the_work_of_models_with_unlike_tiles(folders: dict[str, Path]) -> None:
    names = ("bs-roformer", "wave-demucs", "mask")
    model = load_model(ModelChoice(tuple(str(folders[name]) for name in names)))
    songs = [noise(samples, seed=samples) for samples in (200_000, 90_000, 300)]
    expected = [separate(song, 44100, model, EXACT)["vocals"] for song in songs]
    lanes = make_lanes([model, model], replace(EXACT, batch=2), 1)
    with SharedNetwork(lanes) as network, ThreadPoolExecutor(3) as threads:
        shared = replace(EXACT, runner=network.run)
        made = list(threads.map(lambda song: separate(song, 44100, model, shared), songs))
    for stems, alone in zip(made, expected, strict=True):
        np.testing.assert_allclose(stems["vocals"], alone, atol=1e-6)  # batches sum otherwise


def test_models_that_one_cut_serves_run_together(
    small_model_folder: Path, foreign: Path, tmp_path: Path
) -> None:
    other = write_small_model(tmp_path / "other", seed=1)
    both = load_model(ModelChoice.parse(f"{small_model_folder}:1,{other}:3"))
    networks = [load_model(str(folder)).network for folder in (small_model_folder, other)]
    plain = replace(both, network=Average(networks, weights=[1.0, 3.0]))
    assert len(both.parts) == 1
    song = noise(100_000)
    np.testing.assert_array_equal(
        *(separate(song, 44100, model, EXACT)["vocals"] for model in (both, plain))
    )
    assert len(load_model(ModelChoice((str(foreign), str(foreign)))).parts) == 1


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
    (tmp_path / CONFIG).write_text(text.replace("vocals", "drums").replace("instrumental", "bass"))
    with pytest.raises(ModelError, match="its stems are drums, bass, not vocals, instrumental"):
        ModelChoice((str(small_model_folder), str(tmp_path))).config  # noqa: B018


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (["vocals instrumental", "instrumental vocals"], "vocals instrumental"),
        (["instrumental vocals", "vocals instrumental"], "instrumental vocals"),
        (["instrumental vocals", "drums bass other vocals rest"], "vocals instrumental"),
        (["instrumental vocals rest", "vocals instrumental"], "vocals instrumental"),
        (
            ["vocals instrumental", "drums vocals rest", "instrumental vocals"],
            "vocals instrumental",
        ),
        (["drums bass other vocals rest", "bass vocals drums rest"], "drums bass vocals rest"),
        (["vocals drums rest", "vocals drums rest"], "vocals drums rest"),
        (["bass drums vocals rest", "other vocals drums rest"], "drums vocals rest"),
    ],
)
def test_what_some_leave_and_others_estimate_is_shared(
    models: list[str], expected: str, tmp_path: Path
) -> None:
    folders = [tmp_path / str(number) for number in range(len(models))]
    for folder, names in zip(folders, models, strict=True):
        *stems, residual = names.split()
        folder.mkdir()
        config = {"network": "mask-unet", "stems": stems, "residual": residual}
        (folder / CONFIG).write_text(json.dumps(config))
    assert " ".join(ModelChoice(tuple(map(str, folders))).config.all_stems) == expected


def swap(folder: Path, to: Path) -> Path:
    """Copy a model whose estimate, and what that leaves, are called the other way round."""
    shutil.copytree(folder, to)
    config = json.loads((to / CONFIG).read_text())
    config |= {"stems": [config["residual"]], "residual": config["stems"][0]}
    (to / CONFIG).write_text(json.dumps(config))
    return to


def test_a_model_and_the_one_of_its_instrumental_are_averaged(
    small_model_folder: Path, tmp_path: Path
) -> None:
    """What one calls vocals is instrumental to the other: each stem is half of the song."""
    other, song = swap(small_model_folder, tmp_path / "other"), noise(30_000)
    for pair in ((small_model_folder, other), (other, small_model_folder)):
        choice = ModelChoice(tuple(map(str, pair)))
        stems = separate(song, 44100, load_model(choice), EXACT)
        for stem in ("vocals", "instrumental"):
            np.testing.assert_allclose(stems[stem], song / 2, atol=1e-6)
        with pytest.raises(GraphError, match="unlike rates or stems"):
            compile_model(choice, Settings(1))


def test_what_a_model_of_other_tiles_leaves_is_averaged(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    other, song = swap(folders["mdx-net"], tmp_path / "other"), noise(60_000)
    choice = ModelChoice((str(folders["mask"]), str(other)))
    there = separate(song, 44100, load_model(choice), EXACT)["vocals"]
    alone = [separate(song, 44100, load_model(name), EXACT)["vocals"] for name in choice.names]
    np.testing.assert_allclose(there, sum(alone) / 2, atol=1e-6)


def test_a_bag_of_which_a_model_is_missing_names_both(tmp_path: Path) -> None:
    first, *_ = checkpoint_files("demucs-bag")
    with pytest.raises(ModelError, match=r"bag.yaml: its models are 00000000, 11111111; .* not 0"):
        add_model(tmp_path / "bag", [first], bag_of("demucs-bag"))

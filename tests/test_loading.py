from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import splitter
from splitter.errors import ModelError
from splitter.loading import (
    build_network,
    load_model,
    read_tensors,
    save_model,
    write_tensors,
)
from splitter.registry import (
    DEFAULT_MODEL,
    ModelChoice,
    find_model,
    hash_model,
    list_models,
    read_config,
)
from tests import sounds


@pytest.fixture
def folder(small_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small model that a test may break."""
    return Path(shutil.copytree(small_model_folder, tmp_path / "broken"))


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def change_tensors(folder: Path, change) -> None:
    tensors = read_tensors(folder / "weights.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, folder / "weights.safetensors")


def test_the_default_model_is_shipped_and_loads() -> None:
    assert DEFAULT_MODEL in list_models()
    assert load_model().stems == ("vocals", "instrumental")


@pytest.mark.parametrize("name", list_models())
def test_shipped_models_have_a_card_and_fit_in_a_wheel(name: str) -> None:
    folder = find_model(name)
    assert (folder / "card.md").is_file()
    for part in ModelChoice((name,)).folders:
        assert (part / "weights.safetensors").stat().st_size < 25 * 2**20


def test_a_model_is_found_by_its_path(small_model_folder: Path) -> None:
    assert load_model(str(small_model_folder)).name == "small"


def test_a_saved_model_computes_as_before(small_model_folder: Path, tmp_path: Path) -> None:
    config = read_config(small_model_folder / "config.json")
    network = build_network(config, tmp_path).eval()
    save_model(tmp_path, config, network)
    signal = torch.from_numpy(sounds.song(0.1))[None]
    with torch.inference_mode():
        expected, answer = network(signal), load_model(str(tmp_path)).network(signal)
    assert expected.norm() > 0.01 * signal.norm()
    assert (answer - expected).norm() < 1e-2 * expected.norm()  # weights are kept as float16


@pytest.mark.parametrize("name", ["small", *list_models()])
def test_a_folded_model_computes_the_same(small_model_folder: Path, name: str) -> None:
    place = str(small_model_folder) if name == "small" else name
    plain, folded = load_model(place).network, load_model(place, folded=True).network
    behind = [part for part in folded.modules() if isinstance(part, torch.nn.Sequential)]
    assert behind
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for part in behind for layer in part)
    signal = torch.from_numpy(sounds.song(4.0))[None]
    with torch.inference_mode():
        expected, answer = plain(signal), folded(signal)
    # float32 sums in another order, a dozen layers deep
    assert (answer - expected).norm() < 1e-5 * expected.norm()  # −100 dB


def test_the_hash_follows_the_weights(folder: Path) -> None:
    before = hash_model(folder)
    change_tensors(folder, lambda tensors: tensors["unet.head.bias"].add_(1))
    assert hash_model(folder) != before


@pytest.fixture
def average(tmp_path: Path) -> Path:
    """A folder that stands for the average of two models beside it."""
    for name in ("first", "second"):
        sounds.write_small_model(tmp_path / name)
    change_tensors(tmp_path / "second", lambda tensors: tensors["unet.head.bias"].add_(1))
    (tmp_path / "both").mkdir()
    content = {"network": "average", "models": ["first", "second"]}
    (tmp_path / "both" / "config.json").write_text(json.dumps(content))
    return tmp_path / "both"


def test_a_model_may_be_the_average_of_others(average: Path) -> None:
    first, second = (load_model(str(average.parent / name)) for name in ("first", "second"))
    both = load_model(str(average))
    assert (both.name, both.stems) == ("both", first.stems)
    signal = torch.randn(1, 2, 1000)
    with torch.inference_mode():
        expected = (first.network(signal) + second.network(signal)) / 2
        torch.testing.assert_close(both.network(signal), expected)
    change_tensors(average.parent / "second", lambda tensors: tensors["unet.head.bias"].add_(1))
    assert len({first.hash, second.hash, both.hash, load_model(str(average)).hash}) == 4


def test_an_average_may_be_chosen_beside_others(average: Path) -> None:
    first, second = (average.parent / name for name in ("first", "second"))
    choice = ModelChoice((str(average), str(second)))
    assert choice.folders == choice.resolve().folders == [first, second, second]
    assert choice.name == choice.resolve().name == "both+second"
    assert choice.hash == choice.resolve().hash


def test_an_average_can_be_named_from_inside(
    average: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(average)
    assert len(ModelChoice((".",)).folders) == 2


@pytest.mark.parametrize(
    ("other", "reason"), [("gone", "not a model folder"), ("both", "an average itself")]
)
def test_what_an_average_cannot_be_of_is_named(average: Path, other: str, reason: str) -> None:
    change_config(average, models=["first", other])
    message = rf"both.config\.json: averages .*{other}, which is {reason}"
    with pytest.raises(ModelError, match=message):
        load_model(str(average))


@pytest.mark.parametrize("changes", [{"models": []}, {"network": "mask-unet"}])
def test_an_average_is_of_models_and_nothing_else_has_them(
    average: Path, changes: dict[str, object]
) -> None:
    change_config(average, **changes)
    with pytest.raises(ModelError, match=r"config\.json: network 'average' must list its 'models'"):
        load_model(str(average))


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=rf"'nosuch'.*{DEFAULT_MODEL}"):
        load_model("nosuch")


def test_a_folder_without_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        load_model(str(tmp_path))


def test_an_unknown_key_is_named(folder: Path) -> None:
    change_config(folder, colour="red")
    with pytest.raises(ModelError, match=r"config\.json: unknown key 'colour'"):
        load_model(str(folder))


def test_an_unknown_size_is_named(folder: Path) -> None:
    change_config(folder, sizes={"depth": 3})
    with pytest.raises(ModelError, match="unknown key 'depth'"):
        load_model(str(folder))


def test_an_unknown_network_is_named(folder: Path) -> None:
    change_config(folder, network="resnet")
    with pytest.raises(ModelError, match="unknown network 'resnet'"):
        load_model(str(folder))


def test_sizes_that_make_no_network_are_refused(folder: Path) -> None:
    change_config(folder, sizes={"bands": [[5, 1]]})
    with pytest.raises(ModelError, match="no network can be built"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stems": ["../../../escaped"]}, "file's name"),
        ({"residual": "../../x"}, "file's name"),
        ({"stems": ["a\0b"]}, "file's name"),
        (
            {"stems": ["instrumental"]},
            "'instrumental' and 'instrumental' would have the same file name",
        ),
        ({"stems": ["a", "A"]}, "'a' and 'A' would have the same file name"),
        ({"stems": ["ﬁ", "fi"]}, "would have the same file name"),
        ({"stems": []}, "stems is"),
        ({"stems": 5}, "stems is 5"),
        ({"stems": [1]}, r"stems\[0\] is 1"),
        ({"residual": None}, "residual is None"),
        ({"schema": "x"}, "schema is 'x'"),
        ({"schema": None}, "schema is None"),
        ({"network": ["x"]}, "network is"),
        ({"sizes": 5}, "sizes is 5"),
        ({"sizes": None}, "sizes is None"),
        ({"rate": 0}, "rate is 0"),
        ({"rate": -5}, "rate is -5"),
        ({"rate": "x"}, "rate is 'x'"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"channels": 10**9}, "channels is"),
        ({"models": 5}, "models is 5"),
        ({"models": [5]}, r"models\[0\] is 5"),
        ({"network": "average", "models": ["a"] * 300}, "models is"),
        ({"network": "average", "models": ["../a"]}, r"models\[0\] is '../a'"),
        ({"sizes": {"levels": 2000}}, "levels is 2000; it must be a whole number from 1 to 10"),
        ({"sizes": {"levels": 2**40}}, "levels is"),
        ({"sizes": {"hop": 0}}, "hop is 0"),
        ({"sizes": {"hop": -1024}}, "hop is -1024"),
        ({"sizes": {"dropout": float("nan")}}, "dropout is nan"),
        ({"sizes": {"bands": [[1, 1e400]]}}, r"bands\[0\]\[1\] is inf"),
    ],
)
def test_a_config_that_no_network_can_have_is_refused_in_a_line(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    change_config(folder, **changes)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(str(folder))
    assert str(caught.value).startswith(f"{folder / 'config.json'}: ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < len(str(folder)) + 250


@pytest.mark.parametrize(
    ("network", "sizes"),
    [
        ("mdx-net", {"kernel": 2}),
        ("wave-demucs", {"channels": 4, "depth": 2, "dconv_comp": 64, "dconv_mode": 3}),
        ("demucs", {"channels": 8, "growth": 1, "t_layers": 1, "t_heads": 64}),
    ],
)
def test_sizes_of_a_network_that_could_not_run_are_refused(
    folder: Path, network: str, sizes: dict[str, object]
) -> None:
    change_config(folder, network=network, sizes=sizes)
    with pytest.raises(ModelError, match="no network can be built with these sizes"):
        load_model(str(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(folder: Path, value: float) -> None:
    path = folder / "weights.safetensors"
    tensors = read_tensors(path)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 4)
    tensors[name].view(-1)[3] = value
    safetensors.torch.save_file(tensors, path)
    for load in (load_model, splitter.load_model):
        with pytest.raises(ModelError, match=f"tensor '{name}' holds what is no number"):
            splitter.separate(sounds.noise(3000), 44100, load(str(folder)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"names": "unet"}, "names is 'unet'"),
        ({"names": ()}, r"names is \(\)"),
        ({"names": ("a", "b"), "weights": (1.0,)}, "weights is"),
        ({"names": ("a", "b"), "weights": (float("nan"), 1.0)}, "weights is"),
        ({"names": ("a", "b"), "weights": (-1.0, 1.0)}, "weights is"),
        ({"wiener": -1}, "wiener is -1"),
    ],
)
def test_a_choice_that_means_nothing_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ModelChoice(**given)


def test_a_deeply_nested_config_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"sizes": ' + '{"a":' * 100_000)
    with pytest.raises(ModelError, match="nested too deeply"):
        load_model(str(folder))


def test_weights_that_do_not_fit_the_memory_are_told_with_their_size(folder: Path) -> None:
    change_config(folder, sizes={"window": 2048, "bands": [[1024, 1]], "width": 1024, "levels": 10})
    with pytest.raises(
        ModelError, match=r"broken: .*need \d{5}\.\d GB of memory, but only \d+\.\d GB"
    ):
        load_model(str(folder))


@pytest.mark.skipif(os.name == "nt", reason="there is no module resource")
def test_sizes_that_the_weights_do_not_have_take_no_memory(folder: Path) -> None:
    """In a process of its own: the peak is of its whole life."""
    change_config(folder, sizes={**sounds.SMALL_SIZES, "width": 400, "levels": 3})  # 1 GB
    program = """
import resource, sys
from splitter.errors import ModelError
from splitter.loading import load_model
def peak():
    unit = 1024 if sys.platform == "darwin" else 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
before = peak()
try:
    load_model(sys.argv[1])
except ModelError as error:
    print(peak() - before, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
    )
    kilobytes, _, told = done.stdout.partition(" ")
    assert "has shape" in told
    assert int(kilobytes) < 50_000


def test_a_network_that_hears_for_minutes_is_refused(folder: Path) -> None:
    change_config(folder, sizes={"window": 65536, "hop": 32768, "bands": [[32768, 1]], "levels": 8})
    with pytest.raises(ModelError, match=r"needs \d+ samples on either side"):
        load_model(str(folder))


def test_networks_that_are_named_twice_are_loaded_once(small_model_folder: Path) -> None:
    twice = load_model(ModelChoice((str(small_model_folder),) * 2)).network
    once = load_model(str(small_model_folder)).network
    assert len(twice.state_dict()) == 2 * len(once.state_dict())
    assert len(list(twice.parameters())) == len(list(once.parameters()))
    signal = torch.randn(1, 2, 1000)
    assert torch.equal(twice(signal), once(signal))


def test_floats_that_are_not_computed_with_are_refused(folder: Path) -> None:
    path = folder / "weights.safetensors"
    tensors = read_tensors(path)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    write_tensors(path, {**tensors, name: tensors[name].to(torch.float8_e4m3fn)})
    with pytest.raises(ModelError, match=f"tensor '{name}' is of float8_e4m3fn; only floats of 16"):
        load_model(str(folder))


def test_weights_from_a_pipe_are_refused(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    os.mkfifo(folder / "weights.safetensors")
    with pytest.raises(ModelError, match=r"weights\.safetensors: .*not a plain file"):
        load_model(str(folder))


def test_a_later_schema_asks_for_an_upgrade(folder: Path) -> None:
    change_config(folder, schema=99)
    with pytest.raises(ModelError, match="made for a newer splitter"):
        load_model(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        read_config(folder / "config.json")


def test_a_missing_tensor_is_named(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.pop("unet.head.bias"))
    with pytest.raises(ModelError, match=r"weights\.safetensors: tensor 'unet.head.bias' is miss"):
        load_model(str(folder))


def test_an_unknown_tensor_is_named(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.update(extra=torch.zeros(1)))
    with pytest.raises(ModelError, match="'extra' is not part of the network"):
        load_model(str(folder))


def test_a_misshapen_tensor_is_named_with_both_shapes(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.update({"unet.head.bias": torch.zeros(7)}))
    with pytest.raises(ModelError, match=r"'unet.head.bias' has shape \(7,\), not \(2,\)"):
        load_model(str(folder))


@pytest.mark.parametrize("content", [b"", b"not tensors", b"\x80\x04pickle"])
def test_weights_that_are_no_safetensors_are_refused(folder: Path, content: bytes) -> None:
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        load_model(str(folder))


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        load_model(str(folder))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A model of other weights and another grid, for the same sound."""
    sizes = {**sounds.SMALL_SIZES, "levels": 2}
    return sounds.write_small_model(tmp_path / "other", sizes)


def test_a_choice_changes_name_and_hash_with_all_that_it_says(
    small_model_folder: Path, other: Path
) -> None:
    small, both = (str(small_model_folder),), (str(small_model_folder), str(other))
    names = {
        ModelChoice(small): "small",
        ModelChoice(small, tta=True): "small+tta",
        ModelChoice(small, wiener=1): "small+wiener1",
        ModelChoice(small, wiener=2): "small+wiener2",
        ModelChoice(small, tta=True, wiener=1): "small+tta+wiener1",
        ModelChoice(both): "small+other",
    }
    assert [choice.name for choice in names] == list(names.values())
    assert len({choice.hash for choice in names}) == len(names)
    assert ModelChoice(small).hash == hash_model(small_model_folder)
    model = load_model(ModelChoice(both, tta=True))
    assert (model.name, model.hash) == ("small+other+tta", ModelChoice(both, tta=True).hash)


def test_a_choice_of_several_estimates_their_mean(small_model_folder: Path, other: Path) -> None:
    names = (str(small_model_folder), str(other))
    first, second, both = (load_model(name) for name in (*names, ModelChoice(names)))
    signal = torch.randn(1, 2, 3000)
    middle = (first.network(signal) + second.network(signal)) / 2
    torch.testing.assert_close(both.network(signal), middle)


def test_models_have_commas_between_them_unless_it_is_a_folders_own(folder: Path) -> None:
    assert ModelChoice.parse("a,b", tta=True).names == ("a", "b")
    comma = folder.rename(folder.with_name("a,b"))
    assert ModelChoice.parse(str(comma)).names == (str(comma),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 1}, "its number of channels is 1, not 2"),
        ({"stems": ["drums"], "residual": "rest"}, "its stems are drums, not vocals, instrumental"),
    ],
)
def test_models_that_are_not_alike_are_refused(
    small_model_folder: Path, folder: Path, change: dict[str, object], message: str
) -> None:
    change_config(folder, **change)
    with pytest.raises(ModelError, match=f"broken: cannot be averaged with .*small, .*{message}"):
        load_model(ModelChoice((str(small_model_folder), str(folder))))


def test_a_wiener_filter_for_more_than_two_channels_is_refused(folder: Path) -> None:
    change_config(folder, channels=3)
    with pytest.raises(ModelError, match="3 channels; --wiener needs 1 or 2"):
        load_model(ModelChoice((str(folder),), wiener=1))


@pytest.mark.parametrize("text", ["", "unet,", ",unet", "unet,,unet"])
def test_a_model_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="a name is missing"):
        ModelChoice.parse(text)


@pytest.mark.skipif(os.name == "nt", reason="there is no umask")
def test_weights_may_be_read_by_whom_the_umask_lets(
    small_model_folder: Path, tmp_path: Path
) -> None:
    tensors = {"a": torch.ones(3), "b": torch.ones(3)}
    tensors["c"] = tensors["a"]  # one tensor under two names
    before = os.umask(0o027)
    try:
        write_tensors(tmp_path / "weights.safetensors", tensors)
    finally:
        os.umask(before)
    assert (tmp_path / "weights.safetensors").stat().st_mode & 0o777 == 0o640
    assert read_tensors(tmp_path / "weights.safetensors").keys() == {"a", "b", "c"}
    with pytest.raises(OSError, match="No such file"):
        write_tensors(tmp_path / "gone/weights.safetensors", tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]

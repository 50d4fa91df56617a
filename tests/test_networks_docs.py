"""docs/networks.md, held against the code; and networks through the real command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from splitter.audio import resample_signal
from splitter.cli.models import models
from splitter.cli.train import train
from splitter.loading import load_model, read_tensors, save_model
from splitter.networks import ARCHITECTURES, PRESETS
from splitter.networks.blocks import BLOCKS
from splitter.networks.bottoms import BOTTOMS
from splitter.networks.sampling import DOWN, ENDS, UP
from splitter.networks.sizes import MaskParts
from splitter.networks.skips import SKIPS
from splitter.registry import Config
from splitter.separation import Computing, separate
from splitter.training.simulation import simulate_music, simulate_voice
from tests import sounds, zoo
from tests.commands import ROOT, call

PAGE = (ROOT / "docs/networks.md").read_text(encoding="utf-8")
KINDS = {"block": BLOCKS, "down": DOWN, "up": UP, "skip": SKIPS, "bottom": BOTTOMS, "ends": ENDS}


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_lists_all_parts(kind: str) -> None:
    (row,) = re.findall(rf"^\| `{kind}` \| (.*?) \| `", PAGE, re.MULTILINE)
    assert {name.strip() for name in re.sub(r"\(.*?\)", "", row).split(",")} == set(KINDS[kind])


def test_the_page_lists_the_networks_that_stream_and_those_that_need_pytorch() -> None:
    on_openvino, on_pytorch = (
        re.findall(
            r"`(.*?)`", re.findall(rf"^- On {runtime}.*?:(.*?)\n(?=\n|-)", PAGE, re.M | re.S)[0]
        )
        for runtime in ("OpenVINO", "PyTorch")
    )
    assert on_openvino == zoo.STREAMED  # as tests/test_runtime.py finds out
    assert on_openvino + on_pytorch == sorted(PRESETS, key=(on_openvino + on_pytorch).index)


def test_the_combination_of_the_page_is_a_network() -> None:
    recipe = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    network = zoo.build(recipe["network"], **{**recipe["sizes"], **zoo.SPECTROGRAM})
    signal = torch.from_numpy(sounds.noise(3000))[None]
    assert network(signal).shape == (1, 1, 2, 3000)


def test_the_variant_of_the_page_takes_less_than_30_lines_and_its_tiles_are_exact(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    presets = dict(PRESETS)
    monkeypatch.setattr("splitter.networks.presets.PRESETS", presets)
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[-1]
    assert len([line for line in code.splitlines() if line.strip()]) < 30
    exec(code, {"__name__": "variant"})  # a page of our own
    try:
        sizes = presets["se-unet"].sizes
        assert issubclass(sizes, MaskParts)
        monkeypatch.setitem(ARCHITECTURES, "se-unet", sizes)  # as a row of the table is
        recipe = {"network": "se-unet", "sizes": {**zoo.SPECTROGRAM, "levels": 2}}
        recipe |= {"crop": 8192, "batch": 1, "warmup": 1, "steps": 1}
        (tmp_path / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
        how = ["--recipe", str(tmp_path / "recipe.json"), "--device", "cpu"]
        done = CliRunner().invoke(train, [str(data), "-o", str(tmp_path / "mine"), *how])
        assert done.exit_code == 0, done.output
        network = sizes(**{**zoo.SPECTROGRAM, "levels": 2, "width": 8}).build(2, 1).eval()
        signal = torch.from_numpy(sounds.noise(8 * network.context))[None].requires_grad_()
        position = 4 * network.context
        network(signal)[0, 0, :, position].sum().backward()
        assert signal.grad is not None
        (seen,) = signal.grad[0].abs().sum(0).nonzero(as_tuple=True)
        assert position - network.context <= seen[0]
        assert seen[-1] <= position + network.context
    finally:
        del BLOCKS["squeezed"]


def test_what_gates_let_through_is_drawn_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = zoo.build("attention-unet")
    save_model(
        tmp_path / "mine", Config("attention-unet", zoo.small_sizes("attention-unet")), network
    )
    sounds.write(tmp_path / "song.wav", sounds.noise(3000))
    monkeypatch.chdir(tmp_path)
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], {"__name__": "page"})
    pictures = [matplotlib.image.imread(f"attention-{level}.png") for level in range(2)]
    frames, bands = pictures[1].shape[1], pictures[1].shape[0]
    assert pictures[0].shape[:2] == (bands // 2, frames // 2)
    assert all(len(np.unique(picture)) > 10 for picture in pictures)


def test_models_lists_networks_with_their_sources(tmp_path: Path) -> None:
    done = call("models", "--networks", folder=tmp_path)
    assert done.status == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS)
    (row,) = (line for line in lines if line.startswith("unet-2015"))
    assert "real time" not in row
    assert re.search(r"0\.92 M weights +1\.7\d Gflop/s +sees +2\.6 s +Ronneberger et al. 2015", row)


def test_the_speed_of_networks_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = PRESETS["unet-bn"]
    monkeypatch.setattr("splitter.networks.PRESETS", {"unet-bn": preset})
    monkeypatch.setattr("splitter.cli.models.TIMED_SECONDS", 2)
    done = CliRunner().invoke(models, ["--networks", "--speed"])
    assert re.search(r"^unet-bn .* Gflop/s +[1-9]\d* × real time  sees", done.stdout)
    assert CliRunner().invoke(models, ["--speed"]).exit_code == 2


def test_a_network_is_trained_on_simulated_songs_first_and_real_ones_after(
    data: Path, tmp_path: Path
) -> None:
    """The two stages of Yang and Ma 2019."""
    for number, (part, simulate) in enumerate(
        (("vocals", simulate_voice), ("instrumental", simulate_music))
    ):
        sound = simulate(2, 44100, np.random.default_rng(number))
        sounds.write(tmp_path / f"simulated/{part}/one.wav", sound)
    recipe = {"network": "fcnvmb", "sizes": zoo.small_sizes("fcnvmb"), "crop": 8192, "batch": 1}
    (tmp_path / "recipe.json").write_text(json.dumps({**recipe, "warmup": 1}), encoding="utf-8")
    how = ("--recipe", "recipe.json", "--device", "cpu")
    done = call("train", "simulated", "-o", "first", *how, "--steps", 3, folder=tmp_path)
    assert done.status == 0, done.stderr
    begin = ("--init", "first", "--steps", 1)
    done = call("train", data, "-o", "second", *how, *begin, folder=tmp_path)
    assert done.status == 0, done.stderr
    first, second = (
        read_tensors(tmp_path / n / "weights.safetensors") for n in ("first", "second")
    )
    torch.manual_seed(0)
    fresh = PRESETS["fcnvmb"].sizes(**zoo.small_sizes("fcnvmb")).build(2, 1).state_dict()
    name = "unet.deepest.0.weight"
    moved = (second[name].float() - first[name].float()).abs().max()
    assert 0 < moved < (second[name].float() - fresh[name]).abs().max()


def test_a_network_that_is_misspelt_is_answered_with_the_nearest(tmp_path: Path) -> None:
    done = call("train", tmp_path, "-o", "x", "--network", "atention-unet", folder=tmp_path)
    assert done.status == 2
    assert done.complaints == [
        "splitter: no network is called 'atention-unet'; did you mean attention-unet?"
    ]


@pytest.mark.parametrize("name", ["non-local-unet", "conv-tasnet", "vq-unet"])
def test_a_network_is_trained_and_separates_mono_stereo_and_surround(
    name: str, data: Path, tmp_path: Path
) -> None:
    sizes = zoo.small_sizes(name)
    recipe = {"network": name, "sizes": sizes, "crop": 8192, "batch": 1, "warmup": 1}
    recipe |= {"validation": ["held/*"], "rate": 16000}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    arguments = ("-o", "mine", "--recipe", "recipe.json", "--steps", 2, "--device", "cpu")
    done = call("train", data, *arguments, folder=tmp_path)
    assert done.status == 0, done.stderr
    assert (tmp_path / "mine.run/validation.csv").exists()
    card = tmp_path / "mine/card.md"
    assert card.exists() == (name == "non-local-unet")
    if card.exists():  # what no tile can be exact for
        told = re.search(r"^Summary: non-local-unet; .*−(\d+) dB$", card.read_text("utf-8"), re.M)
        model = load_model(str(tmp_path / "mine"))
        song = resample_signal(sounds.voice(2) + sounds.music(2), 44100, 16000)
        tiled = separate(song, 16000, model, Computing(precision="float32"))["vocals"]
        with torch.inference_mode():
            whole = model.network(torch.from_numpy(song)[None])[0, 0].numpy()
        assert told and int(told[1]) == pytest.approx(zoo.decibels(whole, tiled), abs=1.5)
    for channels in (1, 2, 6):
        song = sounds.write(tmp_path / f"{channels}.wav", sounds.noise(30000, channels))
        done = call("separate", song, "--model", "mine", folder=tmp_path)
        assert done.status == 0, done.stderr
        stems = [sounds.read(tmp_path / line) for line in done.stdout.split()]
        assert stems[0].shape == (channels, 30000)
        np.testing.assert_allclose(sum(stems), sounds.read(song), atol=1e-6)

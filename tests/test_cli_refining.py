"""--tta, --wiener and several models, through the real commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from splitter.audio import Block
from splitter.loading import load_model
from splitter.registry import ModelChoice
from splitter.separation import Computing, separate
from tests import sounds
from tests.commands import call

WAYS: list[tuple[str, ...]] = [("--tta",), ("--wiener", "1"), ("--tta", "--wiener", "2"), ()]


@pytest.fixture
def models(small_model_folder: Path, tmp_path: Path) -> str:
    """Two models, as they are given to --model."""
    sizes = {**sounds.SMALL_SIZES, "levels": 2}
    return f"{small_model_folder},{sounds.write_small_model(tmp_path / 'other', sizes)}"


def read(path: Path) -> Block:
    return soundfile.read(path, dtype="float32", always_2d=True)[0].T


@pytest.mark.parametrize("options", WAYS, ids=" ".join)
def test_stems_are_those_of_the_library_and_sum_to_the_song(
    options: tuple[str, ...], models: str, tmp_path: Path
) -> None:
    song = read(sounds.write(tmp_path / "song.wav", sounds.song(1)))
    more = ("--precision", "float32", "--template", "{model} {stem}.{ext}", "--json")
    done = call("separate", "song.wav", "-m", models, *options, *more, folder=tmp_path)
    assert done.status == 0, done.stderr
    wiener = int(options[-1]) if "--wiener" in options else 0
    choice = ModelChoice.parse(models, "--tta" in options, wiener)
    assert json.loads(done.stdout)["model"] == {"name": choice.name, "hash": choice.hash}
    vocals, rest = (
        read(tmp_path / f"{choice.name} {stem}.wav") for stem in ("vocals", "instrumental")
    )
    assert np.array_equal(vocals + rest, song)
    expected = separate(song, 44100, choice, Computing(precision="float32"))["vocals"]
    assert np.abs(vocals - expected).max() < 1 / 32768
    plain = separate(song, 44100, load_model(models.split(",")[0]))["vocals"]
    assert np.abs(vocals - plain).max() > 0.001


def test_wiener_0_is_none(small_model_folder: Path, tmp_path: Path) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(0.5))
    stems = []
    for options in ((), ("--wiener", 0)):
        given = ("song.wav", "-m", small_model_folder, "--overwrite", *options)
        assert call("separate", *given, folder=tmp_path).status == 0
        stems.append((tmp_path / "song" / "vocals.wav").read_bytes())
    assert stems[0] == stems[1]


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_folder_is_done_again_when_what_is_made_of_its_model_changes(
    engine: str, models: str, tmp_path: Path
) -> None:
    sounds.write(tmp_path / "songs" / "song.wav", sounds.song(0.5))
    if engine == "ray":
        pytest.importorskip("ray")
    made = []
    for options in [*WAYS, WAYS[-1]]:
        given = ("songs", "-o", "out", "-m", models, "--engine", engine, *options)
        done = call("separate", *given, folder=tmp_path)
        assert done.status == 0, done.stderr
        made.append("1 song done" in done.stderr)
    assert made == [True] * len(WAYS) + [False]


def test_models_that_are_not_alike_are_one_line(models: str, tmp_path: Path) -> None:
    path = tmp_path / "other" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "channels": 1}))
    sounds.write(tmp_path / "song.wav", sounds.song(0.5))
    done = call("separate", "song.wav", "-m", models, folder=tmp_path)
    (line,) = done.complaints
    assert done.status == 2 and "other: cannot be averaged with" in line and "channels" in line
    assert not (tmp_path / "song").exists()


def test_scores_are_made_anew_for_what_is_made_of_a_model(models: str, tmp_path: Path) -> None:
    for stem, sound in (("vocals", sounds.voice(2)), ("instrumental", sounds.music(2))):
        sounds.write(tmp_path / "data" / "song" / f"{stem}.wav", sound)
    scores = []
    for options in WAYS:
        given = ("data", "-m", models, "--metric", "usdr", "--baseline", "IRM1", *options)
        done = call("evaluate", *given, "--device", "cpu", folder=tmp_path)
        assert done.status == 0, done.stderr
        assert "IRM1: STFT of 256/64 at 44100 Hz." in done.stdout
        (row,) = [line for line in done.stdout.splitlines() if line.startswith("| small+other")][:1]
        scores.append(row.rsplit("|", 2)[0])
    assert len({row.split("|")[2] for row in scores}) == len(WAYS)
    lines = (tmp_path / "scores.jsonl").read_text(encoding="utf-8")
    assert lines.count('"key"') == len(WAYS)

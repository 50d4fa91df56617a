from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from splitter.audio import CLIPS, CONTAINERS
from splitter.cli import separate
from splitter.networks import ARCHITECTURES
from splitter.templates import TEMPLATE
from tests import sounds
from tests.commands import call

ROOT = Path(__file__).parents[1]


def run(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run splitter as a person would, in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "splitter", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_help_names_every_command_and_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from splitter.cli import main; sys.argv = ['splitter', '--help']\n"
        "try: main()\n"
        "finally: print([m for m in ('torch', 'librosa', 'soundfile') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "separate" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_told(tmp_path: Path) -> None:
    done = run("--version", folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("splitter, version")


def test_stems_go_to_a_folder_of_the_songs_name(small_model_folder: Path, tmp_path: Path) -> None:
    sounds.write(tmp_path / "my song.wav", sounds.song(2))
    done = run("separate", "my song.wav", "--model", small_model_folder, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = [Path("my song/vocals.wav"), Path("my song/instrumental.wav")]
    assert [Path(line) for line in done.stdout.splitlines()] == expected
    for path in expected:
        assert soundfile.info(tmp_path / path).frames == 2 * 44100


def test_one_broken_song_harms_no_other(small_model_folder: Path, tmp_path: Path) -> None:
    sounds.write(tmp_path / "good.wav", sounds.song(1))
    (tmp_path / "broken.mp3").write_bytes(b"not sound" * 100)
    songs = ("broken.mp3", "missing.wav", "good.wav")
    done = run("separate", *songs, "-q", "--model", small_model_folder, folder=tmp_path)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    complaints = [line for line in done.stderr.splitlines() if ".mp3" in line or "missing" in line]
    assert len(complaints) == 2
    assert not (tmp_path / "broken" / "vocals.wav").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("separate",), "name a song or a folder"),
        (("separate", "song.wav", "--format", "xyz"), "xyz"),
        (("separate", "song.wav", "--stems", "drums"), "no stem 'drums'"),
        (("nosuch",), "there is no command 'nosuch'; choose separate, "),
        (("seperate", "song.wav"), "there is no command 'seperate'; did you mean 'separate'?"),
        (("song.wav",), "song.wav is not a command; to separate it, write: splitter separate song"),
        (("separate", "song.wav", "--fromat", "mp3"), "no option --fromat; did you mean --format?"),
        (("separate", "song.wav", "--stems"), "--stems needs a value"),
        (("separate", "song.wav", "--wiener", "-1"), "--wiener: write a whole number, 0 or more"),
        (("separate", "-song.wav"), "to name the file, write ./-song.wav"),
        (("train",), "DATA is missing; write splitter train [OPTIONS] DATA"),
        (("train", ".", "-o", "x", "--recipe", "none.json"), "--recipe: "),
    ],
)
def test_a_wrong_command_is_told_so_with_status_2(
    tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(0.1))
    sounds.write(tmp_path / "-song.wav", sounds.song(0.1))
    done = call(*arguments, folder=tmp_path)
    assert done.status == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("splitter: ") and complaint in line
    assert not done.stdout


@pytest.mark.parametrize("command", [("evaluate", "."), ("train", ".", "-o", "x")])
def test_data_that_holds_nothing_is_a_wrong_command(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = call(*command, folder=tmp_path)
    assert done.status == 2
    assert len(done.complaints) == 1


def test_a_file_called_dash_is_not_stdin(small_model_folder: Path, tmp_path: Path) -> None:
    sounds.write(tmp_path / "-.wav", sounds.song(0.1)).rename(tmp_path / "-")
    done = call("separate", "./-", "-o", "out", "-m", small_model_folder, folder=tmp_path)
    assert done.stdout.splitlines() == ["out/-/vocals.wav", "out/-/instrumental.wav"]


@pytest.mark.skipif(os.name == "nt", reason="a folder in use cannot be deleted there")
def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "from splitter.cli import main; sys.argv[1:] = ['separate', 'x.wav']; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "splitter: the current folder is gone; cd to another one\n"


def test_what_options_can_be_is_what_the_layers_below_take() -> None:
    assert tuple(CONTAINERS) == separate.FORMATS
    assert separate.CLIPS == CLIPS
    assert separate.TEMPLATE == TEMPLATE


def test_a_device_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(1))
    done = run("separate", "song.wav", "--device", "cuda:99", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_a_model_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(1))
    done = run("separate", "song.wav", "--model", "nosuch", folder=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("splitter: no model is called 'nosuch'; choose from ")


def test_networks_are_listed_with_the_sizes_that_they_take(tmp_path: Path) -> None:
    done = call("train", "--networks", folder=tmp_path)
    assert done.status == 0
    lines = done.stdout.splitlines()
    names = [line.split(" (")[0] for line in lines if not line.startswith(" ")]
    assert names == list(ARCHITECTURES)
    assert "  hop: a whole number from 8 to 32768  [1024]" in lines


def test_train_makes_a_model_that_separates(tmp_path: Path) -> None:
    sounds.write(tmp_path / "data/vocals/a.wav", sounds.voice(2))
    sounds.write(tmp_path / "data/instrumental/b.wav", sounds.music(2))
    from splitter.training.recipe import Recipe, write_recipe

    recipe = Recipe(sizes=sounds.SMALL_SIZES, crop=8192, batch=2, steps=4)
    write_recipe(recipe, tmp_path / "recipe.json")
    arguments = ("train", "data", "-o", "models/mine", "--recipe", "recipe.json")
    paused = run(*arguments, "--stop-at", 2, folder=tmp_path)
    assert paused.returncode == 0, paused.stderr
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resuming from step 2" in done.stderr
    assert done.stdout.strip() == "models/mine"
    sounds.write(tmp_path / "song.wav", sounds.song(1))
    assert run("separate", "song.wav", "-m", "models/mine", folder=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"crop": 1 << 44}, 'cpu: there is not enough memory; give the recipe a smaller "batch"'),
        (
            {"sizes": {"window": 2048, "bands": [[1024, 1]], "width": 1024, "levels": 10}},
            "mine.run/recipe.json: its weights need ",
        ),
    ],
    ids=["sound", "network"],
)
def test_a_training_that_does_not_fit_into_memory_is_one_line(
    tmp_path: Path, changes: dict[str, object], complaint: str
) -> None:
    sounds.write(tmp_path / "data/vocals/a.wav", sounds.voice(2))
    sounds.write(tmp_path / "data/instrumental/b.wav", sounds.music(2))
    recipe = {"sizes": sounds.SMALL_SIZES, "batch": 1, "steps": 1, **changes}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    done = run("train", "data", "-o", "mine", "--recipe", "recipe.json", folder=tmp_path)
    assert done.returncode
    assert done.stderr.splitlines()[-1].startswith(f"splitter: {complaint}")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "mine").exists()

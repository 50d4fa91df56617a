from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from splitter.audio import CLIPS, CONTAINERS
from splitter.cli import COMMANDS, separate
from splitter.networks import ARCHITECTURES
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
    for name in COMMANDS:
        assert re.search(rf"^ +{name} +\S", done.stdout, re.MULTILINE), name
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


WRONG = {  # command line → what is said, in one line
    # commands
    "-q": "name a command: separate, listen, train, evaluate, models, doctor",
    "nosuch": "splitter has no command 'nosuch'; choose separate, ",
    "seperate song.wav": "splitter has no command 'seperate'; did you mean 'separate'?",
    "song.wav": "song.wav is not a command; to separate it, write: splitter separate song.wav",
    "s3://a/b.mp3": "s3://a/b.mp3 is not a command; to separate it, write: splitter separate s3:",
    "'My Song.wav'": "write: splitter separate 'My Song.wav'",
    "separate 'http://a.de/b.mp3?c=1&d=2'": "curl -sL 'http://a.de/b.mp3?c=1&d=2' | splitter sep",
    "help": "there is no command 'help'; write splitter --help",
    "version": "there is no command 'version'; write splitter --version",
    "models nosuch": "splitter models has no command 'nosuch'; choose add, get, ",
    "models serch unet": "splitter models has no command 'serch'; did you mean 'search'?",
    "models --speed": "--speed goes with --networks",
    # options before the command, misspelled, or of another command
    "-o out separate song.wav": "-o goes after the command; write splitter separate -o",
    "--model=unet separate song.wav": "--model goes after the command; write splitter separate",
    "--format mp3 song.wav": "--format goes after the command; write splitter separate --format",
    "--steps 5 train .": "--steps goes after the command; write splitter train --steps",
    "--networks": "--networks goes after the command; write splitter train --networks",
    "models --offline get x": "--offline goes after the command; write splitter models get --off",
    "--modell x separate song.wav": "splitter separate has no option --modell; did you mean --mod",
    "--hlep": "splitter has no option --hlep; did you mean --help?",
    "-x separate song.wav": "splitter separate has no option -x; splitter separate --help lists",
    "separate song.wav --fromat mp3": "no option --fromat; did you mean --format?",
    "separate song.wav --stem vocals": "no option --stem; did you mean --stems?",
    "separate song.wav --quite": "no option --quite; did you mean --quiet?",
    "separate song.wav -qx": "no option -x; splitter separate --help lists all",
    "separate -song.wav": "to name the file, write ./-song.wav",
    "train . -o x -j 4": "splitter train has no option -j; splitter train --help lists all",
    "train . -o x --model unet": "splitter train has no option --model; splitter train --help",
    "doctor --json": "splitter doctor has no option --json; splitter doctor --help lists all",
    # values
    "separate": "name a song or a folder",
    "separate ''": "SONGS: a name is empty; write . for the current folder",
    "separate song.wav -o ''": "--output is empty; write . for the current folder",
    "separate song.wav --stems": "--stems needs a value",
    "separate song.wav --stems ''": "--stems is empty; choose from vocals, instrumental",
    "separate song.wav --stems drums": "no stem 'drums'",
    "separate song.wav --stems 'vocals rest'": "'vocals rest'; it has vocals, instrumental",
    "separate song.wav --stems 'vocals instrumental'": "put commas between names",
    "separate song.wav --bitrate 192": "wav: has no bitrate; choose mp3, ogg, opus or m4a for one",
    "separate song.wav --quiet=1": "--quiet takes no value",
    "separate song.wav --format xyz": "--format: 'xyz' is unknown; choose wav, ",
    "separate song.wav --wiener -1": "--wiener: write a whole number, 0 or more",
    "separate song.wav --rate 44.1k": "--rate: write a whole number from 8000 to 384000",
    "separate song.wav --overlap 2": "--overlap: write a number from 0 to 0.95",
    "separate song.wav --bits 17": "--bits: '17' is not a bit depth; write 16, 24 or 32 (float)",
    "separate song.wav --bitrate fast": "--bitrate: 'fast' is not a bitrate; write one such",
    "separate song.wav --start x": "--start: 'x' is not a time; write seconds or 1:30",
    "separate song.wav --shard 9/8": "--shard: '9/8' is not a shard; write I/N, from 1/N to N/N",
    "separate song.wav --raw x": "--raw x: not RATE:CHANNELS:FORMAT as in 48000:2:s16le",
    "separate song.wav --track ''": "--track is empty; write a number or a language",
    "separate song.wav --device gpu": "no device is called 'gpu'; use auto, cpu, cuda or mps",
    "separate song.wav --model nosuch": "no model is called 'nosuch'; choose from ",
    "separate song.wav --template ''": "--template is empty; write {name}/{stem}.{ext}, say",
    "separate song.wav --template {stem}/": "{stem}/: ends in a folder; add the name of a file",
    "separate song.wav --failures no/x": "--failures no/x: there is no folder no",
    "separate s3://": "SONGS: s3://: names no bucket; write s3://bucket/folder",
    "train": "DATA is missing; write splitter train [OPTIONS] DATA",
    "train .": "--output is missing; add --output FOLDER",
    "train . more -o x": "more: one argument too many; write splitter train [OPTIONS] DATA",
    "train . -o .": "-o .: name a folder for the model, such as models/mine",
    "train . -o x --recipe none.json": "--recipe: ",
    "models get unet": "unet: came with splitter; there is nothing to download",
    "evaluate . --page -o scores.json": "--page would write into",
    "models remove nosuch": "you have not added a model 'nosuch'; there is none to remove",
    "models search --catalogue no": "no: cannot be read as a catalogue of models (No such file",
    # contradictions
    "separate song.wav -q --progress json": "--quiet and --progress json exclude each other",
    "separate song.wav --progress json -q": "--quiet and --progress json exclude each other",
    "separate song.wav --raw 44100:2:s16le --track 1": "--raw has no tracks; leave out --track",
    "separate song.wav --retry-failed": "--retry-failed is for folders",
    "separate song.wav --stems vocals -o x.wav -f mp3": "-o x.wav: its name says wav; leave out",
}


@pytest.mark.parametrize(("line", "complaint"), WRONG.items())
def test_a_wrong_command_is_told_so_with_status_2(
    tmp_path: Path, line: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sounds.write(tmp_path / "song.wav", sounds.song(0.1))
    sounds.write(tmp_path / "-song.wav", sounds.song(0.1))
    done = call(*shlex.split(line), folder=tmp_path)
    assert done.status == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith("splitter: ") and complaint in said
    assert not done.stdout


@pytest.mark.parametrize("before", [True, False])
def test_every_command_takes_q_and_v_at_any_place(tmp_path: Path, before: bool) -> None:
    for command in (
        "separate x.wav",
        "listen x.wav",
        "train x -o y",
        "evaluate x",
        "models show x",
    ):
        words = ["-qv", *command.split()] if before else [*command.split(), "-v", "-q"]
        (said,) = call(*words, folder=tmp_path).complaints
        assert "x" in said and "option" not in said


@pytest.mark.skipif(os.name == "nt", reason="signals end nothing there")
def test_ctrl_c_before_anything_is_imported_leaves_no_traceback(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'splitter.signals': os.kill(os.getpid(), signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from splitter.__main__ import main\n"
        "main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    sounds.write(tmp_path / "data/vocals/a.wav", sounds.voice(0.1))
    (tmp_path / "file").write_text("in the way")
    done = call("train", "data", "-o", "mine", "--run", "file/run", folder=tmp_path)
    assert done.status == 1
    assert done.complaints == ["splitter: file/run: cannot be used (Not a directory)"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["models", "--help"])
def test_a_full_disk_is_one_line_of_any_command(command: str, unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "splitter", command],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    told = "splitter: the command cannot go on (No space left on device); -v says more\n"
    assert done.stderr == told


@pytest.mark.parametrize("command", [("evaluate", "."), ("train", ".", "-o", "x")])
def test_data_that_holds_nothing_is_a_wrong_command(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = call(*command, folder=tmp_path)
    assert done.status == 2
    (line,) = done.complaints
    assert {"evaluate": "not a known data set", "train": "nothing to train on"}[command[0]] in line


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


def test_a_device_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(1))
    done = run("separate", "song.wav", "--device", "cuda:99", folder=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "no cuda device here; use --device cpu" in line


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
    from splitter.training.recipe import Recipe, read_recipe, write_recipe

    weights = (("rain/*", 2.0, 1.0),)
    recipe = Recipe(sizes=sounds.SMALL_SIZES, crop=8192, batch=2, steps=4, weights=weights)
    write_recipe(recipe, tmp_path / "recipe.json")
    arguments = ("train", "data", "-o", "models/mine", "--recipe", "recipe.json")
    paused = run(*arguments, "--stop-at", 2, folder=tmp_path)
    assert paused.returncode == 0, paused.stderr
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resuming from step 2" in done.stderr
    assert "splitter: the recipe names what is not there: rain/*" in done.stderr
    assert done.stdout.strip() == "models/mine"
    assert read_recipe(tmp_path / "models/mine.run/recipe.json") == recipe
    sounds.write(tmp_path / "song.wav", sounds.song(1))
    assert run("separate", "song.wav", "-m", "models/mine", folder=tmp_path).returncode == 0


def test_the_precision_of_a_training_is_the_fastest_or_that_of_the_option(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from splitter import devices

    recipe = {"sizes": sounds.SMALL_SIZES, "crop": 8192, "batch": 1, "warmup": 1, "steps": 1}
    (tmp_path / "recipe.json").write_text(json.dumps({**recipe, "validation": ["held/*"]}))
    losses = {}
    for fastest, option in (("bfloat16", "auto"), ("bfloat16", "float32"), ("float32", "auto")):
        monkeypatch.setattr(devices, "training_dtype", lambda _, name=fastest: getattr(torch, name))
        name = f"{fastest}-{option}"
        arguments = ("-o", name, "--recipe", "recipe.json", "--device", "cpu")
        done = call("train", data, *arguments, "--precision", option, folder=tmp_path)
        assert done.status == 0, done.stderr
        log = (tmp_path / f"{name}.run/log.csv").read_text(encoding="utf-8").splitlines()
        losses[name] = log[-1].split(",")[log[0].split(",").index("loss")]
    assert losses["bfloat16-float32"] == losses["float32-auto"] != losses["bfloat16-auto"]


def test_a_folder_with_a_config_of_something_else_is_no_place_for_a_model(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/config.json").write_text('{"port": 80}')
    done = call("train", tmp_path, "-o", "app", folder=tmp_path)
    assert done.status == 2 and "app/config.json" in done.stderr
    assert (tmp_path / "app/config.json").read_text() == '{"port": 80}'


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"crop": 1 << 44}, 'cpu: there is not enough memory; give the recipe a smaller "batch"'),
        (
            {"sizes": {"window": 2048, "bands": [[1024, 1]], "width": 1024, "levels": 10}},
            "recipe.json: its weights need ",
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

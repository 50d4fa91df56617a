"""Every block of README and docs that can run is run, with small models under the real names."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click
import mutagen
import numpy as np
import pytest

from splitter import registry
from splitter.cli import splitter
from splitter.training.recipe import write_recipe
from tests import sounds
from tests.commands import ENVIRONMENT, ROOT, call
from tests.foreign import REFERENCES
from tests.trainings import RECIPE

DOCS = [
    path
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ]
    if path.name != "commands.md"
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOT_HERE = {  # why a line is not run here
    r"\bpip3? |venv|pre-commit|make ": ".ci/run does it",
    r"s3://|--engine ray|cuda": "tests/test_stores.py and test_cluster.py do it, with servers",
    r"scripts[/.]": "tests/test_scripts.py and test_simulation.py do it, with small sizes",
    r"models get": "tests/test_models_get.py does it, with a server",
    r"train DATA -o mine --network": "hours; tests/test_networks_presets.py trains each, small",
}
OTHERS = ("spleeter-2stems", "spleeter-5stems", "umxl", "htdemucs", "htdemucs_6s",
          "bs-roformer-1297")  # fmt: skip
ADDED = [r"models (add|show|remove|seam)", r"model bs"]  # one after the other, below
MEANT = re.compile(r"splitter (?:separate|listen|train|evaluate|models|doctor)\b.*")


@dataclass(frozen=True)
class Line:
    """A command in a document."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{self.path.name}: {self.text}"

    @property
    def runs(self) -> bool:
        """Tell whether it can run here."""
        return not any(re.search(pattern, self.text) for pattern in [*NOT_HERE, *ADDED])


def find_lines() -> Iterator[Line]:
    for path in DOCS:
        whole = path.read_text(encoding="utf-8")
        for command in re.findall(r"^\|[^|]*\| `((?:splitter|python) [^`]+)` \|$", whole, re.M):
            yield Line(path, command)
        for kind, text in BLOCK.findall(whole):
            if kind == "console":
                yield Line(path, text.splitlines()[0].removeprefix("$ "))
            if kind == "sh":
                for line in text.replace("\\\n", "").splitlines():
                    command = re.sub(r"(^|\s+)#.*", "", line).strip()
                    if command:
                        yield Line(path, command)


LINES = list(find_lines())
TASKS = [line for line in LINES if line.path.name == "tasks.md"]
RUNNABLE = list(dict.fromkeys(line.text for line in LINES if line.runs))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models that are called as the real ones are."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("unet", "unet-fast", "unet-free", *OTHERS):
        sounds.write_small_model(folder / name)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the documents speak of."""
    folder = tmp_path_factory.mktemp("prepared")
    song = sounds.song(3)[:, : 44100 * 3 // 2]
    for name in ("song.mp3", "song.flac", "song.wav", "other.wav", "letter.flac", "Music/b.mp3",
                 "Music/live.flac", "Music/more/a.flac", "Album/1.mp3"):  # fmt: skip
        sounds.write(folder / name, song)
    tags = mutagen.File(folder / "song.mp3", easy=True)
    tags["artist"], tags["title"] = "Singer", "Tune"
    tags.save()
    (folder / "letter.mp3").write_text("Dear reader")
    (folder / "letter.flac").unlink()
    whole = (folder / "song.mp3").read_bytes()
    (folder / "damaged.mp3").write_bytes(whole[: len(whole) * 2 // 3])
    for name in ("song.m4a", "video.mp4", "set.mkv"):
        _encode(folder / "song.wav", folder / name)
    (folder / "list.m3u8").write_bytes(b"#EXTM3U\r\n#EXTINF:1,Tune\r\nMusic/b.mp3\r\n")
    (folder / "song.raw").write_bytes((song.T * 32767).astype("<i2").tobytes())
    songs = ("Data", "DATA", "validation", "Stems", "stems", "stems/of/another/tool", "Estimates")
    for name in [f"{songs}/{song}" for songs in songs for song in ("one", "two")]:
        sounds.write(folder / name / "vocals.wav", sounds.voice(1))
        sounds.write(folder / name / "instrumental.wav", sounds.music(1))
    for singer in ("ariel", "davidson", "fdps", "khair", "titon"):
        both = np.stack([sounds.music(1)[0], sounds.voice(1)[0]])
        sounds.write(folder / f"mir1k/Wavfile/{singer}_1_01.wav", both)
    for recipe in ("recipe.json", "models/unet/recipe.json"):
        (folder / recipe).parent.mkdir(parents=True, exist_ok=True)
        write_recipe(replace(RECIPE, steps=2, warmup=1, validation=("two",)), folder / recipe)
    for mine in ("mine", "models/mine"):
        sounds.write_small_model(folder / mine)
    for file in (REFERENCES / "bs-roformer").glob("model.*"):
        shutil.copy(file, folder)
    for target in ("bass", "drums", "other", "vocals"):
        for suffix in (".pth", ".json"):
            shutil.copy(REFERENCES / f"openunmix/vocals{suffix}", folder / f"{target}{suffix}")
    shutil.copy(REFERENCES / "openunmix/separator.json", folder)
    return folder


def _encode(source: Path, target: Path) -> None:
    """Make a file with AAC in it."""
    import av

    with av.open(source) as read, av.open(target, "w") as write:
        stream = write.add_stream("aac", rate=44100)
        for frame in read.decode(audio=0):
            write.mux(stream.encode(frame))
        write.mux(stream.encode(None))


@pytest.fixture
def place(prepared: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that, and a `splitter` on the path that knows the small models."""
    folder = tmp_path / "here"
    shutil.copytree(prepared, folder)
    shutil.copytree(ROOT / "examples", folder / "examples")
    monkeypatch.setattr(registry, "models_folder", lambda: models)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    start = (
        "import pathlib, splitter.registry as r; "
        f"r.models_folder = lambda: pathlib.Path('{models}'); "
        "from splitter.cli import main; main()"
    )
    programs = {
        "splitter": f'exec "{sys.executable}" -c "{start}" "$@"',
        "curl": f"cat '{folder}/song.mp3'",  # it stands for the network,
        "mpv": "cat > mpv.heard",  # and this for somebody who listens
    }
    for name, does in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return folder


def run(line: str, folder: Path) -> None:
    """Run a line as a shell would; fail if it fails."""
    words = shlex.split(line)
    if words[:2] == ["splitter", "train"]:  # it replaces no model
        shutil.rmtree(folder / words[words.index("-o") + 1], ignore_errors=True)
    if words[0] == "splitter" and not set(line) & set("|<>$"):
        done = call(*_expand(words[1:], folder), folder=folder)
        assert done.status == 0, done.stderr
    elif words[0] == "python":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words[1:])
            runpy.run_path(words[1], run_name="__main__")
    else:
        shell = ["bash", "-o", "pipefail", "-c", line]
        told = subprocess.run(shell, cwd=folder, env={**ENVIRONMENT, **os.environ},
                              capture_output=True)  # fmt: skip
        assert told.returncode == 0, told.stderr.decode()


def _expand(words: list[str], folder: Path) -> Iterator[str]:
    """Expand globs of songs, as the shell does where there is such a file."""
    for before, word in zip(["", *words], words, strict=False):
        found = sorted(path.name for path in folder.glob(word)) if word.startswith("*") else []
        yield from found if found and before not in ("--include", "--exclude") else [word]


def test_there_are_thirty_everyday_tasks_and_each_has_one_command() -> None:
    text = (ROOT / "docs/tasks.md").read_text(encoding="utf-8")
    blocks = [block for kind, block in BLOCK.findall(text) if kind == "sh"]
    assert len(blocks) >= 30
    assert all(len(block.splitlines()) == 1 for block in blocks)
    assert all(line.runs for line in TASKS)


def written(place: Path) -> set[tuple[Path, int]]:
    """List all files, and when each was written."""
    return {(path, path.stat().st_mtime_ns) for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("line", RUNNABLE)
def test_what_the_documents_tell_to_type_works(line: str, place: Path) -> None:
    if "doctor" in line:  # it tries the models; tests/test_doctor.py does that with the real ones
        pytest.skip("tests/test_doctor.py runs it")
    if line.startswith("ffmpeg") and shutil.which("ffmpeg") is None:
        pytest.skip("there is no ffmpeg here")
    before = written(place)
    run(line, place)
    made = written(place) - before
    assert made or re.search(r"^splitter models|--dry-run|--help|--version|--shard|> *$|raw$", line)


def test_what_models_md_tells_of_a_model_works_in_its_order(place: Path) -> None:
    mine = [line for line in LINES if any(re.search(pattern, line.text) for pattern in ADDED)]
    assert [line.path.name for line in mine] == ["models.md"] * len(mine)
    for line in mine:
        run(line.text, place)
    assert len(mine) >= 5


def test_the_first_thing_in_the_readme_prints_what_it_says(place: Path) -> None:
    (said,) = [
        text for kind, text in BLOCK.findall(DOCS[0].read_text("utf-8")) if kind == "console"
    ]
    command, _, answer = said.partition("\n")
    words = shlex.split(command.removeprefix("$ "))
    done = call(*words[1:], folder=place)
    assert (done.status, done.stdout) == (0, answer)


# what networks.md adds to the table of networks, test_networks_docs runs and takes away again
SPOKEN = [path for path in DOCS if "```python" in path.read_text("utf-8")]
SPOKEN = [path for path in SPOKEN if path.name != "networks.md"]


@pytest.mark.parametrize("path", SPOKEN, ids=lambda path: path.name)
def test_python_in_the_documents_runs_in_its_order(path: Path, place: Path) -> None:
    names: dict[str, object] = {"__name__": "docs"}
    for kind, text in BLOCK.findall(path.read_text(encoding="utf-8")):
        if kind == "python":
            exec(compile(text, str(path), "exec"), names)


@pytest.mark.parametrize("line", LINES, ids=str)
def test_every_command_in_the_documents_has_these_options(line: Line) -> None:
    for part in line.text.split("|"):
        meant = MEANT.search(part)
        if meant:
            words = shlex.split(re.split(r"\s[<>]", meant[0])[0])
            command = splitter.get_command(click.Context(splitter), words[1])
            if isinstance(command, click.Group) and words[2:]:
                command = command.get_command(click.Context(command), words[2]) or command
            assert command
            known = {name for param in command.params for name in param.opts + param.secondary_opts}
            asked = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-zA-Z]", word)}
            assert asked <= known | {"--help", "-h"}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target

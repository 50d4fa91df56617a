from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.licensed import is_free
from splitter.cli.doctor import _list_models
from splitter.cli.models import list_licences
from splitter.errors import SplitterError
from splitter.registry import (
    CARD,
    CONFIG,
    DEFAULT_MODEL,
    added_folder,
    find_model,
    list_models,
)
from tests.commands import call, start


def test_doctor_finds_nothing_wrong_here(tmp_path: Path) -> None:
    done = call("doctor", folder=tmp_path)
    assert done.status == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.match(r"splitter \S+, Python 3\.\d+", lines[0])
    assert re.search(r"torch \S+, computes on", done.stdout)
    assert "writes: wav, raw, flac, mp3, ogg, opus, m4a" in lines
    assert all(f"{name} works, on OpenVINO" in lines for name in list_models())
    assert lines[-1] == "everything works"


def test_doctor_says_its_first_line_before_torch_is_there(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch is broken')")
    process = start("doctor", folder=tmp_path)
    output, complaints = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.startswith(b"splitter ") and b"everything works" not in output
    assert b"splitter: torch is broken" in complaints


def test_doctor_looks_at_models_that_were_added(
    tmp_path: Path, small_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shutil.copytree(small_model_folder, added_folder() / "good")
    assert any(line.startswith("added: good  ") for line in _list_models())
    shutil.copytree(small_model_folder, added_folder() / "bad")
    (added_folder() / "bad" / CONFIG).write_text("{")
    with pytest.raises(SplitterError, match=r"bad/config\.json"):
        list(_list_models())


def test_doctor_names_a_model_that_is_broken(
    tmp_path: Path, small_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(small_model_folder, tmp_path / "small")
    (tmp_path / "small" / "weights.safetensors").write_bytes(b"half a downl")
    monkeypatch.setattr("splitter.registry.models_folder", lambda: tmp_path)
    done = call("doctor", folder=tmp_path)
    assert done.status == 1
    assert "weights.safetensors: not a readable safetensors file" in done.stderr


def test_models_are_listed_with_what_each_is_good_for_and_their_licence_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where nothing was added
    done = call("models", folder=tmp_path)
    assert done.status == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("Licence of ")]
    licences = done.stdout.splitlines()[len(lines) :]
    assert [line.split()[0] for line in lines] == list_models()
    for line in lines:
        facts = r"[0-9a-f]{16}  \d+ Hz  [\d.]+ MB  vocals, instrumental"
        assert re.fullmatch(rf"\S+( \(default\))?  {facts}  .*vocals SDR \d+\.\d+ dB .*", line)
    assert [line.split()[0] for line in lines if "(default)" in line] == [DEFAULT_MODEL]
    roles = ("the fastest", "the best", "any use", "another name of `unet`")
    for role in roles:
        assert sum(role in line for line in lines) == 1
    bound, free = licences
    assert bound.startswith("Licence of unet, unet-fast, unet-large: research and non-commercial")
    assert free.startswith("Licence of unet-free: CC BY-SA 4.0: any use, also commercial")


@pytest.mark.skipif(os.name == "nt", reason="its shells have no head")
@pytest.mark.parametrize("command", ["models", "doctor"])
def test_nothing_is_blamed_when_nobody_reads_on(command: str) -> None:
    """As `splitter models | head -1`: the reader of the pipe is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "splitter", command]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_the_card_of_the_weights_for_any_use_names_what_they_heard() -> None:
    card = (find_model("unet-free") / CARD).read_text("utf-8")
    rows = card.partition("## Makers")[2].partition("|---|---|---|\n")[2].splitlines()
    assert len(rows) > 30
    for licence, place, works in (row.strip("| ").split(" | ") for row in rows):
        assert is_free(licence)
        assert place.startswith("github.com/") and works


def test_models_of_several_licences_say_which_is_whose(tmp_path: Path) -> None:
    for name, licence in (("one", "CC0"), ("two", "MIT"), ("three", "CC0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.md").write_text(f"# {name}\n\nLicence: {licence}\n")
    (tmp_path / "four").mkdir()
    lines = list_licences([tmp_path / name for name in ("one", "two", "three", "four")])
    assert list(lines) == [
        "Licence of one, three: CC0",
        "Licence of two: MIT",
        "Licence of four: not stated",
    ]

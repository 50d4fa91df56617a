from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from splitter.registry import list_models
from tests.commands import call, start


def test_doctor_finds_nothing_wrong_here(tmp_path: Path) -> None:
    done = call("doctor", folder=tmp_path)
    assert done.status == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.match(r"splitter \S+, Python 3\.\d+", lines[0])
    assert re.search(r"torch \S+, computes on", done.stdout)
    assert "writes: wav, raw, flac, mp3, ogg, opus, m4a" in lines
    assert all(f"{name} separates" in lines for name in list_models())
    assert lines[-1] == "all is well"


def test_doctor_says_its_first_line_before_torch_is_there(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch is broken')")
    process = start("doctor", folder=tmp_path)
    output, complaints = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.startswith(b"splitter ") and b"all is well" not in output
    assert b"splitter: torch is broken" in complaints


def test_doctor_names_a_model_that_is_broken(
    tmp_path: Path, small_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(small_model_folder, tmp_path / "small")
    (tmp_path / "small" / "weights.safetensors").write_bytes(b"half a downl")
    monkeypatch.setattr("splitter.registry.models_folder", lambda: tmp_path)
    done = call("doctor", folder=tmp_path)
    assert done.status == 1
    assert "weights.safetensors: not a readable safetensors file" in done.stderr


def test_models_are_listed_with_hash_rate_stems_and_licence(tmp_path: Path) -> None:
    done = call("models", folder=tmp_path)
    assert done.status == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list_models()
    for line in lines:
        assert re.fullmatch(
            r"\S+( \(default\))?  [0-9a-f]{16}  \d+ Hz  [\d.]+ MB  vocals, instrumental  \S.*", line
        )
        assert re.search(r"licen[cs]e", line, re.IGNORECASE)

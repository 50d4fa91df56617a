"""What Tab offers, asked as the shells ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from splitter.catalogue import read_catalogue
from splitter.cli import splitter
from splitter.cli.separate import FORMATS
from splitter.networks import ARCHITECTURES
from splitter.registry import list_models
from splitter.weights.adding import ADAPTERS
from tests.commands import ENVIRONMENT


def offered(*typed: str) -> list[str]:
    shell = BashComplete(splitter, {}, "splitter", "_SPLITTER_COMPLETE")
    return [item.value for item in shell.get_completions(list(typed[:-1]), typed[-1])]


def test_commands_are_completed() -> None:
    assert offered("sep") == ["separate"]
    assert "listen" in offered("")


@pytest.mark.parametrize("command", [["separate", "-m"], ["listen", "-m"], ["train", "--init"]])
def test_models_are_completed_wherever_one_is_named(command: list[str]) -> None:
    assert set(list_models()) <= set(offered(*command, "unet"))
    assert offered(*command, "unet-f") == ["unet-fast", "unet-free"]


def test_several_models_with_commas_between_are_completed() -> None:
    assert offered("separate", "-m", "unet,unet-fa") == ["unet,unet-fast"]
    assert "unet,unet" not in offered("separate", "-m", "unet,")


def test_formats_stems_and_devices_are_completed() -> None:
    assert offered("separate", "--format", "") == list(FORMATS)
    assert offered("separate", "--stems", "") == ["vocals", "instrumental"]
    assert offered("separate", "--stems", "vocals,") == ["vocals,instrumental"]
    assert {"cpu", "cuda", "mps"} <= set(offered("separate", "--device", ""))


def test_songs_are_left_to_the_shell() -> None:
    shell = BashComplete(splitter, {}, "splitter", "_SPLITTER_COMPLETE")
    assert [item.type for item in shell.get_completions(["separate"], "so")] == ["file"]


def test_models_that_can_be_removed_or_fetched_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models/htdemucs-mine").mkdir(parents=True)
    (tmp_path / "models/htdemucs-mine/config.json").touch()
    monkeypatch.setattr("splitter.registry.cache_folder", lambda: tmp_path)
    assert offered("models", "remove", "") == ["htdemucs-mine"]
    assert offered("models", "get", "") == sorted(read_catalogue())
    name = next(iter(read_catalogue()))
    (tmp_path / "models/htdemucs-mine").rename(tmp_path / "models" / name)
    assert name not in offered("models", "get", "")
    assert offered("models", "get", "--catalogue", tmp_path.name, "") == []


def test_networks_and_families_are_completed() -> None:
    assert offered("train", "--network", "") == list(ARCHITECTURES)
    assert offered("models", "add", "--as", "") == list(ADAPTERS)
    assert offered("train", "--network", "conv") == ["conv-tasnet"]


SHELLS = {
    "bash": 'eval "$(_SPLITTER_COMPLETE=bash_source splitter)"; COMP_WORDS=(splitter separate -m '
    'unet-fa); COMP_CWORD=3; _splitter_completion splitter; echo "${COMPREPLY[@]}"',
    "fish": "_SPLITTER_COMPLETE=fish_source splitter | source; "
    "complete -C 'splitter separate -m unet-fa'",
    "zsh": "autoload -U compinit && compinit -u -d ./dump; "
    'eval "$(_SPLITTER_COMPLETE=zsh_source splitter)"; '
    'COMP_WORDS="splitter separate -m unet-fa" COMP_CWORD=3 '
    "_SPLITTER_COMPLETE=zsh_complete splitter",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shells_themselves_complete_a_model(tmp_path: Path, shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} here")
    command = tmp_path / "splitter"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c '
                       '"from splitter.cli import main; main()" "$@"\n')  # fmt: skip
    command.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [program, "-c", SHELLS[shell]],
        env={**ENVIRONMENT, "PATH": path, "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "unet-fast" in done.stdout, done.stderr

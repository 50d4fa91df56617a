"""The proofs that take long, in small portions: python scripts/… runs them in full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ENVIRONMENT, ROOT


def run_script(name: str, *arguments: object) -> None:
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr


def test_damaged_songs_neither_crash_nor_pass_for_whole(tmp_path: Path) -> None:
    run_script("fuzz.py", "--cases", 120, "--whole", 6, "--keep", tmp_path)


@pytest.mark.slow
def test_more_damaged_songs_neither_crash_nor_pass_for_whole(tmp_path: Path) -> None:
    run_script("fuzz.py", "--cases", 3000, "--whole", 60, "--seed", 1, "--keep", tmp_path)


@pytest.mark.slow
def test_killed_runs_leave_nothing_broken_and_the_next_completes() -> None:
    run_script("kill.py", "--times", 20, "--seconds", 15)


@pytest.mark.slow
def test_a_pipe_may_go_on_for_an_hour() -> None:
    run_script("endure.py", "--hours", 1, "--small")

"""What SECURITY.md promises, and that each of its promises has a test."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests import sounds
from tests.commands import ENVIRONMENT, ROOT

# CPython's audit events (PEP 578) of what a run on files of this machine has no reason to do
FORBIDDEN = (
    *("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "urllib.Request"),
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile"),
    *("pickle.find_class", "marshal.load"),
)
WATCHED = f"""
import os, sys, traceback

def watch(event, arguments):
    if event in {FORBIDDEN!r} and armed:
        traceback.print_stack()
        os.write(2, f"forbidden: {{event}} {{arguments}}".encode())
        os._exit(99)

armed = False
sys.addaudithook(watch)
from splitter.cli import main
sys.argv[0] = "splitter"
armed = True
main()
"""


def test_a_run_connects_to_nothing_starts_nothing_and_unpickles_nothing(
    small_model_folder: Path, tmp_path: Path
) -> None:
    for name in ("songs/a.wav", "songs/b.flac"):
        sounds.write(tmp_path / name, sounds.song(0.2))
    options = ["-o", "out", "--format", "mp3", "--model", str(small_model_folder)]
    command = [sys.executable, "-c", WATCHED, "separate", "songs", *options]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").rglob("*.mp3"))) == 4


def test_the_watch_sees_what_is_forbidden(tmp_path: Path) -> None:
    for code in (
        "__import__('os').system('true')",
        "__import__('pickle').loads(b'cos\\nsystem\\n.')",
    ):
        watched = WATCHED.replace("main()", code)
        done = subprocess.run([sys.executable, "-c", watched], env=ENVIRONMENT, capture_output=True)
        assert done.returncode == 99


def test_every_promise_names_a_test_that_there_is() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", text)
    assert len(named) > 15
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"
    promises = text[text.index("## Promised") : text.index("Not promised")].split("\n- ")[1:]
    assert all("::test_" in promise for promise in promises)

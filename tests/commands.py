"""The real command, run in this process (fast) or in one of its own (signals, pipes, start-up)."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from splitter.cli import main

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    status: int
    sound: bytes  # stdout
    stderr: str

    @property
    def stdout(self) -> str:
        return self.sound.decode("utf-8", "surrogateescape")

    @property
    def complaints(self) -> list[str]:
        return self.stderr.splitlines()


class Pipe(io.BytesIO):
    """Bytes that come, or go, once."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise io.UnsupportedOperation("seek")


def call(*arguments: object, folder: Path, stdin: bytes = b"") -> Done:
    """Run splitter in `folder`, in this process."""
    out, err = Pipe(), io.BytesIO()
    streams = {
        "stdin": io.TextIOWrapper(Pipe(stdin)),
        "stdout": io.TextIOWrapper(out, "utf-8", "surrogateescape", write_through=True),
        "stderr": io.TextIOWrapper(err, "utf-8", "backslashreplace", write_through=True),
    }
    with ExitStack() as undo:
        undo.callback(os.chdir, Path.cwd())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            undo.callback(signal.signal, number, signal.getsignal(number))
        undo.callback(logging.getLogger("splitter").handlers.clear)
        undo.enter_context(patch.object(sys, "argv", ["splitter", *map(str, arguments)]))
        for name, stream in streams.items():
            undo.enter_context(patch.object(sys, name, stream))
        os.chdir(folder)
        try:
            main()
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            return Done(stop.code, out.getvalue(), err.getvalue().decode())
    raise AssertionError("main() returned")


def start(*arguments: object, folder: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start splitter in `folder`, in a process of its own, all streams piped."""
    command = [sys.executable, "-m", "splitter", *map(str, arguments)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    defaults = {**pipes, "env": ENVIRONMENT}
    return subprocess.Popen(command, cwd=folder, **{**defaults, **options})


def files_below(folder: Path) -> list[Path]:
    """List all files, hidden ones too."""
    return sorted(path for path in folder.rglob("*") if path.is_file())

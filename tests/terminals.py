"""A real terminal for a command: what it writes, when, and what is on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

from tests.commands import ENVIRONMENT


@dataclass(frozen=True)
class Session:
    """What a command wrote to a terminal."""

    status: int
    written: list[tuple[float, str]]  # seconds after the start, text
    columns: int

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.written)

    @property
    def drawings(self) -> list[str]:
        """Everything that was drawn between two ends or beginnings of a line."""
        return [line for line in re.split(r"[\r\n]+", self.text) if line.strip()]

    def first(self, words: str) -> float:
        """Return the seconds until these words were there."""
        return next(when for when, text in self.written if words in text)


def run_in_terminal(*arguments: object, folder: Path, columns: int, **more: str) -> Session:
    """Run splitter in `folder` with all its streams in a terminal of so many columns."""
    process, terminal = pty.fork()
    if process == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.chdir(folder)
        command = [sys.executable, "-m", "splitter", *map(str, arguments)]
        os.execve(sys.executable, command, {**ENVIRONMENT, **more})
    started, written, rest = time.monotonic(), [], b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # as Linux says that the other end is closed
            break
        if not data:
            break
        text = (rest + data).decode("utf-8", "ignore")
        rest = (rest + data)[len(text.encode()) :]
        written.append((time.monotonic() - started, text))
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    return Session(os.waitstatus_to_exitcode(status), written, columns)

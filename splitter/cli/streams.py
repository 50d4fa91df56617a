"""Streams in an odd state, as daemons, full disks and readers that have left make them.

What is said must never stop what is done: the exit status tells.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def fill_streams() -> None:
    """Have all three streams open, if only to nowhere.

    Else a file would get the number of a stream, and libraries would write their messages into it.
    """
    with suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(number, True)
        os.close(number)


def bear_any_text() -> None:
    """Have what stdout and stderr cannot encode written as an escape, not end the program."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            if stream.encoding.lower() not in ("utf-8", "utf8"):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def lose_stdout() -> None:
    """Let what else is written to stdout go nowhere, also what Python still holds."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)

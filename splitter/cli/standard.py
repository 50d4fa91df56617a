"""A song on standard input, a stem on standard output."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from splitter.collisions import tell_replaced
from splitter.errors import AudioError
from splitter.outputs import Target


class _Behind(io.FileIO):
    """A file in which an encoder cannot go back: it would write over what was there, or behind."""

    def seekable(self) -> bool:
        return False


def find_stdout() -> BinaryIO:
    """Return standard output, as a stem is written to it."""
    stdout = sys.stdout.buffer
    if stdout.seekable() and (stdout.seek(0, os.SEEK_END) or _appends(stdout.fileno())):
        return cast(BinaryIO, _Behind(stdout.fileno(), "wb", closefd=False))
    return stdout


def find_stdin() -> BinaryIO:
    """Return standard input; raise AudioError if there is none."""
    if sys.stdin is None:
        raise AudioError("-: standard input is closed")
    return sys.stdin.buffer


def check_stdin(targets: Iterable[Target]) -> None:
    """Raise AudioError for a stem that would replace the file that standard input reads."""
    with suppress(OSError):  # it may be no file at all
        song = os.fstat(find_stdin().fileno())
        for path in targets:
            if isinstance(path, Path) and path.exists() and os.path.samestat(song, path.stat()):
                raise AudioError(tell_replaced(path))


def _appends(descriptor: int) -> bool:
    """Tell whether all that is written lands at the end of a file, as by >> in a shell."""
    try:
        from fcntl import F_GETFL, fcntl
    except ImportError:  # Windows
        return False
    return bool(fcntl(descriptor, F_GETFL) & os.O_APPEND)

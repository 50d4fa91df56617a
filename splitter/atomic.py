"""Small files that are whole, or not there at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with making(path) as beside:
        beside.write_bytes(content)


@contextmanager
def making(path: Path) -> Iterator[Path]:
    """Give a place beside a file, which gets its name when it is whole.

    Processes, of one machine or of several, may write the same file at the same time.
    """
    beside = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield beside
        beside.replace(path)
    except BaseException:  # a disk may be full: no part may stay on it
        with suppress(OSError):
            beside.unlink()
        raise

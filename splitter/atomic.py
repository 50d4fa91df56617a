"""Small files that are whole, or not there at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_atomically(path: Path, content: bytes, shared: bool = False) -> None:
    """Write a file, whole or not at all; see `making`."""
    with making(path, shared) as beside:
        beside.write_bytes(content)


@contextmanager
def making(path: Path, shared: bool = False) -> Iterator[Path]:
    """Give a place beside a file, which gets its name when it is whole.

    A `shared` file, as of a cache, may be written by several processes at the same time, also of
    several machines. What a kill leaves of any other is written over the next time.
    """
    unique = f".{secrets.token_hex(8)}" * shared
    beside = path.with_name(f".{path.name}{unique}.part")
    try:
        yield beside
        beside.replace(path)
    except BaseException:  # a disk may be full: no part may stay on it
        with suppress(OSError):
            beside.unlink()
        raise

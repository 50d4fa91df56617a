"""Small files, and folders, that are whole, or not there at all."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART = ".part"
_ABANDONED = 3600  # seconds without a write, after which a part belongs to nobody any more


def write_atomically(path: Path, content: bytes, shared: bool = False) -> None:
    """Write a file, whole or not at all; see `making`."""
    with making(path, shared) as beside, beside.open("xb") as file:
        file.write(content)


@contextmanager
def making(path: Path, shared: bool = False) -> Iterator[Path]:
    """Give a place beside a file, which gets its name when it is whole.

    A `shared` file, as of a cache, may be written by several processes at the same time, also of
    several machines; what a kill leaves of it stays until `remove_abandoned` is called. What a kill
    leaves of any other is removed the next time, and so is a link that somebody has put there:
    through it another file would be written.
    """
    unique = f".{secrets.token_hex(8)}" * shared
    beside = path.with_name(f".{path.name}{unique}{PART}")
    beside.unlink(missing_ok=True)
    try:
        yield beside
        beside.replace(path)
    except BaseException:  # a disk may be full: no part may stay on it
        with suppress(OSError):
            beside.unlink()
        raise


def remove_abandoned(folder: Path) -> None:
    """Remove the files that killed processes left in a folder."""
    for part in find_abandoned(folder):
        with suppress(OSError):
            part.unlink()


def find_abandoned(folder: Path) -> Iterator[Path]:
    """Find what killed processes left in a folder: parts that nobody has written for an hour.

    The whole folder is listed for it, so it is not for each file of many.
    """
    for part in folder.glob(f".*{PART}"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > _ABANDONED:
                yield part


def remove_folder(folder: Path) -> None:
    """Delete a folder, or a link to one, as a whole; what a kill leaves of it bears no name."""
    if folder.is_symlink():
        folder.unlink()
        return
    gone = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{PART}")
    folder.rename(gone)  # where nobody may, nothing is lost
    shutil.rmtree(gone)

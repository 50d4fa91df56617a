"""Files that have their name only when they are whole."""

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import av
import soundfile

from splitter.errors import AudioError

_locks: ModuleType | None
try:
    import fcntl as _locks
except ImportError:  # Windows
    _locks = None

_ABANDONED = 3600  # seconds without a write, after which a part belongs to nobody any more
_TRIES = 3  # to open a file in a folder that someone else may be removing


class PartFile:
    """A file in the making, beside its target under a hidden name.

    Folders that are missing are made, and removed again if nothing came of the file.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        digest = hashlib.sha256(target.name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        with report_errors(target):
            _remove_abandoned(target.parent, f".{digest}-*.part")
            self._made = _find_missing(target.parent)
            self.path = target.with_name(f".{digest}-{secrets.token_hex(4)}.part")
            self.file = _open_new(self.path)
            _lock(self.file)

    def commit(self) -> None:
        """Give the file its name."""
        with report_errors(self.target):
            self.file.close()
            self.path.replace(self.target)
            self._made = []

    def abandon(self) -> None:
        """Let what is still written go nowhere: libraries write as they end, to a full disk too."""
        if not self.file.closed:
            with Path(os.devnull).open("r+b", buffering=0) as nowhere:
                os.dup2(nowhere.fileno(), self.file.fileno())

    def discard(self) -> None:
        """Remove the file, unless it has got its name."""
        with report_errors(self.target):
            self.abandon()
            self.file.close()
            self.path.unlink(missing_ok=True)
            with suppress(OSError):  # there is something else in them by now
                while self._made:
                    self._made.pop(0).rmdir()


def _find_missing(folder: Path) -> list[Path]:
    """Return the folders that are not there, the innermost first."""
    return list(takewhile(lambda path: not path.exists(), (folder, *folder.parents)))


def _open_new(path: Path) -> BinaryIO:
    """Open a new file, in folders that are made where they are missing."""
    for _ in range(_TRIES - 1):
        with suppress(FileNotFoundError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb+")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("xb+")


def _remove_abandoned(folder: Path, pattern: str) -> None:
    """Remove what a killed run left of the same target."""
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError), path.open("rb") as file:
            if _lock(file) or time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink(missing_ok=True)


def _lock(file: BinaryIO) -> bool:
    """Take the lock of a part, which its writer holds until it ends, and be it by a kill.

    False if someone has it, or if this file system knows no locks.
    """
    if _locks is None:
        return False
    try:
        _locks.flock(file, _locks.LOCK_EX | _locks.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def report_errors(target: Path | str) -> Iterator[None]:
    """Turn what goes wrong while a file is written into one clear error; a closed pipe is none."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, ArithmeticError, av.FFmpegError, soundfile.SoundFileError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{target}: cannot be written ({reason})") from error

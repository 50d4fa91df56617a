"""Files that have their name only when they are whole."""

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

import av
import soundfile

from splitter.errors import AudioError, reason
from splitter.locks import try_lock

_ABANDONED = 3600  # seconds without a write, after which a part belongs to nobody any more
PARTS = ("", "floats")  # kinds of files in the making: the stem itself, and what it waits in
_TRIES = 3  # to open a file in a folder that someone else may be removing


class PartFile:
    """A file in the making, beside its target under a hidden name.

    Folders that are missing are made, and removed again if nothing came of the file. What a killed
    run left of the same target is removed. Raises AudioError if a living run writes the same.
    """

    def __init__(self, target: Path, kind: str = "") -> None:
        self.target = target
        with report_errors(target):
            self._made = _find_missing(target.parent)
            self.path = target.with_name(f".{_digest(target, kind)}-{secrets.token_hex(4)}.part")
            self.file = _open_new(self.path)
            try:
                try_lock(self.file)
                self._folder = _Folder(self.path.parent)
            except OSError:
                self.file.close()
                self.path.unlink()
                raise
        # after our own is there: of two that begin at once, at least one sees the other
        if remove_parts(target, kind, self.path):
            self.discard()
            raise AudioError(f"{target}: another run is writing it; wait for its end")

    def check(self) -> None:
        """Raise AudioError if the file is no longer where it was."""
        with report_errors(self.target):
            self._folder.check()

    def commit(self) -> None:
        """Give the file its name."""
        with report_errors(self.target):
            self.file.close()
            self._folder.check()
            self._folder.rename(self.path.name, self.target.name)
            self._folder.close()
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
            self._folder.remove(self.path.name)
            self._folder.close()
            with suppress(OSError):  # there is something else in them by now
                while self._made:
                    self._made.pop(0).rmdir()


class _Folder:
    """A folder that stays the same one, also if somebody moves it meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # O_PATH, where there is one: a folder that takes files may show none (-wx)
        flags = getattr(os, "O_PATH", os.O_RDONLY)
        self._number = os.open(path, flags) if os.open in os.supports_dir_fd else None

    def check(self) -> None:
        """Raise OSError if the folder is no longer where it was."""
        if self._number is None:
            return
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._number), self._path.stat()):
                return
        raise OSError(None, "its folder has been moved")

    def rename(self, old: str, new: str) -> None:
        if self._number is None:
            self._path.joinpath(old).replace(self._path / new)
        else:
            os.replace(old, new, src_dir_fd=self._number, dst_dir_fd=self._number)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            if self._number is None:
                self._path.joinpath(name).unlink()
            elif self._number >= 0:
                os.unlink(name, dir_fd=self._number)

    def close(self) -> None:
        if self._number is not None and self._number >= 0:
            os.close(self._number)
            self._number = -1


def remove_parts(target: Path, kind: str = "", mine: Path | None = None) -> bool:
    """Remove what killed runs have left of a file; tell whether a living one writes it."""
    living = False
    start = f".{_digest(target, kind)}-"
    for name in _list_names(target.parent):
        if not (name.startswith(start) and name.endswith(".part")):
            continue
        path = target.with_name(name)
        if path == mine:
            continue
        with suppress(FileNotFoundError):
            with path.open("rb") as file:
                locked = try_lock(file)
                old = time.time() - path.stat().st_mtime > _ABANDONED
                dead = locked or (locked is None and old)
                if dead and os.name != "nt":
                    path.unlink()
            if dead and os.name == "nt":
                try:
                    path.unlink()
                except PermissionError:  # Windows removes no file that somebody has open
                    locked = False
            living = living or locked is False
    return living


def _list_names(folder: Path) -> list[str]:
    with suppress(OSError):
        return os.listdir(folder)  # noqa: PTH208 - called for each stem
    return []


def _digest(target: Path, kind: str) -> str:
    name = f"{kind}/{target.name}" if kind else target.name
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]


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


@contextmanager
def report_errors(target: Path | str) -> Iterator[None]:
    """Turn what goes wrong while a file is written into one clear error; a closed pipe is none."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, ArithmeticError, av.FFmpegError, soundfile.SoundFileError) as error:
        raise AudioError(f"{target}: cannot be written ({reason(error)})") from error

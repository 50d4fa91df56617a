"""Files that have their name only when they are whole."""

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import IO, BinaryIO

import av
import soundfile

from splitter.errors import AudioError, reason
from splitter.locks import try_lock
from splitter.paths import open_plain

_ABANDONED = 3600  # seconds without a write, after which a part belongs to nobody any more
PARTS = ("", "floats")  # kinds of files in the making: the stem itself, and what it waits in
_TRIES = 3  # to open a file in a folder that someone else may be removing


class PartFile:
    """A file in the making, beside its target under a hidden name, which is locked.

    Folders that are missing are made, and removed again if nothing came of the file. What a killed
    run left of the same target is removed. Raises AudioError if a living run writes the same.
    """

    def __init__(self, target: Path, kind: str = "") -> None:
        self.target = target
        with report_errors(target):
            self._made = _find_missing(target.parent)
            self.path, self.file = _open_part(target, kind)
            self._lock: int | None = None
            try:
                self._folder = _Folder(self.path.parent)
                if os.name != "nt":  # where a file that is open can neither be removed nor renamed
                    self._lock = os.dup(self.file.fileno())
            except OSError:
                self.path.unlink()
                self.file.close()
                raise

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
            self._close()
            self._made = []

    def abandon(self) -> None:
        """Let what is still written go nowhere: libraries write as they end, to a full disk too."""
        if not self.file.closed:
            # too many files may be open, or /dev be missing: it is to be removed nonetheless
            with suppress(OSError), Path(os.devnull).open("r+b", buffering=0) as nowhere:
                os.dup2(nowhere.fileno(), self.file.fileno())

    def discard(self) -> None:
        """Remove the file, unless it has got its name."""
        with report_errors(self.target):
            self.abandon()
            self.file.close()
            self._folder.remove(self.path.name)
            self._close()
            with suppress(OSError):  # there is something else in them by now
                while self._made:
                    self._made.pop(0).rmdir()

    def _close(self) -> None:
        """Let go of the folder, and of the lock: the name is another run's from now on."""
        self._folder.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


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


def remove_parts(target: Path) -> None:
    """Remove what killed runs have left of a file."""
    for kind in PARTS:
        _remove_dead(_name_part(target, kind))


def _name_part(target: Path, kind: str, more: str = "") -> Path:
    """Name a part: always alike, so that nobody has to look for those of other runs."""
    name = f"{kind}/{target.name}" if kind else target.name
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return target.with_name(f".{digest}{more}.part")


def _open_part(target: Path, kind: str) -> tuple[Path, BinaryIO]:
    """Open a part that is this run's alone; raise AudioError if a living run has it.

    Where nobody can tell whether another one lives, as on disks without locks, it is left alone,
    and this one gets a name that no other has.
    """
    path = _name_part(target, kind)
    for _ in range(_TRIES):
        try:
            file = _open_new(path)
        except FileExistsError:
            if not path.parent.is_dir():
                raise
        else:
            if try_lock(file) is not False and _is_at(path, file):
                return path, file
            file.close()  # another run took it for a dead one's before it was locked
        dead = _remove_dead(path)
        if dead is False:
            break
        if dead is None:
            path = _name_part(target, kind, f"-{secrets.token_hex(4)}")
    raise AudioError(f"{target}: another run is writing it; wait for its end")


def _remove_dead(path: Path) -> bool | None:
    """Remove a part that a killed run has left; tell whether its name is free by now.

    False: a living run writes it. None: nobody can tell, or it is none of ours.
    """
    try:
        if os.name == "nt":
            path.unlink()
            return True
        with open_plain(path, "r+b") as file:
            locked = try_lock(file)
            if locked is None and time.time() - os.fstat(file.fileno()).st_mtime > _ABANDONED:
                locked = True
            if locked and _is_at(path, file):  # else another run was faster
                path.unlink()
            return locked
    except FileNotFoundError:
        return True
    except OSError:
        return False if os.name == "nt" else None  # there it removes no file that somebody has open


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Tell whether an open file still has its name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


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

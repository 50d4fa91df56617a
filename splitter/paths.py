"""Where files lie: in folders, or in stores that URLs name (s3://, gs://, …).

Names that strangers chose meet a path in two places only: `is_plain_name` says which of them are
taken, and `place_inside` joins them to a folder that they cannot leave.

What a URL becomes has what is used of a path here: joining, opening, listing. It is no `Path`, and
`is_local` tells them apart; only `engines.stores` and `jobs` ever meet one.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Hashable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePath, PureWindowsPath
from typing import IO, Any

from splitter.errors import MissingExtra, SplitterError

STORES = ("s3", "gs", "memory")  # the last one lives in this process, for tests
NAME_BYTES = 100  # in UTF-8: leaves room for a suffix, and for a mark that a file is not whole yet
FILE_BYTES = 255  # in UTF-8: the longest name of a file nearly everywhere
SEPARATORS = '<>:"/\\|?*'  # what a name cannot hold on one system or another
DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{device}{digit}" for device in ("COM", "LPT") for digit in "0123456789¹²³"
}  # of Windows, with any suffix and in any case


def is_plain_name(name: str) -> bool:
    """Tell whether a text can be the name of a file, and of nothing else, on every system."""
    return (
        name.isprintable()
        and 0 < len(name.encode()) <= NAME_BYTES
        and not set(SEPARATORS).intersection(name)
        and not name.startswith((".", "-", " "))
        and not name.endswith((".", " "))
        and not is_device(name)
    )


def is_device(name: str) -> bool:
    """Tell whether Windows takes a name for a device's."""
    return name.partition(".")[0].rstrip().upper() in DEVICES


def count_bytes(name: str) -> int:
    """Return the length of a file's name in UTF-8."""
    return len(name.encode("utf-8", "surrogateescape"))


def cut_name(name: str, most: int) -> str:
    """Return as much of a name as fits into a number of bytes, cut between two characters."""
    name = name[: max(most, 0)]  # a character takes a byte or more
    while name and count_bytes(name) > most:
        name = name[:-1]
    return name.rstrip()


def place_inside(folder: Path, name: str) -> Path:
    """Return the path of a file below a folder, by its name or relative path.

    Raises SplitterError for one that leads elsewhere, or that no file can have.
    """
    kind = PureWindowsPath if os.name == "nt" else PurePath
    path = kind(name)
    if path.anchor or not path.name or ".." in path.parts or "\0" in name:
        raise SplitterError(f"{name!r}: leads out of {folder}, where it belongs")
    return folder / name


def check_plain_file(place: Path) -> None:
    """Raise OSError for a pipe, a device or a folder: reading it may never end."""
    if os.path.exists(place) and not place.is_file():  # noqa: PTH110 - Path's own would raise
        raise OSError(errno.EINVAL, "not a plain file")


def open_plain(path: Path, mode: str) -> IO[bytes]:
    """Open a file that lies in its folder: no link, whoever made it, and nothing that may hang."""
    harmless = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    file = open(  # noqa: SIM115 - a path's own has no opener
        path, mode, buffering=0, opener=lambda name, flags: os.open(name, flags | harmless, 0o666)
    )
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    return file


def open_path(place: str) -> Path:
    """Turn a path or URL into a path, or something that serves as one.

    Raises SplitterError for a kind of place that is none of STORES, and MissingExtra when the
    package for one is not installed.
    """
    scheme, mark, rest = place.partition("://")
    if not mark or not scheme.isalnum():
        return Path(place)
    if scheme == "file":
        return Path(rest)
    if scheme in ("http", "https"):
        raise SplitterError(f"{place}: write curl -sL {shlex.quote(place)} | splitter separate -")
    if scheme not in STORES:
        known = ", ".join(f"{store}://" for store in STORES if store != "memory")
        raise SplitterError(f"{place}: cannot be opened; download it, or name a file or {known}")
    if scheme != "memory" and not rest.strip("/"):
        raise SplitterError(f"{place}: names no bucket; write {scheme}://bucket/folder")
    try:
        from upath import UPath

        # `objects` tries again, and says for how long; paths are equal if their options are, and
        # botocore would write into the first one's what their mode is by default
        retries = {"total_max_attempts": 1, "mode": "legacy"}
        once = {"config_kwargs": {"retries": retries}} if scheme == "s3" else {}
        open_url: Any = UPath
        opened = open_url(place, **once)
        opened.fs.retries = 3  # imports the package of the store
    except ImportError as error:
        raise MissingExtra(scheme) from error
    return opened  # type: ignore[no-any-return]


def take_path(place: Path | str) -> Path:
    """Return the path that a text names; raise SplitterError for a URL: a path would hide it."""
    scheme, mark, _ = str(place).partition("://")
    if mark and scheme.isalnum():
        way_out = "only the command reads and writes in stores"
        raise SplitterError(f"{place}: is a URL, no place here; {way_out}")
    return Path(place)


def is_local(place: Path) -> bool:
    """Tell a path from what a URL became."""
    return isinstance(place, Path)


def is_folder(place: Path) -> bool:
    """Tell whether there is a folder; where nobody may look, there is none."""
    return os.path.isdir(place) if is_local(place) else place.is_dir()  # noqa: PTH112


@dataclass(frozen=True)
class Entry:
    """What the listing of a folder says of a file or a folder in it."""

    path: Path
    is_folder: bool  # a link to one is none: it may lead in a circle
    is_file: bool


def list_folder(folder: Path) -> list[Entry]:
    """List a folder in the order of names, but for what is hidden; raise OSError if nobody may."""
    with os.scandir(folder) as listed:
        shown = sorted((entry for entry in listed if entry.name[0] != "."), key=lambda e: e.name)
    return [
        Entry(folder / entry.name, entry.is_dir(follow_symlinks=False), _is_file(entry))
        for entry in shown
    ]


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Tell what may be a song from folders; a link that leads nowhere counts, to be told of."""
    with suppress(OSError):  # a link to itself
        if entry.is_file() or entry.is_dir():
            return entry.is_file()
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110


@dataclass(frozen=True)
class Facts:
    """What is known of a file without reading it."""

    size: int = 0  # bytes
    mtime: float = 0.0  # seconds since 1970
    identity: Hashable = None  # the same for all names of a file; None: unknown


def look_at(file: Path) -> Facts:
    """Look at a file; of one that is not there nothing is known."""
    with suppress(OSError):
        found = file.stat()
        identity = (found.st_dev, found.st_ino) if found.st_ino else None
        return Facts(found.st_size, found.st_mtime, identity)
    return Facts()


def is_there(place: Path) -> bool:
    """Tell whether there is a file, a folder, or a link; where nobody may look, there is none."""
    if is_local(place):
        return os.path.lexists(place)
    with suppress(UnicodeError, PermissionError):  # a name that a store cannot hold
        return place.exists()
    return False


def is_file(place: Path) -> bool:
    """Tell whether there is a file on a disk here; where nobody may look, there is none."""
    return os.path.isfile(place)  # noqa: PTH113 - Path's own would raise


def find_folder(place: Path) -> Path:
    """Return the folder of a file, without what leads up and down again."""
    return Path(os.path.abspath(place)).parent if is_local(place) else place.parent  # noqa: PTH100


def is_pipe(place: Path) -> bool:
    """Tell whether a path is one that can be read but once, such as bash's <(…)."""
    there = is_local(place) and os.path.exists(place)  # noqa: PTH110 - Path's own would raise
    return there and not (is_file(place) or is_folder(place))


def locate(place: Path) -> Path:
    """Return the one path of a file, however its folder was spelled or reached.

    A link to a file keeps its own name: it may be another song's, with stems of its own.
    """
    if not is_local(place):
        return place.absolute()
    return _locate(str(place), "" if place.is_absolute() else os.getcwd())  # noqa: PTH109


def locate_folder(place: Path) -> Path:
    """Return the one path of a folder."""
    return Path(os.path.realpath(place)) if is_local(place) else place.absolute()


@lru_cache(4096)
def _locate(place: str, here: str) -> Path:
    """Locate a file, which is asked for some ten times while its song is done."""
    folder, name = os.path.split(os.path.join(here, place))  # noqa: PTH118
    return Path(_resolve(folder), name)


@lru_cache(4096)
def _resolve(folder: str) -> str:
    """Follow the links in the path of a folder, looking only once at those above it."""
    if os.name == "nt":  # names have the case that the disk has, whatever was typed
        return os.path.realpath(folder)
    above, name = os.path.split(folder)
    if name in ("", os.curdir, os.pardir) or os.path.islink(folder):  # noqa: PTH114
        return os.path.realpath(folder)
    return os.path.join(_resolve(above), name)  # noqa: PTH118


def glob_all(root: Path, pattern: str) -> Iterator[Path]:
    """Yield what a glob finds, also through links, but nothing hidden, and no folder twice."""
    deep, _, name = pattern.rpartition("**/")
    if not deep and "**" not in pattern:
        yield from (path for path in root.glob(pattern) if not path.name.startswith("."))
        return
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = sorted(each for each in folders if real not in seen and each[0] != ".")
        if real not in seen:
            shown = (each for each in files if each[0] != "." and fnmatchcase(each, name))
            yield from (Path(folder, each) for each in shown)
        seen.add(real)

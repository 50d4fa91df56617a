"""Songs among files and in folders, and what there is that is no song."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import lru_cache
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path, PurePath
from typing import Any

from splitter.audio import CONTAINERS, SUFFIXES, read_mark
from splitter.errors import DataError, reason
from splitter.objects import list_tree, patiently
from splitter.paths import (
    Facts,
    is_folder,
    is_local,
    list_folder,
    locate,
    locate_folder,
    look_at,
    open_path,
)

HEAD = 400  # bytes that tell a song from a picture
LOOKED_AT = 1000  # files in folders that are left out
SIGNATURES = (  # at the very start of a file
    b"fLaC", b"OggS", b"ID3", b"caff", b".snd", b"wvpk", b"MAC ", b"MPCK", b"MP+", b"TTA", b"DSD ",
    b"FRM8", b"#!AMR", b"riff.\x91\xcf\x11", b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11", b"\x0bw",
    b"FLV\x01", b"\0\0\x01\xba", b"Creative Voice File\x1a", b".RMF\0\0\0",
    b"\x7f\xfe\x80\x01", b"\xfe\x7f\x01\x80", b"\x1f\xff\xe8\0", b"\xff\x1f\0\xe8",  # DTS
)  # fmt: skip
TRANSPORT = ((188, 0), (192, 4))  # bytes of MPEG-TS's packets, and of what Blu-ray puts before each
CHUNKED = {
    b"RIFF": (b"WAVE", b"AVI "),
    b"RF64": (b"WAVE",),
    b"BW64": (b"WAVE",),
    b"RIFX": (b"WAVE",),
    b"FORM": (b"AIFF", b"AIFC"),
}
PICTURES = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"crx ")  # brands of MP4's family

log = logging.getLogger(__name__)


def _refuse(error: DataError) -> None:
    raise error


@dataclass(frozen=True)
class Search:
    """Which files of a folder are looked at."""

    recursive: bool = False
    include: Sequence[str] = ()  # globs of a name, or, with a slash, of a path below the folder
    exclude: Sequence[str] = ()
    skip: Container[Path] = ()  # located: folders to stay out of
    made: Container[Path] = ()  # located: files that splitter made
    complain: Callable[[DataError], None] = _refuse  # is told of folders that cannot be read
    quiet: bool = False  # do not tell what was left out

    def wants(self, relative: PurePath) -> bool:
        """Tell whether the globs let a file in."""
        return (not self.include or _matches(relative, self.include)) and self.enters(relative)

    def enters(self, relative: PurePath) -> bool:
        """Tell whether the globs let a folder in."""
        return not _matches(relative, self.exclude)


@dataclass(frozen=True)
class Found:
    """A song file, and where it lay below the folder that was searched."""

    path: Path
    parent: PurePath = field(default_factory=PurePath)
    facts: Facts | None = field(default=None, compare=False)  # that came with a listing

    def look(self) -> Facts:
        """Say what is known of the file."""
        if self.facts or is_local(self.path):
            return self.facts or look_at(self.path)
        try:
            found = patiently(self.path.stat)
        except Exception:  # stores have errors of their own kinds; when its turn comes it is told
            return Facts()
        return Facts(found.st_size, found.st_mtime)


class LeftOut:
    """Files that are left out for one reason, which is told once."""

    def __init__(self, reason: str) -> None:
        self._reason = reason
        self._count = 0
        self._first: Path | None = None

    def count(self, path: Path) -> None:
        """Pass a file over."""
        self._count += 1
        self._first = self._first or path

    def tell(self) -> None:
        """Say how many there were, if any."""
        if self._count:
            files = f"{self._count} files, such as " if self._count > 1 else ""
            log.info("left out %s%s: %s", files, self._first, self._reason)


def find_songs(places: Iterable[Path], search: Search = Search()) -> Iterator[Found]:
    """Yield the songs among files and in folders, in the order of their names.

    A file that is named itself counts as a song whatever it holds, but for globs; in a folder,
    content decides, and what splitter made is none. Raises DataError for a folder that cannot be
    read, unless the search knows better.
    """
    stems = LeftOut("stems of an earlier run; to separate one, name it")
    for place in places:
        if is_folder(place):
            yield from _find_inside(place, search, stems)
        elif search.wants(PurePath(place.name)):
            yield Found(place)
    if not search.quiet:
        stems.tell()


def _find_inside(place: Path, search: Search, stems: LeftOut) -> Iterator[Found]:
    for one in _walk(place, search):
        if not search.wants(one.parent / one.path.name):
            log.debug("%s: left out by a glob", one.path)
        elif one.facts and not one.facts.size and one.path.suffix.lower() not in SUFFIXES:
            log.debug("%s: empty, skipped", one.path)  # as stores have them in place of folders
        elif _is_stem(one.path, search):
            stems.count(one.path)
        elif is_song(one.path):
            yield one
        else:
            log.debug("%s: no song, skipped", one.path)


def find_left_out(place: Path, search: Search) -> Path | None:
    """Find a folder in a folder that holds songs, which nobody would look for without -r.

    A few files are looked at, and only their names say what they are: it is one line for a person.
    """
    if not is_local(place):  # what lies deeper there would have to be listed
        return None
    with suppress(OSError):  # a folder that cannot be read: it is told when its songs are wanted
        folders = (entry.path for entry in list_folder(place) if entry.is_folder)
        files = ((folder, one) for folder in folders for one in _walk_below(folder, search))
        for folder, one in islice(files, LOOKED_AT):
            wanted = search.wants(one.parent / one.path.name)
            if wanted and one.path.suffix.lower() in SUFFIXES and not _is_stem(one.path, search):
                return folder
    return None


def _walk_below(folder: Path, search: Search) -> Iterator[Found]:
    """Yield the files of a folder in a folder, as if with -r."""
    below = PurePath(folder.name)
    if search.enters(below) and locate_folder(folder) not in search.skip:
        with suppress(DataError):
            yield from _walk_folder(folder, below, replace(search, recursive=True))


def read_names(names: bytes) -> Iterator[Found]:
    """Read names that end in NUL, as `find -print0` prints them; relative ones keep their tree."""
    for name in re.finditer(rb"[^\0]+", names):
        path = open_path(os.fsdecode(name[0]))
        inside = is_local(path) and not path.is_absolute() and ".." not in path.parts
        yield Found(path, path.parent if inside else PurePath())


def is_song(path: Path) -> bool:
    """Tell a song from what else lies in a folder: by its content, or else by its name."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if not is_local(path):
        return _is_stored_song(path)
    try:
        with path.open("rb") as file:
            return has_sound(file.read(HEAD))
    except OSError as error:
        log.debug("%s: cannot be opened (%s)", path, reason(error))
        return False


def _is_stored_song(place: Any) -> bool:
    """Tell an object that is a song from others; of what cannot be read its own turn will tell."""
    try:
        return has_sound(patiently(lambda: place.fs.cat_file(place.path, start=0, end=HEAD)))
    except Exception as error:  # stores have errors of their own kinds
        log.debug("%s: cannot be read (%s)", place, error)
        return True


def has_sound(head: bytes) -> bool:
    """Tell from the first bytes whether a file is of a kind that holds sound."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in PICTURES
    chunked = CHUNKED.get(head[:4])
    if chunked:
        return head[8:12] in chunked
    return head.startswith(SIGNATURES) or _is_mpeg_frame(head[:4]) or _is_transport(head)


def _is_transport(head: bytes) -> bool:
    """Know MPEG-TS by the byte that begins each packet (ISO 13818-1, 2.4.3.2)."""
    return any(head[start : 2 * size + start + 1 : size] == b"GGG" for size, start in TRANSPORT)


def _walk(place: Path, search: Search) -> Iterator[Found]:
    """Yield the files of a folder, songs or not, but for hidden ones: they are not ours."""
    return (
        _walk_folder(place, PurePath(), search) if is_local(place) else _walk_store(place, search)
    )


def _walk_folder(folder: Path, parent: PurePath, search: Search) -> Iterator[Found]:
    """Yield a folder's own files before those below it.

    A link to a folder is not followed: it may lead in a circle.
    """
    try:
        entries = list_folder(folder)
    except OSError as error:
        way_out = f"; --exclude '{folder.name}' leaves it out" if parent.parts else ""
        search.complain(DataError(f"{folder}: cannot be read ({reason(error)}){way_out}"))
        return
    yield from (Found(entry.path, parent) for entry in entries if entry.is_file)
    if search.recursive:
        here = locate_folder(folder)
        for entry in entries:
            below = parent / entry.path.name
            if entry.is_folder and search.enters(below) and here / below.name not in search.skip:
                yield from _walk_folder(entry.path, below, search)


def _walk_store(place: Path, search: Search) -> Iterator[Found]:
    """Yield objects in the order of their keys, which is that of a store's listing."""

    def skips(folder: str) -> bool:
        below = PurePath(folder)
        hidden = below.name.startswith(".") or not search.recursive
        return hidden or not search.enters(below) or place / folder in search.skip

    skips = lru_cache(64)(skips)
    try:
        for parent, files in groupby(list_tree(place, skips), itemgetter(0)):
            # a key may have two slashes in a row, or dots, which would lead out of a folder
            here = PurePath(*(part for part in parent.split("/") if part not in ("", ".", "..")))
            for _, found in files:
                path = place / found.key
                if not path.name.startswith("."):
                    yield Found(path, here, found.facts)
    except Exception as error:  # stores have errors of their own kinds
        raise DataError(f"{place}: cannot be listed ({reason(error)})") from error


def _is_stem(path: Path, search: Search) -> bool:
    if locate(path) in search.made:
        return True
    marked = path.suffix.lower().removeprefix(".") in CONTAINERS and is_local(path)
    return marked and read_mark(path) is not None


def _matches(relative: PurePath, globs: Sequence[str]) -> bool:
    return bool(globs) and any(
        fnmatch(relative.as_posix() if "/" in glob else relative.name, glob) for glob in globs
    )


def _is_mpeg_frame(head: bytes) -> bool:
    """Know the header of MPEG audio (ISO 11172-3, 2.4.1.3), or ADTS, from UTF-16 text."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    if head[1] & 0xF6 == 0xF0:
        return True  # ADTS: no layer
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    return version != 1 and layer in (1, 2) and head[2] >> 4 != 15 and head[2] >> 2 & 3 != 3

"""Songs whose stems would have one name, kept apart.

The stems of `01 Track.mp3` and `01 Track.flac` are named after the whole names, suffix and all. If
that is not enough, the song's folder is named instead, then both, then a hash of its path. All
songs of one folder that would write one file are marked alike, whatever their order. So is a song
whose stems would need a folder where a file lies, such as another song.

One file is what some disk takes for one: names that differ in case only are kept apart everywhere,
so that a library can move to another disk.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Container, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from splitter.errors import DataError
from splitter.paths import NAME_BYTES, cut_name, find_folder, is_file, is_local, is_there, locate
from splitter.templates import fold_name

Stems: TypeAlias = Mapping[str, Path]  # name → file

log = logging.getLogger(__name__)


def keep_apart(
    songs: Sequence[Path], name: Callable[[int, str], Stems], taken: Container[str] = ()
) -> list[Stems]:
    """Name the stems of all songs, so that no two songs write one file, nor one that is `taken`.

    `name` gets the index of a song and a mark, mostly "", that keeps it apart. Songs that are named
    otherwise for this are told. Raises DataError for songs that no mark keeps apart.
    """
    levels = [0] * len(songs)
    named = [name(index, "") for index in range(len(songs))]
    wanted = list(named)
    while together := _find_collisions(named, taken):
        for index in together:
            levels[index] += 1
            if levels[index] == len(_MARKS):
                path = next(iter(wanted[index].values()))
                if barrier := _find_barrier(named[index]):
                    raise DataError(f"{barrier}: is not a folder; choose another one")
                raise DataError(
                    f"{path}: several songs would get this name; add {{name}} to --template"
                )
            named[index] = name(index, _MARKS[levels[index]](songs[index]))
    _tell(songs, wanted, named)
    return named


def identify(place: Path) -> str:
    """Return what is the same for all files that some disk takes for one."""
    folder, name = os.path.split(str(locate(place)))
    return f"{_fold_folder(folder)}/{fold_name(name)}"


@lru_cache(4096)
def _fold_folder(folder: str) -> str:
    return "/".join(map(fold_name, folder.replace("\\", "/").split("/")))


def tell_replaced(song: Path) -> str:
    """Say that a stem would get the name of a song, be it its own or another."""
    return f"{song}: a stem would replace this song; choose another folder or name"


def _find_collisions(named: Sequence[Stems], taken: Container[str]) -> list[int]:
    """Return the indices of all songs with a file that another has, too, or that cannot be."""
    owners: dict[str, list[int]] = {}
    for index, stems in enumerate(named):
        for path in set(map(identify, stems.values())):
            owners.setdefault(path, []).append(index)
    shared = (own for path, own in owners.items() if len(own) > 1 or path in taken)
    barred = (index for index, stems in enumerate(named) if _find_barrier(stems))
    return sorted({index for own in shared for index in own}.union(barred))


def _find_barrier(stems: Stems) -> Path | None:
    """Return a file that lies where the stems need a folder."""
    folders = {stem.parent for stem in stems.values()}
    return next((folder for folder in folders if is_local(folder) and is_file(folder)), None)


def _tell(songs: Sequence[Path], wanted: Sequence[Stems], named: Sequence[Stems]) -> None:
    """Say which songs had one name for their stems, and what became of it.

    Where all these stems are there, an earlier run has said so: it is news no more.
    """
    groups: dict[str, list[int]] = {}
    for index, stems in enumerate(wanted):
        if stems != named[index]:
            groups.setdefault(identify(next(iter(stems.values()))), []).append(index)
    for indices in groups.values():
        made = chain.from_iterable(named[index].values() for index in indices)
        known = all(is_local(stem) and is_there(stem) for stem in made)
        level = logging.DEBUG if known else logging.WARNING
        together, instead = (
            ", ".join(map(str, paths))
            for paths in (
                [songs[index] for index in indices],
                [next(iter(named[index].values())) for index in indices],
            )
        )
        paths = sorted({str(next(iter(wanted[index].values()))) for index in indices})
        if len(paths) > 1:
            log.log(
                level,
                "%s: would become %s, which many disks take for one name; they become %s",
                *(together, " and ".join(paths), instead),
            )
        elif len(indices) > 1:
            log.log(level, "%s: would all become %s; they become %s", together, paths[0], instead)
        elif barrier := _find_barrier(wanted[indices[0]]):
            told = "%s: cannot become %s, as %s is a file; it becomes %s"
            log.log(level, told, together, paths[0], barrier, instead)
        else:
            told = "%s: another song becomes %s; this one becomes %s"
            log.log(level, told, together, paths[0], instead)


def _folder(song: Path) -> str:
    return cut_name(find_folder(song).name, NAME_BYTES)


def _hash(song: Path) -> str:
    return hashlib.sha256(str(locate(song)).encode("utf-8", "surrogateescape")).hexdigest()[:8]


_MARKS: Sequence[Callable[[Path], str]] = (
    lambda _: "",
    lambda song: song.suffix,
    lambda song: f" ({_folder(song)})",
    lambda song: f"{song.suffix} ({_folder(song)})",
    lambda song: f"{song.suffix} ({_hash(song)})",
)

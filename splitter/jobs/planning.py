"""Which files songs become."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from splitter.collisions import keep_apart
from splitter.errors import DataError
from splitter.jobs.finding import Found, LeftOut
from splitter.jobs.table import Table
from splitter.paths import is_there, locate

NameStems = Callable[[Path, Path, str], Mapping[str, Path]]  # song, folder, mark: see keep_apart


@dataclass(frozen=True)
class Job:
    """A song to be separated, and the files that its stems become."""

    song: Path
    stems: Mapping[str, Path]  # name → file
    size: int = 0  # bytes
    mtime: float = 0.0  # seconds since 1970
    claimed: frozenset[Path] = frozenset()  # stems that were free, or are the journal's own


def plan_jobs(songs: Iterable[Found], output: Path, name_stems: NameStems) -> list[Job]:
    """Say which files the stems of all songs become; see keep_apart for those of one name.

    A file that comes again, be it by another name or link, is left out, and so are stems of other
    songs: output may lie among the songs. Raises DataError when a stem would replace its song.
    """
    again = LeftOut("the same file as another song of this run")
    seen, found, sizes = Table(), [], []
    for one in songs:
        facts = _look_at(one.path)
        key = (facts.st_dev, facts.st_ino) if facts and facts.st_ino else locate(one.path)
        if seen[key]:
            again.count(one.path)
            continue
        seen[key] = 1
        found.append(one)
        sizes.append((facts.st_size, facts.st_mtime) if facts else (0, 0.0))
    again.tell()

    def name(index: int, mark: str) -> Mapping[str, Path]:
        # by its parts: of a store, "." would be a name, and its paths are none others can join
        folder = output.joinpath(*found[index].parent.parts)
        return name_stems(found[index].path, folder, mark)

    named = keep_apart([one.path for one in found], name)
    made = {locate(path) for stems in named for path in stems.values()}
    jobs = []
    for one, stems, size in zip(found, named, sizes, strict=True):
        if locate(one.path) in map(locate, stems.values()):
            raise DataError(
                f"{one.path}: a stem would overwrite this song; choose another --output"
            )
        if locate(one.path) not in made:
            jobs.append(Job(one.path, stems, *size))
    return jobs


def claim(job: Job, ours: Container[Path] = ()) -> Job:
    """Return a job with the stems that it may write: those that are free now, or `ours` (located).

    It may be done again, by another worker say, and then finds some of them written.
    """
    free = (path for path in job.stems.values() if locate(path) in ours or not is_there(path))
    return replace(job, claimed=job.claimed.union(free))


def _look_at(song: Path) -> os.stat_result | None:
    try:
        return song.stat()
    except OSError:  # opening it will say what is wrong
        return None

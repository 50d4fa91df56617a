"""Which files songs become."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from splitter.errors import DataError
from splitter.jobs.finding import Found, LeftOut
from splitter.jobs.table import Table
from splitter.paths import is_there, locate


@dataclass(frozen=True)
class Job:
    """A song to be separated, and the files that its stems become."""

    song: Path
    stems: Mapping[str, Path]  # name → file
    size: int = 0  # bytes
    mtime: float = 0.0  # seconds since 1970
    claimed: frozenset[Path] = frozenset()  # stems that were free, or are the journal's own


def plan_jobs(
    songs: Iterable[Found], output: Path, name_stems: Callable[[Path, Path], Mapping[str, Path]]
) -> list[Job]:
    """Say which files the stems of all songs become; `name_stems` gets song and folder.

    A file that comes again, be it by another name or link, is left out, and so are stems of other
    songs: output may lie among the songs. Raises DataError, naming both, when two songs would
    become one file.
    """
    again = LeftOut("songs are left out, as names of files that are taken already")
    seen, jobs = Table(), []
    for found in songs:
        facts = _look_at(found.path)
        key = (facts.st_dev, facts.st_ino) if facts and facts.st_ino else locate(found.path)
        if seen[key]:
            again.count(found.path)
            continue
        seen[key] = 1
        # by its parts: of a store, "." would be a name, and its paths are none others can join
        stems = name_stems(found.path, output.joinpath(*found.parent.parts))
        size, mtime = (facts.st_size, facts.st_mtime) if facts else (0, 0.0)
        jobs.append(Job(found.path, stems, size, mtime))
    again.tell()
    owners: dict[Path, Job] = {}
    for job in jobs:
        for path in job.stems.values():
            other = owners.setdefault(locate(path), job)
            if other is not job:
                raise DataError(
                    f"{other.song} and {job.song} would both become {path}; rename one of them"
                )
    return [job for job in jobs if locate(job.song) not in owners]


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

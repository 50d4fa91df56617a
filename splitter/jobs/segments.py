"""A journal in a store, where nothing can be appended to: segments, each an object.

A run tells of songs before any of them is done, many at once, and of their ends up to a minute
later. What it did in its last minute, if it was killed, is found by the stems themselves: they have
their names only when they are whole, and its segment says that they had none before.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from splitter.jobs.journal import Journal
from splitter.jobs.lines import parse
from splitter.jobs.planning import Job
from splitter.jobs.shards import Shard
from splitter.objects import list_tree, patiently
from splitter.paths import is_local
from splitter.tiling import batched

SEGMENTS = ".splitter"  # the folder
CLAIMS = 256  # songs that are told of at once, before they are done
DELAY = 60.0  # seconds that the journal may be behind
READ_AT_ONCE = 16  # segments
HELD = 64  # segments in memory while they are read


class StoredJournal(Journal):
    """A journal that is written in segments."""

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], shard: Shard | None = None
    ) -> None:
        self._lines: list[bytes] = []
        self._open = False
        self._new = False  # whether the stems of the song that is begun are
        self._written = time.monotonic()
        super().__init__(folder, settings, shard)

    def begin_all(self, jobs: Iterable[Job], overwrite: bool = False) -> Iterator[Job]:
        """Begin jobs before they are asked for: a few at first, so that work begins soon."""
        jobs, count = iter(jobs), 8
        while begun := [self.begin(job, overwrite) for job in islice(jobs, count)]:
            self._flush()
            yield from begun
            count = min(2 * count, CLAIMS)

    def add(self, job: Job, error: str | None = None) -> None:
        """Write down that a job, which was begun, is done, or what was wrong."""
        super().add(job, error)
        if time.monotonic() - self._written > DELAY or not self._open:
            self._flush()

    def __enter__(self) -> StoredJournal:
        self._open = True
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()

    def _append(self, line: bytes) -> None:
        self._lines.append(line)

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        self._written = time.monotonic()
        if not lines:
            return
        # by their time, so that they are read in order; two runs may have the same
        name = f"{time.time_ns():020}-{secrets.token_hex(4)}.jsonl"
        try:
            patiently(lambda: self._store(name, b"\n".join(lines)))
        except Exception as error:  # stores have errors of their own kinds
            raise self._complain("written", error) from error

    def _store(self, name: str, lines: bytes) -> None:
        place: Any = self.path.parent / SEGMENTS / name
        if not hasattr(place.fs, "call_s3"):
            place.parent.mkdir(parents=True, exist_ok=True)
        place.fs.pipe_file(place.path, lines)

    def _read(self) -> None:
        folder = self.path.parent / SEGMENTS
        try:
            with ThreadPoolExecutor(READ_AT_ONCE, "splitter-read") as threads:
                for names in batched(_list_segments(folder), HELD):
                    for lines in threads.map(self._fetch, names):
                        for line in lines.split(b"\n"):
                            self._take(parse(line))
        except FileNotFoundError:
            return
        except Exception as error:  # stores have errors of their own kinds
            raise self._complain("read", error) from error

    def _fetch(self, name: str) -> bytes:
        place: Any = self.path.parent / SEGMENTS / name
        return patiently(lambda: bytes(place.fs.cat_file(place.path)))

    def begin(self, job: Job, overwrite: bool = False) -> Job:
        """Write down that a job is under way, and whether its stems are new."""
        self._new = not any(map(job.sees, job.stems.values()))
        return super().begin(job, overwrite)

    def _add(self, entry: dict[str, Any]) -> None:
        super()._add({**entry, "new": True} if "id" in entry and self._new else entry)

    def _take(self, entry: dict[str, Any]) -> None:
        """Take in a line; a song that was begun may have been done."""
        for name in ("done", "failed"):
            if isinstance(entry.get(name), str) and entry[name] in self._begun:
                self._fresh.pop(self._begun[entry[name]][0], None)
        super()._take(entry)
        known, song = entry.get("id"), entry.get("song")
        if isinstance(known, str) and isinstance(song, str):
            self._fresh.pop(song, None)  # another run has begun it, perhaps with other options
            if entry.get("new") is True:
                self._fresh[song] = known


def _list_segments(folder: Path) -> Iterator[str]:
    """Yield the names of segments in the order of their times.

    Before there were segments, each song had an object called by its hash, with .json.
    """
    names = [found.key for _, found in list_tree(folder, lambda _: False)]
    return iter(sorted(names, key=lambda name: (not name.endswith(".json"), name)))


def open_journal(folder: Path, settings: Mapping[str, Any], shard: Shard | None = None) -> Journal:
    """Open the journal of an output folder, be it in a store, for a run or a shard of one."""
    kind = Journal if is_local(folder) else StoredJournal  # whose runs write what they alone have
    return kind(folder, settings, shard)

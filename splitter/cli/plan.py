"""Which songs one `splitter separate` has, and what their stems will be called: a stream."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import click

from splitter.audio import Reading, Tags, open_song
from splitter.cli.globbed import drop_others
from splitter.cli.messages import complain, count
from splitter.cli.options import Options
from splitter.cli.parameters import STDIN
from splitter.cli.screen import Screen, State
from splitter.collisions import tell_replaced
from splitter.errors import DataError, SplitterError
from splitter.jobs import (
    Count,
    Extent,
    Found,
    Job,
    Journal,
    Search,
    find_left_out,
    find_songs,
    plan_jobs,
    read_names,
)
from splitter.jobs.table import Table
from splitter.outputs import Output, name_stems
from splitter.paths import is_folder, is_local, is_pipe, is_there, locate, locate_folder
from splitter.registry import ModelChoice
from splitter.signals import Waiting
from splitter.templates import needs_tags

log = logging.getLogger(__name__)

NAMED, MET = 1, 2  # what is known of a song in a list

Item = TypeVar("Item")


class Listed:
    """The songs that a list names, of which hashes are kept."""

    def __init__(self, names: bytes) -> None:
        self._names = names
        self._known = Table()  # → NAMED or MET
        for one in read_names(names):
            self._known[locate(one.path)] = NAMED

    def takes(self, song: Path) -> bool:
        """Tell whether a song is listed; note that it has been met."""
        listed = locate(song) in self._known
        if listed:
            self._known[locate(song)] = MET
        return listed

    def count_missing(self) -> tuple[int, Path | None]:
        """Return how many listed songs have not been met, and the first of them."""
        named = (one.path for one in read_names(self._names))
        missing = (path for path in named if self._known[locate(path)] == NAMED)
        first = next(missing, None)
        return (first is not None) + sum(1 for _ in missing), first


@dataclass(frozen=True)
class Asked:
    """What one command was asked for, in the terms of the layers below."""

    options: Options
    output: Output
    reading: Reading
    model: ModelChoice
    stems: Sequence[str]
    journal: Journal | None  # of a run over folders
    screen: Screen


@dataclass(frozen=True)
class Plan(Asked):
    """The songs of one command, found and named as they are asked for."""

    waiting: Waiting = field(default_factory=Waiting)  # asked between two songs
    extent: Extent = field(default_factory=Extent)
    unread: list[DataError] = field(default_factory=list)  # what songs were not found for

    def jobs(self) -> Iterator[Job]:
        """Name all stems of all songs, so that no two songs write one file.

        What is wrong with the first song is said at once, before any work.
        """
        if self.options.to_pipe:
            return iter([Job(self._places[0], {})])
        if not self.options.recursive:
            self._tell_left_out()
        _, jobs = peek(self._plan(), 1)
        return jobs

    def _plan(self) -> Iterator[Job]:
        jobs = plan_jobs(self._find(), self.output.folder, self._name_early)
        named = {locate(song) for song in self._places if not is_folder(song)}
        wanted = 0
        try:
            for job in jobs:
                for path in named.intersection(map(locate, job.stems.values())):
                    job = replace(job, wrong=tell_replaced(path))
                wants = self._wants(job)
                if job.wrong and wants and not self.extent.passed:
                    raise DataError(job.wrong)
                self.extent.pass_by(job)
                if wants:
                    wanted += 1
                    yield job
        except DataError as error:
            if self.extent.passed:  # some are done already
                raise SplitterError(str(error)) from error
            raise click.UsageError(str(error)) from error
        if not self.extent.passed:
            if not self.unread:  # of a folder that cannot be read it is said
                raw = "; a folder does not tell which files hold raw samples: name them"
                log.warning("found no songs%s", raw if self.reading.raw else "")
        elif not wanted:
            log.info("none of %s %s", count(self.extent.passed, "song"), self._which)
        self._tell_missing()

    @property
    def _which(self) -> str:
        """Say which of all songs are wanted."""
        if shard := self.options.shard:
            return f"is in shard {shard.index}/{shard.count}"
        return "has failed" if self.options.retry_failed else "is in the list"

    @cached_property
    def _places(self) -> Sequence[Path]:
        songs = self.options.songs
        return songs if self.reading.raw else drop_others(songs)

    def count_beside(self) -> None:
        """Have all songs counted while they are separated."""
        shard = self.options.shard
        count = Count(lambda: self._look(replace(self._search, complain=_ignore, quiet=True)))
        self.extent.expect(count, 1 / shard.count if shard else 1.0)

    def _wants(self, job: Job) -> bool:
        """Tell whether a job is listed, of this run's shard, and of the failures to be retried."""
        options = self.options
        listed = self._listed is None or self._listed.takes(job.song)
        mine = options.shard is None or options.shard.takes(job.song)
        retried = not options.retry_failed or (
            self.journal is not None and self.journal.failed(job)
        )
        return listed and mine and (retried or bool(job.wrong))

    def _tell_left_out(self) -> None:
        """Say that there are folders in which nobody looks for songs."""
        for folder in filter(is_folder, self._places):
            if left := find_left_out(folder, self._search):
                told = "%s: left out folders with songs, such as %s; add -r to separate them"
                log.info(told, folder, left)

    @cached_property
    def _search(self) -> Search:
        """Say which files count as songs; what is known to be a stem is none."""
        made = self.journal.made if self.journal else ()
        below = {locate_folder(self.output.folder)} - set(map(locate_folder, self._places))
        options = self.options
        globs = options.include, options.exclude
        return Search(options.recursive, *globs, below, made, self._complain)

    def _complain(self, error: DataError) -> None:
        """Say that a folder cannot be read, and go on with the others."""
        complain(error)
        self.unread.append(error)

    def _find(self) -> Iterator[Found]:
        """Find the songs, and show how many there are until there is something to do."""
        for number, song in enumerate(self._look(self._search), 1):
            self.waiting.check()
            yield song
            if not self.extent.songs:
                facts = [(f"{number} found",) * 2]
                self.screen.show(State("looking for songs", None, facts))

    def _look(self, search: Search) -> Iterator[Found]:
        if self.options.songs:
            return find_songs(self._places, search)
        listed = read_names(self._names)
        return (one for one in listed if search.wants(one.parent / one.path.name))

    @cached_property
    def _listed(self) -> Listed | None:
        """The list that says which songs of those that are found are wanted, if there is one."""
        both = self.options.songs and self.options.files0_from
        return Listed(self._names) if both else None

    def _tell_missing(self) -> None:
        """Say of listed songs that they were not found."""
        number, first = self._listed.count_missing() if self._listed else (0, None)
        if number:
            what = (
                f"{first}: is listed, but not"
                if number == 1
                else (f"{number} songs, such as {first}: are listed, but not")
            )
            error = DataError(f"{what} among the songs that were named or found")
            complain(error)
            self.unread.append(error)

    @cached_property
    def _names(self) -> bytes:
        if self.options.files0_from is None:
            return b""
        names = self.options.files0_from.read()
        if b"\0" not in names and b"\n" in names and not is_there(Path(os.fsdecode(names))):
            raise click.UsageError(
                "--files0-from: each name must end in a NUL byte; for lines: tr '\\n' '\\0'"
            )
        if not _is_stdin(self.options.files0_from):  # --failures may replace it
            self.options.files0_from.close()
        return names

    def _name_early(self, song: Path, folder: Path, mark: str) -> Mapping[str, Path]:
        """Name the stems of a song that is not open yet; it is opened only if it must be."""
        tags = Tags()
        if needs_tags(self.output.template) and song != STDIN and not is_pipe(song):
            if not is_local(song):
                what = "a template of tags cannot name stems of a song in a store"
                raise DataError(f"{song}: {what}; use {{name}}")
            with suppress(SplitterError), open_song(song, self.reading) as reader:
                tags = reader.tags  # or else the song's turn will come, and its error
        return name_stems(
            song, replace(self.output, folder=folder), self.model.name, self.stems, tags, mark
        )


def _ignore(_: DataError) -> None:
    """Leave it to the plan to say so."""


def peek(items: Iterable[Item], number: int) -> tuple[list[Item], Iterator[Item]]:
    """Return the first items of a stream, and all of it."""
    items = iter(items)
    first = list(islice(items, number))
    return first, chain(first, items)


def _is_stdin(file: BinaryIO) -> bool:
    return getattr(file, "name", "<stdin>") == "<stdin>"

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
from splitter.errors import DataError, SplitterError
from splitter.jobs import (
    Count,
    Extent,
    Found,
    Job,
    Journal,
    Search,
    find_songs,
    list_left_out,
    plan_jobs,
    read_names,
)
from splitter.outputs import Output, name_stems
from splitter.paths import is_folder, is_local, is_pipe, is_there, locate, locate_folder
from splitter.registry import ModelChoice
from splitter.signals import Waiting
from splitter.templates import needs_tags

log = logging.getLogger(__name__)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Plan:
    """The songs of one command, found and named as they are asked for."""

    options: Options
    output: Output
    reading: Reading
    model: ModelChoice
    stems: Sequence[str]
    journal: Journal | None  # of a run over folders
    screen: Screen
    waiting: Waiting = field(default_factory=Waiting)  # asked between two songs
    extent: Extent = field(default_factory=Extent)
    unread: list[DataError] = field(default_factory=list)  # folders, met while songs are done

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
                    told = f"{path}: a stem would replace it; choose another --output"
                    job = replace(job, wrong=told)
                if job.wrong and not self.extent.passed:
                    raise DataError(job.wrong)
                self.extent.pass_by(job)
                if job.wrong or self._wants(job):
                    wanted += 1
                    yield job
        except DataError as error:
            if self.extent.passed:  # some are done already
                raise SplitterError(str(error)) from error
            raise click.UsageError(str(error)) from error
        if not self.extent.passed:
            log.warning("found no songs")
        elif not wanted:
            shard = self.options.shard
            which = f"is in shard {shard.index}/{shard.count}" if shard else "has failed"
            log.info("none of %s %s", count(self.extent.passed, "song"), which)

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
        """Tell whether a job is of this run's shard, and of the failures that it is to retry."""
        options = self.options
        mine = options.shard is None or options.shard.takes(job.song)
        retried = not options.retry_failed or (
            self.journal is not None and self.journal.failed(job)
        )
        return mine and retried

    def _tell_left_out(self) -> None:
        """Say in how many folders nobody looks for songs."""
        for folder in filter(is_folder, self._places):
            left = list_left_out(folder, self._search)
            if left:
                what = count(len(left), "folder")
                log.info("%s: left out %s with songs; add -r to separate them", folder, what)

    @cached_property
    def _search(self) -> Search:
        """Say which files count as songs; what is known to be a stem is none."""
        made = self.journal.made if self.journal else ()
        below = {locate_folder(self.output.folder)} - set(map(locate_folder, self._places))
        options = self.options
        globs = options.include, options.exclude
        return Search(options.recursive, *globs, below, made, self._complain)

    def _complain(self, error: DataError) -> None:
        """Refuse a folder that cannot be read before any work; later, go on with the others."""
        if not self.extent.passed:
            raise error
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
        listed = (
            one for one in read_names(self._names) if search.wants(one.parent / one.path.name)
        )
        return chain(find_songs(self._places, search), listed)

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

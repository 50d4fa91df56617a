"""All songs of one `splitter separate`: who separates them, and what is said of each."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from splitter.audio import SongReader, open_song
from splitter.cli.batch import Batch, run_batch
from splitter.cli.clipping import Clipping
from splitter.cli.existing import look_at_stems
from splitter.cli.failures import Failures
from splitter.cli.messages import complain, count, printable
from splitter.cli.options import PIPE, Options
from splitter.cli.parameters import STDIN
from splitter.cli.plan import Asked, Plan, peek
from splitter.cli.progress import BatchProgress, watch_signals, watch_song
from splitter.cli.records import (
    describe,
    describe_failure,
    describe_planned,
    describe_skipped,
    to_json,
)
from splitter.cli.screen import State, compose
from splitter.cli.standard import check_stdin, find_stdin, find_stdout
from splitter.cli.streams import lose_stdout
from splitter.errors import CommandError, SplitterError, reason
from splitter.jobs import Job, claim
from splitter.outputs import Target, check_existing, name_stems, plan_stems
from splitter.paths import is_local, is_pipe
from splitter.signals import Waiting, end_at_once, handling
from splitter.templates import needs_tags

if TYPE_CHECKING:
    from splitter.engines import Outcome
    from splitter.engines.sharing import Lane
    from splitter.loading import Model
    from splitter.runtime.computing import Computing, Streaming
    from splitter.songs import Separated

log = logging.getLogger(__name__)

PIPE_CORE = 1 << 18  # samples: 6 s at 44.1 kHz, so that a pipe's reader need not wait long


@dataclass(frozen=True)
class Run(Asked):
    """All songs of one command."""

    plan: Plan
    refused: list[str] = field(default_factory=list)  # songs that were not tried
    unsaid: list[OSError] = field(default_factory=list)
    clipping: Clipping = field(default_factory=Clipping)
    failures: Failures = field(default_factory=Failures)

    def preview(self, jobs: Iterable[Job]) -> bool:
        """Print what would be written; tell whether nothing stands in the way of any song."""
        if self.options.device != "auto" and self.options.engine == "local":
            from splitter.devices import pick_device

            for device in self.options.device.split(","):
                pick_device(device)
        well = _all_well(self._preview(job) for job in map(self._skip, self._sound(jobs)) if job)
        self._tell_stopped()
        return well and not self.plan.unread and not self.refused

    def _preview(self, job: Job) -> bool:
        song = PIPE if job.song == STDIN else str(job.song)
        ours = self.journal.claim(job) if self.journal else claim(job)
        try:
            if job.song != STDIN and is_local(job.song):
                job.song.stat()
        except OSError as error:
            return self._fail(song, f"{song}: cannot be opened ({reason(error)})")
        try:
            check_existing(job.stems.values(), self.output, ours.claimed)
        except SplitterError as error:
            return self._fail(song, str(error))
        self._print(describe_planned(song, job.stems), job.stems.values())
        return True

    def separate_all(self, jobs: Iterable[Job]) -> bool:
        """Separate what is not done yet; say what failed, and tell whether all went well."""
        first, jobs = peek(self._sound(jobs), 2)
        ended = False
        try:
            if self._is_batch(len(first) > 1):
                well = self._separate_many(jobs)
            else:
                well = _all_well(map(self.separate, self._until_stopped(jobs)))
            ended = True
        finally:  # a run that is stopped writes, too, if it has anything to say
            if self.options.failures and (ended or len(self.failures)):
                self.failures.write(self.options.failures)
        self._tell_stopped()
        return well and not self.plan.unread and not self.refused

    @property
    def _is_stopped(self) -> bool:
        """Tell whether as many songs have failed as may."""
        most = self.options.max_failures
        return most is not None and len(self.failures) >= most

    def _until_stopped(self, jobs: Iterable[Job]) -> Iterator[Job]:
        return takewhile(lambda _: not self._is_stopped, jobs)

    def _tell_stopped(self) -> None:
        if self._is_stopped:
            failed = count(len(self.failures), "song")
            complain(f"{failed} failed, as many as --max-failures allows; stopped")

    def _sound(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Yield the jobs that can be done, until too many have failed; say of others why not."""
        for job in self._until_stopped(jobs):
            if job.wrong:
                self.refused.append(str(job.song))
                self._fail(str(job.song), job.wrong)
            else:
                yield job

    def _is_batch(self, many: bool) -> bool:
        """Tell whether there is work for an engine: many songs, and no pipe among them."""
        many = many or self.journal is not None or self.options.engine == "ray"
        pipes = STDIN in self.options.songs or any(map(is_pipe, self.options.songs))
        return (many or self._stored) and not pipes

    @property
    def _stored(self) -> bool:
        """Tell whether songs or stems lie in a store."""
        return not all(map(is_local, [self.output.folder, *self.options.songs]))

    def _separate_many(self, jobs: Iterable[Job]) -> bool:
        first, undone = peek(self._select_undone(jobs), 1)
        if not first:
            return True
        self.plan.count_beside()
        self.screen.show(State(f"loading {self.model.name}"))
        progress = BatchProgress(self.screen, self.plan.extent)
        watch = progress.watch if self.screen.kind == "bar" else watch_song(self.screen)
        outcomes = run_batch(undone, self._batch(), progress, watch, self.plan.waiting)
        well = _all_well(self._report_all(outcomes))
        if self.journal:
            self.screen.clear()
            self._tell_done(compose(progress.summary))
        else:
            self.screen.keep(progress.summary)
        return well

    def _select_undone(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Yield what is not done yet; say at the end how many songs were."""
        done, extent = 0, self.plan.extent
        for job in jobs:
            left = self._skip(job)
            if left is None:
                done += 1
            else:
                extent.add(left)
                yield left
        extent.end()
        if done:
            known = done + extent.songs
            are = "is" if known == 1 else "are"
            self._tell_done(f"{done} of {count(known, 'song')} {are} done already")

    def _tell_done(self, what: str) -> None:
        """Say what is done, unless all should be quiet: cron sends a letter for every line."""
        if self.screen.kind != "none":
            log.info("%s", what)

    def _report_all(self, outcomes: Iterable[Outcome]) -> Iterator[bool]:
        """Report outcomes, until too many songs have failed; then say why they did."""
        for outcome in outcomes:
            yield self._report(outcome)
            if self._is_stopped:
                break
        self.failures.tell()

    def _skip(self, job: Job) -> Job | None:
        """Skip a job that is done; else return it, with the stems that it may replace."""
        existing = self.options.existing
        if existing != "overwrite" and self.journal and self.journal.has(job):
            if self.options.as_json:
                self._print(describe_skipped(str(job.song), job.stems), [])
            return None
        if existing == "keep" and job.is_made:
            self._tell_done(f"{job.song}: its stems are there already")
            return None
        found = None
        if existing == "skip":
            found = look_at_stems(job, self.reading, self.model, self.output.format)
        if found is None:
            return job
        song = str(job.song)
        if found.other:
            log.info("%s: its stems are there, but %s", song, found.other)
            return replace(job, claimed=found.made)
        unknown = f"; {found.unknown}" if found.unknown else ""
        self._tell_done(f"{song}: its stems are there already, skipped{unknown}")
        self._print(describe_skipped(song, job.stems), [])
        return None

    def _batch(self) -> Batch:
        from splitter.engines.worker import Work

        options = self.options
        computing = _choose_computing(options)
        work = Work(self.output, self.reading, computing)
        devices = options.device.split(",")
        return Batch(
            work,
            self.model.resolve(),
            devices,
            options.engine,
            options.address,
            self.journal,
            options.runtime,
            self._stored,
            options.workers_per_gpu or 1,
        )

    def _report(self, outcome: Outcome) -> bool:
        song = str(outcome.job.song)
        if outcome.separated is None:
            return self._fail(song, str(outcome.error))
        self.clipping.add(outcome.separated)
        self._print(describe(song, outcome.separated), outcome.separated.stems.values())
        return True

    def _fail(self, song: str, error: str) -> bool:
        """Say why a song failed, and note it."""
        complain(error)
        self.failures.add(song, error)
        self._print(describe_failure(song, error), [])
        return False

    def separate(self, job: Job) -> bool:
        """Separate one song; say what failed, and tell whether it went well."""
        song = PIPE if job.song == STDIN else str(job.song)
        left = self._skip(job) if job.song != STDIN else job
        if left is None:
            return True
        job = left
        source = find_stdin() if job.song == STDIN else job.song
        try:
            with (
                nullcontext() if self._waits_for_others(job) else handling(end_at_once),
                open_song(source, self.reading) as reader,
            ):
                done = self._separate_open(job, reader)
        except CommandError:
            raise
        except SplitterError as error:
            return self._fail(song, str(error))
        self.clipping.add(done)
        self._print(describe(song, done), done.stems.values())
        return True

    def _separate_open(self, job: Job, reader: SongReader) -> Separated:
        """Check all that can be checked, then load the model, and separate."""
        targets = self._targets(job, reader)
        if job.song == STDIN:
            check_stdin(targets.values())
        plan = plan_stems(reader, targets, self.output, job.claimed)
        self.screen.show(State(f"loading {self.model.name}"))
        with handling(end_at_once):
            model, computing, lanes = self._loaded
            from splitter.songs import separate_song

        watch = watch_song(self.screen)
        with ExitStack() as sharing:
            if lanes:
                from splitter.engines.sharing import SharedNetwork

                network = sharing.enter_context(SharedNetwork(lanes, one_song=True))
                computing = replace(computing, runner=network.run)
            if self._waits_for_others(job):
                return separate_song(reader, plan, model, computing, watch)
            waiting = Waiting()
            with handling(waiting):
                watch = watch_signals(waiting, watch)
                done = separate_song(reader, plan, model, computing, watch)
            waiting.check()
            return done

    def _waits_for_others(self, job: Job) -> bool:
        """Tell whether somebody else, at the other end of a pipe, may keep a song waiting."""
        return job.song == STDIN or is_pipe(job.song) or self.options.to_pipe

    @cached_property
    def _loaded(self) -> tuple[Model | Streaming, Computing, Sequence[Lane]]:
        """Load the model when the first song is known to be one, and make lanes for all songs.

        A pipe on one device has none: its sound is wanted at once, and not a few tiles later. What
        streams needs none either.
        """
        from splitter.runtime.choose import compile_for_program
        from splitter.runtime.computing import Computing

        options, devices = self.options, self.options.device.split(",")
        exact = options.precision == "float32"
        compiled = compile_for_program(
            self.model, devices, options.runtime, low_latency=options.to_pipe, exact=exact
        )
        if compiled:
            return compiled, Computing(), ()
        from splitter.engines.lanes import load_models, make_lanes, share_processor

        computing = _choose_computing(options)
        if options.to_pipe:
            computing = replace(computing, core=PIPE_CORE, batch=options.batch_size or 1)
            if len(devices) == 1:
                return load_models(self.model, devices)[0], computing, ()
        lanes = share_processor()
        models = load_models(self.model, devices)
        return models[0], computing, make_lanes(models, computing, lanes)

    def _targets(self, job: Job, reader: SongReader) -> Mapping[str, Target]:
        if self.options.to_pipe:
            return {(self.output.stems or self.stems)[0]: find_stdout()}
        tagged = is_pipe(job.song) and needs_tags(self.output.template)
        if job.song == STDIN or tagged:  # only now it can say what it is called
            return name_stems(job.song, self.output, self.model.name, self.stems, reader.tags)
        return job.stems

    def _print(self, record: dict[str, Any], paths: Iterable[Path]) -> None:
        try:
            with self.screen.aside():
                if self.options.as_json:
                    click.echo(to_json(record))
                elif not self.options.to_pipe:
                    for path in paths:
                        self._print_path(str(path))
        except OSError as error:  # whoever reads has left, say: the songs are done nonetheless
            lose_stdout()
            self.unsaid.append(error)

    def _print_path(self, path: str) -> None:
        """Print a path: its own bytes, but on a terminal what cannot command it."""
        if sys.stdout is not None and sys.stdout.isatty() and not self.options.null:
            click.echo(printable(path))
        else:
            click.echo(path if os.name == "nt" else os.fsencode(path), nl=not self.options.null)
            if self.options.null:
                click.echo(b"\0", nl=False)

    def finish(self) -> None:
        """Raise what kept results from being printed."""
        for error in self.unsaid:
            if isinstance(error, BrokenPipeError):
                raise error
            raise SplitterError(
                f"standard output cannot be written ({reason(error)}); the stems are not affected"
            )


def _all_well(done: Iterable[bool]) -> bool:
    """Do all; tell whether all went well."""
    return sum(not well for well in done) == 0


def _choose_computing(options: Options) -> Computing:
    """Say how the network is run."""
    from splitter.runtime.computing import Computing

    batch, precision = options.batch_size or 0, options.precision
    return Computing(batch=batch, precision=precision, overlap=options.overlap)

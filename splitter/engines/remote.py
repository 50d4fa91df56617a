"""A worker of a cluster: songs are handed to it, and what became of them is asked for.

    driver ── exchange(jobs) ──▶ threads ── songs ──▶ model
           ◀── Report ── ends ◀──┘

A call lasts until something is done, but not much longer, so that a second of short songs is one
call. When the worker is told to leave (SIGTERM: a machine that is taken away, a job that is
preempted), it drops what it is at, leaves no unfinished stem, and says so at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import BoundedSemaphore
from types import FrameType

from splitter.engines.local import make_worker, songs_at_once, songs_beside
from splitter.engines.stores import separate_stored
from splitter.engines.worker import Outcome, Work
from splitter.jobs import Job
from splitter.paths import is_local
from splitter.registry import ModelChoice

BEAT = 0.5  # seconds in which what is done is gathered
PATIENCE = 10.0  # seconds for which a worker that has enough to do is not asked again
LEAVING = 20.0  # seconds that what a worker drops may take to end; its machine has some 120
LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True)
class Making:
    """What a worker is made of, on its node."""

    model: ModelChoice
    device: str
    work: Work
    processors: int  # of the node's, for this worker
    runtime: str = "auto"  # of runtime.choose.RUNTIMES
    level: int = logging.INFO  # of what its log tells
    folder: Path = field(default_factory=Path.cwd)  # of the driver, for relative paths


@dataclass(frozen=True)
class Report:
    """What a worker has to say, if asked."""

    outcomes: Sequence[Outcome]  # see complete
    leaves: bool = False  # it does nothing more, and gives its songs back
    warnings: Sequence[str] = ()  # that its log has


class RemoteWorker:
    """A worker on a node, in a process of its own, which has nothing else to do."""

    def __init__(self, making: Making) -> None:
        self.making = making

    def start(self) -> int:
        """Load the model; return how many songs keep it busy.

        Here, and not as it is made, since Ray tells of this what went wrong.
        """
        self._log()
        self._load()
        self._leaves = False
        self._unfinished: set[Future[Outcome]] = set()
        self._ended: SimpleQueue[Future[Outcome] | None] = SimpleQueue()
        signal.signal(signal.SIGTERM, self._leave)
        return self.at_once

    def _log(self) -> None:
        """Have all that is logged go to the file of this process, and warnings to the driver."""
        self._warnings = _Warnings()
        file = logging.StreamHandler(sys.stderr)
        file.setFormatter(logging.Formatter(LINE))
        log = logging.getLogger("splitter")
        log.handlers[:] = [file, self._warnings]
        log.setLevel(self.making.level)

    def _load(self) -> None:
        making = self.making
        with suppress(OSError):  # there is none of that name, and none is needed for URLs
            os.chdir(making.folder)
        self.worker = make_worker(
            making.model, [making.device], making.work, making.runtime, making.processors
        )
        self.at_once = songs_at_once(self.worker, making.processors)
        beside = songs_beside(not is_local(making.work.output.folder))
        self._turn = BoundedSemaphore(self.at_once)
        self._threads = ThreadPoolExecutor(self.at_once + beside, "splitter-song")

    def separate(self, job: Job) -> Outcome:
        """Separate one song."""
        return separate_stored(self.worker, job, self._turn)

    def exchange(self, jobs: Sequence[Job]) -> Report:
        """Take songs; when some are done, or nothing is for a while, tell what became of them."""
        for job in jobs:
            song = self._threads.submit(self.separate, job)
            self._unfinished.add(song)
            song.add_done_callback(self._ended.put)
        outcomes = list(self._gather())
        if self._leaves:
            outcomes += self._give_up()
        return Report(outcomes, self._leaves, self._warnings.take())

    def _gather(self) -> Iterator[Outcome]:
        """Yield what is done: for a beat, or until there is too little left to do."""
        began, some = time.monotonic(), False
        while not self._leaves and not (some and len(self._unfinished) <= self.at_once):
            busy = len(self._unfinished) > self.at_once and not some
            left = began + (PATIENCE if busy else BEAT) - time.monotonic()
            try:
                ended = self._ended.get(timeout=max(left, 0))
            except Empty:
                return
            if ended is not None:
                some = True
                yield self._finish(ended)

    def _finish(self, ended: Future[Outcome]) -> Outcome:
        self._unfinished.remove(ended)
        return _lighten(ended.result())

    def _leave(self, *_: int | FrameType | None) -> None:
        """Note that SIGTERM was sent; it may come in the middle of anything."""
        self._leaves = True
        self._ended.put(None)

    def _give_up(self) -> Iterator[Outcome]:
        """Drop what is not done, and wait until its files are gone; yield what was done."""
        self.worker.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        ended, _ = wait([one for one in self._unfinished if not one.cancelled()], LEAVING)
        return (self._finish(one) for one in ended if not one.exception())


def _lighten(outcome: Outcome) -> Outcome:
    """Leave out what the driver knows: paths take long to be packed and unpacked."""
    separated = outcome.separated and replace(outcome.separated, song=Path(), stems={})
    return replace(outcome, job=Job(outcome.job.song, {}), separated=separated)


def complete(outcome: Outcome, job: Job) -> Outcome:
    """Put back what was left out of an outcome."""
    done = outcome.separated
    separated = done and replace(done, song=job.song, stems=dict(job.stems))
    return replace(outcome, job=job, separated=separated)


class _Warnings(logging.Handler):
    """What was warned of, until it is asked for."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._told: SimpleQueue[str] = SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning."""
        self._told.put(record.getMessage())

    def take(self) -> list[str]:
        """Return what there is."""
        return [self._told.get() for _ in range(self._told.qsize())]

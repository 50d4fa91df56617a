"""Many songs in one command: an engine, the journal, and a line at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from splitter.cli.progress import BatchProgress, watch_signals
from splitter.jobs import Job, Journal, claim
from splitter.processors import count_processors
from splitter.signals import Waiting, end_at_once, handling

if TYPE_CHECKING:
    from splitter.engines import Outcome
    from splitter.engines.worker import Work
    from splitter.registry import ModelChoice
    from splitter.songs import Watch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """What a batch is run with."""

    work: Work
    model: ModelChoice
    devices: Sequence[str]
    engine: str = "local"
    address: str | None = None  # of a Ray cluster
    journal: Journal | None = None
    runtime: str = "auto"  # of runtime.choose.RUNTIMES
    stored: bool = False  # whether songs or stems lie in a store
    workers_per_gpu: int = 1  # of a cluster


def run_batch(
    jobs: Iterable[Job], batch: Batch, progress: BatchProgress, watch: Watch, waiting: Waiting
) -> Iterator[Outcome]:
    """Separate all jobs; yield outcomes as they come, when the journal has them.

    A signal waits until there is an outcome, a block of a song, or somebody else who asks.
    """
    alone = batch.engine == "local"  # a cluster may keep it waiting forever
    watch = watch_signals(waiting, watch) if alone else watch
    with batch.journal or nullcontext(), handling(waiting) if alone else nullcontext():
        for outcome in _start(_begin(jobs, batch, progress), batch, watch, waiting.check):
            waiting.check()
            if batch.journal:
                batch.journal.add(outcome.job, outcome.error)
            progress.count(outcome)
            yield outcome
        waiting.check()


def _begin(jobs: Iterable[Job], batch: Batch, progress: BatchProgress) -> Iterator[Job]:
    """Have each job claim its stems as it is handed out; if there is a journal, tell it."""
    overwrite, journal = batch.work.output.overwrite, batch.journal
    begun = journal.begin_all(jobs, overwrite) if journal else map(claim, jobs)
    for job in begun:
        progress.begin(job)
        yield job


def _start(
    jobs: Iterable[Job], batch: Batch, watch: Watch, check: Callable[[], object]
) -> Iterator[Outcome]:
    if batch.engine == "ray":
        from splitter.engines import cluster

        asked = cluster.Asked(batch.model, batch.work, batch.runtime, batch.workers_per_gpu)
        return cluster.separate_songs(jobs, asked, batch.address)

    with handling(end_at_once):
        from splitter.engines import local

        worker = local.make_worker(
            batch.model, batch.devices, batch.work, batch.runtime, watch=watch
        )
    beside = local.songs_beside(batch.stored)
    at_once = local.songs_at_once(worker, count_processors())
    return local.separate_songs(jobs, worker, at_once, beside, check)

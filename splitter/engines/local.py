"""Separate many songs on this machine, in one process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from splitter.engines.stores import separate_stored
from splitter.engines.worker import Outcome, Worker
from splitter.jobs import Job


def separate_songs(jobs: Iterable[Job], worker: Worker, at_once: int = 2) -> Iterator[Outcome]:
    """Separate `at_once` songs at a time; yield outcomes in the order in which they come about.

    While one song is decoded, others are computed and written. Closing the generator stops the
    work and leaves no unfinished file.
    """
    running: set[Future[Outcome]] = set()
    with ThreadPoolExecutor(at_once, "splitter-song") as threads, worker:
        try:
            for job in jobs:
                running.add(threads.submit(separate_stored, worker, job))
                if len(running) >= at_once:
                    yield from _take_done(running)
            while running:
                yield from _take_done(running)
        finally:
            worker.stop()


def songs_at_once(worker: Worker) -> int:
    """Return how many songs keep a worker busy: as many as it has lanes on a processor.

    More take memory and no less time. A GPU is so fast that all processors decode and encode for
    it.
    """
    return max(2, worker.lanes, (os.cpu_count() or 1) if worker.on_gpu else 0)


def _take_done(running: set[Future[Outcome]]) -> Iterator[Outcome]:
    """Wait until a song is done; remove and yield those that are."""
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    running -= done
    for future in done:
        yield future.result()

"""Separate many songs on this machine, in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import BoundedSemaphore

from splitter.engines.stores import separate_stored
from splitter.engines.worker import Outcome, Work, Worker
from splitter.jobs import Job
from splitter.registry import ModelChoice
from splitter.runtime.choose import compile_for_program
from splitter.songs import Watch, unwatched

WAITING = 2  # songs that wait for their turn, so that nobody waits for the next one's name
AHEAD = 16  # songs that are fetched or stored while others are computed
HEARING = 0.5  # seconds after which a Ctrl-C is heard at the latest
AHEAD_BYTES = 256 << 20  # of songs that are fetched and not done, beyond those at work


def separate_songs(
    jobs: Iterable[Job],
    worker: Worker,
    at_once: int = 2,
    beside: int = WAITING,
    check: Callable[[], object] = lambda: None,
) -> Iterator[Outcome]:
    """Separate `at_once` songs at a time; yield outcomes in the order in which they come about.

    While one song is decoded, others are computed and written. `beside` these, songs wait for
    their turn, or are on their way from and to a store: as many as AHEAD_BYTES hold. Closing the
    generator stops the work and leaves no unfinished file; so does `check`, called now and then
    while songs are waited for, if it raises.
    """
    running: dict[Future[Outcome], int] = {}  # → bytes
    turn = BoundedSemaphore(at_once)
    with ThreadPoolExecutor(at_once + beside, "splitter-song") as threads, worker:
        try:
            for job in jobs:
                while _is_full(running, job, at_once, beside):
                    yield from _take_done(running, check)
                running[threads.submit(separate_stored, worker, job, turn)] = job.size
            while running:
                yield from _take_done(running, check)
        finally:
            worker.stop()


def _is_full(running: Mapping[Future[Outcome], int], job: Job, at_once: int, beside: int) -> bool:
    """Tell whether a song has to wait until another one is done."""
    ahead = sum(running.values()) + job.size > AHEAD_BYTES
    return len(running) >= (at_once if ahead else at_once + beside)


def make_worker(
    model: ModelChoice,
    devices: Sequence[str],
    work: Work,
    runtime: str = "auto",  # of runtime.choose.RUNTIMES
    processors: int = 0,  # that are its own; 0: all that this process may use
    watch: Watch = unwatched,
) -> Worker:
    """Put a model to work for many songs, by the runtime that suits the device.

    This concerns the whole process, so only a program may call it, once, at its start.
    """
    exact = work.computing.precision == "float32"
    compiled = compile_for_program(
        model, devices, runtime, many=True, exact=exact, processors=processors
    )
    if compiled:
        return Worker(compiled, work, watch=watch)
    import torch

    from splitter.engines.lanes import load_models, share_processor

    if processors:
        torch.set_num_threads(processors)
    lanes = share_processor()
    return Worker(load_models(model, devices), work, lanes, watch)


def songs_at_once(worker: Worker, processors: int) -> int:
    """Return how many songs keep a worker busy: as many as it has lanes on a processor.

    More take memory and no less time. A GPU is so fast that all processors decode and encode for
    it.
    """
    return max(2, worker.lanes, processors if worker.on_gpu else 0)


def songs_beside(stored: bool) -> int:
    """Return how many songs there are beside those at work; `stored`: in a store, or on the way."""
    return AHEAD if stored else WAITING


def _take_done(
    running: dict[Future[Outcome], int], check: Callable[[], object]
) -> Iterator[Outcome]:
    """Wait until a song is done; remove and yield those that are."""
    done: set[Future[Outcome]] = set()
    while not done:  # on Windows no Ctrl-C is heard within a wait
        done = wait(running, HEARING, FIRST_COMPLETED)[0]
        if not done:
            check()
    for future in done:
        del running[future]
        yield future.result()

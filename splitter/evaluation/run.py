"""Score many songs: those in the journal at once, the others here or in several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess

from splitter.datasets import Song
from splitter.evaluation.journal import Journal, make_key
from splitter.evaluation.scoring import Failure, SongScores, score_songs
from splitter.evaluation.systems import System

Outcome = SongScores | Failure


def evaluate(
    songs: Sequence[Song],
    systems: Sequence[System],
    metrics: Sequence[str],
    journal: Journal,
    jobs: int = 1,
) -> Iterator[Outcome]:
    """Yield an outcome a song, in any order; each score is in the journal before it is yielded.

    With more than one job the caller's main module must be importable without side effects, as
    always with spawned processes.
    """
    journal.prepare()
    keys = {song.label: make_key(song, systems, metrics) for song in songs}
    done = journal.read()
    missing = [song for song in songs if keys[song.label] not in done]
    yield from (done[key] for key in keys.values() if key in done)
    for outcome in _score(missing, systems, metrics, jobs):
        if isinstance(outcome, SongScores):
            journal.add(keys[outcome.song], outcome)
        yield outcome


def _score(
    songs: Sequence[Song], systems: Sequence[System], metrics: Sequence[str], jobs: int
) -> Iterator[Outcome]:
    if not songs:
        return
    if jobs == 1:
        yield from score_songs(songs, systems, metrics)
        return
    context = multiprocessing.get_context("spawn")
    shares = [songs[n::jobs] for n in range(min(jobs, len(songs)))]
    with _unheard():
        workers = dict(_start(context, share, systems, metrics) for share in shares)
    waiting = dict(zip(workers, ({s.label for s in share} for share in shares), strict=True))
    try:
        while workers:
            for reader in wait(list(workers)):
                assert isinstance(reader, Connection)
                try:
                    outcome = reader.recv()
                except EOFError:
                    yield from _explain(workers.pop(reader), waiting.pop(reader))
                else:
                    waiting[reader].discard(outcome.song)
                    yield outcome
    finally:
        for process in workers.values():
            process.terminate()


@contextmanager
def _unheard() -> Iterator[None]:
    """Start processes that do not hear Ctrl-C, which a terminal sends to all: this one ends them.

    They would import for seconds, and each would end with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # or else the first process starts it, and all is heard again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(
    context: SpawnContext,
    songs: Sequence[Song],
    systems: Sequence[System],
    metrics: Sequence[str],
) -> tuple[Connection, SpawnProcess]:
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(songs, systems, metrics, writer), daemon=True)
    process.start()
    writer.close()  # the process has the only one left: when it ends, the reader sees the end
    return reader, process


def _work(
    songs: Sequence[Song], systems: Sequence[System], metrics: Sequence[str], results: Connection
) -> None:
    """Score songs in a process of its own, until they are done or nobody listens any more."""
    try:
        for outcome in score_songs(songs, systems, metrics):
            results.send(outcome)
    except (BrokenPipeError, KeyboardInterrupt):
        return


def _explain(process: SpawnProcess, songs: set[str]) -> Iterator[Failure]:
    """Say why songs were not scored whose process has ended."""
    process.join()
    for song in sorted(songs):
        yield Failure(
            song,
            f"its process ended with status {process.exitcode}; "
            "if memory ran out, run the same command again with fewer --jobs",
        )

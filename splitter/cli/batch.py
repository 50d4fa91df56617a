"""Many songs in one command: an engine, its progress, the journal, and a line at the end."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from tqdm import tqdm

from splitter.cli.messages import printable
from splitter.jobs import Job, Journal, claim

if TYPE_CHECKING:
    from splitter.audio import SongReader
    from splitter.engines import Outcome
    from splitter.engines.worker import Work
    from splitter.registry import ModelChoice
    from splitter.separation import Stems
    from splitter.songs import Watch

log = logging.getLogger(__name__)

ENGINES = ("local", "ray")
_OVERALL = "{desc} |{bar}| {percentage:3.0f}%, {remaining} left"
_CURRENT = "{desc}: {percentage:3.0f}% |{bar}|"


@dataclass(frozen=True)
class Batch:
    """What a batch is run with."""

    work: Work
    model: ModelChoice
    devices: Sequence[str]
    engine: str = "local"
    address: str | None = None  # of a Ray cluster
    journal: Journal | None = None


def run_batch(jobs: Sequence[Job], batch: Batch, bars: Bars, watch: Watch) -> Iterator[Outcome]:
    """Separate all jobs; yield outcomes as they come, when the journal has them.

    `watch` shows the progress of songs where no bar does. A run over folders ends with a summary.
    """
    with bars:
        for outcome in _start(_begin(jobs, batch), batch, bars.watch if bars.shown else watch):
            if batch.journal:
                batch.journal.add(outcome.job, outcome.error)
            bars.count(outcome)
            yield outcome
    if batch.journal:
        log.info("%s", bars.summary)


def _begin(jobs: Iterable[Job], batch: Batch) -> Iterator[Job]:
    """Have each job claim its stems as it is handed out; if there is a journal, tell it."""
    for job in jobs:
        yield batch.journal.begin(job, batch.work.output.overwrite) if batch.journal else claim(job)


def _start(jobs: Iterable[Job], batch: Batch, watch: Watch) -> Iterator[Outcome]:
    if batch.engine == "ray":
        from splitter.engines import cluster

        return cluster.separate_songs(jobs, batch.work, batch.model, batch.address)

    from splitter.engines import local
    from splitter.engines.lanes import load_models, share_processor
    from splitter.engines.worker import Worker
    from splitter.memory import reuse_freed_memory

    reuse_freed_memory()
    models = load_models(batch.model, batch.devices)
    worker = Worker(models, batch.work, share_processor(), watch)
    return local.separate_songs(jobs, worker, local.songs_at_once(worker))


@dataclass
class Bars:
    """Two bars on stderr: all songs, and the one that is on the longest.

    Songs are counted by their bytes, so that nothing need be opened to know how much is left.
    """

    jobs: Sequence[Job]
    shown: bool
    done: int = 0
    failed: int = 0
    audio: float = 0.0  # seconds separated
    started: float = field(default_factory=time.monotonic)
    _current: str | None = None
    _lock: Lock = field(default_factory=Lock)

    def __enter__(self) -> Bars:
        total = sum(job.size for job in self.jobs)
        hidden = not self.shown
        self._all = tqdm(total=total, bar_format=_OVERALL, disable=hidden, smoothing=0.02)
        self._one = tqdm(total=1, bar_format=_CURRENT, disable=hidden, leave=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._one.close()
        self._all.close()

    def watch(self, song: SongReader, stems: Iterator[Stems]) -> Iterator[Stems]:
        """Pass a song's stems on and show how far it is, if it is the one to be shown."""
        try:
            for block in stems:
                yield block
                with self._lock:
                    self._advance(song, next(iter(block.values())).shape[-1] / song.rate)
        finally:
            with self._lock:
                self._current = None if self._current == song.source else self._current

    def _advance(self, song: SongReader, seconds: float) -> None:
        if self._current is None:
            self._current = song.source
            self._one.reset(song.samples / song.rate if song.samples else None)
            name = song.source.rpartition("/")[2]
            self._one.set_description_str(printable(name), refresh=False)
        if self._current == song.source:
            self._one.update(seconds)

    def count(self, outcome: Outcome) -> None:
        """Count a song that has come to its end."""
        with self._lock:
            if outcome.separated:
                self.done += 1
                self.audio += outcome.separated.samples / outcome.separated.rate
            else:
                self.failed += 1
            self._all.set_description_str(self._state, refresh=False)
            self._all.update(outcome.job.size)

    def aside(self) -> AbstractContextManager[None]:
        """Take the bars away while something else is printed."""
        return tqdm.external_write_mode(file=sys.stdout) if self.shown else nullcontext()

    @property
    def _state(self) -> str:
        speed = self.audio / max(time.monotonic() - self.started, 0.001)
        songs = f"{self.done + self.failed}/{len(self.jobs)} songs"
        return f"{songs}, {self.audio / 3600:.2f} h of audio, {speed:.0f} × real time"

    @property
    def summary(self) -> str:
        """Say in one line what was done."""
        failed = f", {self.failed} failed" if self.failed else ""
        taken = tqdm.format_interval(time.monotonic() - self.started)
        speed = self.audio / max(time.monotonic() - self.started, 0.001)
        audio = f"{self.audio / 3600:.2f} h of audio in {taken}, {speed:.0f} × real time"
        songs = "1 song" if self.done == 1 else f"{self.done} songs"
        return f"{songs} done{failed}: {audio}"

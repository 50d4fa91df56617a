"""How many songs a run has: counted beside the work, while its plan is still on its way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from threading import Thread

from splitter.errors import SplitterError
from splitter.jobs.finding import Found
from splitter.jobs.planning import Job

AT_ONCE = 0.1  # seconds that a run waits for the count: that of a small library has ended then
PORTION = 64  # songs
PAUSE = 4.0  # times as long as counting them took


class Count:
    """The number of songs and their bytes, found in a thread of its own."""

    def __init__(self, songs: Callable[[], Iterable[Found]]) -> None:
        self.songs = 0
        self.bytes = 0
        self.ended = False
        self._find = songs
        thread = Thread(target=self._count, name="splitter-count", daemon=True)
        thread.start()
        thread.join(AT_ONCE)

    def _count(self) -> None:
        with suppress(SplitterError):  # the plan will say so
            for one in _gently(self._find()):
                self.songs += 1
                self.bytes += one.look().size
            self.ended = True


def _gently(songs: Iterable[Found]) -> Iterator[Found]:
    """Yield songs, at once to begin with, then with pauses: the work comes first."""
    began = portion = time.monotonic()
    for number, one in enumerate(songs):
        yield one
        now = time.monotonic()
        if number % PORTION == 0 and now - began > AT_ONCE:
            time.sleep(PAUSE * (now - portion))
            portion = time.monotonic()


class Extent:
    """How many songs there are to do: those that a plan has named, and what is counted beyond."""

    def __init__(self) -> None:
        self.songs = 0  # named, and to be done
        self.bytes = 0
        self._count: Count | None = None
        self._share = 1.0  # of all songs that are this run's
        self.passed = 0  # songs that the plan has come by
        self._passed_bytes = 0
        self._whole = False

    def expect(self, count: Count, share: float = 1.0) -> None:
        """Rely on a count for the songs that are still to come; a share of them are this run's."""
        self._count, self._share = count, share

    def pass_by(self, job: Job) -> None:
        """Note a song that the plan has come by."""
        self.passed += 1
        self._passed_bytes += job.size

    def add(self, job: Job) -> None:
        """Note a song that is to be done."""
        self.songs += 1
        self.bytes += job.size

    def end(self) -> None:
        """Note that there are no more songs."""
        self._whole = True

    def estimate(self) -> tuple[int, int] | None:
        """Return how many songs are to be done in all, and their bytes; None: not known yet."""
        if self._whole:
            return self.songs, self.bytes
        if self._count is None or not self._count.ended:
            return None
        songs = max(self._count.songs - self.passed, 0)
        size = max(self._count.bytes - self._passed_bytes, 0)
        return self.songs + round(self._share * songs), self.bytes + round(self._share * size)

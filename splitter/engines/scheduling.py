"""Which worker of a cluster gets which songs, and when; it knows no cluster, and any clock.

    jobs ──▶ window, the longest first ──▶ worker: as many songs as it does in AHEAD seconds
                  ▲                          │
                  └─── what it did not do ◀──┘ it dies, or leaves

Long songs go first, as far as the window sees, so that short ones are left to fill the end. A
worker that is asked for a few seconds at a time costs its driver a call a second, however short its
songs are; and what it loses, if it dies, are seconds.

A worker may die of a song. So the songs of one that died, though its machine lives, wait for the
end, and are then done one at a time, each alone at its worker: whose worker dies then is the one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count, islice
from pathlib import Path

from splitter.jobs import Job

AHEAD = 2.0  # seconds of work that a worker has at once
LONG = 10.0  # seconds that no song should wait at a worker, while others might do it
MOST = 2000  # songs that a worker has at once
MEMORY = 5.0  # seconds until how fast a worker was counts half
TRIES = 3  # a song whose workers die so often is taken to be the reason
OVERHEAD = 16 << 10  # bytes of a song that take as long as all that a song needs beside its length
LEAST_WINDOW = 256  # songs
WINDOW = 32  # songs for each that is at work


@dataclass(eq=False)
class Hand:
    """The songs that a worker has, and how fast it is."""

    at_once: int  # songs that it works on at a time; it has one more, so that it never waits
    songs: dict[Path, Job] = field(default_factory=dict)
    load: int = 0  # bytes of these
    since: float = 0.0  # when it last had something done, in seconds
    done: float = 0.0  # bytes, of late
    taken: float = 0.0  # seconds for these
    alone: bool = False  # it has a song that may kill it

    @property
    def speed(self) -> float:
        """Return how fast it is, in bytes a second."""
        return self.done / self.taken if self.taken else 0.0

    @property
    def is_full(self) -> bool:
        """Tell whether it has enough to do."""
        if self.alone or len(self.songs) >= MOST:
            return True
        if len(self.songs) == self.at_once:  # one more would wait for the shortest of these
            shortest = min(map(_weigh, self.songs.values()))
            return shortest * self.at_once > LONG * self.speed > 0
        return len(self.songs) > self.at_once and self.load >= AHEAD * self.speed


class Schedule:
    """Who gets which songs, and what becomes of those that are not done."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = iter(jobs)
        self._window: list[tuple[int, int, Job]] = []  # a heap: the longest first
        self._number = count()
        self._suspects: deque[Job] = deque()
        self._tries: dict[Path, int] = {}
        self.at_work = 0  # songs
        self.width = LEAST_WINDOW  # of the window, songs

    @property
    def is_over(self) -> bool:
        """Tell whether all songs have come to their end."""
        self._look_ahead()
        return not (self._window or self._suspects or self.at_work)

    def expect(self, at_once: int) -> None:
        """Suit the window to how many songs all workers are at."""
        self.width = max(LEAST_WINDOW, WINDOW * at_once)

    def draw(self, hand: Hand, now: float) -> list[Job]:
        """Give a worker what it has room for."""
        if not hand.songs:
            hand.since, hand.alone = now, False
        drawn = list(self._draw(hand))
        self.at_work += len(drawn)
        return drawn

    def _draw(self, hand: Hand) -> Iterator[Job]:
        while not hand.is_full:
            self._look_ahead()
            if self._window:
                job = heappop(self._window)[-1]
            elif self._suspects and not hand.songs:
                job, hand.alone = self._suspects.popleft(), True
            else:
                return
            hand.songs[job.song] = job
            hand.load += _weigh(job)
            yield job

    def _look_ahead(self) -> None:
        """Fill the window: at once a little of it, more with each song that is given out."""
        wanted = min(max(len(self._window) + 2, LEAST_WINDOW), self.width)
        for job in islice(self._jobs, max(wanted - len(self._window), 0)):
            self._put(job)

    def _put(self, job: Job) -> None:
        heappush(self._window, (-job.size, next(self._number), job))

    def end(self, hand: Hand, songs: Iterable[Path], now: float) -> list[Job]:
        """Note which songs a worker has come to the end of; return their jobs."""
        ended = [hand.songs.pop(song) for song in songs]
        if ended:
            done, taken = sum(map(_weigh, ended)), now - hand.since
            kept = 0.5 ** (taken / MEMORY)
            hand.done, hand.taken = kept * hand.done + done, kept * hand.taken + taken
            hand.load -= done
            hand.since = now
            self.at_work -= len(ended)
        return ended

    def give_back(self, hand: Hand, died: bool) -> list[Job]:
        """Take all songs from a worker that died, or that leaves; return those that it died of."""
        back, hand.songs, hand.load = list(hand.songs.values()), {}, 0
        self.at_work -= len(back)
        if not died:
            for job in back:
                self._put(job)
            return []
        for job in back:
            self._tries[job.song] = self._tries.get(job.song, 0) + 1
        deadly = [job for job in back if hand.alone and self._tries[job.song] >= TRIES]
        self._suspects.extend(job for job in back if job not in deadly)
        return deadly


def _weigh(job: Job) -> int:
    return job.size + OVERHEAD

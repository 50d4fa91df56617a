"""Simulate a cluster that separates a library, by the driver's own schedule and a clock of its own.

    python -m scripts.nodes [--nodes 1000] [--songs 500000] [--seed 0]

Songs are as long as those of a collection: 3 of 100 last 5 to 40 s, 1 lasts half an hour to two,
and the others' lengths are log-normal about 3:40 (sigma 0.35); their sizes are those of mp3 of 128
to 320 kbit/s, of one in ten those of flac. Nodes work on two songs at a time, each at the speed of
two cores (see docs/scale.md); 2 of 100 do it three times as slowly; each is taken away at random,
half of them after a notice, and another one comes a minute later. The driver takes 0.8 ms for an
answer, and 0.26 ms for each song in it, one after the other: as was measured.

Told of each way to give songs out: how long the run takes, beside what it would take if no node
ever waited or was lost; how much of their time nodes work; the tail, in which there is no song left
to give out; and how busy the driver is.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from pathlib import Path

from splitter.engines.remote import BEAT, PATIENCE
from splitter.engines.scheduling import Hand, Schedule
from splitter.jobs import Job

AT_ONCE = 2  # songs
SPEED = 166.0  # times real time of each, on two cores
ALONE = 2.0  # times as fast is a song that has all of these
BESIDE = 0.005  # seconds of a song beside its length
SLOW, SLOWNESS = 0.02, 3.0  # share of nodes, and how much longer they take
START = 15.0  # seconds until a node has its model
AGAIN = 60.0  # seconds until another node comes
FOUND = 10.0  # seconds until a node that is gone without a notice is missed
CALL, EACH = 8e-4, 2.6e-4  # seconds of the driver for an answer, and for each song of it
PART = 600.0  # seconds of a long song, where it is cut
Event = tuple[float, int, str, "Node", object]


@dataclass(eq=False)
class Node:
    """A machine, its worker, and the call that it has to answer."""

    slowness: float
    hand: Hand = field(default_factory=lambda: Hand(AT_ONCE))
    waiting: deque[Job] = field(default_factory=deque)
    running: dict[Path, float] = field(default_factory=dict)  # → seconds left, if nothing is shared
    looked: float = 0.0  # when these were so
    changes: int = 0  # of these
    done: list[Path] = field(default_factory=list)
    asked: float | None = None  # since when it has a call
    gone: bool = False


class InOrder(Schedule):
    """A schedule that gives songs out as they come."""

    def _put(self, job: Job) -> None:
        heappush(self._window, (0, next(self._number), job))


class Simulation:
    """A run of all songs."""

    def __init__(
        self,
        jobs: Sequence[Job],
        lengths: dict[Path, float],
        seed: int,
        most: float = 1.0,
        kind: type[Schedule] = Schedule,
    ) -> None:
        self.most = most  # times as fast may a song be that has a node for itself
        self.draw = random.Random(seed)
        self.schedule = kind(jobs)
        self.lengths = lengths
        self.events: list[Event] = []
        self.order = count()
        self.left = len(jobs)
        self.idle: set[Node] = set()
        self.now = self.driver = self.driving = 0.0  # seconds; until when, and how long, it works
        self.working = self.wasted = 0.0  # seconds of all lanes
        self.emptied: float | None = None
        self.lost = 0

    def run(self, nodes: int, losses: float) -> None:
        """Run to the end; each node is lost so often an hour."""
        self.rate = losses / 3600
        self.schedule.expect(nodes * AT_ONCE)
        for _ in range(nodes):
            self.add_node(self.draw.uniform(0, 5))
        while self.left:
            self.now, _, what, node, more = heappop(self.events)
            if not node.gone or what == "missed":
                getattr(self, what)(node, more)

    def add_node(self, after: float) -> None:
        """Have a node come."""
        node = Node(SLOWNESS if self.draw.random() < SLOW else 1.0)
        self.plan(after + START, "give", node)
        if self.rate:
            self.plan(after + self.draw.expovariate(self.rate), "lose", node)

    def plan(self, after: float, what: str, node: Node, more: object = None) -> None:
        """Have something happen."""
        heappush(self.events, (self.now + after, next(self.order), what, node, more))

    def give(self, node: Node, _: object = None) -> None:
        """Have the driver give a node what it has room for, when it has done all else."""
        self.idle.discard(node)
        jobs = self.schedule.draw(node.hand, self.now)
        if self.emptied is None and not node.hand.is_full:
            self.emptied = self.now
        if not node.hand.songs:
            self.idle.add(node)
            return
        self.driver = max(self.driver, self.now) + CALL
        self.driving += CALL
        self.plan(self.driver - self.now, "ask", node, jobs)

    def ask(self, node: Node, jobs: Sequence[Job]) -> None:
        """Have a call arrive at a node."""
        node.waiting.extend(jobs)
        node.asked = self.now
        self.begin(node)
        busy = len(node.hand.songs) > AT_ONCE
        self.plan(PATIENCE if busy else BEAT, "answer", node, self.now)

    def begin(self, node: Node) -> None:
        """Have a node begin as many songs as it works on at a time."""
        self.go_on(node)
        while len(node.running) < AT_ONCE and node.waiting:
            job = node.waiting.popleft()
            taken = (self.lengths[job.song] / SPEED + BESIDE) * node.slowness
            node.running[job.song] = taken
        node.changes += 1
        if node.running:
            first = min(node.running, key=node.running.__getitem__)
            self.plan(node.running[first] / self.speed(node), "finish", node, node.changes)

    def speed(self, node: Node) -> float:
        """Say how fast each song is, when lanes that have none take tiles of others."""
        return min(AT_ONCE / len(node.running), self.most) if node.running else 1.0

    def go_on(self, node: Node) -> None:
        """Have the songs of a node come so far as they are by now."""
        passed = (self.now - node.looked) * self.speed(node)
        node.looked = self.now
        self.working += passed * len(node.running)
        for song in node.running:
            node.running[song] -= passed

    def finish(self, node: Node, changes: int) -> None:
        """Have a song come to its end, if nothing has changed since that was foreseen."""
        if changes != node.changes:
            return
        self.go_on(node)
        done = [song for song, left in node.running.items() if left < 1e-6]
        for song in done:
            del node.running[song]
        node.done += done
        self.begin(node)
        if node.asked is not None:
            few = len(node.running) + len(node.waiting) <= AT_ONCE
            left = 0 if few else max(node.asked + BEAT - self.now, 0)
            self.plan(left, "answer", node, node.asked)

    def answer(self, node: Node, asked: float) -> None:
        """Have a node tell what it has done, if the call is not over already."""
        if node.asked != asked:
            return
        node.asked = None
        done, node.done = node.done, []
        self.left -= len(done)
        self.driver = max(self.driver, self.now) + EACH * len(done)
        self.driving += EACH * len(done)
        self.schedule.end(node.hand, done, self.now)
        self.give(node)

    def lose(self, node: Node, _: object) -> None:
        """Take a node away: with a notice its songs are given back at once."""
        self.lost += 1
        node.gone = True
        self.idle.discard(node)
        self.go_on(node)
        for song in (*node.running, *node.done):
            self.wasted += self.lengths[song] / SPEED - node.running.get(song, 0) / node.slowness
        self.plan(0 if self.draw.random() < 0.5 else FOUND, "missed", node)
        self.add_node(AGAIN)

    def missed(self, node: Node, _: object) -> None:
        """Have the driver know that a node is gone."""
        self.schedule.give_back(node.hand, died=False)
        for idle in list(self.idle):
            self.give(idle)


def make_songs(songs: int, seed: int) -> Iterator[tuple[Job, float]]:
    """Yield songs and their lengths in seconds."""
    draw = random.Random(seed)
    for index in range(songs):
        kind = draw.random()
        if kind < 0.03:
            length = draw.uniform(5, 40)
        elif kind < 0.04:
            length = draw.uniform(1800, 7200)
        else:
            length = draw.lognormvariate(5.394, 0.35)  # 220 s
        rate = 110_000 if draw.random() < 0.1 else draw.choice((16_000, 24_000, 32_000, 40_000))
        yield Job(Path(str(index)), {}, round(length * rate)), length


def cut(songs: Sequence[tuple[Job, float]]) -> Iterator[tuple[Job, float]]:
    """Yield songs, the long ones in parts."""
    for job, length in songs:
        parts = max(round(length / PART), 1)
        for part in range(parts):
            name = Path(f"{job.song}.{part}") if parts > 1 else job.song
            yield Job(name, {}, job.size // parts), length / parts


def main() -> None:
    """Simulate each way to give songs out, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--songs", type=int, default=500_000)
    parser.add_argument("--losses", type=float, default=0.05, help="of each node in an hour")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    songs = list(make_songs(arguments.songs, arguments.seed))
    ways = {
        "as they come": songs,
        "the longest of a window first": songs,
        "the longest of all first": sorted(songs, key=lambda song: -song[0].size),
        "the longest of a window first, cut into parts of 10 minutes": [*cut(songs)],
        "the longest of a window first, tiles shared in a node": songs,
    }
    sys.stdout.write(
        "| songs are given out | seconds | if none waited | nodes work | tail, seconds "
        "| lost nodes | work lost | driver is busy |\n|---|---|---|---|---|---|---|---|\n"
    )
    for name, given in ways.items():
        lengths = {job.song: length for job, length in given}
        most = ALONE if "shared" in name else 1.0
        kind = InOrder if "come" in name else Schedule
        run = Simulation([job for job, _ in given], lengths, arguments.seed, most, kind)
        run.run(arguments.nodes, arguments.losses)
        lanes = arguments.nodes * AT_ONCE
        ideal = sum(length / SPEED + BESIDE for _, length in given) / lanes
        taken = run.now - START
        figures = (
            f"{taken:.1f} | {ideal:.1f} | {run.working / lanes / taken:.1%} | "
            f"{run.now - (run.emptied or run.now):.1f} | {run.lost} | "
            f"{run.wasted / run.working:.2%} | {run.driving / taken:.0%}"
        )
        sys.stdout.write(f"| {name} | {figures} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

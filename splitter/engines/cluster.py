"""Separate many songs on a Ray cluster.

    driver ── songs ──▶ node 1: worker (model on its GPU, or on its cores)
           ◀─ outcomes ─ node 2: worker
                         …

Each node has a worker, the same that works on one machine, or some for each of its GPUs. A worker
has a few seconds of songs at a time, once it has its model: see `scheduling`. When a node or a
worker dies, or is about to be taken away, its songs are given to others, and what lives on gets
another worker; nodes that join get work. A node on which a worker cannot start gets no more of
them. The journal is the driver's: nothing is done twice, whoever dies.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from splitter.engines.remote import Making, RemoteWorker, Report, complete
from splitter.engines.scheduling import TRIES, Hand, Schedule
from splitter.engines.worker import Outcome, Work
from splitter.errors import CommandError, MissingExtra, SplitterError
from splitter.jobs import Job
from splitter.registry import ModelChoice

log = logging.getLogger(__name__)

POLL = 2.0  # seconds between looks at which nodes there are
GRACE = 30.0  # seconds without new work for a node that lost a worker: it may be dead itself
LEAVING = 150.0  # seconds without new work for a node that is taken away: it may be gone by then
AWAITED = 600.0  # seconds for the first node, or for another: autoscalers take minutes
BUSY = 60.0  # seconds after which a worker that has not started is told to wait for processors
PATIENCE = 10.0  # seconds for a cluster to answer; Ray itself tries for a quarter of an hour


@dataclass(frozen=True)
class Asked:
    """What all workers are to do."""

    model: ModelChoice
    work: Work
    runtime: str = "auto"  # of runtime.choose.RUNTIMES
    workers_per_gpu: int = 1


@dataclass(eq=False)
class _Member:
    """A worker of the cluster."""

    actor: Any
    node: str
    hand: Hand = field(default_factory=lambda: Hand(0))  # once it has started
    asked: float = field(default_factory=time.monotonic)  # when

    @property
    def place(self) -> str:
        """Return the name of its node, as it is told."""
        return f"node {self.node[:8]}"


class _Cluster:
    """The workers of a Ray cluster, as nodes come and go."""

    def __init__(self, ray: Any, asked: Asked, schedule: Schedule) -> None:
        self.ray = ray
        self.asked = asked
        self.schedule = schedule
        self.members: list[_Member] = []
        self.starting: dict[Any, _Member] = {}  # by the calls that have no answer yet
        self.exchanging: dict[Any, _Member] = {}
        self.resting: dict[str, float] = {}  # node → until when
        self.failures: dict[str, str] = {}  # node → why no worker can start there
        self.looked = -POLL  # when
        self.alone = 0.0  # since when there is no node that can work; 0: there is one
        self.told_to_wait: set[str] = set()  # nodes whose processors others use

    def run(self) -> Iterator[Outcome]:
        """Yield outcomes until there are no more songs."""
        while not self.schedule.is_over:
            self._look_around()
            self._give()
            yield from self._take()

    def _list_nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]

    def _look_around(self) -> None:
        """Start workers on nodes that have too few; raise SplitterError if none can be had.

        Where no node has a processor yet, or any more, others may be on their way.
        """
        if self.members and time.monotonic() < self.looked + POLL:
            return
        self.looked = time.monotonic()
        alive = [node for node in self._list_nodes() if node["Resources"].get("CPU", 0) >= 1]
        usable = [node for node in alive if node["NodeID"] not in self.failures]
        if not usable and not self.members:
            self._await_nodes()
            return
        self.alone = 0.0
        self._tell_busy()
        known = Counter(member.node for member in self.members)
        for node in usable:
            name, gpus = node["NodeID"], int(node["Resources"].get("GPU", 0))
            wanted = max(gpus * self.asked.workers_per_gpu, 1)
            if wanted > known[name] and time.monotonic() > self.resting.get(name, 0):
                self._start_workers(wanted - known[name], name, node["Resources"])

    def _await_nodes(self) -> None:
        """Wait for nodes, but not for ever, nor where none of those that there are can work."""
        now = time.monotonic()
        if self.failures or (self.alone and now > self.alone + AWAITED):
            reason = next(iter(self.failures.values()), "no node that is alive has a processor")
            raise SplitterError(f"no node of the cluster can work ({reason}); run again to go on")
        if not self.alone:
            self.alone = now
            log.warning("no node of the cluster has a processor yet; waiting for one")

    def _tell_busy(self) -> None:
        """Say once of each node that its workers wait for processors that others use."""
        for member in self.starting.values():
            late = time.monotonic() > member.asked + BUSY
            if late and member.node not in self.told_to_wait:
                self.told_to_wait.add(member.node)
                log.warning("%s: its workers wait for processors that others use", member.place)

    def _start_workers(self, number: int, node: str, resources: dict[str, float]) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked, gpus = self.asked, int(resources.get("GPU", 0))
        share = max(int(resources["CPU"]) // max(gpus * asked.workers_per_gpu, 1), 1)
        level = logging.getLogger("splitter").getEffectiveLevel()
        device = "cuda" if gpus else "cpu"
        making = Making(asked.model, device, asked.work, share, asked.runtime, level)
        kind = self.ray.remote(RemoteWorker).options(
            num_cpus=share,
            num_gpus=1 / asked.workers_per_gpu if gpus else 0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        for _ in range(number):
            member = _Member(kind.remote(making), node)
            self.members.append(member)
            self.starting[member.actor.start.remote()] = member
        log.debug("%s: %d workers", member.place, number)

    def _give(self) -> None:
        """Hand out songs to all who wait for them, and ask what they have done."""
        asked = {*self.starting.values(), *self.exchanging.values()}
        for member in self.members:
            if member not in asked:
                jobs = self.schedule.draw(member.hand, time.monotonic())
                if member.hand.songs:
                    call = member.actor.exchange.remote([replace(job, there=None) for job in jobs])
                    self.exchanging[call] = member

    def _take(self) -> Iterator[Outcome]:
        """Wait a little for workers to answer; yield what they have done, or died of."""
        calls = [*self.starting, *self.exchanging]
        if not calls:
            time.sleep(POLL)
            return
        self.ray.wait(calls, num_returns=1, timeout=POLL)
        answered, _ = self.ray.wait(calls, num_returns=len(calls), timeout=0)
        for call in answered:
            if call in self.starting:
                self._welcome(call)
            else:
                yield from self._receive(call)

    def _welcome(self, call: Any) -> None:
        """Count on a worker that has started; if it has not, count on its node no more."""
        from ray.exceptions import RayError

        member = self.starting.pop(call)
        try:
            member.hand = Hand(self.ray.get(call))
        except RayError as error:
            self._dismiss(member)
            if not self._lives(member):
                return
            if member.node not in self.failures:
                self.failures[member.node] = f"{member.place}: {_explain(error)}"
                log.warning("no worker can start on %s", self.failures[member.node])
        self.schedule.expect(sum(member.hand.at_once for member in self.members))

    def _receive(self, call: Any) -> Iterator[Outcome]:
        from ray.exceptions import RayError

        member = self.exchanging.pop(call)
        try:
            report: Report = self.ray.get(call)
        except RayError as error:
            log.debug("%s: %s", member.place, _explain(error))
            yield from self._lose(member)
            return
        for warning in report.warnings:
            log.warning("%s: %s", member.place, warning)
        songs = [outcome.job.song for outcome in report.outcomes]
        jobs = self.schedule.end(member.hand, songs, time.monotonic())
        for job, outcome in zip(jobs, report.outcomes, strict=True):
            yield complete(outcome, job)
        if report.leaves:
            log.warning("%s is taken away; its songs go to others", member.place)
            self._dismiss(member, LEAVING)
            self.schedule.give_back(member.hand, died=False)

    def _lose(self, member: _Member) -> Iterator[Outcome]:
        """Give the songs of a worker that died to others; yield those that it died of."""
        died = self._lives(member)
        log.warning(
            "%s: its %s died; others take its songs", member.place, "worker" if died else "machine"
        )
        self._dismiss(member, GRACE)
        for job in self.schedule.give_back(member.hand, died):
            yield Outcome(job, error=f"{job.song}: {TRIES} workers died of it")

    def _lives(self, member: _Member) -> bool:
        """Tell whether a worker's node is alive."""
        return any(node["NodeID"] == member.node for node in self._list_nodes())

    def _dismiss(self, member: _Member, rest: float = 0.0) -> None:
        self.members.remove(member)
        self.resting[member.node] = time.monotonic() + rest


def separate_songs(
    jobs: Iterable[Job], asked: Asked, address: str | None = None
) -> Iterator[Outcome]:
    """Separate songs on the cluster at `address`; yield outcomes in the order of their coming.

    None starts a cluster of this machine alone. Songs, stems and the models' folders must be URLs
    or lie where every node sees them.
    """
    ray = _import_ray(alone=address is None)
    _connect(ray, address)
    try:
        yield from _Cluster(ray, asked, Schedule(jobs)).run()
    finally:
        ray.shutdown()


def _explain(error: Exception) -> str:
    """Say what went wrong on a node in a line; Ray's own words, if it was not an exception."""
    return " ".join(str(getattr(error, "cause", None) or error).split())


def _connect(ray: Any, address: str | None) -> None:
    """Join a cluster, or start one; raise CommandError if none answers at `address`."""
    place = address or ""
    try:
        url = urlsplit(place if "://" in place else f"//{place}")
        if url.hostname and url.port:
            socket.create_connection((url.hostname, url.port), PATIENCE).close()
        ray.init(
            address=address or "local",  # or else Ray would join one that runs here already
            log_to_driver=False,
            configure_logging=False,
            include_dashboard=None if place else False,
        )
    except Exception as error:  # a start that takes too long is one of no kind
        where = f"{place}: no Ray cluster can be joined" if place else "Ray cannot start here"
        raise CommandError(f"{where} ({_explain(error)})") from error


def _import_ray(alone: bool = False) -> Any:
    """Import Ray; one that is started here, and `alone`, listens to this machine only."""
    if alone:  # Ray looks as it is imported; elsewhere than on Linux this is its default
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtra("ray") from error
    logging.getLogger("ray").setLevel(logging.ERROR)  # its notices are for those who know Ray
    ray._private.worker.print_to_stdstream = _keep_from_stdout
    return ray


def _keep_from_stdout(told: dict[str, Any], *_: Any, **__: Any) -> None:
    """Log what Ray tells of workers that died, which it prints among our paths."""
    log.debug("%s", " ".join(map(str, told.get("lines", ()))))

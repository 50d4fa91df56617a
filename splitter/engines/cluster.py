"""Separate many songs on a Ray cluster.

    driver ── jobs ──▶ node 1: worker (model on its GPU, or on its cores)
           ◀─ outcomes ─ node 2: worker
                         …

Each node has a worker, the same that works on one machine, or one for each of its GPUs. A worker
has a few songs at a time, once it has its model. When a node or a worker dies, its songs in flight
are given to others, and what lives on gets another worker; nodes that join get work. A node on
which a worker cannot start gets no more of them. The journal is the driver's: nothing is done
twice, whoever dies.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from splitter.engines.lanes import load_models, share_processor
from splitter.engines.stores import separate_stored
from splitter.engines.worker import Outcome, Work, Worker
from splitter.errors import CommandError, MissingExtra, SplitterError
from splitter.jobs import Job
from splitter.loading import ModelChoice
from splitter.memory import reuse_freed_memory

log = logging.getLogger(__name__)

TRIES = 3  # a song whose workers die so often is taken to be the reason
AHEAD = 1  # songs that wait at a worker beside those that it works on
POLL = 2.0  # seconds between looks at which nodes there are
GRACE = 30.0  # seconds without new work for a node that lost a worker: it may be dead itself
PATIENCE = 10.0  # seconds for a cluster to answer; Ray itself tries for a quarter of an hour


class RemoteWorker:
    """A worker on a node, as Ray makes one; `processors` is how many of the node's are its own."""

    def __init__(self, model: ModelChoice, device: str, work: Work, processors: int) -> None:
        self.made_of = model, device, work, processors

    def start(self) -> None:
        """Load the model: here, and not as it is made, since Ray tells of this what went wrong."""
        import torch

        model, device, work, processors = self.made_of
        reuse_freed_memory()
        torch.set_num_threads(processors)
        self.worker = Worker(load_models(model, [device]), work, share_processor())

    def separate(self, job: Job) -> Outcome:
        """Separate one song."""
        return separate_stored(self.worker, job)


@dataclass
class _Member:
    """A worker of the cluster, and the songs that it has."""

    actor: Any
    node: str
    room: int  # songs at a time
    songs: set[Any] = field(default_factory=set)  # references
    started: bool = False


class _Cluster:
    """The workers of a Ray cluster, as nodes come and go."""

    def __init__(self, ray: Any, model: ModelChoice, work: Work) -> None:
        self.ray = ray
        self.model = model
        self.work = work
        self.members: list[_Member] = []
        self.starting: dict[Any, _Member] = {}
        self.given: dict[Any, tuple[_Member, Job]] = {}
        self.resting: dict[str, float] = {}  # node → until when
        self.failures: dict[str, str] = {}  # node → why no worker can start there

    def look_around(self) -> None:
        """Start workers on nodes that have too few; raise SplitterError if none can be had."""
        alive = [node for node in self.ray.nodes() if node["Alive"]]
        alive = [node for node in alive if node["Resources"].get("CPU", 0) >= 1]
        usable = [node for node in alive if node["NodeID"] not in self.failures]
        if not usable and not self.members:
            reason = next(iter(self.failures.values()), "no node that is alive has a processor")
            raise SplitterError(f"no node of the cluster can work ({reason}); run again to go on")
        known = Counter(member.node for member in self.members)
        for node in usable:
            name, gpus = node["NodeID"], int(node["Resources"].get("GPU", 0))
            missing = max(gpus, 1) - known[name]
            if missing > 0 and time.monotonic() > self.resting.get(name, 0):
                self._start_workers(missing, name, node["Resources"])

    def _start_workers(self, number: int, node: str, resources: dict[str, float]) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        gpus, processors = int(resources.get("GPU", 0)), int(resources["CPU"])
        share = max(processors // max(gpus, 1), 1)
        kind = self.ray.remote(RemoteWorker).options(
            num_cpus=share,
            num_gpus=1 if gpus else 0,
            max_concurrency=share + AHEAD,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        for _ in range(number):
            actor = kind.remote(self.model, "cuda" if gpus else "cpu", self.work, share)
            member = _Member(actor, node, share + AHEAD)
            self.members.append(member)
            self.starting[actor.start.remote()] = member
        log.debug("node %s: %d workers", node, number)

    def give(self, jobs: deque[Job]) -> None:
        """Hand out jobs to whoever has room, the idlest first."""
        started = (member for member in self.members if member.started)
        for member in sorted(started, key=lambda member: len(member.songs)):
            while jobs and len(member.songs) < member.room:
                job = jobs.popleft()
                song = member.actor.separate.remote(job)
                member.songs.add(song)
                self.given[song] = (member, job)

    def take(self) -> Iterator[tuple[Job, Outcome | None]]:
        """Wait a little for jobs to end; yield them, with None for those that were lost."""
        if not self.starting and not self.given:
            time.sleep(POLL)
            return
        done, _ = self.ray.wait([*self.starting, *self.given], num_returns=1, timeout=POLL)
        for reference in done:
            if reference in self.starting:
                self._welcome(reference)
            else:
                yield self._receive(reference)

    def _welcome(self, start: Any) -> None:
        """Count on a worker that has started; if it has not, count on its node no more."""
        from ray.exceptions import RayError

        member = self.starting.pop(start)
        try:
            self.ray.get(start)
            member.started = True
        except RayError as error:
            self._dismiss(member)
            if member.node not in self.failures:
                self.failures[member.node] = f"node {member.node[:8]}: {_explain(error)}"
                log.warning("no worker can start on %s", self.failures[member.node])

    def _receive(self, song: Any) -> tuple[Job, Outcome | None]:
        from ray.exceptions import RayError, RayTaskError

        member, job = self.given.pop(song)
        member.songs.discard(song)
        try:
            return job, self.ray.get(song)
        except RayTaskError as error:
            return job, Outcome(job, error=f"{job.song}: {_explain(error)}")
        except RayError:
            self._dismiss(member)
            self.resting[member.node] = time.monotonic() + GRACE
            return job, None

    def _dismiss(self, member: _Member) -> None:
        self.members = [other for other in self.members if other is not member]


def separate_songs(
    jobs: Iterable[Job], work: Work, model: ModelChoice, address: str | None = None
) -> Iterator[Outcome]:
    """Separate songs on the cluster at `address`; yield outcomes in the order of their coming.

    None starts a cluster of this machine alone. Songs, stems and the models' folders must be URLs
    or lie where every node sees them.
    """
    ray = _import_ray(alone=address is None)
    _connect(ray, address)
    try:
        yield from _run(iter(jobs), _Cluster(ray, model, work))
    finally:
        ray.shutdown()


def _run(jobs: Iterator[Job], cluster: _Cluster) -> Iterator[Outcome]:
    waiting: deque[Job] = deque()
    tries: dict[Any, int] = {}
    while True:
        _fill(waiting, jobs, max(1, sum(member.room for member in cluster.members)))
        if not waiting and not cluster.given:
            return
        cluster.look_around()
        cluster.give(waiting)
        for job, outcome in cluster.take():
            if outcome is not None:
                yield outcome
                continue
            tries[job.song] = tries.get(job.song, 0) + 1
            if tries[job.song] < TRIES:
                log.warning("%s: its worker died; another one takes it", job.song)
                waiting.appendleft(job)
            else:
                yield Outcome(job, error=f"{job.song}: {TRIES} workers died of it")


def _fill(waiting: deque[Job], jobs: Iterator[Job], room: int) -> None:
    while len(waiting) < room and (job := next(jobs, None)) is not None:
        waiting.append(job)


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
            address=address,
            log_to_driver=False,
            configure_logging=False,
            include_dashboard=None if place else False,
        )
    except (OSError, ValueError, RuntimeError) as error:
        where = place or "this machine"
        raise CommandError(f"{where}: no Ray cluster can be joined ({_explain(error)})") from error


def _import_ray(alone: bool = False) -> Any:
    """Import Ray; one that is started here, and `alone`, listens to this machine only."""
    if alone:  # Ray looks as it is imported; elsewhere than on Linux this is its default
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtra("ray") from error
    logging.getLogger("ray").setLevel(logging.ERROR)  # its notices are for those who know Ray
    return ray

"""Separate many songs on a Ray cluster.

    driver ── jobs ──▶ node 1: worker (model on its GPU, or on its cores)
           ◀─ outcomes ─ node 2: worker
                         …

Each node has a worker, the same that works on one machine, or one for each of its GPUs. A worker
has a few songs at a time. When a node dies, its songs in flight are given to others; nodes that
join get work. The journal is the driver's: nothing is done twice, whoever dies.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from splitter.engines.lanes import load_models, share_processor
from splitter.engines.stores import separate_stored
from splitter.engines.worker import Outcome, Work, Worker
from splitter.errors import MissingExtra, SplitterError
from splitter.jobs import Job
from splitter.memory import reuse_freed_memory
from splitter.zoo import ModelChoice

log = logging.getLogger(__name__)

TRIES = 3  # a song whose workers die so often is taken to be the reason
AHEAD = 1  # songs that wait at a worker beside those that it works on
POLL = 2.0  # seconds between looks at which nodes there are
GRACE = 30.0  # seconds without new work for a node that lost a worker: it may be dead itself


class RemoteWorker:
    """A worker on a node, as Ray makes one; `lanes` is the number of the node's processors."""

    def __init__(self, model: ModelChoice, device: str, work: Work, processors: int) -> None:
        import torch

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


class _Cluster:
    """The workers of a Ray cluster, as nodes come and go."""

    def __init__(self, ray: Any, model: ModelChoice, work: Work) -> None:
        self.ray = ray
        self.model = model
        self.work = work
        self.members: list[_Member] = []
        self.given: dict[Any, tuple[_Member, Job]] = {}
        self.resting: dict[str, float] = {}  # node → until when

    def look_around(self) -> bool:
        """Start workers on nodes that have none; tell whether there are any nodes."""
        known = {member.node for member in self.members}
        alive = [node for node in self.ray.nodes() if node["Alive"]]
        alive = [node for node in alive if node["Resources"].get("CPU", 0) >= 1]
        for node in alive:
            rested = time.monotonic() > self.resting.get(node["NodeID"], 0)
            if node["NodeID"] not in known and rested:
                self._start_workers(node["NodeID"], node["Resources"])
        return bool(alive)

    def _start_workers(self, node: str, resources: dict[str, float]) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        gpus, processors = int(resources.get("GPU", 0)), int(resources["CPU"])
        workers = max(gpus, 1)
        share = max(processors // workers, 1)
        kind = self.ray.remote(RemoteWorker).options(
            num_cpus=share,
            num_gpus=1 if gpus else 0,
            max_concurrency=share + AHEAD,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        for _ in range(workers):
            actor = kind.remote(self.model, "cuda" if gpus else "cpu", self.work, share)
            self.members.append(_Member(actor, node, share + AHEAD))
        log.debug("node %s: %d workers", node, workers)

    def give(self, jobs: deque[Job]) -> None:
        """Hand out jobs to whoever has room, the idlest first."""
        for member in sorted(self.members, key=lambda member: len(member.songs)):
            while jobs and len(member.songs) < member.room:
                job = jobs.popleft()
                song = member.actor.separate.remote(job)
                member.songs.add(song)
                self.given[song] = (member, job)

    def take(self) -> Iterator[tuple[Job, Outcome | None]]:
        """Wait a little for jobs to end; yield them, with None for those that were lost."""
        from ray.exceptions import RayError, RayTaskError

        if not self.given:
            time.sleep(POLL)
            return
        done, _ = self.ray.wait(list(self.given), num_returns=1, timeout=POLL)
        for song in done:
            member, job = self.given.pop(song)
            member.songs.discard(song)
            try:
                yield job, self.ray.get(song)
            except RayTaskError as error:
                yield job, Outcome(job, error=f"{job.song}: {error.cause}")
            except RayError:
                self.members = [other for other in self.members if other is not member]
                self.resting[member.node] = time.monotonic() + GRACE
                yield job, None


def separate_songs(
    jobs: Iterable[Job], work: Work, model: ModelChoice, address: str | None = None
) -> Iterator[Outcome]:
    """Separate songs on the cluster at `address`; yield outcomes in the order of their coming.

    None starts a cluster of this machine alone. Songs, stems and the models' folders must be URLs
    or lie where every node sees them.
    """
    ray = _import_ray()
    ray.init(address=address, log_to_driver=False, configure_logging=False)
    try:
        yield from _run(iter(jobs), _Cluster(ray, model, work))
    finally:
        ray.shutdown()


def _run(jobs: Iterator[Job], cluster: _Cluster) -> Iterator[Outcome]:
    waiting: deque[Job] = deque()
    tries: dict[Any, int] = {}
    while True:
        alive = cluster.look_around()
        _fill(waiting, jobs, max(1, sum(member.room for member in cluster.members)))
        if not waiting and not cluster.given:
            return
        if not alive:
            raise SplitterError("the cluster has no node with a processor left; run again to go on")
        cluster.give(waiting)
        for job, outcome in cluster.take():
            if outcome is not None:
                yield outcome
                continue
            tries[job.song] = tries.get(job.song, 0) + 1
            if tries[job.song] < TRIES:
                log.warning("%s: its worker died; it is given to another", job.song)
                waiting.appendleft(job)
            else:
                yield Outcome(job, error=f"{job.song}: {TRIES} workers died of it")


def _fill(waiting: deque[Job], jobs: Iterator[Job], room: int) -> None:
    while len(waiting) < room and (job := next(jobs, None)) is not None:
        waiting.append(job)


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtra("pip install 'splitter[ray]'") from error

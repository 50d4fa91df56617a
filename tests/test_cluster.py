"""Songs on a cluster: a real Ray cluster of this machine."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from splitter.engines.cluster import RemoteWorker
from splitter.engines.worker import Outcome, Worker
from splitter.errors import SplitterError
from splitter.jobs import Found, Job
from splitter.loading import ModelChoice
from tests.commands import ENVIRONMENT, ROOT, call
from tests.jobs import make_song, plan, work

# Ray and the S3 client warn about each other's and Python's ways, which is no concern of ours
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no cluster"])
def test_a_cluster_that_is_not_there_is_one_line(address: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (tmp_path / "song.wav").write_bytes(make_song(0))
    cluster = ("--engine", "ray", "--address", address, "--progress", "none")
    done = call("separate", "song.wav", *cluster, folder=tmp_path)
    (line,) = done.complaints
    assert done.status == 2 and line.startswith(f"splitter: {address}: no Ray cluster")


def test_a_cluster_is_not_told_of_a_device(tmp_path: Path) -> None:
    done = call("separate", "song.wav", "--engine", "ray", "--device", "cuda", folder=tmp_path)
    assert done.status == 2
    assert "--device" in done.stderr and "each node" in done.stderr


def test_a_node_loads_all_that_was_chosen(tmp_path: Path, small_model_folder: Path) -> None:
    """As Ray does it: what a worker is made of goes to its node as bytes."""
    choice = ModelChoice((str(small_model_folder),) * 2, tta=True, wiener=1)
    (tmp_path / "song.wav").write_bytes(make_song(0))
    (job,) = plan([Found(tmp_path / "song.wav")], tmp_path)
    threads = torch.get_num_threads()
    try:
        sent = pickle.loads(pickle.dumps((choice, "cpu", work(), 1)))
        remote = RemoteWorker(*sent)
        remote.start()
        with remote.worker:
            outcome = remote.separate(job)
    finally:
        torch.set_num_threads(threads)
    assert outcome.separated, outcome.error
    assert outcome.separated.model == "small+small+tta+wiener1"
    assert outcome.separated.model_hash == choice.hash


GOOD, BAD, WORSE = (name.ljust(56, "0") for name in ("900d", "bad", "bad2"))  # nodes, as Ray says


class FakeRay:
    """Ray in this process: workers are objects, and a call is made when its result is asked for."""

    def __init__(self, gpus: dict[str, int]) -> None:
        self.gpus = gpus  # of each node
        self.made = 0

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": node, "Alive": True, "Resources": {"CPU": 2.0, "GPU": float(gpus)}}
            for node, gpus in self.gpus.items()
        ]

    def remote(self, kind: Callable[..., Any]) -> Any:
        def choose(scheduling_strategy: Any, **_: Any) -> Any:
            def make(*_: Any) -> Any:
                self.made += 1
                worker = kind(scheduling_strategy.node_id, self.made)
                return SimpleNamespace(
                    start=SimpleNamespace(remote=lambda: partial(worker.start)),
                    separate=SimpleNamespace(remote=lambda job: partial(worker.separate, job)),
                )

            return SimpleNamespace(remote=make)

        return SimpleNamespace(options=choose)

    def wait(self, calls: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return calls[:1], calls[1:]

    def get(self, made: Callable[[], Any]) -> Any:
        from ray.exceptions import RayTaskError

        try:
            return made()
        except SplitterError as error:
            raise RayTaskError("made", "traceback", error) from error


def run_on(ray: FakeRay, worker: Any, songs: int) -> list[Outcome]:
    from splitter.engines import cluster

    jobs = [Job(Path(f"{index:02}.wav"), {}) for index in range(songs)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "RemoteWorker", worker)
        patch.setattr(cluster, "GRACE", 0.0)
        choice = ModelChoice(("nowhere",))
        outcomes = list(cluster._run(iter(jobs), cluster._Cluster(ray, choice, work())))
    assert sorted(outcome.job.song for outcome in outcomes) == [job.song for job in jobs]
    return outcomes


@dataclass
class FakeWorker:
    """A worker that cannot start on some nodes; the first of all is killed by its first song."""

    node: str
    number: int

    def start(self) -> None:
        if self.node != GOOD:
            raise SplitterError("nowhere: no such model")

    def separate(self, job: Job) -> Outcome:
        from ray.exceptions import RayError

        if self.number == 1:
            raise RayError("killed")
        return Outcome(job, error=f"{job.song}: done by {self.number}")


def test_a_node_that_loses_a_worker_gets_another_while_others_live() -> None:
    pytest.importorskip("ray")
    ray = FakeRay({GOOD: 2})
    outcomes = run_on(ray, FakeWorker, 12)
    assert ray.made == 3
    assert {str(outcome.error)[-1] for outcome in outcomes} == {"2", "3"}


def test_a_node_where_no_worker_can_start_is_told_once_and_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("ray")
    ray = FakeRay({BAD: 2, GOOD: 0})
    run_on(ray, FakeWorker, 12)
    assert ray.made == 3
    assert caplog.messages == ["no worker can start on node bad00000: nowhere: no such model"]


def test_a_cluster_where_no_worker_can_start_says_why() -> None:
    pytest.importorskip("ray")
    ray = FakeRay({BAD: 0, WORSE: 0})
    with pytest.raises(SplitterError, match="node bad00000: nowhere: no such model"):
        run_on(ray, FakeWorker, 12)
    assert ray.made == 2


@pytest.mark.slow
def test_a_real_cluster_says_why_no_worker_can_start(
    tmp_path: Path, small_model_folder: Path
) -> None:
    pytest.importorskip("ray")
    from splitter.engines import cluster

    gone = tmp_path / "gone"
    shutil.copytree(small_model_folder, gone)
    choice = ModelChoice((str(gone),)).resolve()
    shutil.rmtree(gone)
    (job,) = plan([Found(tmp_path / "song.wav")], tmp_path)
    with pytest.raises(SplitterError, match=r"no node of the cluster can work \(node .*gone"):
        list(cluster.separate_songs([job], work(), choice))


class Mortal(RemoteWorker):
    """A worker on a processor that Ray takes for a GPU, whose process dies of a song, once."""

    def start(self) -> None:
        model, _, work, processors = self.made_of
        self.made_of = model, "cpu", work, processors
        super().start()

    def separate(self, job: Job) -> Outcome:
        deadly = job.song.with_suffix(".deadly")
        if deadly.exists():
            deadly.unlink()
            os._exit(1)
        return super().separate(job)


@pytest.mark.slow
def test_a_real_node_that_loses_a_worker_gets_another(
    tmp_path: Path, small_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    from splitter.engines import cluster

    songs = [tmp_path / f"song {index}.wav" for index in range(16)]
    for index, song in enumerate(songs):
        song.write_bytes(make_song(index, seconds=10))
    songs[1].with_suffix(".deadly").touch()
    jobs = plan(map(Found, songs), tmp_path / "out")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(cluster, "RemoteWorker", Mortal)
    monkeypatch.setattr(cluster, "GRACE", 0.5)
    ray.init(num_cpus=2, num_gpus=2, log_to_driver=False, configure_logging=False)
    try:
        group = cluster._Cluster(ray, ModelChoice((str(small_model_folder),)), work())
        first: set[str] = set()
        for outcome in cluster._run(iter(jobs), group):
            assert outcome.error is None
            first = first or {str(member.actor) for member in group.members}
    finally:
        ray.shutdown()
    last = {str(member.actor) for member in group.members if member.started}
    assert len(last) == 2 and len(first & last) == 1


@pytest.mark.slow
def test_a_cluster_of_two_nodes_loses_one_and_finishes(
    tmp_path: Path, small_model_folder: Path
) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    from splitter.engines import cluster as engine

    songs = [tmp_path / f"song {index}.wav" for index in range(24)]
    for index, song in enumerate(songs):
        song.write_bytes(make_song(index, seconds=10))
    jobs = plan(map(Found, songs), tmp_path / "out")
    os.environ["PYTHONPATH"] = str(ROOT)
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    victim = nodes.add_node(num_cpus=1)
    done = []
    choice = ModelChoice((str(small_model_folder),), wiener=1)
    try:
        outcomes = engine.separate_songs(jobs, work(), choice, nodes.address)
        for outcome in outcomes:
            assert outcome.error is None
            done.append(outcome.job.song)
            if len(done) == 6:
                nodes.remove_node(victim, allow_graceful=False)
    finally:
        nodes.shutdown()
    assert sorted(done) == sorted(songs)
    from splitter.loading import load_model

    with Worker([load_model(choice)], work()) as worker:
        for song in songs[::6]:
            (alone,) = plan([Found(song)], tmp_path / "alone")
            assert worker.separate(alone).error is None
            for path in alone.stems.values():
                here, _ = soundfile.read(path)
                there, _ = soundfile.read(tmp_path / "out" / song.stem / path.name)
                # another number of threads sums in another order, which may round the other way
                assert np.abs(here - there).max() <= 2**-15


LISTEN = """
from pathlib import Path
from splitter.engines import cluster

def listen():
    lines = [line.split() for kind in ("tcp", "tcp6") if Path(f"/proc/net/{kind}").exists()
             for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
    return {line[9]: line[1].partition(":")[0] for line in lines if line[3] == "0A"}

before = listen()
ray = cluster._import_ray(alone=True)
cluster._connect(ray, None)
new = {place for number, place in listen().items() if number not in before}
print(*new)
ray.shutdown()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="there is no /proc")
def test_a_cluster_that_is_started_here_listens_to_this_machine_only() -> None:
    pytest.importorskip("ray")
    done = subprocess.run(
        [sys.executable, "-c", LISTEN], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    places = done.stdout.split()
    assert places and set(places) <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert not done.stderr

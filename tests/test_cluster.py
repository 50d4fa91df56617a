"""Songs on a cluster: a real Ray cluster of this machine."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from splitter.engines.cluster import _connect
from splitter.engines.remote import Making, RemoteWorker, Report, _Warnings
from splitter.engines.scheduling import Schedule
from splitter.engines.worker import Outcome, Worker
from splitter.errors import CommandError, SplitterError
from splitter.jobs import Found, Job, claim
from splitter.registry import ModelChoice
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


def test_a_cluster_that_cannot_start_is_one_line() -> None:
    def init(**_: object) -> None:
        raise Exception("timed out\nduring startup")  # as Ray does

    with pytest.raises(CommandError, match=r"^Ray cannot start here \(timed out during startup\)$"):
        _connect(SimpleNamespace(init=init), None)


def test_a_cluster_is_not_told_of_a_device(tmp_path: Path) -> None:
    done = call("separate", "song.wav", "--engine", "ray", "--device", "cuda", folder=tmp_path)
    assert done.status == 2
    assert "--device" in done.stderr and "each node" in done.stderr


@pytest.mark.parametrize("runtime", ["torch", "auto"])
def test_a_node_loads_all_that_was_chosen(
    runtime: str, tmp_path: Path, small_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray does it: what a worker is made of, and what it says, travels as bytes."""
    choice = ModelChoice((str(small_model_folder),) * 2, tta=True, wiener=1)
    songs = [tmp_path / f"song {index}.wav" for index in range(3)]
    for index, song in enumerate(songs):
        song.write_bytes(make_song(index))
    songs[1].write_bytes(b"no sound")
    jobs = plan(map(Found, songs), tmp_path)
    threads = torch.get_num_threads()
    monkeypatch.setattr("splitter.engines.remote.signal.signal", lambda *_: None)
    monkeypatch.setattr("splitter.engines.remote.RemoteWorker._log", keep_log)
    try:
        monkeypatch.chdir(tmp_path)
        making = Making(choice, "cpu", work(), 1, runtime)
        remote = RemoteWorker(pickle.loads(pickle.dumps(making)))
        monkeypatch.chdir("/")  # where Ray happens to be
        assert remote.start() == 2
        assert Path.cwd() == tmp_path
        with remote.worker:
            reports = [remote.exchange(pickle.loads(pickle.dumps(jobs)))]
            while sum(len(report.outcomes) for report in reports) < 3:
                reports.append(pickle.loads(pickle.dumps(remote.exchange([]))))
    finally:
        torch.set_num_threads(threads)
    outcomes = {outcome.job.song: outcome for report in reports for outcome in report.outcomes}
    assert sorted(outcomes) == songs and "song 1.wav" in str(outcomes[songs[1]].error)
    separated = outcomes[songs[0]].separated
    assert separated, outcomes[songs[0]].error
    assert separated.model == "small+small+tta+wiener1" and separated.model_hash == choice.hash


def test_a_worker_logs_to_its_file_and_warns_the_driver_too(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Ray keeps what a worker writes to standard error in a file of its own."""
    log = logging.getLogger("splitter")
    before = log.handlers[:], log.level
    try:
        remote = RemoteWorker(Making(ModelChoice(("any",)), "cpu", work(), 1))
        remote._log()
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            log.getChild("songs").log(level, "at level %d", level)
    finally:
        log.handlers[:], log.level = before
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "INFO splitter.songs: at level 20",
        "WARNING splitter.songs: at level 30",
    ]
    assert remote._warnings.take() == ["at level 30"] and not remote._warnings.take()


def keep_log(remote: RemoteWorker) -> None:
    """Leave the log of this process alone."""
    remote._warnings = _Warnings()


GOOD, BAD, WORSE = (name.ljust(56, "0") for name in ("900d", "bad", "bad2"))  # nodes, as Ray says


class FakeRay:
    """Ray in this process: workers are objects, and a call is made when its result is asked for."""

    def __init__(self, gpus: dict[str, int]) -> None:
        self.gpus = gpus  # of each node
        self.made: list[dict[str, Any]] = []  # with which options

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": node, "Alive": True, "Resources": {"CPU": 4.0, "GPU": float(gpus)}}
            for node, gpus in self.gpus.items()
        ]

    def remote(self, kind: Callable[..., Any]) -> Any:
        def choose(scheduling_strategy: Any, **options: Any) -> Any:
            def make(*_: Any) -> Any:
                self.made.append(options)
                worker = kind(scheduling_strategy.node_id, len(self.made))
                return SimpleNamespace(
                    start=SimpleNamespace(remote=lambda: partial(worker.start)),
                    exchange=SimpleNamespace(remote=lambda jobs: partial(worker.exchange, jobs)),
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


def run_on(ray: FakeRay, worker: Any, songs: int, workers_per_gpu: int = 1) -> list[Outcome]:
    from splitter.engines import cluster

    jobs = [Job(Path(f"{index:02}.wav"), {}) for index in range(songs)]
    asked = cluster.Asked(ModelChoice(("nowhere",)), work(), workers_per_gpu=workers_per_gpu)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "RemoteWorker", worker)
        patch.setattr(cluster, "GRACE", 0.0)
        patch.setattr(cluster, "LEAVING", 0.0)
        patch.setattr(cluster, "POLL", 0.0)
        outcomes = list(cluster._Cluster(ray, asked, Schedule(jobs)).run())
    assert sorted(outcome.job.song for outcome in outcomes) == [job.song for job in jobs]
    return outcomes


@dataclass
class FakeWorker:
    """A worker that cannot start on some nodes; the first of all is killed by its first songs."""

    node: str
    number: int

    def start(self) -> int:
        if self.node != GOOD:
            raise SplitterError("nowhere: no such model")
        return 1

    def exchange(self, jobs: list[Job]) -> Report:
        from ray.exceptions import RayError

        if self.number == 1:
            raise RayError("killed")
        return Report([Outcome(job, error=f"{job.song}: done by {self.number}") for job in jobs])


def test_a_node_that_loses_a_worker_gets_another_while_others_live() -> None:
    pytest.importorskip("ray")
    ray = FakeRay({GOOD: 2})
    outcomes = run_on(ray, FakeWorker, 40)
    assert len(ray.made) == 3
    assert {str(outcome.error)[-1] for outcome in outcomes} == {"2", "3"}


def test_workers_that_share_gpus_share_the_processors() -> None:
    pytest.importorskip("ray")
    ray = FakeRay({GOOD: 1})
    run_on(ray, FakeWorker, 12, workers_per_gpu=2)
    assert len(ray.made) == 3  # one of which died
    assert all(options == {"num_cpus": 2, "num_gpus": 0.5} for options in ray.made)


class Deadly(FakeWorker):
    """A worker that one of all songs kills."""

    def exchange(self, jobs: list[Job]) -> Report:
        from ray.exceptions import RayError

        if any(job.song.stem == "07" for job in jobs):
            raise RayError("killed")
        return Report([Outcome(job, error="done") for job in jobs])


def test_a_song_that_kills_its_workers_takes_no_other_song_along(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("ray")
    ray = FakeRay({GOOD: 0})
    outcomes = run_on(ray, Deadly, 12)
    (deadly,) = (outcome for outcome in outcomes if outcome.error != "done")
    assert deadly.error == "07.wav: 3 workers died of it"
    assert caplog.messages == ["node 900d0000: its worker died; others take its songs"] * 3


class Leaving(FakeWorker):
    """A worker that is told to leave when it has done one song."""

    def exchange(self, jobs: list[Job]) -> Report:
        done = [Outcome(job, error="done") for job in jobs]
        if self.number <= 4:
            return Report(done[:1], leaves=True, warnings=["the disk is slow"])
        return Report(done)


def test_a_worker_that_leaves_gives_its_songs_back(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("ray")
    ray = FakeRay({GOOD: 0})
    run_on(ray, Leaving, 12)  # more often than a song may have workers that die
    assert len(ray.made) == 5
    told = "node 900d0000 is taken away; its songs go to others"
    assert caplog.messages[:2] == ["node 900d0000: the disk is slow", told]


def test_a_node_where_no_worker_can_start_is_told_once_and_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("ray")
    ray = FakeRay({BAD: 2, GOOD: 0})
    run_on(ray, FakeWorker, 12)
    assert len(ray.made) == 3
    assert caplog.messages == ["no worker can start on node bad00000: nowhere: no such model"]


def test_nodes_that_are_on_their_way_are_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("ray")

    class Late(FakeRay):
        looks = 0

        def nodes(self) -> list[dict[str, Any]]:
            self.looks += 1
            return super().nodes() if self.looks > 5 else []

    assert len(run_on(Late({GOOD: 0}), FakeWorker, 12)) == 12
    assert caplog.messages[0] == "no node of the cluster has a processor yet; waiting for one"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("splitter.engines.cluster.AWAITED", 0.0)
        with pytest.raises(SplitterError, match="no node that is alive has a processor"):
            run_on(Late({}), FakeWorker, 12)


def test_workers_that_wait_for_the_processors_of_others_are_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")

    class Crowded(FakeRay):
        waits = 0

        def wait(self, calls: list[Any], **given: Any) -> tuple[list[Any], list[Any]]:
            self.waits += 1
            return super().wait(calls, **given) if self.waits > 6 else ([], calls)

    monkeypatch.setattr("splitter.engines.cluster.BUSY", -1.0)
    run_on(Crowded({GOOD: 2}), FakeWorker, 12)
    told = "node 900d0000: its workers wait for processors that others use"
    assert caplog.messages.count(told) == 1


def test_a_cluster_where_no_worker_can_start_says_why() -> None:
    pytest.importorskip("ray")
    ray = FakeRay({BAD: 0, WORSE: 0})
    with pytest.raises(SplitterError, match="node bad00000: nowhere: no such model"):
        run_on(ray, FakeWorker, 12)
    assert len(ray.made) == 2


def test_workers_per_gpu_are_for_a_cluster(tmp_path: Path) -> None:
    done = call("separate", "song.wav", "--workers-per-gpu", "2", folder=tmp_path)
    assert done.status == 2 and "add --engine ray" in done.stderr


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
        list(cluster.separate_songs([job], cluster.Asked(choice, work())))


class Mortal(RemoteWorker):
    """A worker on a processor that Ray takes for a GPU, whose process dies of a song, once."""

    def start(self) -> int:
        self.making = replace(self.making, device="cpu")
        return super().start()

    def separate(self, job: Job) -> Outcome:
        deadly = job.song.with_suffix(".deadly")
        if deadly.exists():
            deadly.unlink()
            os._exit(1)
        return super().separate(job)


@pytest.mark.slow
def test_a_real_node_that_loses_a_worker_gets_another(
    tmp_path: Path,
    small_model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("ray")
    from splitter.engines import cluster

    ray = cluster._import_ray()
    songs = [tmp_path / f"song {index}.wav" for index in range(16)]
    for index, song in enumerate(songs):
        song.write_bytes(make_song(index, seconds=10))
    songs[1].with_suffix(".deadly").touch()
    jobs = [*map(claim, plan(map(Found, songs), tmp_path / "out"))]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(cluster, "RemoteWorker", Mortal)
    monkeypatch.setattr(cluster, "GRACE", 0.5)
    monkeypatch.setattr(cluster, "POLL", 0.2)
    ray.init(num_cpus=2, num_gpus=2, log_to_driver=False, configure_logging=False)
    try:
        asked = cluster.Asked(ModelChoice((str(small_model_folder),)), work())
        group = cluster._Cluster(ray, asked, Schedule(jobs))
        first: set[str] = set()
        for outcome in group.run():
            assert outcome.error is None
            first = first or {str(member.actor) for member in group.members}
    finally:
        ray.shutdown()
    last = {str(member.actor) for member in group.members}
    assert len(last) == 2 and len(first & last) == 1
    assert not capfd.readouterr().out  # where paths go


class Preempted(Mortal):
    """A worker that gets SIGTERM as it works on a song, once."""

    def separate(self, job: Job) -> Outcome:
        if job.song.with_suffix(".notice").exists():
            job.song.with_suffix(".notice").unlink()
            Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return RemoteWorker.separate(self, job)


@pytest.mark.slow
def test_a_real_worker_that_is_told_to_leave_gives_its_songs_back_at_once(
    tmp_path: Path,
    small_model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ray = pytest.importorskip("ray")
    from splitter.engines import cluster

    songs = [tmp_path / f"song {index}.wav" for index in range(8)]
    for index, song in enumerate(songs):
        song.write_bytes(make_song(index, seconds=60))
    songs[3].with_suffix(".notice").touch()
    jobs = [*map(claim, plan(map(Found, songs), tmp_path / "out"))]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(cluster, "RemoteWorker", Preempted)
    ray.init(num_cpus=2, num_gpus=2, log_to_driver=False, configure_logging=False)
    try:
        asked = cluster.Asked(ModelChoice((str(small_model_folder),)), work())
        group = cluster._Cluster(ray, asked, Schedule(jobs))
        outcomes = list(group.run())
    finally:
        ray.shutdown()
    assert [outcome.error for outcome in outcomes] == [None] * 8
    assert sorted(outcome.job.song for outcome in outcomes) == songs
    (told,) = caplog.messages
    assert told.endswith("is taken away; its songs go to others")
    assert len(group.members) == 1  # the other worker did the rest, at once
    assert not list(tmp_path.rglob("*.part"))


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
    jobs = [*map(claim, plan(map(Found, songs), tmp_path / "out"))]
    os.environ["PYTHONPATH"] = str(ROOT)
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    victim = nodes.add_node(num_cpus=1)
    done = []
    choice = ModelChoice((str(small_model_folder),), wiener=1)
    try:
        outcomes = engine.separate_songs(jobs, engine.Asked(choice, work()), nodes.address)
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

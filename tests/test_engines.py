"""Many songs at once on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from splitter.audio import SongReader
from splitter.engines.lanes import (
    ProcessorLane,
)
from splitter.engines.local import AHEAD_BYTES, WAITING, separate_songs
from splitter.engines.sharing import SharedNetwork
from splitter.engines.worker import Outcome, Work, Worker
from splitter.errors import StoppedError
from splitter.jobs import Job, claim
from splitter.loading import Model
from splitter.outputs import Output, name_stems
from splitter.runtime.computing import Computing, Piece
from splitter.runtime.tiles import compute, infer
from splitter.separation import Stems
from splitter.songs import separate_file
from splitter.tiling import Tile
from tests import sounds

COMPUTING = Computing(core=1024, precision="float32")


def make_songs(folder: Path, seconds: Iterable[float]) -> list[Path]:
    return [
        sounds.write(folder / f"song {index}.wav", sounds.noise(round(length * 44100), seed=index))
        for index, length in enumerate(seconds)
    ]


def make_jobs(songs: Iterable[Path], folder: Path, model: Model) -> list[Job]:
    output = Output(folder)
    return [Job(song, name_stems(song, output, model.name, model.stems)) for song in songs]


def make_worker(model: Model, lanes: int = 1, batch: int = 1) -> Worker:
    computing = Computing(core=16384, batch=batch, precision="float32")
    return Worker([model], Work(computing=computing), lanes)


def run(jobs: Iterable[Job], worker: Worker, at_once: int = 2) -> dict[str, Outcome]:
    return {outcome.job.song.name: outcome for outcome in separate_songs(jobs, worker, at_once)}


@pytest.mark.parametrize(("lanes", "at_once"), [(1, 1), (1, 3), (2, 2), (3, 5)])
def test_many_songs_at_once_become_what_each_becomes_alone(
    tmp_path: Path, small_model: Model, lanes: int, at_once: int
) -> None:
    songs = make_songs(tmp_path, (0.5, 1.5, 0.001, 1.0, 0.7))
    jobs = make_jobs(songs, tmp_path / "together", small_model)
    outcomes = run(jobs, make_worker(small_model, lanes), at_once)
    assert len(outcomes) == len(songs)
    computing = Computing(core=16384, precision="float32")
    for song in songs:
        alone = separate_file(song, Output(tmp_path / "alone"), small_model, computing)
        together = outcomes[song.name].separated
        assert together is not None
        for name, path in alone.stems.items():
            assert together.stems[name].read_bytes() == path.read_bytes()


def test_a_song_of_no_samples_among_others_is_separated(tmp_path: Path, small_model: Model) -> None:
    songs = [*make_songs(tmp_path, (0.5,)), tmp_path / "empty.wav"]
    soundfile.write(songs[1], np.zeros((0, 2)), 44100)
    outcomes = run(make_jobs(songs, tmp_path / "out", small_model), make_worker(small_model))
    empty = outcomes["empty.wav"].separated
    assert empty is not None and empty.samples == 0


def test_bad_songs_among_good_ones_are_outcomes_with_an_error(
    tmp_path: Path, small_model: Model
) -> None:
    songs = make_songs(tmp_path, (0.5, 0.5, 0.5))
    songs[1].write_bytes(b"no sound at all")
    songs.insert(2, tmp_path / "missing.wav")
    jobs = make_jobs(songs, tmp_path / "out", small_model)
    outcomes = run(jobs, make_worker(small_model, lanes=2), 2)
    assert [name for name, outcome in sorted(outcomes.items()) if outcome.error is None] == [
        "song 0.wav",
        "song 2.wav",
    ]
    assert "missing.wav" in str(outcomes["missing.wav"].error)
    assert not any(path.exists() for path in jobs[1].stems.values())


def fill_memory() -> None:
    torch.empty(1 << 47, dtype=torch.uint8)  # no process has so many addresses


def make_a_mistake() -> None:
    raise IndexError("our own mistake")


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (fill_memory, "there is not enough memory; end what else uses it"),
        (make_a_mistake, "IndexError: our own mistake; -v says more"),
    ],
)
def test_what_fails_in_the_network_costs_its_song_alone(
    tmp_path: Path,
    small_model: Model,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fail: Callable[[], None],
    words: str,
) -> None:
    def compute_stereo_only(signals: Piece, *given: Any) -> Piece:
        if signals.shape[1] == 1:
            fail()
        return compute(signals, *given)

    monkeypatch.setattr("splitter.engines.lanes.compute", compute_stereo_only)
    songs = make_songs(tmp_path, (0.5, 0.5))
    songs.append(sounds.write(tmp_path / "mono.wav", sounds.noise(44100, channels=1)))
    with caplog.at_level("DEBUG", "splitter"):
        outcomes = run(make_jobs(songs, tmp_path, small_model), make_worker(small_model, lanes=2))
    failed = outcomes.pop("mono.wav")
    assert failed.error and failed.error.startswith(f"{songs[-1]}: {words}")
    assert (fail.__name__ in caplog.text) == ("-v" in words)  # its traceback
    assert all(outcome.separated for outcome in outcomes.values())
    assert not list((tmp_path / "mono").glob("*"))


def test_a_closed_engine_stops_its_threads_and_leaves_nothing_unfinished(
    tmp_path: Path, small_model: Model
) -> None:
    songs = make_songs(tmp_path, (0.1, 20.0, 20.0, 20.0))
    before = threading.active_count()
    outcomes = separate_songs(
        make_jobs(songs, tmp_path / "out", small_model), make_worker(small_model, 2), 3
    )
    done = next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    files = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert done.separated is not None
    assert files == set(done.separated.stems.values())


def test_a_stopped_worker_begins_no_song(tmp_path: Path, small_model: Model) -> None:
    (job,) = make_jobs(make_songs(tmp_path, (0.1,)), tmp_path / "out", small_model)
    with make_worker(small_model) as worker:
        worker.stop()
        with pytest.raises(StoppedError):
            worker.separate(job)
    assert not (tmp_path / "out").exists()


def test_jobs_are_taken_only_as_they_are_needed(tmp_path: Path, small_model: Model) -> None:
    jobs = make_jobs(make_songs(tmp_path, [0.2] * 8), tmp_path / "out", small_model)
    taken = 0

    def count() -> Iterator[Job]:
        nonlocal taken
        for job in jobs:
            taken += 1
            yield job

    outcomes = separate_songs(count(), make_worker(small_model), 2)
    next(outcomes)
    assert taken <= 2 + WAITING + 1
    assert len(list(outcomes)) == 7


def test_large_songs_of_a_store_are_not_fetched_far_ahead(
    tmp_path: Path, small_model: Model
) -> None:
    """Beyond those at work, songs that wait have no more than AHEAD_BYTES."""
    jobs = make_jobs(make_songs(tmp_path, [0.2] * 12), tmp_path / "out", small_model)
    sizes = [AHEAD_BYTES // 2] * 6 + [1] * 6  # that their listing told
    taken = done = 0
    ahead: list[int] = []

    def count() -> Iterator[Job]:
        nonlocal taken
        for job, size in zip(jobs, sizes, strict=True):
            yield replace(job, size=size)
            taken += 1  # the engine has it, and asks for another one
            ahead.append(sum(sizes[done:taken]))

    for _ in separate_songs(count(), make_worker(small_model), 2, beside=10):
        done += 1
    assert done == 12 and max(ahead[:6]) <= AHEAD_BYTES


def test_progress_of_each_song_can_be_watched(tmp_path: Path, small_model: Model) -> None:
    seen: dict[str, int] = {}

    def watch(reader: SongReader, stems: Iterator[Stems]) -> Iterator[Stems]:
        for block in stems:
            seen[reader.source] = seen.get(reader.source, 0) + block["vocals"].shape[-1]
            yield block

    songs = make_songs(tmp_path, (0.5, 1.0))
    worker = Worker([small_model], Work(computing=COMPUTING), watch=watch)
    list(separate_songs(make_jobs(songs, tmp_path / "out", small_model), worker))
    assert seen == {str(songs[0]): 22050, str(songs[1]): 44100}


def test_batches_change_nothing_but_rounding(tmp_path: Path, small_model: Model) -> None:
    tiles = [Tile(sounds.noise(1536, seed=seed), 256, 1024) for seed in range(7)]
    plain = list(infer(tiles, small_model, COMPUTING))
    with SharedNetwork([ProcessorLane(small_model, COMPUTING, batch=4)]) as network:
        for expected, piece in zip(plain, network.run(tiles), strict=True):
            # float32 sums in another order
            np.testing.assert_allclose(piece, expected, atol=1e-6)


def test_a_job_whose_worker_died_between_its_stems_is_done_by_the_next(
    tmp_path: Path, small_model: Model
) -> None:
    (song,) = make_songs(tmp_path, (0.1,))
    (job,) = make_jobs([song], tmp_path / "stems", small_model)
    with Worker([small_model], Work(Output(overwrite=False), computing=COMPUTING)) as worker:
        handed_out = claim(job)
        sounds.write(job.stems["vocals"], sounds.noise(10))  # the one of two that has its name
        done = worker.separate(handed_out)
        assert done.error is None and done.separated
        assert soundfile.info(job.stems["vocals"]).frames == 4410
        assert "exists already" in str(worker.separate(claim(job)).error)

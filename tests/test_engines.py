from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
import torch

from splitter.audio import SongReader
from splitter.engines.lanes import (
    ProcessorLane,
    fit_batch,
    load_models,
    make_lanes,
    share_processor,
)
from splitter.engines.local import separate_songs
from splitter.engines.sharing import SharedNetwork, Signals, StoppedError
from splitter.engines.worker import Outcome, Work, Worker
from splitter.errors import DeviceError, SplitterError
from splitter.jobs import Job
from splitter.outputs import Output, name_stems
from splitter.separation import Computing, Stems, compute, infer
from splitter.songs import separate_file
from splitter.tiling import Tile
from splitter.zoo import Model, ModelChoice
from tests import sounds

COMPUTING = Computing(core=1024, precision="float32")


@dataclass(eq=False)
class Double:
    """A lane that anyone can check: one stem, twice the core."""

    batch: int = 1

    def __call__(self, signals: Signals, context: int) -> Signals:
        return 2 * signals[:, None, :, context:-context]


def make_tiles(count: int, samples: int = 8, start: float = 0.0) -> list[Tile]:
    signals = (np.full((1, samples), start + i, np.float32) for i in range(count))
    return [Tile(signal, 2, samples - 4) for signal in signals]


def check_pieces(tiles: Iterable[Tile], pieces: Iterable[np.ndarray]) -> None:
    for tile, piece in zip(tiles, pieces, strict=True):
        np.testing.assert_array_equal(piece, 2 * tile.keep(tile.signal[:, tile.context :])[None])


class Counting(Double):
    """A lane that remembers the shapes it was given."""

    def __init__(self, seconds: float = 0.0, batch: int = 1) -> None:
        super().__init__(batch)
        self.shapes: list[tuple[int, ...]] = []
        self.seconds = seconds

    def __call__(self, signals: Signals, context: int) -> Signals:
        self.shapes.append(signals.shape)
        time.sleep(self.seconds)
        return super().__call__(signals, context)


class Memory:
    """What the lanes of a device have room for together."""

    def __init__(self, tiles: int) -> None:
        self.free = tiles
        self.lock = threading.Lock()

    def take(self, tiles: int) -> None:
        with self.lock:
            if tiles > self.free:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            self.free -= tiles

    def give(self, tiles: int) -> None:
        with self.lock:
            self.free += tiles


class Small(Double):
    """A lane that needs memory, a tile at a time, as a network does a layer at a time."""

    def __init__(self, memory: Memory, batch: int = 1) -> None:
        super().__init__(batch)
        self.memory = memory

    def __call__(self, signals: Signals, context: int) -> Signals:
        taken = 0
        try:
            for _ in signals:
                self.memory.take(1)
                taken += 1
                time.sleep(0.002)
            return super().__call__(signals, context)
        finally:
            self.memory.give(taken)


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_pieces_come_in_the_order_of_their_tiles(lanes: int, count: int) -> None:
    with SharedNetwork([Double() for _ in range(lanes)]) as network:
        tiles = make_tiles(count)
        check_pieces(tiles, network.run(tiles))


def run_in_threads(network: SharedNetwork, songs: list[list[Tile]]) -> None:
    """Give each song a thread; raise what went wrong in any."""
    errors: list[BaseException] = []

    def work(tiles: list[Tile]) -> None:
        try:
            check_pieces(tiles, network.run(tiles))
        except (AssertionError, SplitterError, ValueError) as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(tiles,)) for tiles in songs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for error in errors:
        raise error


def test_tiles_of_several_songs_share_a_batch() -> None:
    lane = Counting(0.05, batch=4)
    with SharedNetwork([lane]) as network:
        run_in_threads(network, [make_tiles(3, start=10.0 * song) for song in range(6)])
    assert sum(shape[0] for shape in lane.shapes) == 18
    assert max(shape[0] for shape in lane.shapes) == 4


def test_tiles_of_unlike_shapes_do_not_share_a_batch_but_all_are_answered() -> None:
    lane = Counting(0.02, batch=8)
    with SharedNetwork([lane]) as network:
        run_in_threads(network, [make_tiles(5, 8 + song % 2) for song in range(4)])
    assert {shape[1:] for shape in lane.shapes} == {(1, 8), (1, 9)}


def test_each_lane_takes_as_many_tiles_as_it_has_room_for() -> None:
    wide, narrow = Counting(0.02, batch=4), Counting(0.02)
    with SharedNetwork([wide, narrow]) as network:
        run_in_threads(network, [make_tiles(12, start=100.0 * song) for song in range(3)])
    assert max(shape[0] for shape in wide.shapes) == 4
    assert {shape[0] for shape in narrow.shapes} == {1}


@pytest.mark.parametrize("tiles", [1, 2, 3])
def test_a_batch_too_large_for_memory_is_halved_and_nothing_is_lost(tiles: int) -> None:
    lanes = [Small(Memory(tiles), batch=8) for _ in range(2)]
    with SharedNetwork(lanes) as network:
        run_in_threads(network, [make_tiles(20, start=100.0 * song) for song in range(3)])
    assert all(1 <= lane.batch <= tiles for lane in lanes)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("lanes", [2, 3])
def test_a_tile_that_fits_only_alone_is_separated_alone(lanes: int, batch: int) -> None:
    memory = Memory(1)
    with SharedNetwork([Small(memory, batch) for _ in range(lanes)]) as network:
        run_in_threads(network, [make_tiles(10, start=100.0 * song) for song in range(3)])
    assert memory.free == 1


def test_lanes_that_run_out_of_memory_at_one_moment_do_not_all_give_up() -> None:
    together = threading.Barrier(2, timeout=20)

    class Crowded(Double):
        met = False

        def __call__(self, signals: Signals, context: int) -> Signals:
            if not self.met:
                self.met = True
                together.wait()
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return super().__call__(signals, context)

    with SharedNetwork([Crowded(), Crowded()]) as network:
        run_in_threads(network, [make_tiles(4)])


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_tile_too_large_for_memory_is_an_error_with_a_way_out(lanes: int, batch: int) -> None:
    with (
        SharedNetwork([Small(Memory(0), batch) for _ in range(lanes)]) as network,
        pytest.raises(SplitterError, match="--device cpu"),
    ):
        list(network.run(make_tiles(9)))


def test_memory_is_emptied_when_nothing_holds_what_a_lane_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[weakref.ref[np.ndarray]] = []
    alive: list[bool] = []

    class Large(Double):
        def __call__(self, signals: Signals, context: int) -> Signals:
            layer = np.zeros(8)
            held.append(weakref.ref(layer))
            if len(signals) > 1:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return super().__call__(signals, context)

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(held[-1]() is not None))
    with SharedNetwork([Large(4)]) as network:
        run_in_threads(network, [make_tiles(9)])
    assert alive and not any(alive)


def test_what_fails_in_a_lane_is_raised_where_the_piece_is_wanted() -> None:
    class Failing(Double):
        def __call__(self, signals: Signals, context: int) -> Signals:
            if signals[0, 0, 0] == 3:
                raise ValueError("no threes")
            return super().__call__(signals, context)

    with SharedNetwork([Failing()]) as network:
        with pytest.raises(ValueError, match="no threes"):
            list(network.run(make_tiles(5)))
        tiles = make_tiles(2)
        check_pieces(tiles, network.run(tiles))


def test_what_fails_in_a_song_does_not_harm_others() -> None:
    def broken() -> Iterator[Tile]:
        yield from make_tiles(2)
        raise ValueError("broken song")

    with SharedNetwork([Double(4)]) as network:
        with pytest.raises(ValueError, match="broken song"):
            list(network.run(broken()))
        run_in_threads(network, [make_tiles(5) for _ in range(3)])


def test_songs_share_how_many_tiles_they_are_ahead() -> None:
    taken = [0] * 4

    def count(song: int) -> Iterator[Tile]:
        for tile in make_tiles(100):
            taken[song] += 1
            yield tile

    with SharedNetwork([Double() for _ in range(4)]) as network:
        songs = [network.run(count(song)) for song in range(4)]
        for song in songs:
            next(song)
        assert taken == [5, 3, 3, 2]  # alone a song is as many ahead as there are lanes
        for song in songs[1:]:
            song.close()
        for _ in range(3):
            next(songs[0])
        assert taken[0] == 8


def test_who_waits_for_a_stopped_network_is_told() -> None:
    with SharedNetwork([Counting(0.01)]) as network:
        pieces = network.run(iter(make_tiles(1000)))
        next(pieces)
        network.stop()
        with pytest.raises(StoppedError):
            list(pieces)
        with pytest.raises(StoppedError):
            list(network.run(make_tiles(1)))


def test_a_lane_computes_what_the_plain_way_computes(small_model: Model) -> None:
    signals = np.stack([sounds.noise(1536, seed=seed) for seed in range(2)])
    (lane,) = make_lanes([small_model], COMPUTING, 1)
    expected = compute(signals, small_model, COMPUTING, 256)
    np.testing.assert_array_equal(lane(signals, 256), expected)
    assert len(make_lanes([small_model, small_model], COMPUTING, 3)) == 6


def test_lanes_share_no_cache_of_weights(small_model: Model) -> None:
    """Autocast's cache is the process's: a lane would read what another's stream yet writes."""
    cached: list[bool] = []
    hook = small_model.network.register_forward_hook(
        lambda *_: cached.append(torch.is_autocast_cache_enabled())
    )
    compute(sounds.noise(1536)[None], small_model, Computing(core=1024), 256)
    hook.remove()
    assert cached == [False]


def test_a_stream_waits_for_the_weights(
    small_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[tuple[str, str]] = []

    class Stream:
        def __init__(self, device: torch.device) -> None:
            self.device = device

        def wait_stream(self, other: str) -> None:
            waits.append((str(self.device), other))

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"current of {device}")
    on_gpu = replace(small_model, device=torch.device("cuda:1"))
    make_lanes([on_gpu], COMPUTING, 1)
    assert waits == [("cuda:1", "current of cuda:1")] * 2


def test_on_a_processor_a_batch_is_one_tile(small_model: Model) -> None:
    assert fit_batch(small_model, COMPUTING) == 1


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A GPU of 10 GB of which 4 are free, as far as questions about its memory go."""
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1_000_000_000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1_400_000_000)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4_000_000_000, 10_000_000_000))
    monkeypatch.setattr(torch.cuda, "Stream", Mock())
    monkeypatch.setattr(torch.cuda, "current_stream", Mock())
    return torch.device("cuda:1")


def test_each_lane_gets_the_batch_that_its_own_device_holds(
    small_model: Model, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitter.engines.lanes.compute", Mock())
    models = [replace(small_model, device=gpu), small_model]
    ready = make_lanes(models, replace(COMPUTING, batch=0), 2)
    # 80 % of 4 GB, for two lanes, tiles of 0.4 GB
    assert [lane.batch for lane in ready] == [4, 4, 1, 1]
    assert [lane.batch for lane in make_lanes(models, replace(COMPUTING, batch=3), 1)] == [3] * 3


def test_a_gpu_that_holds_no_tile_is_an_error_with_a_way_out(
    small_model: Model, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    shortage = torch.cuda.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr("splitter.engines.lanes.compute", Mock(side_effect=shortage))
    with pytest.raises(DeviceError, match=r"cuda:1: .* use --device cpu"):
        fit_batch(replace(small_model, device=gpu), COMPUTING)
    monkeypatch.setattr("splitter.engines.lanes.load_model", Mock(side_effect=shortage))
    with pytest.raises(DeviceError, match=r"cpu: .* use --device cpu"):
        load_models(ModelChoice(("unet",)), ["cpu"])


def test_the_threads_of_a_processor_are_split_over_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    for threads, lanes, each in ((1, 1, 1), (2, 2, 1), (8, 8, 1), (64, 8, 8)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert share_processor() == lanes
        assert given.pop() == each


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
    assert taken <= 2
    assert len(list(outcomes)) == 7


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

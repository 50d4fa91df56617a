"""Lanes that share a network: whose tile goes where, and what happens where memory ends."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from splitter.engines.lanes import (
    fit_batch,
    load_models,
    make_lanes,
    share_processor,
)
from splitter.engines.sharing import SharedNetwork, Signals
from splitter.errors import DeviceError, SplitterError, StoppedError
from splitter.loading import Model
from splitter.processors import count_processors
from splitter.registry import ModelChoice
from splitter.runtime.computing import Computing
from splitter.runtime.tiles import compute
from splitter.tiling import Tile
from tests import sounds

COMPUTING = Computing(core=1024, precision="float32")


@dataclass(eq=False)
class Double:
    """A lane that anyone can check: one stem, twice the core."""

    batch: int = 1
    alone: bool = False
    part: int = 0

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

    threads = [threading.Thread(target=work, args=(tiles,), daemon=True) for tiles in songs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)  # none waits for ever
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
def test_a_tile_too_large_for_memory_is_an_error(lanes: int, batch: int) -> None:
    with (
        SharedNetwork([Small(Memory(0), batch) for _ in range(lanes)]) as network,
        pytest.raises(torch.cuda.OutOfMemoryError),
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
            while len(held) == len(signals) == 1 and len(network._waiting) < 2:
                time.sleep(0.001)  # other tiles come
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


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_lane_is_told_that_its_tile_is_all_there_is(count: int) -> None:
    told: list[bool] = []

    class Told(Double):
        def __call__(self, signals: Signals, context: int) -> Signals:
            told.append(self.alone)
            return super().__call__(signals, context)

    *tiles, last = make_tiles(count)
    with SharedNetwork([Told(), Told()], one_song=True) as network:
        check_pieces([*tiles, last], network.run([*tiles, replace(last, last=True)]))
    assert told == ([True] if count == 1 else [False] * count)


def test_a_batch_is_of_one_model_and_the_lane_is_told_of_which() -> None:
    told: list[tuple[int, float]] = []

    class Told(Double):
        def __call__(self, signals: Signals, context: int) -> Signals:
            told.extend((self.part, signal[0, 0]) for signal in signals)
            return super().__call__(signals, context)

    tiles = [replace(tile, part=index % 3) for index, tile in enumerate(make_tiles(9))]
    with SharedNetwork([Told(4)]) as network:
        check_pieces(tiles, network.run(tiles))
    assert sorted(told) == sorted((index % 3, float(index)) for index in range(9))


def test_a_tile_that_is_alone_gets_all_threads(
    small_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    given: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    lanes = make_lanes([small_model], COMPUTING, 3)
    signals = sounds.noise(1536)[None]
    expected = lanes[0](signals, 256)
    assert given == []
    lanes[0].alone = True
    np.testing.assert_allclose(lanes[0](signals, 256), expected, atol=1e-6)  # sums by turns
    assert given == [count_processors(), threads]


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
    with pytest.raises(DeviceError, match=r"cuda:1: .* use another --device"):
        fit_batch(replace(small_model, device=gpu), COMPUTING)
    monkeypatch.setattr("splitter.engines.lanes.load_model", Mock(side_effect=shortage))
    with pytest.raises(DeviceError, match=r"cpu: .* use another --device"):
        load_models(ModelChoice(("unet",)), ["cpu"])


def test_the_threads_of_a_processor_are_split_over_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    for threads, lanes, each in ((1, 1, 1), (2, 2, 1), (8, 8, 1), (64, 8, 8)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert share_processor() == lanes
        assert given.pop() == each

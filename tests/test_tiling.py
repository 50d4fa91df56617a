from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from splitter.tiling import TileShape, batched, cut, in_step, mirror, share_blocks
from tests.sounds import noise

SHAPE = TileShape(core=32, context=16, grid=8)


def in_blocks(signal: np.ndarray, size: int) -> list[np.ndarray]:
    return [signal[:, i : i + size] for i in range(0, signal.shape[-1], size)]


@pytest.mark.parametrize("samples", [0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 500])
@pytest.mark.parametrize("block", [1, 5, 32, 1000])
def test_copying_tiles_gives_the_song_back(samples: int, block: int) -> None:
    song = noise(samples)
    tiles = cut(in_blocks(song, block), SHAPE)
    pieces = [tile.keep(tile.signal[:, tile.context :]) for tile in tiles]
    assert np.array_equal(np.concatenate([song[:, :0], *pieces], axis=-1), song)


@pytest.mark.parametrize("samples", [1, 2, 16, 17, 33, 47, 48, 49, 100])
def test_context_is_the_song_and_its_mirror_image_at_the_ends(samples: int) -> None:
    song = noise(samples)
    extended = mirror(song, SHAPE.context, SHAPE.context + SHAPE.core)
    for index, tile in enumerate(cut(in_blocks(song, 10), SHAPE)):
        seen = tile.kept + 2 * SHAPE.context  # what follows only fills the grid
        start = index * SHAPE.core
        assert np.array_equal(tile.signal[:, :seen], extended[:, start : start + seen])


def test_context_longer_than_the_core_reaches_over_several_tiles() -> None:
    shape = TileShape(core=8, context=32, grid=8)
    song = noise(100)
    extended = mirror(song, 32, 64)
    for index, tile in enumerate(cut([song], shape)):
        seen = tile.kept + 2 * shape.context
        start = index * shape.core
        assert np.array_equal(tile.signal[:, :seen], extended[:, start : start + seen])


@pytest.mark.parametrize("samples", [1, 8, 9, 33, 70])
def test_tiles_are_whole_multiples_of_the_grid(samples: int) -> None:
    for tile in cut([noise(samples)], SHAPE):
        assert tile.signal.shape[-1] % SHAPE.grid == 0


def test_the_last_tile_is_no_longer_than_it_must_be() -> None:
    *_, last = cut([noise(32 + 9)], SHAPE)
    assert last.signal.shape[-1] == 16 + 16 + 16


def test_a_block_is_read_only_when_a_tile_is_wanted() -> None:
    read = 0

    def blocks():
        nonlocal read
        for _ in range(1000):
            read += 1
            yield noise(8)

    tiles = cut(blocks(), SHAPE)
    next(tiles)
    assert read == (SHAPE.core + SHAPE.context) // 8


def test_a_shape_off_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of the grid"):
        TileShape(core=30, context=16, grid=8)


def test_batches_are_full_but_for_the_last() -> None:
    assert [list(batch) for batch in batched(range(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize(
    ("core", "context", "shape"),
    [(0, 0, (8, 0)), (1, 1, (8, 8)), (8, 8, (8, 8)), (9, 9, (16, 16)), (17, 0, (24, 0))],
)
def test_a_shape_for_a_network_is_the_smallest_that_fits_its_grid(
    core: int, context: int, shape: tuple[int, int]
) -> None:
    fitted = TileShape.for_network(core, context, 8)
    assert (fitted.core, fitted.context, fitted.grid) == (*shape, 8)


def test_readers_of_one_stream_keep_what_they_are_apart() -> None:
    made = 0

    def count() -> Iterator[np.ndarray]:
        nonlocal made
        for made in range(1, 10):
            yield np.full((1, 1), made, np.float32)

    one, other = share_blocks(count(), 2)
    assert [next(one)[0, 0] for _ in range(3)] == [1, 2, 3] and made == 3
    assert [block[0, 0] for block in other] == list(range(1, 10))
    assert [block[0, 0] for block in one] == list(range(4, 10))


@pytest.mark.parametrize("samples", [0, 1, 7, 100])
def test_streams_in_step_are_whole_and_cut_alike(samples: int) -> None:
    song = noise(samples)
    streams = [iter([song[:, :0], *in_blocks(song, size), song[:, :0]]) for size in (3, 8, 1000)]
    pieces = list(in_step(streams))
    for number in range(3):
        whole = np.concatenate([song[:, :0], *(piece[number] for piece in pieces)], axis=-1)
        np.testing.assert_array_equal(whole, song)
    assert all(len({piece.shape for piece in group}) == 1 for group in pieces)
    assert all(next(stream, None) is None for stream in streams)

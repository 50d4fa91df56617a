"""Tiles that overlap, for networks that see without bounds."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from splitter.loading import Model
from splitter.networks.contract import Unbounded
from splitter.separation import Computing, separate
from splitter.tiling import WINDOWS, Tile, TileShape, cut, join
from tests.sounds import noise

EVEN = TileShape.faded(40, 0.75, "linear")
DEMUCS = TileShape(40, 0, 40, 10, "triangle", beyond="silence", centred=True)
LENGTHS = [1, 2, 9, 10, 11, 29, 30, 31, 39, 40, 41, 70, 71, 100, 333]


def give_back(song: np.ndarray, shape: TileShape, block: int = 1000, hear=None) -> np.ndarray:
    """Cut, have each tile heard, keep and join."""
    blocks = [song[:, i : i + block] for i in range(0, song.shape[-1], block)]

    def pieces():
        for tile in cut(blocks, shape):
            end = tile.signal.shape[-1] - tile.context
            heard = hear(tile.signal) if hear else tile.signal
            yield tile.keep(heard[:, tile.context : end])

    return np.concatenate([song[:, :0], *join(pieces(), shape)], axis=-1)


def unlike(tile: np.ndarray) -> np.ndarray:
    """What a network might do that hears all of a tile, and whose answer depends on place."""
    return tile * tile.std() + np.cumsum(tile, axis=-1) / 10


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("even", [True, False])
def test_windows_sum_to_one(window: str, even: bool) -> None:
    for samples, overlap in product([0, *LENGTHS], [0, 0.25, 0.5, 0.75, 0.9]):
        song = noise(samples)
        shape = TileShape.faded(40, overlap, window, even=even)
        np.testing.assert_allclose(give_back(song, shape, 7), song, atol=1e-7)


def test_all_samples_lie_in_as_many_tiles() -> None:
    tiles = list(cut([np.ones((1, 200), np.float32)], EVEN))
    counts = np.zeros(200)
    for index, tile in enumerate(tiles):
        start = max(0, index * EVEN.step - EVEN.border)
        counts[start : start + tile.kept] += 1
    assert set(counts) == {4}


@pytest.mark.parametrize("samples", LENGTHS)
def test_every_tile_is_whole_and_the_song_is_where_it_should_be(samples: int) -> None:
    song = noise(samples)
    for shape in (EVEN, DEMUCS):
        for index, tile in enumerate(cut([song], shape)):
            assert tile.signal.shape[-1] == 40
            start = max(0, index * shape.step - shape.border)
            at = tile.context + tile.skipped
            kept = tile.signal[:, at : at + tile.kept]
            assert np.array_equal(kept, song[:, start : start + tile.kept])


@pytest.mark.parametrize("samples", [70, 71, 100, 333])
@pytest.mark.parametrize("overlaps", [2, 4])
def test_even_tiles_are_those_of_a_song_mirrored_at_both_ends(samples: int, overlaps: int) -> None:
    # as Music-Source-Separation-Training's demix does it, on whole arrays
    song, core, step = noise(samples), 40, 40 // overlaps
    border = core - step
    padded = np.pad(song, ((0, 0), (border, border)), mode="reflect")
    total, weights = np.zeros_like(padded), np.zeros(padded.shape[-1], np.float32)
    window = WINDOWS["linear"](core)
    for start in range(0, padded.shape[-1], step):
        part = padded[:, start : start + core]
        length = part.shape[-1]
        if length <= core // 2:
            break  # hears silence beyond, but has no sample of the song
        heard = unlike(np.pad(part, ((0, 0), (0, core - length)), mode="reflect"))
        total[:, start : start + length] += (heard * window)[:, :length]
        weights[start : start + length] += window[:length]
    expected = (total / np.maximum(weights, 1e-9))[:, border : border + samples]
    shape = TileShape.faded(core, 1 - 1 / overlaps, "linear")
    np.testing.assert_allclose(give_back(song, shape, 13, unlike), expected, atol=1e-5)


@pytest.mark.parametrize("samples", LENGTHS)
def test_a_centred_last_tile_hears_what_is_before_it(samples: int) -> None:
    # as Demucs' apply_model does it, on whole arrays
    song, core, step = noise(samples), 40, 30
    total, weights = np.zeros_like(song), np.zeros(samples, np.float32)
    window = WINDOWS["triangle"](core)
    for start in range(0, samples, step):
        length = min(core, samples - start)
        first = start - (core - length) // 2
        heard = np.zeros((2, core), np.float32)
        inside = slice(max(0, first), min(samples, first + core))
        heard[:, inside.start - first : inside.stop - first] = song[:, inside]
        answer = unlike(heard)[:, start - first : start - first + length]
        total[:, start : start + length] += answer * window[:length]
        weights[start : start + length] += window[:length]
    np.testing.assert_allclose(give_back(song, DEMUCS, 13, unlike), total / weights, atol=1e-5)


def test_a_tile_is_given_back_as_soon_as_no_other_reaches_it() -> None:
    read = 0

    def blocks():
        nonlocal read
        for _ in range(1000):
            read += 10
            yield noise(10)

    pieces = (tile.keep(tile.signal) for tile in cut(blocks(), DEMUCS))
    assert next(join(pieces, DEMUCS)).shape == (2, DEMUCS.step)
    assert read == DEMUCS.core


def test_another_overlap_moves_the_border_along() -> None:
    half = EVEN.overlapping(0.5)
    assert (half.step, half.border) == (20, 20)
    assert DEMUCS.overlapping(0.5).border == 0


def test_a_shape_that_cannot_be_is_refused() -> None:
    for wrong in ({"overlap": 40}, {"border": 41}, {"window": "wide"}, {"beyond": "sea"}):
        with pytest.raises(ValueError):
            TileShape(40, 0, 40, **wrong)


def test_tiles_of_one_batch_have_one_context() -> None:
    kinds = {tile.kind for tile in cut([noise(61)], DEMUCS)}
    assert len(kinds) > 1
    assert {kind[0] for kind in kinds} == {(2, 40)}


class Faded(Unbounded):
    """A network whose reach is finite, run as one without bounds."""

    def __init__(self, network: torch.nn.Module, tiles: TileShape) -> None:
        super().__init__(tiles)
        self.network = network

    def forward(self, signal: Tensor, trim: int = 0) -> Tensor:
        """Pass on."""
        answer: Tensor = self.network(signal, trim)
        return answer


@pytest.mark.parametrize("samples", [500, 4096, 9999])
def test_a_bounded_network_gives_the_same_faded_as_exact(small_model: Model, samples: int) -> None:
    network, song = small_model.network, noise(samples)
    grid = network.grid
    context = -(-network.context // grid) * grid
    tiles = TileShape(16 * grid, context, grid, 8 * grid, "triangle")
    faded = Model("", small_model.config, Faded(network, tiles), small_model.device, "")
    exact = separate(song, 44100, small_model, Computing(16 * grid, precision="float32"))
    joined = separate(song, 44100, faded, Computing(batch=3, precision="float32"))
    np.testing.assert_allclose(joined["vocals"], exact["vocals"], atol=1e-6)


def test_a_tile_of_its_own_length_is_used_whatever_core_is_asked_for(small_model: Model) -> None:
    network = Faded(small_model.network, EVEN)
    assert Computing(core=1000).tile_shape(network) == EVEN
    assert Computing(overlap=0.5).tile_shape(network) == EVEN.overlapping(0.5)
    assert isinstance(next(cut([noise(9)], EVEN)), Tile)


@pytest.mark.parametrize("samples", [s for s in LENGTHS if s % 40])
@pytest.mark.parametrize("shape", [DEMUCS, EVEN, TileShape(32, 16, 8)])
def test_the_last_tile_is_known_to_be_the_last(samples: int, shape: TileShape) -> None:
    *others, last = cut([noise(samples)], shape)
    assert not any(tile.last for tile in others)
    # a song that ends with a tile's core may yet go on
    assert last.last or shape.border

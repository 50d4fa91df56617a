from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from splitter.errors import SplitterError
from splitter.loading import Model, load_model
from splitter.registry import ModelChoice, list_models
from splitter.runtime.channels import channel_pairs
from splitter.runtime.computing import LEAST_CORE, Computing
from splitter.runtime.tiles import compute, infer
from splitter.separation import Song, keep_in_scale, round_to, separate, separate_blocks
from splitter.tiling import TileShape, cut, mirror
from tests.sounds import noise

EXACT = Computing(core=1024, batch=3, precision="float32")


def decibels(signal: np.ndarray, error: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(signal**2) / (np.sum(error**2) + 1e-30)))


def whole(signal: np.ndarray, model: Model) -> np.ndarray:
    """What the network makes of the whole song at once, mirrored at its ends."""
    grid, context = model.network.grid, model.network.context
    before = -(-context // grid) * grid
    extended = mirror(signal, before, before + -signal.shape[-1] % grid)
    with torch.inference_mode():
        vocals = model.network(torch.from_numpy(extended)[None])[0, 0].numpy()
    return vocals[:, before : before + signal.shape[-1]]


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(
    "samples", [1, 2, 63, 64, 65, 511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049, 9999]
)
def test_tiled_equals_whole(small_model: Model, samples: int, batch: int) -> None:
    signal = noise(samples)
    computing = Computing(core=1024, batch=batch, precision="float32")
    vocals = separate(signal, 44100, small_model, computing)["vocals"]
    expected = whole(signal, small_model)
    # float32 rounds at −150 dB; a convolution that is cut otherwise sums in another order
    assert decibels(expected, vocals - expected) > 110


@pytest.mark.parametrize("name", list_models())
def test_tiled_equals_whole_with_trained_weights(name: str) -> None:
    model = load_model(name)
    grid = model.network.grid
    for samples in (2 * grid - 1, 2 * grid + 1):
        signal = noise(samples)
        vocals = separate(signal, 44100, model, Computing(grid, 2, "float32"))["vocals"]
        expected = whole(signal, model)
        assert decibels(expected, vocals - expected) > 90


def test_half_the_context_would_leave_a_seam(small_model: Model) -> None:
    signal = noise(9999)
    shape = TileShape(1024, small_model.network.context // 2, small_model.network.grid)
    pieces = [piece[0] for piece in infer(cut([signal], shape), small_model, EXACT)]
    expected = whole(signal, small_model)
    assert decibels(expected, np.concatenate(pieces, axis=-1) - expected) < 80


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_stems_have_the_songs_shape_and_sum_to_it(
    small_model: Model, rate: int, channels: int
) -> None:
    signal = noise(rate // 4 + 1, channels)
    stems = separate(signal, rate, small_model, EXACT)
    assert {stem.shape for stem in stems.values()} == {signal.shape}
    # one float32 subtraction and one addition of values below 1
    assert np.abs(stems["vocals"] + stems["instrumental"] - signal).max() < 2e-7


@pytest.mark.parametrize("samples", [0, 1, 2, 100])
@pytest.mark.parametrize("rate", [8000, 44100, 192000])
def test_the_shortest_songs_keep_their_length(small_model: Model, samples: int, rate: int) -> None:
    stems = separate(noise(samples), rate, small_model, EXACT)
    assert stems["vocals"].shape == stems["instrumental"].shape == (2, samples)


def test_a_one_dimensional_signal_comes_back_as_one(small_model: Model) -> None:
    assert separate(noise(500)[0], 44100, small_model, EXACT)["vocals"].shape == (500,)


def test_vocals_at_another_rate_lie_where_the_song_has_them(small_model: Model) -> None:
    # a network that passes everything on: whatever it delays is the resampler's delay
    passing = _with_mask(small_model, 20.0)
    time = np.arange(48000) / 48000
    signal = np.tile(np.float32(0.3 * np.sin(2 * np.pi * 1000 * time)), (2, 1))
    stems = separate(signal, 48000, passing, EXACT)
    inner = slice(2000, -2000)
    assert decibels(signal[:, inner], stems["instrumental"][:, inner]) > 60


def test_what_lies_above_the_models_bandwidth_stays_in_the_instrumental(
    small_model: Model,
) -> None:
    time = np.arange(96000) / 96000
    signal = np.tile(np.float32(0.3 * np.sin(2 * np.pi * 30000 * time)), (2, 1))
    stems = separate(signal, 96000, _with_mask(small_model, 20.0), EXACT)
    inner = slice(4000, -4000)
    assert decibels(signal[:, inner], stems["vocals"][:, inner]) > 60


def test_silence_stays_silent(small_model: Model) -> None:
    stems = separate(np.zeros((2, 5000), np.float32), 44100, small_model, EXACT)
    assert all(not stem.any() for stem in stems.values())


def test_a_sample_that_is_no_number_harms_only_itself(small_model: Model) -> None:
    signal = noise(5000)
    signal[0, 2500] = np.nan
    stems = separate(signal, 44100, small_model, EXACT)
    assert np.isfinite(stems["vocals"]).all()
    assert np.isnan(stems["instrumental"]).sum() == 1


def test_a_network_of_many_channels_hears_those_of_a_song_together() -> None:
    assert [list(pair) for pair in channel_pairs(6, 6)] == [[0, 1, 2, 3, 4, 5]]
    assert [list(pair) for pair in channel_pairs(3, 6)] == [[0], [1], [2]]
    assert [list(pair) for pair in channel_pairs(1, 1)] == [[0]]


def test_channels_of_a_surround_song_are_heard_in_their_pairs(small_model: Model) -> None:
    signal = noise(3000, channels=6)
    together = separate(signal, 44100, small_model, EXACT)["vocals"]
    for pair in ([0, 1], [4, 5]):
        alone = separate(signal[pair], 44100, small_model, EXACT)["vocals"]
        np.testing.assert_allclose(together[pair], alone, atol=1e-6)
    centre = separate(signal[[2, 2]], 44100, small_model, EXACT)["vocals"].mean(0)
    np.testing.assert_allclose(together[2], centre, atol=1e-6)


def test_the_network_gets_no_more_at_once_for_more_channels(small_model: Model) -> None:
    heard: list[tuple[int, ...]] = []
    network = small_model.network
    handle = network.register_forward_hook(lambda _m, inputs, _o: heard.append(inputs[0].shape))
    answer = compute(np.stack([noise(1536, 16)] * 3), small_model, EXACT, 256)
    handle.remove()
    assert heard == [(3, 2, 1536)] * 16
    assert answer.shape == (3, 1, 16, 1024)


@pytest.mark.parametrize("channels", range(1, 13))
def test_every_channel_is_heard_once(channels: int) -> None:
    heard = [channel for pair in channel_pairs(channels, 2) for channel in pair]
    assert sorted(heard) == list(range(channels))


def test_integer_stems_sum_to_an_integer_song_without_any_error(small_model: Model) -> None:
    song = round_to(16, noise(5000))
    for stems in separate_blocks([song], 44100, 2, small_model, EXACT, bits=16):
        for stem in stems.values():
            assert np.array_equal(stem, round_to(16, stem))
        total = stems["vocals"].astype(np.float64) + stems["instrumental"]
        start = 0
        assert np.array_equal(total, song[:, start : start + total.shape[-1]])
        song = song[:, total.shape[-1] :]
    assert not song.size


@pytest.mark.parametrize("bits", [16, 24])
def test_what_a_stem_leaves_of_a_song_at_full_scale_fits_into_integers(bits: int) -> None:
    steps = 2 ** (bits - 1)
    random = np.random.default_rng(0)
    song = np.asarray(random.integers(-steps, steps, (2, 9999)) / steps, np.float32)
    song[:, :9] = np.tile([-1, 1 - 1 / steps, 0], 3)
    estimate = np.asarray(random.normal(0, 0.5, song.shape), np.float32)
    estimate[:, :9] = np.repeat(np.float32([1, -1, 0.99999999]), 3)
    estimate = round_to(bits, estimate)
    vocals = keep_in_scale(bits, estimate, song)
    for stem in (vocals, song - vocals):
        assert stem.min() >= -1 and stem.max() < 1
        np.testing.assert_array_equal(stem, round_to(bits, stem))
    np.testing.assert_array_equal(vocals + (song - vocals), song)
    inside = (np.abs(estimate) < 0.3) & (np.abs(song) < 0.6)
    np.testing.assert_array_equal(vocals[inside], estimate[inside])  # as it was


def test_tiles_of_a_song_fill_batches(small_model: Model) -> None:
    computing = Computing(1024, batch=4, precision="float32")
    network = small_model.network
    heard = Song([noise(5 * 1024)], 44100, 2, small_model).heard()
    tiles = cut(heard, computing.tile_shape(network))
    batches: list[int] = []
    handle = network.register_forward_hook(lambda _m, inputs, _o: batches.append(len(inputs[0])))
    pieces = list(infer(tiles, small_model, computing))
    handle.remove()
    assert [piece.shape for piece in pieces] == [(1, 2, 1024)] * 5
    assert batches == [4, 1]


def test_sound_comes_out_before_the_song_has_ended(small_model: Model) -> None:
    def endless() -> Iterator[np.ndarray]:
        while True:
            yield noise(1024)

    stems = separate_blocks(endless(), 48000, 2, small_model, EXACT)
    assert sum(next(stems)["vocals"].shape[-1] for _ in range(10)) > 0


def test_bfloat16_is_close_to_float32(small_model: Model) -> None:
    signal = noise(20000)
    exact = separate(signal, 44100, small_model, EXACT)["vocals"]
    fast = separate(signal, 44100, small_model, Computing(core=1024))["vocals"]
    # 8 bits of mantissa, a few layers deep
    assert decibels(exact, fast - exact) > 30


def test_a_signal_of_three_dimensions_is_refused(small_model: Model) -> None:
    with pytest.raises(SplitterError, match="channels, samples"):
        separate(np.zeros((1, 2, 3), np.float32), 44100, small_model)


def _with_mask(model: Model, logit: float) -> Model:
    """A copy of the model whose mask is the same everywhere."""
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        network.unet.head.weight.zero_()
        network.unet.head.bias.fill_(logit)
    return Model(model.name, model.config, network, model.device, model.hash)


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("refined", [False, True])
def test_a_tile_keeps_no_less_than_it_loses_as_context(name: str, refined: bool) -> None:
    choice = ModelChoice((name,), tta=refined, wiener=int(refined))
    shape = Computing().tile_shape(load_model(choice).network)
    assert shape.core >= 2 * shape.context - shape.grid
    assert shape.core <= max(LEAST_CORE, 2 * shape.context) + shape.grid  # nor much more memory

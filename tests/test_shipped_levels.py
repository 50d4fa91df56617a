"""What the shipped weights make of a song must not depend on its level, sides or offset."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from splitter import load_model, separate
from splitter.audio import Block
from splitter.loading import Model
from splitter.runtime.computing import Computing
from tests import sounds

RATE = 44100  # Hz
EXACT = Computing(precision="float32")  # rounding to bfloat16 depends on the level
SECONDS = 3


@pytest.fixture(scope="module", params=["unet", "unet-fast", "unet-free"])
def model(request: pytest.FixtureRequest) -> Model:
    return load_model(str(request.param), precision="float32")


@pytest.fixture(scope="module")
def song() -> Block:
    return sounds.voice(SECONDS) + sounds.music(SECONDS)


@pytest.fixture(scope="module")
def vocals(model: Model, song: Block) -> Block:
    return separate(song, RATE, model, EXACT)["vocals"]


def test_the_name_of_an_average_that_is_no_more_stands_for_the_default(
    song: Block,
) -> None:
    default, named = (separate(song, RATE, name, EXACT) for name in ("unet", "unet-large"))
    assert np.array_equal(default["vocals"], named["vocals"])


def sides(left: float, right: float) -> Block:
    return np.array([[left], [right]], np.float32)


def distance(found: Block, expected: Block) -> float:
    """The error in dB of what was expected."""
    error = max(np.square(found - expected).sum(), 1e-20)  # often there is none at all
    return float(10 * np.log10(error / np.square(expected).sum()))


@pytest.mark.parametrize("level", [-60, -40, 20])
def test_the_level_of_a_song_is_the_level_of_its_vocals(
    model: Model, song: Block, vocals: Block, level: float
) -> None:
    gain = np.float32(10 ** (level / 20))
    assert distance(separate(song * gain, RATE, model, EXACT)["vocals"] / gain, vocals) < -60


@pytest.mark.parametrize("gains", [(1, 0.025), (0.25, 1)])
def test_the_balance_of_a_song_is_the_balance_of_its_vocals(
    model: Model, song: Block, vocals: Block, gains: tuple[float, float]
) -> None:
    found = separate(song * sides(*gains), RATE, model, EXACT)["vocals"] / sides(*gains)
    assert distance(found, vocals) < -60


def test_a_song_on_one_side_is_heard_as_if_it_were_on_both(model: Model, song: Block) -> None:
    both = separate(song[[0, 0]], RATE, model, EXACT)["vocals"]
    left = separate(song * sides(1, 0), RATE, model, EXACT)["vocals"]
    assert distance(left[0], both[0]) < -60
    assert not left[1].any()


@pytest.mark.parametrize(
    "change", [lambda song: song * sides(-1, 1), lambda song: song * sides(-1, -1)]
)
def test_an_inverted_channel_is_an_inverted_channel_of_the_vocals(
    model: Model, song: Block, vocals: Block, change: Callable[[Block], Block]
) -> None:
    assert distance(change(separate(change(song), RATE, model, EXACT)["vocals"]), vocals) < -60


@pytest.mark.parametrize("offset", [0.01, 0.1])
def test_a_constant_offset_is_no_part_of_the_vocals(
    model: Model, song: Block, vocals: Block, offset: float
) -> None:
    found = separate(song + np.float32(offset), RATE, model, EXACT)["vocals"]
    middle = slice(RATE // 2, -RATE // 2)  # where it begins and ends it is a step, which is heard
    assert distance(found[:, middle], vocals[:, middle]) < -40
    assert abs(float((found - vocals)[:, middle].mean())) < 1e-3 * offset

"""Elastic deformation of what is mixed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from splitter.metrics import usdr
from splitter.training.elastic import HOP, deform, draw_field
from splitter.training.mixing import Mixer
from splitter.training.sources import Pools
from tests import sounds
from tests.trainings import RECIPE

RATE = 44100


def test_a_field_moves_places_by_hundredths_of_a_second_and_hundredths_of_their_frequency() -> None:
    bins, frames = 1025, 400
    field = draw_field(bins, frames, RATE, np.random.default_rng(0))[0]
    time = (field[..., 0] + 1) * (frames - 1) / 2 - torch.arange(frames)
    frequency = (field[..., 1] + 1) * (bins - 1) / 2 - torch.arange(bins)[:, None]
    assert 0.01 < (time * HOP / RATE).std() < 0.04
    assert (time * HOP / RATE).mean().abs() < 0.04
    assert 0.005 < (frequency[1:] / torch.arange(1, bins)[:, None]).std() < 0.02
    # smooth: neighbours move alike
    assert time.diff(dim=0).abs().max() < 0.5
    assert time.diff(dim=1).abs().max() < 0.5


def test_voice_and_music_move_alike() -> None:
    voice, music = sounds.voice(1), sounds.music(1)
    first = deform((voice, music), RATE, np.random.default_rng(1))
    again = deform((voice, 0 * music), RATE, np.random.default_rng(1))
    np.testing.assert_allclose(first[0], again[0], atol=1e-6)
    _, as_music = deform((music, voice), RATE, np.random.default_rng(1))
    np.testing.assert_allclose(first[0], as_music, atol=1e-6)
    assert not np.allclose(first[0], voice, atol=1e-2)
    assert np.abs(first[0]).std() == pytest.approx(np.abs(voice).std(), rel=0.3)
    assert usdr(voice, first[0]) < 15


@pytest.mark.parametrize("samples", [1, 511, 2049])
def test_any_length_is_kept_and_silence_stays_silent(samples: int) -> None:
    parts = (sounds.noise(samples), 0 * sounds.noise(samples))
    bent = deform(parts, RATE, np.random.default_rng(2))
    assert [part.shape for part in bent] == [(2, samples)] * 2
    assert np.isfinite(bent[0]).all()
    assert not bent[1].any()


def test_examples_are_bent_where_a_recipe_says_so(pools: Pools) -> None:
    elastic = replace(RECIPE, mixing=replace(RECIPE.mixing, elastic=1.0))
    plain, bent = (Mixer(pools, recipe).example(3) for recipe in (RECIPE, elastic))
    assert plain.mixture.shape == bent.mixture.shape
    assert not np.allclose(plain.mixture, bent.mixture, atol=1e-3)
    assert np.isfinite(bent.mixture - bent.vocals).all()

"""Voices in time with their music, beside clicks and bursts whose moments are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import numpy.typing as npt
import pytest
import torch

from splitter.training.melody import find_tune
from splitter.training.mixing import Mixer
from splitter.training.recipe import Mixing
from splitter.training.rhythm import (
    find_beats,
    find_onsets,
    lay_on_beat,
    place_syllables,
    split_beats,
)
from splitter.training.sources import find_sources, load_sources, sort_pools
from tests import sounds
from tests.trainings import RECIPE

RATE = 22050  # Hz
SECONDS = 8.0
BEAT = 0.5  # seconds


def drum(beat: float = BEAT, first: float = 0.25) -> npt.NDArray[np.float32]:
    """Play a short noise on every beat."""
    played = librosa.clicks(
        times=np.arange(first, SECONDS, beat), sr=RATE, length=int(SECONDS * RATE), click_freq=200.0
    )
    return np.tile(np.asarray(played, np.float32), (2, 1))


def speak(moments: npt.NDArray[np.floating], hertz: float = 150.0) -> npt.NDArray[np.float32]:
    """Say a syllable of 0.15 s at each moment; the right channel has half of the left one."""
    time = np.arange(int(0.15 * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 20))
    syllable = 0.1 * tone * np.minimum(1, np.minimum(time / 0.005, time[::-1] / 0.05))
    voice = np.zeros(int(SECONDS * RATE))
    for moment in moments:
        start = int(moment * RATE)
        part = voice[start : start + len(syllable)]
        part += syllable[: len(part)]
    return np.stack([voice, 0.5 * voice]).astype(np.float32)


def irregular(seed: int) -> npt.NDArray[np.floating]:
    """Draw moments 0.22 to 0.5 s apart."""
    gaps = np.random.default_rng(seed).uniform(0.22, 0.5, 40)
    moments = 0.3 + np.cumsum(gaps)
    return moments[moments < SECONDS - 0.5]


def distance(
    moments: npt.NDArray[np.floating], step: float, first: float
) -> npt.NDArray[np.floating]:
    """Return how far each moment is from the nearest step, in seconds."""
    places = (moments - first) / step
    return np.abs(places - np.round(places)) * step


@pytest.mark.parametrize("seed", range(2))
def test_syllables_begin_on_parts_of_the_beat(seed: int) -> None:
    voice, music = speak(irregular(seed)), drum()
    laid = lay_on_beat(voice, music, RATE, np.random.default_rng(seed))
    np.testing.assert_allclose(laid[1], 0.5 * laid[0], atol=1e-4)
    before, after = (find_onsets(sound[0], RATE) for sound in (voice, laid))
    offset = np.median(np.diff(find_beats(music[0], RATE)))
    assert offset == pytest.approx(BEAT, abs=0.02)
    assert np.mean(distance(before, BEAT / 4, 0.25) > 0.025) > 0.3
    assert np.mean(distance(after, BEAT / 4, 0.25) < 0.025) > 0.9
    assert len(after) >= 0.6 * len(before)


def test_the_pitch_stays() -> None:
    laid = lay_on_beat(speak(irregular(1)), drum(), RATE, np.random.default_rng(0))
    tune = find_tune(laid[0], RATE)
    heard = tune[~np.isnan(tune)]
    assert len(heard) > 0.2 * len(tune)
    assert np.median(np.abs(heard - librosa.hz_to_midi(150.0))) < 0.2


def test_syllables_take_steps_in_order_each_of_its_own() -> None:
    steps = np.arange(0, 10, 0.25)
    syllables = np.array([0.1, 0.35, 0.40, 0.9, 0.97, 2.2, 2.6])
    sung, heard = place_syllables(syllables, steps, 1.0)
    assert sung.tolist() == [0.1, 0.35, 0.9, 2.2, 2.6]  # 0.40 and 0.97 begin no syllable
    assert heard.tolist() == [0.0, 0.25, 0.75, 2.0, 2.5]
    _, fast = place_syllables(syllables, steps, 2.0)
    assert (np.diff(fast) > 0).all() and fast[-1] < heard[-1]
    sung, heard = place_syllables(syllables, steps[:3], 1.0)
    assert len(sung) == len(heard) == 2  # there is no step for more
    assert not len(place_syllables(np.array([]), steps, 1.0)[0])


def test_beats_are_split_and_go_on_to_both_ends() -> None:
    beats = np.array([1.1, 1.6, 2.1, 2.6])
    np.testing.assert_allclose(np.diff(split_beats(beats, 4.0, 2)), 0.25)
    steps = split_beats(beats, 4.0, 4)
    assert steps[0] < 0.5 and steps[-1] >= 4.0
    assert np.abs(steps[:, None] - beats).min(axis=0).max() < 1e-9
    np.testing.assert_allclose(np.diff(split_beats(beats, 4.0, 8)), 0.125)  # not 0.0625


def test_without_a_beat_or_a_syllable_a_voice_stays() -> None:
    voice, random = speak(irregular(0)), np.random.default_rng(0)
    silence = np.zeros_like(voice)
    assert lay_on_beat(voice, silence, RATE, random) is voice
    assert not lay_on_beat(silence, drum(), RATE, random).any()
    short = voice[:, :100]
    assert lay_on_beat(short, short, RATE, random) is short
    assert lay_on_beat(voice[:, :0], voice[:, :0], RATE, random).shape == (2, 0)


def test_arrays_and_tensors_change_alike() -> None:
    voice, music = speak(irregular(2)), drum()
    array = lay_on_beat(voice, music, RATE, np.random.default_rng(3))
    tensors = torch.from_numpy(voice), torch.from_numpy(music)
    tensor = lay_on_beat(*tensors, RATE, np.random.default_rng(3))
    np.testing.assert_allclose(tensor.numpy(), array, atol=1e-5)
    assert not np.allclose(array, voice)


def test_a_recipe_lays_voices_on_the_beat_of_the_music_beside_them(tmp_path: Path) -> None:
    sounds.write(tmp_path / "vocals" / "voice.wav", speak(irregular(5)), RATE)
    sounds.write(tmp_path / "instrumental" / "drums.wav", drum(), RATE)
    sources = load_sources(find_sources(tmp_path), tmp_path / "cache", RATE)
    plain = Mixing(
        aligned=0,
        no_voice=0,
        no_music=0,
        second_voice=0,
        second_music=0,
        stretch=0,
        equalizer=0,
        reverb_voice=0,
        reverb_music=0,
        pan=0,
    )
    recipe = replace(RECIPE, rate=RATE, crop=int(SECONDS * RATE), mixing=plain)
    pools = sort_pools(list(sources), recipe)
    told = {}
    for share in (0.0, 1.0):
        mixer = Mixer(pools, replace(recipe, mixing=replace(plain, on_beat=share)))
        near = []
        for index in range(4):
            example = mixer.example(index)
            beats = find_beats((example.mixture - example.vocals)[0], RATE)
            onsets = find_onsets(example.vocals[0], RATE)
            near.append(np.mean(distance(onsets, BEAT / 4, beats[0]) < 0.025))
        told[share] = np.mean(near)
    assert told[0.0] < 0.7 < 0.9 < told[1.0]

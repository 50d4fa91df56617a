"""Notes that are held, and instruments that play a voice's tune, beside what librosa hears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import numpy.typing as npt
import pytest
import torch

from splitter.training.augmentation import Array
from splitter.training.melody import find_tune, hold_notes, play_along
from splitter.training.mixing import Mixer
from splitter.training.recipe import Mixing, Recipe
from splitter.training.sources import find_sources, load_sources, sort_pools
from tests import sounds

RATE = 16000  # Hz
SCALE = (57, 60, 64, 62)  # MIDI numbers, sung for half a second each
GAP = 0.1  # seconds between notes


def sing(notes: tuple[int, ...] = SCALE, seconds: float = 0.5) -> npt.NDArray[np.float32]:
    """Sing notes, each with overtones; the right channel has half of the left one."""
    time = np.arange(int(seconds * RATE)) / RATE
    edge = np.minimum(1, np.minimum(time, time[::-1]) / 0.02)
    silence = np.zeros(int(GAP * RATE))
    parts = []
    for note in notes:
        hertz = librosa.midi_to_hz(note)
        tone = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 12))
        parts += [0.1 * edge * tone, silence]
    tune = np.concatenate(parts)
    return np.stack([tune, 0.5 * tune]).astype(np.float32)


def hear(sound: Array) -> npt.NDArray[np.floating]:
    """Return the pitch of the left channel every 10 ms by librosa's pYIN; NaN without one."""
    hertz, _, _ = librosa.pyin(
        np.asarray(sound[0], np.float64), fmin=60, fmax=1000, sr=RATE, hop_length=RATE // 100
    )
    return librosa.hz_to_midi(hertz)


@pytest.mark.parametrize("change", [hold_notes, play_along])
@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("samples", [0, 100, 30000])
def test_shape_and_kind_stay_for_any_sound(
    change: Callable[..., Array], rate: int, samples: int
) -> None:
    for signal in (sounds.noise(samples), np.zeros((1, samples), np.float32)):
        changed = change(signal, rate, np.random.default_rng(0))
        assert changed.shape == signal.shape
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
        if not signal.any():
            assert not changed.any()


@pytest.mark.parametrize("change", [hold_notes, play_along])
def test_arrays_and_tensors_change_alike(change: Callable[..., Array]) -> None:
    voice = sing()
    array = change(voice, RATE, np.random.default_rng(3))
    tensor = change(torch.from_numpy(voice), RATE, np.random.default_rng(3))
    np.testing.assert_allclose(tensor.numpy(), array, atol=1e-5)
    assert not np.allclose(array, voice)


@pytest.mark.parametrize("seed", range(6))
def test_a_held_note_keeps_its_pitch_and_what_comes_before_stays(seed: int) -> None:
    voice = sing(SCALE * 2)
    held = hold_notes(voice, RATE, np.random.default_rng(seed))
    np.testing.assert_allclose(held[1], 0.5 * held[0], atol=1e-5)
    changed = int(np.argmax(np.abs(held[0] - voice[0]) > 1e-3))
    assert changed > 0.1 * RATE
    pitches = hear(held)
    sung = pitches[~np.isnan(pitches)]
    assert np.mean(np.abs(sung[:, None] - SCALE).min(axis=1) < 0.3) > 0.95  # no other notes
    longest = max(
        len(run) for run in np.split(pitches, np.flatnonzero(~(np.abs(np.diff(pitches)) < 0.5)) + 1)
    )
    assert longest > 0.9 * 100  # 10 ms each; they were sung for half a second
    assert held.std() < 1.3 * voice.std()


def test_whispers_and_consonants_are_not_held() -> None:
    noise = sounds.noise(RATE * 2)
    held = hold_notes(noise, RATE, np.random.default_rng(0))
    np.testing.assert_allclose(held, noise, atol=1e-5)


def test_the_tune_is_what_is_sung() -> None:
    tune = find_tune(sing()[0], RATE)
    heard = tune[~np.isnan(tune)]
    assert len(heard) > 0.6 * len(tune)
    assert np.abs(heard[:, None] - SCALE).min(axis=1).max() < 0.3
    assert {round(note) for note in heard} == set(SCALE)
    assert np.isnan(find_tune(np.zeros(RATE, np.float32), RATE)).all()


@pytest.mark.parametrize("seed", range(12))
def test_an_instrument_plays_the_tune_in_its_octave_or_another(seed: int) -> None:
    voice = sing()
    played = play_along(voice, RATE, np.random.default_rng(seed))
    level = 20 * np.log10(played.std() / voice.std())
    assert -15.1 < level < 0.1
    tune = find_tune(played.mean(axis=0), RATE)
    heard = tune[~np.isnan(tune)]
    assert len(heard) > 0.2 * len(tune)
    distances = np.abs((heard[:, None] - SCALE + 6) % 12 - 6).min(axis=1)
    assert np.mean(distances < 0.5) > 0.8  # the rest is where one note dies away under the next


def test_recipes_ask_for_both(tmp_path: Path) -> None:
    for name in ("vocals", "instrumental"):
        sounds.write(
            tmp_path / "song" / f"{name}.wav", sing() if name == "vocals" else 0 * sing(), RATE
        )
    sources = list(load_sources(find_sources(tmp_path), tmp_path / "cache", RATE))
    plain = Mixing(aligned=1, aligned_changed=1, stretch=0, equalizer=0, reverb_voice=0, pan=0)

    def stems(**chances: float) -> tuple[Array, Array]:
        mixing = replace(plain, **chances)
        recipe = Recipe(rate=RATE, crop=sing().shape[-1], mixing=mixing)
        example = Mixer(sort_pools(sources, recipe), recipe).example(0)
        return example.vocals, example.mixture - example.vocals

    voice, music = stems()
    assert voice.any() and not music.any()
    held, music = stems(holds=1.0)
    assert held.any() and not np.allclose(held, voice, atol=1e-3) and not music.any()
    voice, guide = stems(guide=1.0)
    assert -15.1 < 20 * np.log10(guide.std() / voice.std()) < 0.1

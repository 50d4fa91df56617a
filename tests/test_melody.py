"""Notes that are held, and instruments that play a voice's tune, beside what librosa hears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import librosa
import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.signal import lfilter

from splitter.training.augmentation import Array
from splitter.training.melody import (
    correct_pitch,
    draw_holds,
    find_notes,
    find_tune,
    hold_notes,
    play_along,
    quantize,
    shift_periods,
)
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


@pytest.mark.parametrize("change", [hold_notes, play_along, correct_pitch])
@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("samples", [0, 1, 100, 30000])
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


@pytest.mark.parametrize("change", [hold_notes, play_along, correct_pitch])
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


def test_held_frames_go_to_and_fro_and_rests_are_silent() -> None:
    spectra = np.ones((100, 900))  # any moment is a vowel
    counts = set()
    for seed in range(40):
        order, gain, held = draw_holds(spectra, 86.0, np.random.default_rng(seed))
        assert len(order) == len(gain) == len(held) == 900
        assert np.abs(np.diff(order)[held[1:]]).max() == 1
        assert gain[held].min() > 10 ** (-15.1 / 20)
        assert set(gain[~held]) <= {0.0, 1.0}
        (ends,) = np.nonzero(np.diff(held.astype(int)) < 0)
        counts.add(len(ends) + int(held[-1]))
        for end in ends:  # who sings on at once has not faded
            assert gain[end] == 1 or gain[end + 1] == 0
    assert {1, 2, 3} <= counts


def test_a_held_tone_is_as_steady_as_the_one_that_was_sung() -> None:
    time = np.arange(4 * RATE) / RATE
    tone = np.tile(0.1 * np.sin(2 * np.pi * 330.3 * time), (2, 1)).astype(np.float32)
    for seed in range(6):
        random = np.random.default_rng(seed)
        held = hold_notes(tone, RATE, random)[0]
        heard = np.abs(held) > 1e-3
        second = np.flatnonzero(heard)[RATE // 2]
        part = held[second : second + RATE // 2]
        crossings = np.flatnonzero((part[1:] > 0) & (part[:-1] <= 0))
        assert RATE / np.median(np.diff(crossings)) == pytest.approx(330.3, rel=0.02)
        envelope = np.abs(part[: len(part) // 320 * 320]).reshape(-1, 320).max(axis=1)
        assert np.abs(np.diff(20 * np.log10(envelope + 1e-9))).max() < 3  # dB in 20 ms


def test_whispers_and_consonants_are_not_held() -> None:
    white = sounds.noise(RATE * 2)
    breath = lfilter([1], [1, -0.9], white).astype(np.float32)
    for noise in (white, breath):
        held = hold_notes(noise, RATE, np.random.default_rng(0))
        assert np.array_equal(held, noise)


def test_the_tune_is_what_is_sung() -> None:
    tune = find_tune(sing()[0], RATE)
    heard = tune[~np.isnan(tune)]
    assert len(heard) > 0.6 * len(tune)
    assert np.abs(heard[:, None] - SCALE).min(axis=1).max() < 0.3
    assert {round(note) for note in heard} == set(SCALE)
    assert np.isnan(find_tune(np.zeros(RATE, np.float32), RATE)).all()


def test_notes_begin_and_end_where_pitches_jump_and_are_tuned_together() -> None:
    tune = np.array([np.nan] * 3 + [60.3] * 20 + [62.3] * 20 + [np.nan, 70.0, 70.0])
    assert find_notes(tune) == [(3, 23), (23, 43)]
    wavering = tune + 0.15 * np.sin(np.arange(len(tune)))
    np.testing.assert_allclose(quantize(wavering)[3:43], tune[3:43], atol=0.1)


@pytest.mark.parametrize("seed", range(12))
def test_an_instrument_plays_what_is_sung_when_it_is_sung(seed: int) -> None:
    voice = sing()
    played = play_along(voice, RATE, np.random.default_rng(seed))
    level = 20 * np.log10(_loudest(played) / _loudest(voice))
    assert -20 < level < 5
    sung, tune = (find_tune(sound.mean(axis=0), RATE) for sound in (voice, played))
    likeness = []
    for late in range(-4, 10):  # frames of 12 ms
        distance = np.abs((np.roll(sung, late) - tune + 6) % 12 - 6)
        likeness.append(np.sum(distance < 0.5) / np.sum(~np.isnan(tune)))
    assert max(likeness) > 0.6  # the rest is where a note dies away after it was sung


def waver(depth: float) -> npt.NDArray[np.float32]:
    """Sing two notes for a second each, with a vibrato of ± `depth` semitones and a formant."""
    time = np.arange(2 * RATE) / RATE
    notes = np.where(time < 1, 57.0, 60.0) + depth * np.sin(2 * np.pi * 5.5 * time)
    turns = np.cumsum(librosa.midi_to_hz(notes)) / RATE
    pulses = np.diff(np.floor(turns), prepend=0).astype(np.float64)
    tone = lfilter([0.1], [1, -1.6, 0.9], pulses)  # a formant at 1450 Hz
    return np.stack([tone, 0.5 * tone]).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_a_corrected_voice_stands_on_semitones_and_keeps_its_formants(seed: int) -> None:
    voice = waver(0.4)
    corrected = correct_pitch(voice, RATE, np.random.default_rng(seed))
    np.testing.assert_allclose(corrected[1], 0.5 * corrected[0], atol=1e-5)
    before, after = (np.nan_to_num(hear(sound), nan=57)[20:80] for sound in (voice, corrected))
    assert np.std(after) < 0.5 * np.std(before)
    assert np.median(after) == pytest.approx(57, abs=0.2)
    loud = [np.abs(np.fft.rfft(sound[0, : 2 * RATE])) for sound in (voice, corrected)]
    peaks = [np.sum(each * np.arange(len(each))) / np.sum(each) for each in loud]
    assert peaks[1] == pytest.approx(peaks[0], rel=0.05)  # no formant moved


def test_periods_that_are_not_moved_give_back_the_sound() -> None:
    voice = waver(0.4) + 0.02 * sounds.noise(2 * RATE)
    tune = find_tune(voice[0], RATE)
    np.testing.assert_allclose(shift_periods(voice, tune, tune, RATE), voice, atol=1e-5)


@pytest.mark.parametrize("hertz", [110.0, 233.0, 441.0, 800.0])
def test_a_moved_tone_has_its_overtones_and_nothing_between(hertz: float) -> None:
    rate = 44100
    time = np.arange(2 * rate) / rate
    overtones = np.arange(1, int(12000 / hertz))
    tone = np.sin(2 * np.pi * hertz * overtones[:, None] * time) / overtones[:, None]
    voice = 0.1 * tone.sum(axis=0, keepdims=True).astype(np.float32)
    tune = find_tune(voice[0], rate)
    moved = shift_periods(voice, tune, tune + 0.4, rate)[0, rate // 4 : -rate // 4]
    spectrum = np.square(np.abs(np.fft.rfft(moved * np.blackman(len(moved)))))
    bins = np.fft.rfftfreq(len(moved), 1 / rate)
    away = np.abs((bins / (hertz * 2 ** (0.4 / 12)) + 0.5) % 1 - 0.5) * hertz
    for low, high, most in ((0, 1000, -40), (1000, 4000, -38), (4000, 8000, -30)):
        part = (bins > low) & (bins < high)
        between = spectrum[part & (away > 25)].sum() / spectrum[part].sum()
        assert 10 * np.log10(between) < most, (low, 10 * np.log10(between))


def test_any_tune_moves_without_gaps_and_up_to_both_ends() -> None:
    random = np.random.default_rng(0)
    level = np.full((1, 20 * RATE), 0.1, np.float32)
    tune = random.choice([np.nan, 38.2, 55.0, 70.0, 83.0, 86.0], 1723)
    for interval, steps in product((-0.5, 0.0, 0.5), (1, 10)):
        tune = np.repeat(tune, steps)[: len(tune)]
        moved = shift_periods(level, tune, tune + interval, RATE)
        np.testing.assert_allclose(moved, level, atol=1e-6)


def test_periods_move_a_voice_by_any_interval_without_moving_its_time() -> None:
    voice = np.pad(waver(0.0), ((0, 0), (RATE // 2, RATE // 2)))
    tune = find_tune(voice[0], RATE)
    for interval in (-5, 3, 7):
        moved = shift_periods(voice, tune, tune + interval, RATE)
        heard = hear(moved)[70:130]
        assert np.nanmedian(heard) == pytest.approx(57 + interval, abs=0.1)
        assert not moved[:, : RATE // 2 - 200].any() and not moved[:, -RATE // 2 + 1000 :].any()


def test_no_voice_leaks_into_the_instrument() -> None:
    voice = sing()
    whispered = sounds.noise(voice.shape[-1])[:, : voice.shape[-1]]
    played = play_along(voice + 0.02 * whispered, RATE, np.random.default_rng(1))
    for sound in (whispered[0], voice[0]):
        assert abs(np.corrcoef(played[0], sound)[0, 1]) < 0.1


def test_a_short_note_is_not_played_louder_than_it_was_sung() -> None:
    voice = np.pad(sing((60,), 0.3), ((0, 0), (3 * RATE, 3 * RATE)))
    for seed in range(6):
        played = play_along(voice, RATE, np.random.default_rng(seed))
        assert _loudest(played) < 1.8 * _loudest(voice)
        faint = play_along(voice * 3e-5, RATE, np.random.default_rng(seed))
        assert not faint.any()


def _loudest(sound: Array) -> float:
    """Return the highest RMS of a tenth of a second."""
    blocks = sound[:, : sound.shape[-1] // 1600 * 1600].reshape(len(sound), -1, 1600)
    return float(np.sqrt(np.square(blocks).mean(axis=(0, 2))).max())


def test_recipes_hold_notes_correct_them_and_add_a_guide(tmp_path: Path) -> None:
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
    tuned, music = stems(tuned=1.0)
    assert tuned.any() and not np.allclose(tuned, voice, atol=1e-3) and not music.any()
    voice, guide = stems(guide=1.0)
    assert -20 < 20 * np.log10(guide.std() / voice.std()) < 3

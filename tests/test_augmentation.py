"""What changes a sound does to it, by the processor and by PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter1d

from splitter.audio import Block, through_aac, through_mp3
from splitter.training.augmentation import (
    Array,
    add_rests,
    average_around,
    balance,
    brighten,
    code,
    compress,
    distort,
    double,
    drive,
    equalize,
    master,
    oppose,
    pan,
    push_aside,
    reverberate,
    set_level,
    share_room,
    soften_esses,
    widen,
)
from splitter.training.effects import (
    EDGE,
    TRANSPOSED,
    affect,
    another_singer,
    chop,
    drown,
    echo,
    gather,
    harmonize,
    move_formants,
    play_slices,
    robot,
    telephone,
)
from tests import sounds

RATE = 44100  # Hz
CHANGES: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "equalize": lambda signal, random: equalize(signal, RATE, 9.0, random),
    "reverberate": lambda signal, random: reverberate(signal, RATE, random),
    "pan": pan,
    "widen": widen,
    "compress": lambda signal, random: compress(signal, RATE, random),
    "drive": drive,
    "distort": lambda signal, random: distort(signal, RATE, random),
    "push_aside": push_aside,
    "add_rests": lambda signal, random: add_rests(signal, 200, random),
    "double": lambda signal, random: double(signal, RATE, random),
    "brighten": lambda signal, random: brighten(signal, RATE, 8000.0, random),
    "echo": lambda signal, random: echo(signal, 1000, random),
    "drown": lambda signal, random: drown(signal, RATE, random),
    "chop": lambda signal, random: chop(signal, RATE, random),
    "telephone": lambda signal, random: telephone(signal, RATE, random),
    "robot": lambda signal, random: robot(signal, RATE, random),
    "play_slices": lambda signal, random: play_slices(signal, 1000, random),
    "another_singer": lambda signal, random: another_singer(signal, RATE, random),
    "harmonize": lambda signal, random: harmonize(signal, RATE, random),
    "gather": lambda signal, random: gather(signal, RATE, random),
    "soften_esses": lambda signal, random: soften_esses(signal, RATE, random),
    "affect": lambda signal, random: affect(signal, 1000, random),
    "mp3": lambda signal, random: code(signal, RATE, partial(through_mp3, compression=0.8)),
    "aac": lambda signal, random: code(
        signal, RATE, partial(through_aac, bits=96000, bandwidth=8000)
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("samples", [1000, 16384])
def test_a_change_keeps_the_shape_and_is_the_same_for_arrays_and_tensors(
    change: Callable[[Array, np.random.Generator], Array], samples: int
) -> None:
    signal = sounds.noise(samples)
    changed = change(signal, np.random.default_rng(0))
    assert isinstance(changed, np.ndarray)
    assert changed.shape == signal.shape
    assert changed.dtype == np.float32
    assert not np.allclose(changed, signal)
    tensor = change(torch.from_numpy(signal), np.random.default_rng(0))
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), changed, atol=1e-5)  # float32, of noise around 0.1


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_silence_stays_silence(change: Callable[[Array, np.random.Generator], Array]) -> None:
    silence = np.zeros((2, 4096), np.float32)
    assert np.abs(change(silence, np.random.default_rng(0))).max() <= 1e-6


@pytest.mark.parametrize("window", [1, 2, 5, 100])
def test_neighbours_are_averaged_as_scipy_does(window: int) -> None:
    values = np.random.default_rng(0).random(1000, np.float32)
    expected = uniform_filter1d(values.astype(np.float64), window, mode="nearest")
    np.testing.assert_allclose(average_around(values, window), expected, atol=1e-6)


def test_a_level_is_set_against_another_sound() -> None:
    first, second = sounds.noise(1000), 0.1 * sounds.noise(1000)
    ratio = np.std(set_level(first, second, 6.0)) / np.std(second)
    assert 20 * np.log10(ratio) == pytest.approx(6.0, abs=0.1)
    assert np.array_equal(set_level(first, 0 * second, 6.0), first)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_a_level_is_that_of_where_both_sound(kind: Callable[[Array], Array]) -> None:
    music, voice = sounds.noise(88200), 0.1 * sounds.noise(88200)
    voice[:, 17640:] *= 1e-3  # rests for four fifths
    balanced = np.asarray(balance(kind(voice), kind(music), -6.0, 44100))
    ratio = np.std(balanced[:, :17640]) / np.std(music)
    assert 20 * np.log10(ratio) == pytest.approx(-6.0, abs=0.3)
    silence = np.zeros_like(music)
    assert np.array_equal(balance(kind(silence), kind(music), -6.0, 44100), silence)
    assert np.array_equal(balance(kind(voice), kind(silence), -6.0, 44100), voice)
    short = np.asarray(balance(kind(voice[:, :100]), kind(music[:, :100]), 6.0, 44100))
    assert np.std(short) / np.std(music[:, :100]) == pytest.approx(10 ** (6 / 20), rel=0.05)


def test_compression_brings_loud_and_quiet_together() -> None:
    signal = sounds.noise(44100)
    signal[:, 22050:] *= 0.1
    squeezed = compress(signal, 44100, np.random.default_rng(0))
    halves = [np.sqrt(np.mean(np.square(part))) for part in np.split(squeezed, 2, axis=1)]
    assert 1.5 < halves[0] / halves[1] < 5  # was 10
    assert np.mean(np.square(squeezed)) == pytest.approx(np.mean(np.square(signal)), rel=1e-3)


def test_a_voice_rests_and_sings_on() -> None:
    for seed in range(20):
        gate = add_rests(np.ones((1, 60 * 1000), np.float32), 1000, np.random.default_rng(seed))[0]
        assert gate.min() == 0 and gate.max() == 1
        silent = gate < 0.5
        edges = np.flatnonzero(np.diff(silent))
        spells = np.diff(edges)[int(silent[0]) :: 2] / 1000  # the first begins where sound ends
        assert len(spells) >= 6
        assert spells.min() > 0.49 and spells.max() < 4.01
        phrases = np.diff(edges)[1 - int(silent[0]) :: 2] / 1000
        assert phrases.min() > 0.99 and phrases.max() < 5.01
        assert np.abs(np.diff(gate)).max() <= 0.101  # 10 ms or more to fall silent: no click


def test_soft_clipping_lowers_peaks_only() -> None:
    signal = sounds.noise(44100)
    signal[:, 1000] = 2.0
    clipped = drive(signal, np.random.default_rng(0))
    assert clipped.max() < 1.0
    assert np.corrcoef(clipped[0, 2000:], signal[0, 2000:])[0, 1] > 0.98


def test_width_changes_the_sides_and_keeps_the_middle() -> None:
    signal = sounds.noise(1000)
    wide = widen(signal, np.random.default_rng(0))
    np.testing.assert_allclose(wide.mean(0), signal.mean(0), atol=1e-6)
    sides = (wide[0] - wide[1]) / (signal[0] - signal[1])
    np.testing.assert_allclose(sides, sides[0], rtol=1e-2)


@pytest.mark.parametrize(
    "codec",
    [partial(through_mp3, compression=0.8), partial(through_aac, bits=128000, bandwidth=8000)],
)
@pytest.mark.parametrize("rate", [16000, 44100, 96000])
def test_a_codec_loses_little_of_a_song(rate: int, codec: Callable[[Block, int], Block]) -> None:
    signal = sounds.music(1, rate)
    coded = code(signal, rate, codec)
    assert 0.9 < np.corrcoef(coded[0], signal[0])[0, 1] < 1


def test_an_equalizer_stays_within_its_range() -> None:
    signal = sounds.noise(2**16)
    changed = equalize(signal, 44100, 6.0, np.random.default_rng(0))
    gain = 20 * np.log10(np.abs(np.fft.rfft(changed)) / np.abs(np.fft.rfft(signal)))
    assert np.abs(gain).max() < 6.01


def test_a_copy_of_each_channel_comes_late_by_up_to_63_milliseconds() -> None:
    click = np.zeros((2, RATE), np.float32)
    click[:, 1000] = 1.0
    doubled = double(click, RATE, np.random.default_rng(0))
    added = doubled - click
    for channel in added:
        heard = np.flatnonzero(channel)
        assert 1000 + 0.005 * RATE <= heard.min() <= heard.max() <= 1001 + 0.063 * RATE
    assert not np.array_equal(added[0], added[1])


def test_treble_is_invented_where_there_was_none_and_when_the_octave_below_sounds() -> None:
    spectrum = np.fft.rfft(sounds.noise(RATE))
    spectrum[:, 8000:] = 0  # a bin is 1 Hz
    dull = np.fft.irfft(spectrum).astype(np.float32)
    dull[:, RATE // 2 :] *= 0.01
    bright = brighten(dull, RATE, 8000.0, np.random.default_rng(0))
    added = np.fft.rfft(bright - dull)
    assert np.abs(added[:, :7000]).max() < 1e-3 * np.abs(added).max()
    loud, soft = (np.sqrt(np.mean(np.square(half))) for half in np.split(bright - dull, 2, axis=1))
    assert loud / soft > 30


def test_what_is_pushed_aside_is_15_to_60_decibels_weaker_on_the_other_side() -> None:
    signal = sounds.noise(1000)
    sides = set()
    for seed in range(8):
        gains = push_aside(signal, np.random.default_rng(seed)).std(1) / signal.std(1)
        assert gains.max() == pytest.approx(1)
        assert -60.1 < 20 * np.log10(gains.min()) < -14.9
        sides.add(int(gains.argmax()))
    assert sides == {0, 1}


def test_a_voice_opposite_its_music_leaves_each_side_to_one_of_them() -> None:
    voice, music = sounds.noise(1000, seed=1), sounds.noise(1000, seed=2)
    for seed in range(8):
        stems = oppose(voice, music, np.random.default_rng(seed))
        sung, played = (int(np.argmax(stem.std(1))) for stem in stems)
        assert sung != played
        assert all(stem.std(1).min() < 0.2 * stem.std(1).max() for stem in stems)


def test_a_voice_and_its_music_are_heard_in_the_same_room_late_and_weakly() -> None:
    click = np.zeros((2, RATE), np.float32)
    click[:, 100] = 1.0
    for seed in range(8):
        stems = share_room(click, 0.5 * click, RATE, np.random.default_rng(seed))
        np.testing.assert_allclose(stems[1], 0.5 * stems[0], atol=1e-6)
        bleed = stems[0] - click
        level = 10 * np.log10(np.square(bleed).sum() / np.square(click).sum())
        assert -26.1 < level < -9.9
        assert np.abs(bleed[:, :92]).max() < 1e-6  # nothing comes early


def test_a_master_compresses_the_sum_and_each_stem_by_the_same_gain() -> None:
    voice, music = sounds.noise(RATE, seed=1), sounds.noise(RATE, seed=2)
    voice[:, RATE // 2 :] *= 0.05
    music[:, RATE // 2 :] *= 0.05
    sung, played = master(voice, music, RATE, np.random.default_rng(0))
    mixture = sung + played
    np.testing.assert_allclose(sung * (voice + music), voice * mixture, atol=1e-6)
    quiet, loud = mixture[:, RATE * 3 // 4 :].std(), mixture[:, : RATE // 4].std()
    assert 0.05 * 1.3 < quiet / loud < 1
    peaks = [np.abs(each).max() / each.std() for each in (mixture, voice + music)]
    assert peaks[0] < peaks[1]


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_formants_move_and_harmonics_stay(factor: float) -> None:
    time = np.arange(2 * RATE) / RATE
    harmonics = np.arange(1, 60) * 150.0  # Hz
    loudness = 0.2 + np.exp(-(((harmonics - 2000) / 600) ** 2))  # a formant at 2 kHz
    tone = (loudness[:, None] * np.sin(2 * np.pi * harmonics[:, None] * time)).sum(0)
    heard = move_formants(np.stack([tone, tone]).astype(np.float32), RATE, factor)[0]
    spectrum = np.abs(np.fft.rfft(heard[RATE // 2 : -RATE // 2]))
    on = spectrum[harmonics.astype(int)]
    assert spectrum[75:6000:150].max() < 0.02 * on.max()
    assert harmonics[np.argmax(on)] == pytest.approx(2000 * factor, rel=0.1)
    if factor == 1.0:
        np.testing.assert_allclose(heard, tone, atol=1e-4 * np.abs(tone).max())


def test_harmonies_are_other_notes_of_the_same_moment() -> None:
    time = np.arange(RATE) / RATE
    tone = sum(np.sin(2 * np.pi * 200 * number * time) / number for number in range(1, 20))
    voice = np.stack([tone, tone]).astype(np.float32)
    voice[:, RATE // 2 :] = 0
    for seed in range(4):
        added = harmonize(voice, RATE, np.random.default_rng(seed)) - voice
        spectrum = np.abs(np.fft.rfft(added[:, : RATE // 2], n=RATE)).mean(0)
        strongest = int(np.argmax(spectrum[60:450])) + 60  # Hz
        semitones = 12 * np.log2(strongest / 200)
        assert 2.5 < abs(semitones) < 12.5
        assert added[:, RATE * 6 // 10 :].std() < 0.1 * added[:, : RATE // 2].std()


def test_a_choir_sings_the_same_note_almost_together_and_as_loudly() -> None:
    time = np.arange(2 * RATE) / RATE
    tone = sum(np.sin(2 * np.pi * 200 * number * time) / number for number in range(1, 20))
    voice = np.stack([tone, tone]).astype(np.float32)
    voice[:, RATE:] = 0
    for seed in range(4):
        choir = gather(voice, RATE, np.random.default_rng(seed))
        assert choir.std() == pytest.approx(voice.std(), rel=1e-3)
        spectrum = np.abs(np.fft.rfft(choir[:, :RATE])).mean(0)
        off = np.abs((np.arange(60, 3900) + 100) % 200 - 100) > 0.01 * np.arange(60, 3900) + 5
        assert np.square(spectrum[60:3900][off]).sum() < 0.05 * np.square(spectrum).sum()
        assert choir[:, RATE * 6 // 5 :].std() < 0.01 * choir[:, :RATE].std()
        assert not np.allclose(choir, voice * choir.std() / voice.std(), atol=0.1)


def test_loud_esses_are_weakened_and_vowels_stay() -> None:
    time = np.arange(RATE) / RATE
    vowel = 0.2 * np.sin(2 * np.pi * 300 * time)
    hiss = np.fft.irfft(np.fft.rfft(sounds.noise(RATE)) * (np.arange(RATE // 2 + 1) > 8000))
    place = (time > 0.5) & (time < 0.6)
    voice = (np.stack([vowel, vowel]) + hiss * place).astype(np.float32)
    for seed in range(4):
        softened = soften_esses(voice, RATE, np.random.default_rng(seed))
        left = softened - vowel
        loud, quiet = slice(RATE * 52 // 100, RATE * 58 // 100), slice(0, RATE * 45 // 100)
        weaker = 20 * np.log10(left[:, loud].std() / hiss[:, loud].std())
        assert -20 < weaker < -2
        assert np.abs(left[:, quiet]).max() < 1e-3


def test_distortion_adds_overtones_and_takes_treble_away() -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(distort(np.stack([tone, tone]), RATE, np.random.default_rng(1))))
    assert spectrum[:, 400:2001:200].max() > 0.05 * spectrum.max()
    assert spectrum[:, 15000:].max() < 1e-3 * spectrum.max()


def test_an_echo_comes_back_weaker_and_weaker() -> None:
    click = np.zeros((2, 4 * RATE), np.float32)
    click[:, 0] = 1
    heard = np.abs(echo(click, RATE, np.random.default_rng(0))).max(axis=0)
    (places,) = np.nonzero(heard)
    assert len(places) >= 4
    assert np.ptp(np.diff(places)) == 0
    assert 0.08 * RATE <= places[1] < 0.6 * RATE
    later = heard[places[1:]]
    assert np.all(np.diff(later) < 0)
    assert later[1:] / later[:-1] == pytest.approx(later[1] / later[0], rel=1e-3)


def test_a_hall_rings_on_after_the_sound() -> None:
    burst = np.zeros((2, 2 * RATE), np.float32)
    burst[:, : RATE // 2] = sounds.noise(RATE // 2)
    heard = drown(burst, RATE, np.random.default_rng(0))
    assert np.abs(heard[:, RATE : RATE * 5 // 4]).mean() > 0.02 * np.abs(burst).max()


def test_a_room_damps_treble() -> None:
    click = np.zeros((2, RATE), np.float32)
    click[:, 0] = 1
    room = reverberate(click, RATE, np.random.default_rng(0)) - click
    power = np.square(np.abs(np.fft.rfft(room))).mean(0)
    assert power[15_000:20_000].mean() < 0.3 * power[500:5000].mean()  # Hz


def test_a_gate_opens_two_to_sixteen_times_a_second_and_passes_the_sound_unchanged() -> None:
    signal = sounds.noise(4 * RATE)
    for seed in range(5):
        gain = chop(signal, RATE, np.random.default_rng(seed)) / np.where(signal, signal, 1)
        opened = np.count_nonzero(np.diff(gain[0] > 0.6) > 0) / 2 / 4
        assert 2 - 0.5 <= opened <= 16 + 0.5
        assert np.median(gain[gain > 0.6]) == pytest.approx(1)
        assert np.abs(np.diff(gain)).max() < 1.1 / (EDGE * RATE)  # no click
        assert np.median(gain[gain < 0.6]) <= 0.2


def test_a_telephone_has_no_bass_and_no_treble() -> None:
    heard = telephone(sounds.noise(RATE), RATE, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(heard[0]))
    assert spectrum[:150].mean() < 0.1 * spectrum[800:1800].mean()
    assert spectrum[10000:].mean() < 0.1 * spectrum[800:1800].mean()


def test_a_sampler_repeats_slices_on_a_beat_without_clicks() -> None:
    noise, flat = sounds.noise(8 * RATE), np.full((2, 8 * RATE), 0.1, np.float32)
    for seed in range(8):
        heard = play_slices(noise, RATE, np.random.default_rng(seed))[0]
        assert heard.any()
        correlation = np.fft.irfft(np.abs(np.fft.rfft(heard, n=2 * len(heard))) ** 2)
        assert (correlation[int(0.3 * RATE) : 7 * RATE] / correlation[0]).max() > 0.3
        faded = play_slices(flat, RATE, np.random.default_rng(seed))[0]
        assert np.abs(np.diff(faded)).max() < 1.5 * np.abs(faded).max() / (EDGE * RATE)


def test_a_sampler_transposes_by_semitones_without_aliases() -> None:
    time = np.arange(4 * RATE) / RATE
    chord = 0.1 * sum(np.sin(2 * np.pi * pitch * time) for pitch in (1000, 15000))
    found = set()
    for seed in range(8):
        heard = play_slices(
            np.tile(chord, (2, 1)).astype(np.float32), RATE, np.random.default_rng(seed)
        )
        spectrum = np.abs(np.fft.rfft(heard[0]))  # four bins a hertz
        low = np.argmax(spectrum[: 4 * 2500]) / 4
        semitones = 12 * np.log2(low / 1000)
        assert np.abs(np.subtract(TRANSPOSED, semitones)).min() < 0.1
        found.add(round(semitones))
        assert spectrum[4 * 2500 : 4 * 7000].max() < 0.02 * spectrum.max()
    assert len(found) > 3


def test_a_robot_speaks_on_one_note_and_a_whisper_on_none() -> None:
    voice = sounds.voice(2)
    notes = []
    for seed in range(12):
        heard = robot(voice, RATE, np.random.default_rng(seed))[0]
        spectrum = np.abs(np.fft.rfft(heard)) ** 2
        correlation = np.fft.irfft(spectrum)
        lags = slice(RATE // 300, RATE // 70 + 1)
        notes.append(correlation[lags].max() / correlation[0])
    assert max(notes) > 0.9
    assert min(notes) < 0.5

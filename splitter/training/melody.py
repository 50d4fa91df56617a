"""What voices sing: notes that they hold, and instruments that play their tune.

As in `augmentation`, sound is (channels, samples) of NumPy or PyTorch; random numbers are NumPy's.
"""

from __future__ import annotations

from typing import TypeAlias

import librosa
import numpy as np
import numpy.typing as npt
import scipy.ndimage
from array_api_compat import to_device
from scipy.ndimage import map_coordinates

from splitter.audio import resample_signal
from splitter.training.augmentation import (
    Array,
    Curve,
    balance,
    beside,
    decibels,
    pan,
    reverberate,
)

WINDOW = 0.046  # seconds of the spectra in which notes are held
LOUD = 0.05  # of the loudest frame's power: worth holding
STEADY = 0.955  # likeness (cosine) of spectra at both ends of what is held; noise has 0.93
PITCH_RATE = 11025  # Hz; enough for the pitch of a voice
PITCH_FRAME, PITCH_HOP = 512, 128  # samples at that rate
LOWEST, HIGHEST = 75.0, 1000.0  # Hz, of pitches
SHORTEST_NOTE = 0.1  # seconds
AUDIBLE = 0.05  # of the loudest RMS: sung, not a breath
FAINT = 1e-4  # RMS; quieter sound has no tune
HARMONICS = 24  # of an instrument, at most
CYCLE = 2048  # samples of its waveform
UNTUNED = 60.0  # MIDI number; periods of this length stand for sound without a pitch

Order: TypeAlias = npt.NDArray[np.int64]
Marks: TypeAlias = npt.NDArray[np.bool_]
Tune: TypeAlias = npt.NDArray[np.floating]  # MIDI numbers, or NaN, every `PITCH_HOP`


def hold_notes(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Hold up to three vowels for 0.7 to 3 s, some of which fade away and rest.

    What comes later is late by that; what no longer fits is lost. A moment of the vowel is played
    to and fro by a phase vocoder (Flanagan and Golden 1966), so its vibrato goes on. All channels
    turn by the phases of their mean and stay where they are in the stereo picture.
    """
    size = 2 ** round(np.log2(WINDOW * rate))
    hop = size // 4
    sound = np.asarray(to_device(signal, "cpu"))
    if sound.shape[-1] < 8 * size:
        return signal
    spectra = librosa.stft(sound, n_fft=size, hop_length=hop)
    mean = spectra.mean(axis=0)
    order, gain, held = draw_holds(np.abs(mean), rate / hop, random)
    if not held.any():
        return signal
    angles = np.angle(mean)
    advance = np.diff(angles, axis=-1, prepend=angles[:, :1])[:, order]
    phases = angles[:, order]
    for begin, end in _find_runs(held):
        phases[:, begin:end] = phases[:, [begin - 1]] + np.cumsum(advance[:, begin:end], axis=-1)
    turns = np.exp(1j * (phases - angles[:, order])).astype(np.complex64)
    changed = spectra[:, :, order] * turns * gain
    heard = librosa.istft(changed, n_fft=size, hop_length=hop, length=sound.shape[-1])
    return beside(signal, np.asarray(heard, np.float32))


def draw_holds(
    magnitudes: npt.NDArray[np.floating], frames_a_second: float, random: np.random.Generator
) -> tuple[Order, Curve, Marks]:
    """Draw in what order frames are played; return it, their gains, and which of them are held.

    `magnitudes` is (bins, frames); all that comes back is (frames,).
    """
    frames = magnitudes.shape[-1]
    span = int(random.uniform(0.15, 0.3) * frames_a_second)
    vowels = _find_vowels(magnitudes, span)
    count = min(int(random.integers(1, 4)), len(vowels))
    parts: list[tuple[Order, npt.NDArray[np.floating], Marks]] = []
    at = 0
    for vowel in np.sort(random.choice(vowels, count, replace=False)):
        if vowel < at:
            continue
        before = np.arange(at, vowel + span)
        length = int(random.uniform(0.7, 3) * frames_a_second)
        swing = np.abs(np.arange(1, length + 1) % (2 * span - 2) - (span - 1))  # back, and forth
        rest = int(max(0.0, random.uniform(-1, 1)) * frames_a_second)
        fall = random.uniform(0, 15) if rest else 0.0  # dB; who sings on at once does not fade
        fade = decibels(-fall * np.linspace(0, 1, length))
        parts.append((before, np.ones(len(before)), np.zeros(len(before), bool)))
        parts.append((vowel + swing, fade, np.ones(length, bool)))
        parts.append((np.full(rest, vowel), np.zeros(rest), np.zeros(rest, bool)))
        at = vowel + span
    left = frames - at
    parts.append((np.arange(at, frames), np.ones(left), np.zeros(left, bool)))
    order, gain, held = (np.concatenate(column)[:frames] for column in zip(*parts, strict=True))
    return order, np.asarray(gain, np.float32), held


def _find_vowels(magnitudes: npt.NDArray[np.floating], span: int) -> Order:
    """Return the frames at which `span` frames begin whose first and last sound alike, loudly.

    Likeness is that of the roots of magnitudes, so a few strong bins do not make noise a vowel.
    """
    power = np.square(magnitudes).sum(axis=0)
    loud = np.minimum(power[:-span], power[span:]) > LOUD * power.max()
    roots = np.sqrt(magnitudes)
    norms = np.sqrt(magnitudes.sum(axis=0)) + 1e-12
    likeness = (roots[:, :-span] * roots[:, span:]).sum(axis=0) / (norms[:-span] * norms[span:])
    vowels = np.flatnonzero(loud & (likeness > STEADY))
    return vowels[vowels > 0]


def _find_runs(marks: Marks) -> list[tuple[int, int]]:
    """Return where runs of True begin and end, in (frames,)."""
    labels, _ = scipy.ndimage.label(marks)
    return [(run.start, run.stop) for (run,) in scipy.ndimage.find_objects(labels)]


def play_along(voice: Array, rate: int, random: np.random.Generator) -> Array:
    """Play the tune of a voice on an instrument, as guide melodies of karaoke do.

    Returns the instrument alone, as loud as the voice or up to 15 dB weaker, each where it sounds.
    It keeps to semitones, or follows each turn of the voice; plays in its octave or another; and
    holds its notes, or plucks them. A voice without notes gives silence.
    """
    sound = np.asarray(to_device(voice, "cpu"))
    samples = sound.shape[-1]
    tune = find_tune(sound.mean(axis=0), rate)
    tune = quantize(tune) if random.random() < 0.7 else tune
    late = round(random.uniform(-0.03, 0.08) * PITCH_RATE / PITCH_HOP)
    tune = scipy.ndimage.shift(tune, late, order=0, cval=np.nan)
    tune = tune + 12 * random.choice([-1, 0, 0, 0, 1])
    notes = find_notes(tune)
    if not notes:
        return voice * 0
    frames = np.arange(samples) * (PITCH_RATE / PITCH_HOP / rate)
    semitones = np.interp(frames, np.arange(len(tune)), _fill(tune, notes))
    vibrato = random.uniform(0, 0.3) * np.sin(
        2 * np.pi * random.uniform(4, 7) * np.arange(samples) / rate
    )
    hertz = librosa.midi_to_hz(semitones + vibrato)
    envelope = _draw_envelope(notes, samples, rate, random)
    turns = np.cumsum(hertz / rate) % 1 * CYCLE
    most = int(np.clip(0.45 * rate / hertz.max(), 1, HARMONICS))
    bright, dull = _draw_waveforms(most, random)
    cycle = np.arange(CYCLE + 1)
    dark = np.interp(turns, cycle, dull)
    played = envelope * (dark + envelope * (np.interp(turns, cycle, bright) - dark))
    instrument = beside(voice, np.tile(np.asarray(played, np.float32), (len(sound), 1)))
    if random.random() < 0.5:
        instrument = reverberate(instrument, rate, random)
    return balance(pan(instrument, random), voice, random.uniform(-15, 0), rate)


def correct_pitch(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Step from semitone to semitone, as Auto-Tune does: all of the way, or at least 0.6 of it.

    Formants and consonants stay. Sound without a tune comes back as it is.
    """
    sound = np.asarray(to_device(signal, "cpu"))
    tune = find_tune(sound.mean(axis=0), rate)
    if np.isnan(tune).all():
        return signal
    strength = min(1.0, random.uniform(0.6, 1.4))
    wanted = tune + strength * (quantize(tune) - tune)
    return beside(signal, shift_periods(sound, tune, wanted, rate))


def shift_periods(
    sound: npt.NDArray[np.floating],
    tune: Tune,
    wanted: Tune,
    rate: int,
    moments: npt.NDArray[np.floating] | None = None,
) -> npt.NDArray[np.float32]:
    """Sing (channels, samples) at the pitch `wanted` instead of `tune`.

    Pairs of periods are laid at other distances (TD-PSOLA, Moulines and Charpentier 1990), each
    where it was, but for half a period at most. They begin between samples: whole ones are rough.
    With `moments` each sample is from another one, (samples,), and `wanted` is what is then sung.
    """
    samples = sound.shape[-1]
    frames = np.arange(samples) * (PITCH_RATE / PITCH_HOP / rate)
    nearest = np.minimum(np.round(frames), len(tune) - 1).astype(int)
    before, after = (
        rate / librosa.midi_to_hz(np.nan_to_num(pitch, nan=UNTUNED))[nearest]
        for pitch in (tune, wanted)
    )
    marks, targets = _mark_periods(before), _mark_periods(after)
    origins = targets if moments is None else np.interp(targets, np.arange(samples), moments)
    sources = marks[np.round(np.interp(origins, marks, np.arange(len(marks)))).astype(int)]
    middles = np.round(targets).astype(int)
    gaps = np.diff(targets, prepend=0, append=samples)
    reach = np.maximum(gaps[1:], gaps[:-1])  # so that a pair meets its neighbours
    halves = np.ceil(np.maximum(before[sources.astype(int)], reach))
    lengths = 2 * halves.astype(int) + 1
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths + halves, lengths)
    window = 0.5 + 0.5 * np.cos(np.pi * place / np.repeat(halves + 1, lengths))
    to = np.repeat(middles, lengths) + place.astype(int)
    within = (to >= 0) & (to < samples)
    to, window = to[within], window[within]
    source = (np.repeat(sources + middles - targets, lengths) + place)[within]
    weight = np.bincount(to, window, samples)
    heard = [
        np.bincount(to, window * map_coordinates(channel, [source], mode="nearest"), samples)
        for channel in sound
    ]
    return np.asarray(heard / weight, np.float32)


def _mark_periods(periods: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return where periods begin, the first at 0, in samples; `periods` is (samples,)."""
    turns = np.cumsum(1 / periods) - 1 / periods[0]
    return np.interp(np.arange(int(turns[-1]) + 1), turns, np.arange(len(turns)))


def find_tune(sound: npt.NDArray[np.floating], rate: int) -> Tune:
    """Return the pitch of (samples,) every `PITCH_HOP` at `PITCH_RATE`, as MIDI numbers.

    By YIN (de Cheveigné and Kawahara 2002), its outliers smoothed away. NaN where it is quiet, or
    where the pitch is not steady.
    """
    low = resample_signal(np.asarray(sound, np.float32)[None], rate, PITCH_RATE, quality="LQ")[0]
    low = np.pad(low, (0, max(0, 2 * PITCH_FRAME - len(low))))
    pitch = librosa.hz_to_midi(
        librosa.yin(
            low,
            fmin=LOWEST,
            fmax=HIGHEST,
            sr=PITCH_RATE,
            frame_length=PITCH_FRAME,
            hop_length=PITCH_HOP,
        )
    )
    smooth = scipy.ndimage.median_filter(pitch, 7)
    level = librosa.feature.rms(y=low, frame_length=PITCH_FRAME, hop_length=PITCH_HOP)[0]
    steady = (np.abs(pitch - smooth) < 0.7) & (level > max(AUDIBLE * level.max(), FAINT))
    return np.where(steady, smooth, np.nan)


def quantize(tune: Tune) -> Tune:
    """Move each pitch to the nearest semitone of the tuning that fits the tune best."""
    turns = np.exp(2j * np.pi * tune[~np.isnan(tune)])
    tuning = np.angle(turns.sum()) / (2 * np.pi) if len(turns) else 0.0
    return np.round(tune - tuning) + tuning


def find_notes(tune: Tune) -> list[tuple[int, int]]:
    """Return where notes begin and end in a tune: pitches in one go that jump by less than 0.8."""
    steady = (
        np.abs(np.diff(tune, prepend=np.nan)) < 0.8
    )  # False beside NaN, and where a note begins
    notes = [(begin - 1, end) for begin, end in _find_runs(steady)]
    shortest = SHORTEST_NOTE * PITCH_RATE / PITCH_HOP
    return [(begin, end) for begin, end in notes if end - begin >= shortest]


def _fill(tune: Tune, notes: list[tuple[int, int]]) -> Tune:
    """Go on with each note's last pitch until the next one begins."""
    frames = np.full(len(tune), notes[0][0])
    for begin, end in notes:
        frames[begin:end] = np.arange(begin, end)
    return tune[np.maximum.accumulate(frames)]


def _draw_envelope(
    notes: list[tuple[int, int]], samples: int, rate: int, random: np.random.Generator
) -> Curve:
    """Draw how loud each note is over time, (samples,): struck, and then held or dying away."""
    attack, release = random.uniform(0.003, 0.06) * rate, random.uniform(0.02, 0.2) * rate
    decay = random.choice([np.inf, random.uniform(0.2, 1.5)]) * rate
    envelope = np.zeros(samples, np.float32)
    for begin, end in notes:
        start, stop = (int(frame * PITCH_HOP * rate / PITCH_RATE) for frame in (begin, end))
        time = np.arange(max(0, min(samples, stop + int(release)) - start), dtype=np.float32)
        rises, falls = time / attack, (stop + release - start - time) / release
        loud = np.minimum(np.minimum(rises, falls), 1) * np.exp(-time / decay)
        part = envelope[start : start + len(time)]
        np.maximum(part, loud * random.uniform(0.6, 1.0), out=part, casting="same_kind")
    return envelope


def _draw_waveforms(
    most: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Draw a cycle of a bright waveform and of a duller one with `most` harmonics."""
    numbers = np.arange(1, most + 1)
    strengths = numbers ** -random.uniform(0.4, 1.6) * decibels(random.uniform(-6, 6, most))
    if random.random() < 0.25:
        strengths = strengths * (numbers % 2)  # as a clarinet's, or a square wave's
    place = np.arange(CYCLE + 1) / CYCLE
    waves = np.sin(2 * np.pi * (numbers[:, None] * place + random.random((most, 1))))
    return strengths @ waves, (strengths / numbers) @ waves

"""Songs that nobody sang: synthetic voices and synthetic music, to train on before real ones.

Where real pairs are few, a network can learn from simulated ones first and from real ones last
(Yang & Ma 2019, FCNVMB). A voice here is what the source-filter model says (Fant 1960): harmonics
of a gliding, trembling pitch, shaped by formants that move from vowel to vowel, and noise. Music is
notes of decaying harmonics, a bass and drums in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from splitter.audio import Block

Curve = npt.NDArray[np.float64]  # a value a sample, or a value a control point

CONTROL = 0.01  # seconds between points of formants and envelopes
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 3, 5, 7, 10))  # semitones
# Hz, first three formants of a, e, i, o, u, ə (Peterson & Barney 1952, rounded)
VOWELS = np.array(
    [
        (730, 1090, 2440),
        (530, 1840, 2480),
        (270, 2290, 3010),
        (570, 840, 2410),
        (300, 870, 2240),
        (490, 1350, 1690),
    ],
    float,
)
FORMANT_WIDTH = (90.0, 110.0, 170.0)  # Hz
HARMONICS = 48


@dataclass(frozen=True)
class Note:
    """A tone and when it sounds."""

    start: float  # seconds
    length: float  # seconds
    pitch: float  # Hz


def simulate_voice(seconds: float, rate: int, random: np.random.Generator) -> Block:
    """Sing a random melody on random vowels: (1, samples) at `rate` Hz, peak below 1."""
    low = random.uniform(100, 280)  # Hz, the voice's lowest note
    notes = _melody(seconds, low, random)
    points = np.arange(0, seconds + CONTROL, CONTROL)
    pitch = _glide(notes, points, random)
    loudness = _breathe(notes, points, random)
    tract = random.uniform(0.9, 1.2)  # the length of the throat scales all formants
    formants = tract * _smooth(_hold(notes, points, VOWELS[random.integers(0, 6, len(notes))]), 8)
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(np.interp(time, points, pitch)) / rate
    tilt = random.uniform(0.3, 1.1)
    sung = np.zeros_like(time)
    for k in range(1, HARMONICS + 1):
        inside = k * pitch < 0.45 * rate
        gain = inside * loudness * _formant_gain(k * pitch, formants) / k**tilt
        sung += np.interp(time, points, gain) * np.sin(k * phase)
    noise = random.standard_normal(len(time))
    consonants = np.interp(time, points, _onsets(notes, points, random))
    hiss = np.diff(noise, prepend=0.0)
    breath = random.uniform(0.001, 0.008) * np.interp(time, points, loudness)
    return _finish((sung + (0.3 * consonants + breath) * hiss)[None], random)


def simulate_music(seconds: float, rate: int, random: np.random.Generator) -> Block:
    """Play random chords, a bass and drums: (2, samples) at `rate` Hz, peak below 1."""
    beat = 60 / random.uniform(70, 150)
    scale = SCALES[random.integers(len(SCALES))]
    root = random.uniform(80, 160)
    music = np.zeros((2, round(seconds * rate)))
    for part in range(random.integers(1, 4)):
        octave = random.choice([1, 2, 4])
        every = beat * random.choice([0.5, 1, 2, 4])
        decay = random.uniform(0.1, 1.5)
        tilt = random.uniform(0.7, 2.0)
        odd = random.random() < 0.3  # clarinets and squares have odd harmonics
        width = random.uniform(-0.8, 0.8)
        for start in np.arange(0, seconds, every):
            for _ in range(1 if part else random.integers(1, 4)):
                step = scale[random.integers(len(scale))]
                tone = _pluck(root * octave * 2 ** (step / 12), decay, tilt, odd, rate)
                _add(music, tone * random.uniform(0.3, 1), start, rate, width)
    for start in np.arange(0, seconds, beat):
        _add(music, _pluck(root / 2, 0.4, 1.2, False, rate), start, rate, 0.0)
        if random.random() < 0.9:
            _add(music, _drum(rate, random) * 1.5, start, rate, random.uniform(-0.4, 0.4))
    return _finish(music, random)


def _melody(seconds: float, low: float, random: np.random.Generator) -> list[Note]:
    """Draw phrases: notes that follow each other, then a pause."""
    scale = SCALES[random.integers(len(SCALES))]
    notes, time, step = [], random.uniform(0, min(1, seconds / 2)), int(random.integers(0, 7))
    while time < seconds:
        for _ in range(random.integers(3, 10)):
            step = int(np.clip(step + random.integers(-3, 4), 0, 12))
            semitones = 12 * (step // len(scale)) + scale[step % len(scale)]
            length = random.choice([0.15, 0.25, 0.4, 0.8]) * random.uniform(0.8, 1.25)
            notes.append(Note(time, length, low * 2 ** (semitones / 12)))
            time += length
        time += random.uniform(0.2, 2.0)
    return notes


def _hold(notes: Sequence[Note], points: Curve, values: Curve) -> Curve:
    """Return, for each point of time, the value of the last note that has begun."""
    index = np.searchsorted([note.start for note in notes], points, side="right") - 1
    held: Curve = values[np.clip(index, 0, None)]
    return held


def _glide(notes: Sequence[Note], points: Curve, random: np.random.Generator) -> Curve:
    """Return the pitch in Hz: notes joined by slides, with vibrato and a little drift."""
    pitches = np.array([np.log2(note.pitch) for note in notes])
    curve = _smooth(_hold(notes, points, pitches), int(random.integers(3, 9)))
    vibrato = random.uniform(0, 0.04) * np.sin(2 * np.pi * random.uniform(4.5, 6.5) * points)
    drift = _smooth(random.standard_normal(len(points)), 20) * 0.01
    return np.asarray(2 ** (curve + vibrato + drift))


def _breathe(notes: Sequence[Note], points: Curve, random: np.random.Generator) -> Curve:
    """Return the loudness: each note swells and fades, pauses are silent."""
    loudness = np.zeros_like(points)
    for note in notes:
        inside = (points >= note.start) & (points < note.start + note.length)
        loudness[inside] = random.uniform(0.4, 1)
        loudness[inside & (points < note.start + random.uniform(0, 0.06))] *= 0.2  # a consonant
    return _smooth(loudness, 4)


def _onsets(notes: Sequence[Note], points: Curve, random: np.random.Generator) -> Curve:
    """Return bursts at the beginnings of some notes."""
    bursts = np.zeros_like(points)
    for note in notes:
        if random.random() < 0.6:
            length = random.uniform(0.02, 0.12)
            bursts[(points >= note.start) & (points < note.start + length)] = random.uniform(0.1, 1)
    return _smooth(bursts, 2)


def _formant_gain(frequency: Curve, formants: Curve) -> Curve:
    """Return the gain of a throat at one frequency a point: a sum of resonances."""
    gain = np.full(len(frequency), 0.02)
    for index, width in enumerate(FORMANT_WIDTH):
        distance = (frequency - formants[:, index]) / width
        gain += 1 / (1 + distance**2) / (index + 1)
    return gain


def _pluck(pitch: float, decay: float, tilt: float, odd: bool, rate: int) -> Curve:
    """Return a tone whose higher harmonics fade first."""
    time = np.arange(int(min(4 * decay, 3.0) * rate)) / rate
    numbers = np.arange(1, 25, 2 if odd else 1)
    tone = np.zeros_like(time)
    for k in numbers[numbers * pitch < 0.45 * rate]:
        tone += (
            np.exp(-time / decay * (1 + 0.2 * k)) * np.sin(2 * np.pi * k * pitch * time) / k**tilt
        )
    return tone


def _drum(rate: int, random: np.random.Generator) -> Curve:
    """Return a kick, a snare or a hat."""
    time = np.arange(int(0.3 * rate)) / rate
    noise = random.standard_normal(len(time))
    kind = random.integers(3)
    if kind == 0:
        return np.asarray(
            np.sin(2 * np.pi * (50 * time - 6 * np.exp(-time * 30))) * np.exp(-time * 15)
        )
    if kind == 1:
        return np.asarray(0.5 * noise * np.exp(-time * 20))
    return np.asarray(0.4 * np.diff(noise, prepend=0.0) * np.exp(-time * 50))


def _add(music: Curve, tone: Curve, start: float, rate: int, place: float) -> None:
    """Add a tone at `start` seconds, at a place between left (−1) and right (1)."""
    first = int(start * rate)
    part = tone[: music.shape[-1] - first]
    music[0, first : first + len(part)] += part * (1 - place) / 2
    music[1, first : first + len(part)] += part * (1 + place) / 2


def _smooth(curve: Curve, points: int) -> Curve:
    """Average over `points` neighbours, along the first axis."""
    smooth: Curve = uniform_filter1d(curve, points, axis=0, mode="nearest")
    return smooth


def _finish(signal: Curve, random: np.random.Generator) -> Block:
    """Set the peak somewhere below full scale."""
    peak = max(float(np.abs(signal).max()), 1e-9)
    return np.asarray(signal * random.uniform(0.3, 0.9) / peak, np.float32)

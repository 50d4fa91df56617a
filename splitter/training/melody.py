"""What voices sing: notes that they hold, and instruments that play their tune.

As in `augmentation`, sound is (channels, samples) of NumPy or PyTorch; random numbers are NumPy's.
"""

from __future__ import annotations

import librosa
import numpy as np
import numpy.typing as npt
import scipy.ndimage
import scipy.signal
from array_api_compat import to_device

from splitter.audio import resample_signal
from splitter.training.augmentation import (
    Array,
    Curve,
    beside,
    decibels,
    pan,
    reverberate,
    set_level,
)

FRAME = 0.046  # seconds of the spectra in which notes are held
LOUD = 0.05  # of the loudest frame's power: worth holding
STEADY = 0.9  # likeness (cosine) of spectra at both ends of what is held
PITCH_RATE = 11025  # Hz; enough for the pitch of a voice
PITCH_FRAME, PITCH_HOP = 512, 128  # samples at that rate
LOWEST, HIGHEST = 75.0, 1000.0  # Hz, of pitches
SHORTEST_NOTE = 0.1  # seconds
AUDIBLE = 0.05  # of the loudest RMS: sung, not a breath
OVERTONES = 24  # of an instrument, at most
CYCLE = 2048  # samples of its waveform


def hold_notes(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Hold up to three vowels for 0.7 to 3 s; each fades by up to 15 dB, and a rest may come after.

    What comes later is late by that; what no longer fits is lost. A moment of the vowel is played
    to and fro by a phase vocoder (Flanagan and Golden 1966), so its vibrato goes on. All channels
    turn by the phases of their mean and stay where they are in the stereo picture.
    """
    size = 2 ** round(np.log2(FRAME * rate))
    hop = size // 4
    sound = np.asarray(to_device(signal, "cpu"))
    if sound.shape[-1] < 8 * size:
        return signal
    spectra = librosa.stft(sound, n_fft=size, hop_length=hop)
    mean = spectra.mean(axis=0)
    turned = np.angle(mean)
    order, gain, held = _draw_holds(np.abs(mean), rate / hop, random)
    advance = np.diff(turned, axis=-1, prepend=turned[:, :1])[:, order]
    phases = np.where(held, 0.0, turned[:, order])  # of a hold: of the frame before, and on
    for begin, end in _runs(held):
        phases[:, begin:end] = phases[:, [begin - 1]] + np.cumsum(advance[:, begin:end], axis=-1)
    turn = np.exp(1j * (phases - turned[:, order])).astype(np.complex64)
    changed = spectra[:, :, order] * turn * gain
    heard = librosa.istft(changed, n_fft=size, hop_length=hop, length=sound.shape[-1])
    return beside(signal, np.asarray(heard, np.float32))


def _draw_holds(
    magnitudes: npt.NDArray[np.floating], frames_a_second: float, random: np.random.Generator
) -> tuple[npt.NDArray[np.int64], Curve, npt.NDArray[np.bool_]]:
    """Draw in what order frames are played; return it, their gains, and which of them are held.

    `magnitudes` is (bins, frames); all that comes back is (frames,).
    """
    frames = magnitudes.shape[-1]
    span = int(random.uniform(0.15, 0.3) * frames_a_second)
    power = np.square(magnitudes).sum(axis=0)
    size = np.sqrt(power[:-span] * power[span:]) + 1e-12
    likeness = (magnitudes[:, :-span] * magnitudes[:, span:]).sum(axis=0) / size
    loud = np.minimum(power[:-span], power[span:]) > LOUD * power.max()
    moments = np.flatnonzero(loud & (likeness > STEADY))
    moments = moments[moments > 0]
    chosen = np.sort(random.choice(moments, min(3, len(moments)), replace=False))
    order: list[npt.NDArray[np.int64]] = []
    gain: list[npt.NDArray[np.floating]] = []
    held: list[npt.NDArray[np.bool_]] = []
    at = 0
    for moment in chosen[: random.integers(1, 4)]:
        if moment < at:
            continue
        before = np.arange(at, moment + span)
        length = int(random.uniform(0.7, 3) * frames_a_second)
        swing = np.abs(np.arange(1, length + 1) % (2 * span - 2) - (span - 1))  # back, and forth
        fade = decibels(-random.uniform(0, 15) * np.linspace(0, 1, length))
        rest = int(max(0.0, random.uniform(-1, 1)) * frames_a_second)
        order += [before, moment + swing, np.full(rest, moment)]
        gain += [np.ones(len(before)), fade, np.zeros(rest)]
        held += [np.zeros(len(before), bool), np.ones(length, bool), np.zeros(rest, bool)]
        at = moment + span
    order.append(np.arange(at, frames))
    gain.append(np.ones(frames - at))
    held.append(np.zeros(frames - at, bool))
    gains = np.concatenate(gain).astype(np.float32)
    return np.concatenate(order)[:frames], gains[:frames], np.concatenate(held)[:frames]


def _runs(marks: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return where runs of True begin and end, in (frames,)."""
    edges = np.flatnonzero(np.diff(np.pad(marks.astype(np.int8), 1)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def play_along(voice: Array, rate: int, random: np.random.Generator) -> Array:
    """Play the tune of a voice on an instrument, as guide melodies of karaoke do.

    Returns the instrument alone, as loud as the voice or up to 15 dB weaker. It keeps to semitones,
    or follows each turn of the voice; plays in its octave or another; and holds its notes, or
    plucks them. A voice without notes gives silence.
    """
    sound = np.asarray(to_device(voice, "cpu"))
    samples = sound.shape[-1]
    pitch = find_tune(sound.mean(axis=0), rate)
    tune = _quantize(pitch) if random.random() < 0.7 else pitch
    late = round(random.uniform(-0.03, 0.08) * PITCH_RATE / PITCH_HOP)
    tune = np.roll(tune, late) + 12 * random.choice([-1, 0, 0, 0, 1])
    notes = _find_notes(tune)
    if not notes:
        return voice * 0
    moments = np.arange(samples) * (PITCH_RATE / PITCH_HOP / rate)  # in frames
    semitones = np.interp(moments, np.arange(len(tune)), _fill(tune, notes))
    vibrato = random.uniform(0, 0.3) * np.sin(
        2 * np.pi * random.uniform(4, 7) * np.arange(samples) / rate
    )
    hertz = librosa.midi_to_hz(semitones + vibrato)
    envelope = _draw_envelope(notes, samples, rate, random)
    turns = np.cumsum(hertz / rate) % 1 * CYCLE
    most = int(np.clip(0.45 * rate / hertz.max(), 1, OVERTONES))
    bright, dull = _draw_waveforms(most, random)
    cycle = np.arange(CYCLE + 1)
    dark = np.interp(turns, cycle, dull)
    played = envelope * (dark + envelope * (np.interp(turns, cycle, bright) - dark))
    instrument = beside(voice, np.tile(np.asarray(played, np.float32), (len(sound), 1)))
    if random.random() < 0.5:
        instrument = reverberate(instrument, rate, random)
    return set_level(pan(instrument, random), voice, random.uniform(-15, 0))


def find_tune(sound: npt.NDArray[np.floating], rate: int) -> npt.NDArray[np.floating]:
    """Return the pitch of (samples,) every `PITCH_HOP` at `PITCH_RATE`, as MIDI numbers.

    By YIN (de Cheveigné and Kawahara 2002), its outliers smoothed away. NaN where nobody sings or
    the pitch is not sure.
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
    sure = (np.abs(pitch - smooth) < 0.7) & (level > max(AUDIBLE * level.max(), 1e-5))
    return np.where(sure, smooth, np.nan)


def _quantize(tune: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Move each pitch to the nearest semitone of the tuning that fits the tune best."""
    turns = np.exp(2j * np.pi * tune[~np.isnan(tune)])
    tuning = np.angle(turns.sum()) / (2 * np.pi) if len(turns) else 0.0
    return np.round(tune - tuning) + tuning


def _find_notes(tune: npt.NDArray[np.floating]) -> list[tuple[int, int]]:
    """Return where notes begin and end in a tune: pitches in one go that jump by less than 0.8."""
    jumps = np.abs(np.diff(tune, prepend=np.nan)) < 0.8  # False beside NaN
    shortest = SHORTEST_NOTE * PITCH_RATE / PITCH_HOP
    return [(begin, end) for begin, end in _runs(jumps) if end - begin >= shortest]


def _fill(tune: npt.NDArray[np.floating], notes: list[tuple[int, int]]) -> npt.NDArray[np.floating]:
    """Go on with each note's last pitch until the next one begins."""
    filled = np.full(len(tune), tune[notes[0][0]])
    for number, (begin, end) in enumerate(notes):
        after = notes[number + 1][0] if number + 1 < len(notes) else len(tune)
        filled[begin:end] = tune[begin:end]
        filled[end:after] = tune[end - 1]
    return filled


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
    """Draw a cycle of a bright waveform and of a duller one with `most` overtones."""
    numbers = np.arange(1, most + 1)
    strengths = numbers ** -random.uniform(0.4, 1.6) * decibels(random.uniform(-6, 6, most))
    if random.random() < 0.25:
        strengths = strengths * (numbers % 2)  # as a clarinet's, or a square wave's
    place = np.arange(CYCLE + 1) / CYCLE
    waves = np.sin(2 * np.pi * (numbers[:, None] * place + random.random((most, 1))))
    return strengths @ waves, (strengths / numbers) @ waves

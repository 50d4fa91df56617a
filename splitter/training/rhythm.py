"""Voices in time with the music that they are mixed with.

    music ── onsets ── beats ── steps ─┐
    voice ── onsets of syllables ──────┴─▶ when each syllable begins ── shift_periods ──▶ voice

As in `augmentation`, sound is (channels, samples) of NumPy or PyTorch; random numbers are NumPy's.
"""

from __future__ import annotations

import librosa
import numpy as np
import numpy.typing as npt
from array_api_compat import to_device

from splitter.audio import resample_signal
from splitter.training.augmentation import Array, average_around, beside
from splitter.training.melody import PITCH_HOP, PITCH_RATE, find_tune, shift_periods

FRAME, HOP = 512, 128  # samples at `PITCH_RATE` of the spectra that tell how much begins
MELS = 40  # their bands
SHORTEST_STEP = 0.11  # seconds: about nine syllables a second, as fast as most rap
LEAST_SYLLABLE = 0.6  # of a step; onsets that are nearer to each other begin one syllable
FEWEST_BEATS = 4  # in an example; music of fewer has none
EDGE = 0.01  # seconds in which a voice fades where there is no more of it

Moments = npt.NDArray[np.floating]  # seconds


def lay_on_beat(voice: Array, music: Array, rate: int, random: np.random.Generator) -> Array:
    """Let the syllables of a voice begin on the beat of its music: speech becomes rap.

    Each begins on a half or a quarter of a beat and is made as long as that takes, by TD-PSOLA, so
    its pitch stays. All goes 0.8 to 1.3 times as fast. Music without a beat, and voices without
    syllables, leave the voice as it is.
    """
    sound, played = (np.asarray(to_device(each, "cpu")) for each in (voice, music))
    beats = find_beats(played.mean(axis=0), rate)
    if len(beats) < FEWEST_BEATS:
        return voice
    steps = split_beats(beats, sound.shape[-1] / rate, int(random.choice([2, 4])))
    syllables = find_onsets(sound.mean(axis=0), rate)
    sung, heard = place_syllables(syllables, steps, random.uniform(0.8, 1.3))
    if not len(sung):
        return voice
    samples = sound.shape[-1]
    far = samples / rate  # before the first and after the last, time runs as it did
    moments = np.interp(
        np.arange(samples) / rate,
        [heard[0] - far, *heard, heard[-1] + far],
        [sung[0] - far, *sung, sung[-1] + far],
    )
    tune = find_tune(sound.mean(axis=0), rate)
    frames = np.arange(len(tune)) * (PITCH_HOP / PITCH_RATE * rate)
    origins = np.interp(frames, np.arange(samples), moments) * (PITCH_RATE / PITCH_HOP)
    wanted = tune[np.clip(np.round(origins), 0, len(tune) - 1).astype(int)]
    laid = shift_periods(sound, tune, wanted, rate, moments * rate)
    there = np.asarray((moments >= 0) & (moments < far), np.float32)
    return beside(voice, laid * average_around(there, max(1, int(EDGE * rate))))


def find_beats(sound: npt.NDArray[np.floating], rate: int) -> Moments:
    """Return the beats of (samples,) in seconds, by dynamic programming (Ellis 2007)."""
    _, beats = librosa.beat.beat_track(
        onset_envelope=_measure_onsets(sound, rate), sr=PITCH_RATE, hop_length=HOP, units="time"
    )
    return np.asarray(beats)


def find_onsets(sound: npt.NDArray[np.floating], rate: int) -> Moments:
    """Return where something begins in (samples,), in seconds: syllables of a voice alone."""
    return np.asarray(
        librosa.onset.onset_detect(
            onset_envelope=_measure_onsets(sound, rate), sr=PITCH_RATE, hop_length=HOP, units="time"
        )
    )


def split_beats(beats: Moments, seconds: float, parts: int) -> Moments:
    """Split each beat into as many parts, or fewer if they were too short, from 0 to `seconds`."""
    usual = float(np.median(np.diff(beats)))
    before = beats[0] - usual * np.arange(int(beats[0] / usual), 0, -1)
    after = beats[-1] + usual * np.arange(1, 2 + int(max(0.0, seconds - beats[-1]) / usual))
    beats = np.concatenate([before, beats, after])
    parts = max(1, min(parts, int(usual / SHORTEST_STEP)))
    numbers = np.arange((len(beats) - 1) * parts + 1) / parts
    return np.interp(numbers, np.arange(len(beats)), beats)


def place_syllables(syllables: Moments, steps: Moments, pace: float) -> tuple[Moments, Moments]:
    """Give each syllable a step; return when it was sung, and when it is to be heard.

    The next one is given the step that is nearest to where it would begin at this pace, and no two
    are given the same. Syllables that begin too early, and those beyond the last step, are left
    out.
    """
    sung: list[float] = []
    heard: list[float] = []
    for begin in syllables:
        if not sung:
            place = int(np.argmin(np.abs(steps - begin)))
        else:
            step = steps[min(place + 1, len(steps) - 1)] - steps[place]
            if begin - sung[-1] < LEAST_SYLLABLE * step:
                continue
            wanted = heard[-1] + (begin - sung[-1]) / pace
            place = max(place + 1, int(np.argmin(np.abs(steps - wanted))))
            if place >= len(steps) or wanted > steps[-1]:
                break
        sung.append(float(begin))
        heard.append(float(steps[place]))
    return np.array(sung), np.array(heard)


def _measure_onsets(sound: npt.NDArray[np.floating], rate: int) -> npt.NDArray[np.floating]:
    """Measure every `HOP` at `PITCH_RATE` how much begins in (samples,)."""
    low = resample_signal(np.asarray(sound, np.float32)[None], rate, PITCH_RATE, quality="LQ")[0]
    low = np.pad(low, (0, max(0, FRAME - len(low))))  # librosa warns of less
    envelope: npt.NDArray[np.floating] = librosa.onset.onset_strength(
        y=low, sr=PITCH_RATE, n_fft=FRAME, hop_length=HOP, n_mels=MELS
    )
    return envelope

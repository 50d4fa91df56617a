"""What records do to voices: echoes, halls, gates, telephones, robots, samplers and choirs.

As in `augmentation`, sound is (channels, samples) of NumPy or PyTorch; random numbers are NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import librosa
import numpy as np
import numpy.typing as npt
import scipy.fft
from array_api_compat import array_namespace, to_device

from splitter.audio import resample_signal
from splitter.training.augmentation import (
    Array,
    balance,
    beside,
    between,
    drive,
    find_fft,
    pan,
    reverberate,
    set_level,
)

EDGE = 0.004  # seconds in which a gate opens or closes
FRAME = 2048  # samples of a robot's spectra, and of those whose formants move
ENVELOPE = 0.0016  # seconds of a cepstrum that are its spectrum's envelope; pitch lies above
MOST_CHANGE = 15.0  # dB by which formants that move change a bin
TRANSPOSED = (-12, -7, -5, -2, 0, 0, 0, 0, 2, 5, 7, 12)  # semitones at which samples are played
INTERVALS = (-12, -5, -4, -3, 3, 4, 5, 7, 12)  # semitones to the voice that leads


def affect(
    signal: Array, rate: int, random: np.random.Generator, effects: Sequence[Effect] | None = None
) -> Array:
    """Treat a sound by one of `effects`, or by two; by any that voices get if none are given."""
    chosen = EFFECTS if effects is None else effects
    for number in random.choice(len(chosen), random.integers(1, 3), replace=False):
        signal = chosen[number](signal, rate, random)
    return signal


def echo(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Repeat a sound every 0.08 to 0.6 s, each time weaker, and from side to side or not."""
    xp = array_namespace(signal)
    delay = int(random.uniform(0.08, 0.6) * rate)
    feedback, crossed = random.uniform(0.2, 0.7), random.random() < 0.5
    wet, repeat = xp.zeros_like(signal), signal
    for _ in range(8):
        if delay >= signal.shape[-1]:
            break
        before = xp.zeros_like(repeat[:, :delay])
        repeat = xp.concat([before, repeat[:, :-delay]], axis=-1) * feedback
        repeat = xp.flip(repeat, axis=0) if crossed else repeat
        wet = wet + repeat
    return signal + set_level(wet, signal, random.uniform(-12, 0))


def drown(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Put a sound into a hall that is about as loud as itself and rings for 1.5 to 6 s."""
    return reverberate(signal, rate, random, seconds=(1.5, 6.0), levels=(-9.0, 3.0))


def chop(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Let a sound through a gate that opens 2 to 16 times a second, as in electronic music."""
    period = rate / random.uniform(2, 16)
    width = random.uniform(0.3, 0.8) * period
    place = (np.arange(signal.shape[-1]) + random.uniform(0, period)) % period
    edge = EDGE * rate
    gate = np.minimum(np.clip(place / edge, 0, 1), np.clip((width - place) / edge, 0, 1))
    floor = random.choice([0.0, 0.2])
    return signal * beside(signal, np.asarray(floor + (1 - floor) * gate, np.float32))


def telephone(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Leave 200 to 600 Hz up to 2 to 5 kHz, with peaks that are clipped softly."""
    fft = find_fft(signal)
    frequencies = np.fft.rfftfreq(signal.shape[-1], 1 / rate)
    passed = between(frequencies, random.uniform(200, 600), random.uniform(2000, 5000))
    narrow = fft.irfft(fft.rfft(signal) * beside(signal, passed), n=signal.shape[-1])
    return set_level(drive(narrow, random), signal, 0.0)


def robot(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Speak on one note, or whisper: short spectra without their phases, or with random ones."""
    whispered = random.random() < 0.3
    hop = FRAME // 8 if whispered else int(rate / random.uniform(70, 300))
    sound = np.asarray(to_device(signal, "cpu"))
    padded = np.pad(sound, ((0, 0), (FRAME, FRAME)))
    heard = np.zeros_like(padded)
    window = np.hanning(FRAME).astype(np.float32)
    for start in range(0, padded.shape[-1] - FRAME, hop):
        spectrum = np.abs(np.fft.rfft(padded[:, start : start + FRAME] * window))
        turned = np.exp(2j * np.pi * random.random(spectrum.shape[-1])) if whispered else 1
        voiced = np.fft.irfft(spectrum * turned, n=FRAME)
        heard[:, start : start + FRAME] += window * np.roll(voiced, FRAME // 2, axis=-1)
    return set_level(beside(signal, heard[:, FRAME : FRAME + sound.shape[-1]]), signal, 0.0)


def play_slices(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Play one to four slices of a sound on a beat, as a sampler does, each transposed at random.

    A loop of 8 or 16 steps begins a slice, or nothing, at each, often the one before; a slice ends
    where the next begins.
    """
    sound = np.asarray(to_device(signal, "cpu"))
    if not sound.shape[-1]:
        return signal
    step = int(60 / random.uniform(80, 160) / random.choice([2, 4]) * rate)
    slices = [
        _cut_slice(sound, rate, int(random.uniform(0.5, 4) * step), random)
        for _ in range(random.integers(1, 5))
    ]
    loop = _draw_loop(len(slices), random)
    heard = np.zeros_like(sound)
    edge = max(1, int(EDGE * rate))
    for number, start in enumerate(range(0, sound.shape[-1], step)):
        chosen = loop[number % len(loop)]
        if chosen is None:
            continue
        ahead = range(1, len(loop) + 1)
        steps = next(n for n in ahead if loop[(number + n) % len(loop)] is not None)
        played = slices[chosen][:, : min(steps * step, sound.shape[-1] - start)]
        place = np.arange(played.shape[-1])
        fade = np.minimum(1, np.minimum(place, place[::-1]) / edge)
        heard[:, start : start + played.shape[-1]] = played * np.asarray(fade, np.float32)
    return balance(beside(signal, heard), signal, 0.0, rate)


def _draw_loop(slices: int, random: np.random.Generator) -> list[int | None]:
    """Draw which slice begins at each step; one begins at the first."""
    loop: list[int | None] = [int(random.integers(slices))]
    for _ in range(random.choice([7, 15])):
        drawn = None if random.random() < 0.4 else int(random.integers(slices))
        loop.append(loop[-1] if random.random() < 0.5 else drawn)
    return loop


def _cut_slice(
    sound: npt.NDArray[np.floating], rate: int, samples: int, random: np.random.Generator
) -> npt.NDArray[np.floating]:
    """Cut the loudest of eight places of (channels, samples), and transpose it."""
    speed = 2 ** (random.choice(TRANSPOSED) / 12)
    length = min(int(samples * speed), sound.shape[-1])
    starts = random.integers(0, sound.shape[-1] - length + 1, 8)
    start = max(starts, key=lambda start: np.square(sound[:, start : start + length]).sum())
    cut = np.ascontiguousarray(sound[:, start : start + length])
    return resample_signal(cut, rate, round(rate / speed), quality="LQ")


def harmonize(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Sing along in one or two other parts, a little late, each with the formants of the voice."""
    samples = signal.shape[-1]
    sound = np.asarray(to_device(signal, "cpu"))
    sound = np.pad(sound, ((0, 0), (0, max(0, FRAME - samples))))  # librosa warns of less
    sum_of_parts = signal
    for semitones in random.choice(INTERVALS, random.integers(1, 3), replace=False):
        tuned = semitones + random.uniform(-0.15, 0.15)
        part = librosa.effects.pitch_shift(sound, sr=rate, n_steps=tuned, res_type="soxr_lq")
        part = move_formants(part, rate, 2 ** (-tuned / 12))
        late = random.uniform(0, 0.04)
        sum_of_parts = sum_of_parts + _join_in(signal, part, rate, late, random)
    return sum_of_parts


def gather(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Make a choir of a singer: three to seven more, each a little out of tune and of time."""
    sound = np.asarray(to_device(signal, "cpu"))
    choir = signal
    for _ in range(random.integers(3, 8)):
        speed = random.uniform(0.992, 1.008)
        part = resample_signal(sound, rate, round(rate / speed), quality="LQ")
        part = move_formants(part, rate, _draw_person(random))
        choir = choir + _join_in(signal, part, rate, random.uniform(0, 0.08), random)
    return set_level(choir, signal, 0.0)


def _join_in(
    signal: Array,
    part: npt.NDArray[np.floating],
    rate: int,
    late: float,
    random: np.random.Generator,
) -> Array:
    """Return `part` as long as `signal`, `late` by seconds, somewhere beside it and not louder."""
    samples = signal.shape[-1]
    part = np.pad(part, ((0, 0), (int(late * rate), samples)))[:, :samples]
    part = pan(beside(signal, np.asarray(part, np.float32)), random)
    return set_level(part, signal, random.uniform(-12, 0))


def another_singer(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Move formants by up to a quarter, as if by a smaller or a larger person."""
    sound = np.asarray(to_device(signal, "cpu"))
    return set_level(beside(signal, move_formants(sound, rate, _draw_person(random))), signal, 0.0)


def _draw_person(random: np.random.Generator) -> float:
    """Draw by how much another person's formants lie higher."""
    return float(np.exp(random.uniform(-1, 1) * np.log(1.25)))


def move_formants(
    sound: npt.NDArray[np.floating], rate: int, factor: float
) -> npt.NDArray[np.float32]:
    """Move the envelope of each short spectrum up by `factor`; harmonics stay where they are.

    `sound` is (channels, samples) at `rate` Hz, and so is what comes back.
    """
    hop = FRAME // 4
    end = sound.shape[-1] + FRAME - (sound.shape[-1] % hop)
    padded = np.pad(sound, ((0, 0), (FRAME, 2 * FRAME)))[:, : end + FRAME]
    window = np.hanning(FRAME + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME, axis=-1)[:, ::hop] * window
    spectra = scipy.fft.rfft(frames)
    cepstra = scipy.fft.irfft(np.log(np.abs(spectra) + 1e-6), n=FRAME)
    kept = max(1, int(ENVELOPE * rate))
    cepstra[..., kept : 1 - kept] = 0
    envelopes = scipy.fft.rfft(cepstra).real
    places = np.minimum(np.arange(envelopes.shape[-1]) / factor, envelopes.shape[-1] - 1.001)
    before, rest = places.astype(int), (places % 1).astype(np.float32)
    moved = envelopes[..., before] * (1 - rest) + envelopes[..., before + 1] * rest
    most = MOST_CHANGE * np.log(10) / 20
    spectra *= np.exp(np.clip(moved - envelopes, -most, most))
    frames = scipy.fft.irfft(spectra, n=FRAME) * (window / 1.5)
    heard = np.zeros_like(padded)
    for number in range(frames.shape[1]):
        heard[:, number * hop : number * hop + FRAME] += frames[:, number]
    return np.asarray(heard[:, FRAME : FRAME + sound.shape[-1]], np.float32)


Effect = Callable[[Array, int, np.random.Generator], Array]
EFFECTS: tuple[Effect, ...] = (echo, drown, chop, telephone, robot)
EFFECTS_ON_MUSIC: tuple[Effect, ...] = (echo, drown, chop)

"""Ways to change a sound without changing what in it is voice.

They are written in the array API, so sound is changed where it lies: NumPy's arrays by the
processor, PyTorch's tensors by the GPU that trains on them. Random numbers always come from NumPy:
the same numbers make the same changes in both places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.fft
import torch
from array_api_compat import array_namespace, is_numpy_array, to_device

from splitter.audio import Block

Curve: TypeAlias = npt.NDArray[np.float32]
Array: TypeAlias = Any  # NumPy's or PyTorch's, of float32; sound is (channels, samples)

SILENCE = 1e-5  # RMS; quieter crops have no level to set
BLOCK = 0.1  # s, about: a sound, or a rest
OCTAVES = 6  # points of the random equalizer
ESS = 0.01  # seconds over which a de-esser measures


def equalize(signal: Array, rate: int, depth: float, random: np.random.Generator) -> Array:
    """Filter by a smooth random curve of ± `depth` dB over log frequency."""
    fft = find_fft(signal)
    spectrum = fft.rfft(signal)
    points = 80.0 * 2.0 ** (np.arange(OCTAVES) * 1.4)  # Hz: 80 … 10,240
    gains = random.uniform(-depth, depth, OCTAVES)
    coarse = np.linspace(0, rate / 2, 4096)
    curve = np.interp(np.log(coarse + 20), np.log(points), gains)
    fine = np.interp(np.arange(spectrum.shape[-1]), np.linspace(0, spectrum.shape[-1], 4096), curve)
    return fft.irfft(spectrum * beside(signal, decibels(fine)), n=signal.shape[-1])


def reverberate(
    signal: Array,
    rate: int,
    random: np.random.Generator,
    seconds: tuple[float, float] = (0.2, 2.0),
    levels: tuple[float, float] = (-24.0, -6.0),
) -> Array:
    """Put a sound into a room: noise that decays by 60 dB in so many seconds, at `levels` dB."""
    room = beside(signal, _make_room(signal.shape[0], rate, random, seconds))
    fft = find_fft(signal)
    samples = signal.shape[-1]
    size = scipy.fft.next_fast_len(samples + room.shape[-1], real=True)
    wet = fft.irfft(fft.rfft(signal, n=size) * fft.rfft(room, n=size), n=size)
    return signal + set_level(wet[:, :samples], signal, random.uniform(*levels))


def _make_room(
    channels: int, rate: int, random: np.random.Generator, seconds: tuple[float, float]
) -> npt.NDArray[np.float32]:
    """Draw the impulse response of a room, (channels, samples)."""
    decay = random.uniform(*seconds)
    length = int(decay * rate)
    time = np.arange(length, dtype=np.float32) / length
    room = random.standard_normal((channels, length), np.float32) * np.exp(-6.9 * time)
    room[:, : int(random.uniform(0, 0.03) * rate)] = 0  # the first reflection comes later
    # a room damps treble: average neighbours
    sums = np.cumsum(room, axis=-1, dtype=np.float32)
    smooth = int(random.integers(2, 8))
    return sums[:, smooth:] - sums[:, :-smooth]


def pan(signal: Array, random: np.random.Generator) -> Array:
    """Move a sound between its channels by up to ± 6 dB."""
    gains = decibels(random.uniform(-6, 6) * np.linspace(-0.5, 0.5, signal.shape[0]))
    return signal * beside(signal, gains[:, None])


def push_aside(signal: Array, random: np.random.Generator, side: int | None = None) -> Array:
    """Leave a sound on one side, or on `side`: its other channels are 15 to 60 dB weaker."""
    gains = np.full(signal.shape[0], decibels(random.uniform(-60, -15)))
    gains[random.integers(signal.shape[0]) if side is None else side] = 1
    return signal * beside(signal, gains[:, None])


def oppose(vocals: Array, music: Array, random: np.random.Generator) -> tuple[Array, Array]:
    """Leave a voice on one side and its music on the other, as in early stereo."""
    side = int(random.integers(vocals.shape[0]))
    return push_aside(vocals, random, side), push_aside(music, random, side - 1)


def master(
    vocals: Array, music: Array, rate: int, random: np.random.Generator
) -> tuple[Array, Array]:
    """Compress and clip the sum of two sounds; each gets, sample by sample, the gain of the sum."""
    xp = array_namespace(vocals)
    mixture = vocals + music
    loud = drive(compress(mixture, rate, random), random)
    heard = xp.abs(mixture) > 0
    gain = xp.where(heard, loud / xp.where(heard, mixture, xp.ones_like(mixture)), 1.0)
    return vocals * gain, music * gain


def share_room(
    vocals: Array, music: Array, rate: int, random: np.random.Generator
) -> tuple[Array, Array]:
    """Put a voice and its music into one room: each is heard by the microphones of the other.

    What the band's microphones hear of the voice, late and without direction, is part of the voice.
    """
    seed = int(random.integers(2**63))
    heard = [
        reverberate(each, rate, np.random.default_rng(seed), (0.15, 0.8), (-26.0, -10.0))
        for each in (vocals, music)
    ]
    return heard[0], heard[1]


def distort(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Play a sound through an amplifier at its limit, and a loudspeaker that has no treble.

    The clipping is uneven, as a valve's is, so that even overtones come along.
    """
    xp = array_namespace(signal)
    gain = float(decibels(random.uniform(12, 36)))
    bias = random.uniform(0, 0.4)
    clipped = xp.tanh(signal * (gain / xp.clip(_rms(signal), SILENCE) / 4) + bias) - math.tanh(bias)
    fft = find_fft(signal)
    octaves = np.log2(
        np.fft.rfftfreq(signal.shape[-1], 1 / rate) / random.uniform(3500, 7000) + 1e-9
    )
    loudspeaker = decibels(-24 * np.clip(octaves, 0, 4))
    heard = fft.irfft(fft.rfft(clipped) * beside(signal, loudspeaker), n=signal.shape[-1])
    return set_level(heard, signal, 0.0)


def add_rests(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Let a sound fall silent for 0.5 to 4 s, then sound for 1 to 5 s, and so on, at any moment.

    Voices alone are often kept without their pauses; in songs other instruments lead there.
    """
    gate = np.ones(signal.shape[-1], np.float32)
    moment = random.uniform(-4, 5)  # s
    while moment * rate < len(gate):
        pause = random.uniform(0.5, 4)
        gate[max(0, round(moment * rate)) : max(0, round((moment + pause) * rate))] = 0
        moment += pause + random.uniform(1, 5)
    return signal * beside(signal, average_around(gate, round(random.uniform(0.01, 0.1) * rate)))


def widen(signal: Array, random: np.random.Generator) -> Array:
    """Scale what the two channels do not share, to between nothing and 1.6 times."""
    middle = array_namespace(signal).mean(signal, axis=0, keepdims=True)
    return middle + (signal - middle) * random.uniform(0, 1.6)


def compress(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Divide the changes of loudness in dB by 1.5 to 4; loudness is RMS over 5 to 50 ms."""
    xp = array_namespace(signal)
    window = int(random.uniform(0.005, 0.05) * rate)
    power = average_around(xp.mean(xp.square(signal), axis=0), window)
    level = xp.sqrt(xp.maximum(power, (SILENCE + 0.03 * _rms(signal)) ** 2))
    return set_level(signal * level ** (1 / random.uniform(1.5, 4) - 1), signal, 0.0)


def soften_esses(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Weaken what is above 4 to 7 kHz where that is loud, by a ratio of 2 to 8: a de-esser."""
    xp, fft = array_namespace(signal), find_fft(signal)
    frequencies = np.fft.rfftfreq(signal.shape[-1], 1 / rate)
    passed = between(frequencies, random.uniform(4000, 7000), rate)
    treble = fft.irfft(fft.rfft(signal) * beside(signal, passed), n=signal.shape[-1])
    power = average_around(xp.mean(xp.square(treble), axis=0), int(ESS * rate))
    threshold = xp.clip(_rms(treble), SILENCE) * random.uniform(0.5, 1.5)
    excess = xp.sqrt(xp.clip(power / threshold**2, 1.0))
    return signal + treble * (excess ** (1 / random.uniform(2, 8) - 1) - 1)


def average_around(values: Array, window: int) -> Array:
    """Average the `window` neighbours of each of (samples,); its ends go on as they are."""
    xp = array_namespace(values)
    before = xp.broadcast_to(values[:1], (window // 2,))
    after = xp.broadcast_to(values[-1:], (window - 1 - window // 2,))
    padded = xp.astype(xp.concat([before, values, after]), xp.float64)
    sums = xp.cumulative_sum(padded, include_initial=True)
    return xp.astype((sums[window:] - sums[:-window]) / window, values.dtype)


def drive(signal: Array, random: np.random.Generator) -> Array:
    """Clip peaks softly, by tanh, from 2 to 8 times the RMS."""
    xp = array_namespace(signal)
    limit = xp.clip(_rms(signal), SILENCE) * random.uniform(2, 8)
    return limit * xp.tanh(signal / limit)


def double(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Add to each channel its own copy, 5 to 60 ms late by a delay that sways, like a chorus."""
    xp = array_namespace(signal)
    samples = signal.shape[-1]
    numbers = np.arange(samples)
    copies = []
    for row in signal:
        speed, phase = random.uniform(0.1, 1.5), random.uniform(0, 2 * np.pi)
        sway = np.sin(2 * np.pi * speed * numbers / rate + phase)
        delay = random.uniform(0.005, 0.06) + random.uniform(0, 0.003) * sway
        moment = numbers - delay * rate
        before = np.clip(moment.astype(np.int64), 0, max(samples - 2, 0))
        rest = np.asarray(moment - before, np.float32)
        heard = np.asarray(moment >= 0, np.float32)  # silence before the first sample
        first = xp.take(row, beside(signal, before)) * beside(signal, heard * (1 - rest))
        second = xp.take(row, beside(signal, before + 1)) * beside(signal, heard * rest)
        copies.append(first + second)
    return signal + set_level(xp.stack(copies), signal, random.uniform(-15, 0))


def brighten(signal: Array, rate: int, bandwidth: float, random: np.random.Generator) -> Array:
    """Invent what a sound has lost above `bandwidth` Hz: overtones of its highest octave.

    Rectified, that octave has its overtones an octave higher, and they come and go as it does. What
    an encoder left up there is taken away.
    """
    fft = find_fft(signal)
    xp = array_namespace(signal)
    samples = signal.shape[-1]
    frequencies = np.fft.rfftfreq(samples, 1 / rate)
    below = beside(signal, between(frequencies, 0.5 * bandwidth, 0.95 * bandwidth))
    spectrum = fft.rfft(signal)
    octave = fft.irfft(spectrum * below, n=samples)
    slope = (np.maximum(frequencies, 1.0) / bandwidth) ** random.uniform(-2, 0)
    above = between(frequencies, 0.95 * bandwidth, rate) * np.asarray(slope, np.float32)
    overtones = fft.irfft(fft.rfft(xp.abs(octave)) * beside(signal, above), n=samples)
    held = beside(signal, between(frequencies, 1e-6, bandwidth))
    return fft.irfft(spectrum * held, n=samples) + set_level(
        overtones, octave, random.uniform(-12, 3)
    )


def narrow(signal: Array, rate: int, bandwidth: float) -> Array:
    """Leave what a sound has below `bandwidth` Hz."""
    fft = find_fft(signal)
    held = between(np.fft.rfftfreq(signal.shape[-1], 1 / rate), 1e-6, bandwidth)
    return fft.irfft(fft.rfft(signal) * beside(signal, held), n=signal.shape[-1])


def join_channels(signal: Array) -> Array:
    """Put the mean of all channels into each."""
    xp = array_namespace(signal)
    return xp.broadcast_to(xp.mean(signal, axis=0, keepdims=True), signal.shape)


def between(frequencies: npt.NDArray[np.floating], low: float, high: float) -> Curve:
    """Return 1 from `low` to `high` Hz and 0 elsewhere, with edges of a tenth of an octave."""
    octaves = [np.log2(np.maximum(frequencies, 1e-3) / edge) for edge in (low, high)]
    rises, falls = (np.clip(0.5 + 10 * distance, 0, 1) for distance in octaves)
    return np.asarray(rises * (1 - falls), np.float32)


def code(signal: Array, rate: int, codec: Callable[[Block, int], Block]) -> Array:
    """Send a sound through a codec and back. No GPU does that."""
    sound = np.asarray(to_device(signal, "cpu"))
    peak = np.float32(max(np.abs(sound).max(), 1.0))
    decoded = codec(sound / peak, rate) * peak
    decoded = decoded[:, : sound.shape[-1]]
    missing = sound.shape[-1] - decoded.shape[-1]
    return beside(signal, np.pad(decoded, ((0, 0), (0, missing))))


def set_level(signal: Array, other: Array, level: float) -> Array:
    """Scale `signal` to `level` dB relative to `other`; silence stays silence."""
    return _scale(signal, _rms(signal), _rms(other), level)


def balance(signal: Array, other: Array, level: float, rate: int) -> Array:
    """Scale `signal` to `level` dB relative to `other`, each measured where it sounds.

    A voice that rests for most of a crop is not made louder for that. Silence stays silence.
    """
    return _scale(signal, _sounding_rms(signal, rate), _sounding_rms(other, rate), level)


def _scale(signal: Array, mine: Array, theirs: Array, level: float) -> Array:
    """Bring a sound of the RMS `mine` to `level` dB of `theirs`, if neither is silence."""
    xp = array_namespace(signal)
    gain = float(decibels(level)) * theirs / xp.clip(mine, SILENCE)
    heard = xp.minimum(mine, theirs) >= SILENCE
    return signal * xp.where(heard, gain, xp.ones_like(gain))


def set_loudness(signal: Array, other: Array, loudness: float) -> tuple[Array, Array]:
    """Scale two sounds by one gain, so that the first has an RMS of `loudness` dB."""
    gain = float(decibels(loudness)) / array_namespace(signal).clip(_rms(signal), SILENCE)
    return signal * gain, other * gain


def decibels(level: float | npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the factor of a level in dB, in the precision of sound."""
    return np.asarray(10.0 ** (np.asarray(level) / 20), np.float32)


def find_fft(signal: Array) -> Any:
    """Return SciPy's module for NumPy's arrays (twice as fast as NumPy's own), or PyTorch's."""
    return scipy.fft if is_numpy_array(signal) else array_namespace(signal).fft


def _rms(signal: Array) -> Array:
    """Return the root of the mean square as an array without axes: a GPU need not wait for it."""
    xp = array_namespace(signal)
    return xp.asarray(xp.sqrt(xp.mean(xp.square(signal))))


def _sounding_rms(signal: Array, rate: int) -> Array:
    """Return the RMS of the blocks that are within 20 dB of the loudest one, as `_rms` does."""
    xp = array_namespace(signal)
    count = max(1, round(signal.shape[-1] / (BLOCK * rate)))
    whole = signal[:, : signal.shape[-1] // count * count]
    power = xp.mean(xp.square(xp.reshape(whole, (signal.shape[0], count, -1))), axis=(0, 2))
    heard = xp.astype(power >= 0.01 * xp.max(power), power.dtype)
    return xp.asarray(xp.sqrt(xp.sum(power * heard) / xp.sum(heard)))


def place(values: npt.NDArray[Any], device: torch.device) -> Array:
    """Copy to a device; to a GPU from pinned memory, without a wait for what it does already."""
    tensor = torch.from_numpy(values)
    pinned = tensor.pin_memory() if device.type == "cuda" else tensor
    return pinned.to(device, non_blocking=True)


def beside(signal: Array, values: npt.NDArray[Any]) -> Array:
    """Put `values` where `signal` lies."""
    return values if is_numpy_array(signal) else place(values, signal.device)

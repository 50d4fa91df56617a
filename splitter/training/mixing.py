"""Examples to train on: any voice with any music, changed in ways that do not change what is voice.

Example number i of a seed is always the same: its random numbers depend on the seed and on i alone,
so a training that is resumed goes on with just the examples that it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import uniform_filter1d

from splitter.audio import Block, resample_signal, through_mp3
from splitter.training.pools import Pools, Recording, Source
from splitter.training.recipe import Mixing, Recipe

SILENCE = 1e-5  # RMS; quieter crops have no level to set
OCTAVES = 6  # points of the random equalizer


@dataclass(frozen=True)
class Example:
    """A mixture and the voice in it, both (channels, samples)."""

    mixture: Block
    vocals: Block
    bandwidth: float  # Hz; above it nothing can be learned


class Mixer:
    """Draw examples from pools."""

    def __init__(self, pools: Pools, recipe: Recipe) -> None:
        self.pools = pools
        self.recipe = recipe
        voice_weights = [(pattern, voice) for pattern, voice, _ in recipe.weights]
        music_weights = [(pattern, music) for pattern, _, music in recipe.weights]
        # the two halves of aligned pairs serve as voices and as music, too
        self.pairs = Pool(pools.pairs, voice_weights)
        self.voices = Pool([*pools.voices, *pools.pairs], voice_weights)
        self.music = Pool([*pools.music, *pools.pairs], music_weights)

    def example(self, index: int) -> Example:
        """Make example number `index`."""
        random = np.random.default_rng((self.recipe.seed, index))
        mixing = self.recipe.mixing
        if self.pools.pairs and random.random() < mixing.aligned:
            vocals, music, bandwidth = self._aligned(random)
        else:
            vocals, music, bandwidth = self._mixed(random)
        return _finish(vocals, music, bandwidth, random, mixing)

    def _aligned(self, random: np.random.Generator) -> tuple[Block, Block, float]:
        """Crop both stems of one song at the same place; change them together."""
        source = self.pairs.draw(random)
        assert source.vocals and source.instrumental
        crop = Crop.draw(source.length, self.recipe, random)
        vocals = crop.take(source.vocals, self.recipe)
        music = crop.take(source.instrumental, self.recipe)
        gain = _decibels(random.uniform(-1, 1) * self.recipe.mixing.aligned_level)
        bandwidth = min(source.vocals.bandwidth, source.instrumental.bandwidth)
        return vocals * gain, music, bandwidth / crop.stretch

    def _mixed(self, random: np.random.Generator) -> tuple[Block, Block, float]:
        """Crop any voice and any music, change each, and set their levels."""
        mixing = self.recipe.mixing
        empty = np.zeros((self.recipe.channels, self.recipe.crop), np.float32)
        kind = random.random()
        vocals, music, limits = empty, empty, [float(self.recipe.rate)]
        if kind >= mixing.no_voice:
            vocals, limit = self._voice(random)
            limits.append(limit)
        if kind < 1 - mixing.no_music:
            music, limit = self._music(random)
            limits.append(limit)
        level = random.normal(mixing.level_mean, mixing.level_spread)
        return _with_level(vocals, music, level), music, min(limits)

    def _voice(self, random: np.random.Generator) -> tuple[Block, float]:
        """Return one voice or two, and their bandwidth in Hz."""
        mixing = self.recipe.mixing
        draw = partial(self._one, self.voices, "vocals", mixing.reverb_voice, random)
        return _perhaps_two(draw, mixing.second_voice, random)

    def _music(self, random: np.random.Generator) -> tuple[Block, float]:
        """Return one piece of music or two, and their bandwidth in Hz."""
        mixing = self.recipe.mixing
        draw = partial(self._one, self.music, "instrumental", mixing.reverb_music, random)
        return _perhaps_two(draw, mixing.second_music, random)

    def _one(
        self, pool: Pool, part: str, reverb: float, random: np.random.Generator
    ) -> tuple[Block, float]:
        """Crop one recording and change it; return it with its bandwidth in Hz."""
        recording: Recording = getattr(pool.draw(random), part)
        crop = Crop.draw(recording.length, self.recipe, random)
        signal = crop.take(recording, self.recipe)
        mixing = self.recipe.mixing
        if random.random() < mixing.equalizer:
            signal = equalize(signal, self.recipe.rate, mixing.equalizer_range, random)
        if random.random() < reverb:
            signal = reverberate(signal, self.recipe.rate, random)
        # no random number is drawn for what a recipe leaves out: its examples stay what they were
        if mixing.compress and random.random() < mixing.compress:
            signal = compress(signal, self.recipe.rate, random)
        if mixing.drive and random.random() < mixing.drive:
            signal = drive(signal, random)
        if mixing.width and random.random() < mixing.width:
            signal = widen(signal, random)
        if random.random() < mixing.pan:
            signal = pan(signal, random)
        if mixing.codec and random.random() < mixing.codec:
            signal = code(signal, self.recipe.rate, random)
        return signal, recording.bandwidth / crop.stretch


class Pool:
    """Sources, each drawn as often as its length and its weight say."""

    def __init__(self, sources: Sequence[Source], weights: Sequence[tuple[str, float]]) -> None:
        self.sources = sources
        lengths = [source.length * _factor(source.name, weights) for source in sources]
        self.odds = np.cumsum(lengths) / max(np.sum(lengths), 1e-9)

    def draw(self, random: np.random.Generator) -> Source:
        """Draw one source."""
        return self.sources[int(np.searchsorted(self.odds, random.random(), side="right"))]


def _perhaps_two(
    draw: Callable[[], tuple[Block, float]], chance: float, random: np.random.Generator
) -> tuple[Block, float]:
    """Draw once; by `chance` add a second, quieter by up to 12 dB."""
    signal, limit = draw()
    if random.random() < chance:
        second, other = draw()
        signal = signal + _with_level(second, signal, random.uniform(-12, 0))
        limit = min(limit, other)
    return signal, limit


@dataclass(frozen=True)
class Crop:
    """A place in a recording, and how much faster it is played."""

    start: int  # samples
    length: int  # samples
    stretch: float  # > 1: longer, deeper
    swap: bool  # left and right exchanged
    sign: float

    @classmethod
    def draw(cls, available: int, recipe: Recipe, random: np.random.Generator) -> Crop:
        """Draw a crop that fills `recipe.crop` samples after stretching."""
        stretch = float(np.exp(random.uniform(-1, 1) * np.log1p(recipe.mixing.stretch)))
        length = min(available, int(recipe.crop / stretch))
        start = int(random.integers(0, available - length + 1))
        return cls(start, length, stretch, bool(random.random() < 0.5), random.choice([-1.0, 1.0]))

    def take(self, recording: Recording, recipe: Recipe) -> Block:
        """Read the crop as (recipe.channels, recipe.crop), silence after its end."""
        stored = recording.samples[:, self.start : self.start + self.length]
        after = recipe.rate * self.stretch
        signal = resample_signal(
            np.asarray(stored, np.float32), recipe.rate, round(after), quality="LQ"
        )
        signal = fit_channels(signal, recipe.channels)
        signal = signal[:: -1 if self.swap else 1, : recipe.crop] * np.float32(self.sign)
        return np.pad(signal, ((0, 0), (0, recipe.crop - signal.shape[-1])))


def fit_channels(signal: npt.NDArray[np.floating], channels: int) -> Block:
    """Spread a mono signal (1, samples) over `channels`, or mix (2, samples) down to one."""
    if len(signal) > channels:
        signal = signal.mean(axis=0, keepdims=True, dtype=np.float32)
    return np.array(np.broadcast_to(signal, (channels, signal.shape[-1])), np.float32)


def equalize(signal: Block, rate: int, depth: float, random: np.random.Generator) -> Block:
    """Filter (channels, samples) by a smooth random curve of ± `depth` dB over log frequency."""
    spectrum = scipy.fft.rfft(signal)
    points = 80.0 * 2.0 ** (np.arange(OCTAVES) * 1.4)  # Hz: 80 … 10,240
    gains = random.uniform(-depth, depth, OCTAVES)
    coarse = np.linspace(0, rate / 2, 4096)
    curve = np.interp(np.log(coarse + 20), np.log(points), gains)
    fine = np.interp(np.arange(spectrum.shape[-1]), np.linspace(0, spectrum.shape[-1], 4096), curve)
    filtered = scipy.fft.irfft(spectrum * _decibels(fine), n=signal.shape[-1])
    return np.asarray(filtered, np.float32)


def reverberate(signal: Block, rate: int, random: np.random.Generator) -> Block:
    """Put (channels, samples) into a room: noise that decays by 60 dB in 0.2 to 2 s."""
    decay = random.uniform(0.2, 2.0)  # seconds
    length = int(decay * rate)
    time = np.arange(length, dtype=np.float32) / length
    room = random.standard_normal((signal.shape[0], length), np.float32) * np.exp(-6.9 * time)
    room[:, : int(random.uniform(0, 0.03) * rate)] = 0  # the first reflection comes later
    # a room damps treble: average neighbours
    room = np.cumsum(room, axis=-1, dtype=np.float32)
    smooth = int(random.integers(2, 8))
    room = room[:, smooth:] - room[:, :-smooth]
    size = scipy.fft.next_fast_len(signal.shape[-1] + length, real=True)
    wet = scipy.fft.irfft(scipy.fft.rfft(signal, size) * scipy.fft.rfft(room, size), n=size)
    wet = np.asarray(wet[:, : signal.shape[-1]], np.float32)
    return signal + _with_level(wet, signal, random.uniform(-24, -6))


def pan(signal: Block, random: np.random.Generator) -> Block:
    """Move (channels, samples) between the channels by up to ± 6 dB."""
    gains = _decibels(random.uniform(-6, 6) * np.linspace(-0.5, 0.5, signal.shape[0]))
    return np.asarray(signal * gains[:, None], np.float32)


def widen(signal: Block, random: np.random.Generator) -> Block:
    """Scale what the two channels do not share, to between nothing and 1.6 times."""
    middle = signal.mean(axis=0, keepdims=True)
    return np.asarray(middle + np.float32(random.uniform(0, 1.6)) * (signal - middle), np.float32)


def compress(signal: Block, rate: int, random: np.random.Generator) -> Block:
    """Divide the changes of loudness in dB by 1.5 to 4; loudness is RMS over 5 to 50 ms."""
    window = int(random.uniform(0.005, 0.05) * rate)
    power = uniform_filter1d(np.square(signal).mean(axis=0), window, mode="nearest")
    level = np.sqrt(np.maximum(power, (SILENCE + 0.03 * _rms(signal)) ** 2))
    squeezed = level ** (1 / random.uniform(1.5, 4) - 1)
    return _with_level(np.asarray(signal * squeezed, np.float32), signal, 0.0)


def drive(signal: Block, random: np.random.Generator) -> Block:
    """Clip peaks softly, by tanh, from 2 to 8 times the RMS."""
    limit = max(_rms(signal), SILENCE) * random.uniform(2, 8)
    return np.asarray(limit * np.tanh(signal / limit), np.float32)


def code(signal: Block, rate: int, random: np.random.Generator) -> Block:
    """Send (channels, samples) through MP3 at its lowest to its middle quality, and back."""
    peak = max(float(np.abs(signal).max()), 1.0)
    decoded = through_mp3(signal / np.float32(peak), rate, random.uniform(0.5, 1.0)) * peak
    decoded = decoded[:, : signal.shape[-1]]
    return np.pad(decoded, ((0, 0), (0, signal.shape[-1] - decoded.shape[-1])))


def _finish(
    vocals: Block, music: Block, bandwidth: float, random: np.random.Generator, mixing: Mixing
) -> Example:
    """Set the loudness of the mix."""
    mixture = vocals + music
    loudness = _decibels(random.uniform(mixing.loudness[0], mixing.loudness[1]))
    gain = np.float32(loudness / max(_rms(mixture), SILENCE))
    return Example(mixture * gain, vocals * gain, bandwidth)


def _with_level(signal: Block, other: Block, level: float) -> Block:
    """Scale `signal` to `level` dB relative to `other`; silence stays silence."""
    mine, theirs = _rms(signal), _rms(other)
    if min(mine, theirs) < SILENCE:
        return signal
    gain = float(_decibels(level)) * theirs / mine
    return np.asarray(signal * np.float32(gain), np.float32)


def _rms(signal: Block) -> float:
    return float(np.sqrt(np.mean(np.square(signal))))


def _decibels(level: float | npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the factor of a level in dB, in the precision of sound."""
    return np.asarray(10.0 ** (np.asarray(level) / 20), np.float32)


def _factor(name: str, weights: Sequence[tuple[str, float]]) -> float:
    return float(np.prod([weight for pattern, weight in weights if fnmatch(name, pattern)]))

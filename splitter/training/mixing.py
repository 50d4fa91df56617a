"""Examples to train on: any voice with any music, each changed (`chain`) as a recipe says.

    drawn crop ── read, bend ── put ── equalize, reverberate, … ── mix ──▶ example
                  (processor)          (processor or GPU)

Example number i of a seed is always the same: its random numbers depend on the seed and on i alone,
so a training that is resumed goes on with just the examples that it would have seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial

import numpy as np
import numpy.typing as npt

from splitter.audio import Block, resample_signal
from splitter.errors import DataError
from splitter.training.augmentation import (
    Array,
    balance,
    decibels,
    distort,
    set_level,
    set_loudness,
)
from splitter.training.chain import add_up, change_source
from splitter.training.recipe import Recipe
from splitter.training.rhythm import lay_on_beat
from splitter.training.sources import Pools, Recording, Source, root_mean_square

FAINT = 0.03  # of a recording's RMS: a crop below it holds what is left in a pause


def stay(block: Block) -> Array:
    """Leave a block to the processor."""
    return block


@dataclass(frozen=True)
class Example:
    """A mixture and the voice in it, both (channels, samples)."""

    mixture: Array
    vocals: Array
    bandwidth: float  # Hz; above it nothing can be learned


class Mixer:
    """Draw examples from pools.

    `put` moves what was read to where it is to be changed and mixed, which is where examples lie.
    """

    def __init__(self, pools: Pools, recipe: Recipe, put: Callable[[Block], Array] = stay) -> None:
        self.pools = pools
        self.put = put
        self.recipe = recipe
        voice_weights = [(pattern, voice) for pattern, voice, _ in recipe.weights]
        music_weights = [(pattern, music) for pattern, _, music in recipe.weights]
        # the two halves of aligned pairs serve as voices and as music, too
        self.pairs = Pool(pools.pairs, voice_weights)
        self.voices = Pool([*pools.voices, *pools.pairs], voice_weights)
        self.music = Pool([*pools.music, *pools.pairs], music_weights)
        for kind, pool in (("voices", self.voices), ("music", self.music)):
            if not pool.drawn:
                raise DataError(f'the "weights" of the recipe leave out all {kind}; let some in')
        self.mixtures = Pool(pools.mixtures, ())
        self.parts: dict[str, list[Source]] = {}  # of each song that was cut into numbered clips
        for pair in self.pairs.drawn:
            self.parts.setdefault(_name_of_song(pair), []).append(pair)

    def example(self, index: int) -> Example:
        """Make example number `index`."""
        random = np.random.default_rng((self.recipe.seed, index))
        mixing = self.recipe.mixing
        if self.pairs.drawn and random.random() < mixing.aligned:
            vocals, music, bandwidth = self._aligned(random)
        else:
            vocals, music, bandwidth = self._mixed(random)
        return Example(*add_up(vocals, music, bandwidth, self.recipe, random))

    def loose(self, index: int) -> tuple[Array, Array, Array, float]:
        """Draw a song without stems, and a voice and music that are neither's.

        Returns them, (channels, samples) each, and the bandwidth that all have, Hz.
        """
        random = np.random.default_rng((self.recipe.seed, index, 1))
        low, high = self.recipe.mixing.loudness
        source = self.mixtures.draw(random)
        assert source.mixture
        crop = Crop.draw(source.length, self.recipe, random)
        song = self.put(crop.take(source.mixture, self.recipe))
        song, _ = set_loudness(song, song, random.uniform(low, high))
        # as they are, like the song: critics are to learn what stems sound like, not augmentation
        voice, voice_limit = self._plain(self.voices, "vocals", random)
        music, music_limit = self._plain(self.music, "instrumental", random)
        level = random.normal(self.recipe.mixing.level_mean, self.recipe.mixing.level_spread)
        voice = balance(voice, music, level, self.recipe.rate)
        mixture, voice = set_loudness(voice + music, voice, random.uniform(low, high))
        bandwidth = min(voice_limit, music_limit, source.mixture.bandwidth / crop.stretch)
        return song, voice, mixture - voice, bandwidth

    def _plain(self, pool: Pool, part: str, random: np.random.Generator) -> tuple[Array, float]:
        """Crop one recording; return it with its bandwidth in Hz."""
        recording: Recording = getattr(pool.draw(random), part)
        crop = Crop.draw(recording.length, self.recipe, random)
        return self._take(crop, recording, part), recording.bandwidth / crop.stretch

    def _aligned(self, random: np.random.Generator) -> tuple[Array, Array, float]:
        """Crop both stems of a song, by chance at two places; by chance change each as if alone."""
        source = self.pairs.draw(random)
        assert source.vocals and source.instrumental
        mixing = self.recipe.mixing
        crop = elsewhere = Crop.draw(source.length, self.recipe, random)
        recording = source.instrumental
        apart = bool(mixing.in_key) and random.random() < mixing.in_key
        if apart:
            parts = self.parts[_name_of_song(source)]
            other = parts[int(random.integers(len(parts)))]
            assert other.instrumental
            recording = other.instrumental
            elsewhere = Crop.draw(other.length, self.recipe, random, crop.stretch)
        limits = [part.bandwidth / crop.stretch for part in (source.vocals, recording)]
        gain = float(decibels(random.uniform(-1, 1) * mixing.aligned_level))
        changed = bool(mixing.aligned_changed) and random.random() < mixing.aligned_changed
        music = self.put(elsewhere.take(recording, self.recipe))
        if apart or changed:  # what leaked into the voice is no part of it any more
            vocals = self._take(crop, source.vocals, "vocals")
        else:
            vocals = self.put(crop.take(source.vocals, self.recipe))
        if changed:
            vocals, limits[0] = change_source(vocals, "vocals", limits[0], self.recipe, random)
            music, limits[1] = change_source(music, "instrumental", limits[1], self.recipe, random)
        return vocals * gain, music, min(limits)

    def _mixed(self, random: np.random.Generator) -> tuple[Array, Array, float]:
        """Crop any voice and any music, change each, and set their levels."""
        mixing = self.recipe.mixing
        empty = self.put(np.zeros((self.recipe.channels, self.recipe.crop), np.float32))
        kind = random.random()
        vocals, music, limits = empty, empty, [float(self.recipe.rate)]
        if kind >= mixing.no_voice:
            vocals, limit = self._voice(random)
            limits.append(limit)
        if kind < 1 - mixing.no_music:
            music, limit = self._music(random)
            limits.append(limit)
        if mixing.on_beat and random.random() < mixing.on_beat:
            vocals = lay_on_beat(vocals, music, self.recipe.rate, random)
        level = random.normal(mixing.level_mean, mixing.level_spread)
        return balance(vocals, music, level, self.recipe.rate), music, min(limits)

    def _voice(self, random: np.random.Generator) -> tuple[Array, float]:
        """Return one voice or two, and their bandwidth in Hz."""
        mixing = self.recipe.mixing
        draw = partial(self._one, self.voices, "vocals", random)
        return self._perhaps_two(draw, mixing.second_voice, random)

    def _music(self, random: np.random.Generator) -> tuple[Array, float]:
        """Return one piece of music or two, and their bandwidth in Hz."""
        mixing = self.recipe.mixing
        draw = partial(self._one, self.music, "instrumental", random)
        draw = partial(self._distorted, draw, random) if mixing.distort else draw
        return self._perhaps_two(draw, mixing.second_music, random)

    def _distorted(
        self, draw: Callable[[], tuple[Array, float]], random: np.random.Generator
    ) -> tuple[Array, float]:
        """Draw music; by chance put a wall of distortion, made of it, in front of it."""
        signal, limit = draw()
        if random.random() >= self.recipe.mixing.distort:
            return signal, limit
        wall = distort(signal, self.recipe.rate, random)
        return signal + set_level(wall, signal, random.uniform(-6, 12)), limit

    def _perhaps_two(
        self,
        draw: Callable[[], tuple[Array, float]],
        chance: float,
        random: np.random.Generator,
    ) -> tuple[Array, float]:
        """Draw once; by `chance` add a second, quieter by up to 12 dB."""
        signal, limit = draw()
        if random.random() < chance:
            second, other = draw()
            second = balance(second, signal, random.uniform(-12, 0), self.recipe.rate)
            signal, limit = signal + second, min(limit, other)
        return signal, limit

    def _one(self, pool: Pool, part: str, random: np.random.Generator) -> tuple[Array, float]:
        """Crop one recording and change it; return it with its bandwidth in Hz."""
        recording: Recording = getattr(pool.draw(random), part)
        crop = Crop.draw(recording.length, self.recipe, random)
        signal = self._take(crop, recording, part)
        return change_source(signal, part, recording.bandwidth / crop.stretch, self.recipe, random)

    def _take(self, crop: Crop, recording: Recording, part: str) -> Array:
        """Read a crop; of voices one in which only noise or a breath is left is silent."""
        block = crop.take(recording, self.recipe)
        faint = part == "vocals" and root_mean_square(block) < FAINT * recording.loudness
        return self.put(np.zeros_like(block) if faint else block)


class Pool:
    """Sources, each drawn as often as its length and its weight say."""

    def __init__(self, sources: Sequence[Source], weights: Sequence[tuple[str, float]]) -> None:
        self.sources = sources
        lengths = [source.length * _factor(source.name, weights) for source in sources]
        self.drawn = [one for one, length in zip(sources, lengths, strict=True) if length]
        self.odds = np.cumsum(lengths) / max(np.sum(lengths), 1e-9)

    def draw(self, random: np.random.Generator) -> Source:
        """Draw one source."""
        return self.sources[int(np.searchsorted(self.odds, random.random(), side="right"))]


@dataclass(frozen=True)
class Crop:
    """A place in a recording, and how much faster it is played."""

    start: int  # samples
    length: int  # samples
    stretch: float  # > 1: longer, deeper
    swap: bool  # left and right exchanged
    sign: float
    delay: float  # part of the silence beside a short recording that comes before it

    @classmethod
    def draw(
        cls,
        available: int,
        recipe: Recipe,
        random: np.random.Generator,
        stretch: float | None = None,
    ) -> Crop:
        """Draw a crop that fills `recipe.crop` samples after stretching; by `stretch`, if given."""
        if stretch is None:
            stretch = float(np.exp(random.uniform(-1, 1) * np.log1p(recipe.mixing.stretch)))
        length = min(available, int(recipe.crop / stretch))
        start = int(random.integers(0, available - length + 1))
        swap, sign = bool(random.random() < 0.5), random.choice([-1.0, 1.0])
        delay = random.random() if length == available else 0.0
        return cls(start, length, stretch, swap, sign, delay)

    def take(self, recording: Recording, recipe: Recipe) -> Block:
        """Read the crop as (recipe.channels, recipe.crop), between silence if it is shorter."""
        stored = recording.samples[:, self.start : self.start + self.length]
        after = recipe.rate * self.stretch
        sound = np.ascontiguousarray(stored, np.float32)
        signal = resample_signal(sound, recipe.rate, round(after), quality="LQ")
        signal = fit_channels(signal, recipe.channels)
        signal = signal[:: -1 if self.swap else 1, : recipe.crop] * np.float32(self.sign)
        missing = recipe.crop - signal.shape[-1]
        before = int(self.delay * missing)
        return np.pad(signal, ((0, 0), (before, missing - before)))


def fit_channels(signal: npt.NDArray[np.floating], channels: int) -> Block:
    """Spread a mono signal (1, samples) over `channels`, or mix (2, samples) down to one."""
    if len(signal) > channels:
        signal = signal.mean(axis=0, keepdims=True, dtype=np.float32)
    return np.array(np.broadcast_to(signal, (channels, signal.shape[-1])), np.float32, order="C")


def _name_of_song(source: Source) -> str:
    """Return the name without the number of a clip: of singer_1_07 it is singer_1."""
    return re.sub(r"_\d+$", "", source.name)


def _factor(name: str, weights: Sequence[tuple[str, float]]) -> float:
    return float(np.prod([weight for pattern, weight in weights if fnmatch(name, pattern)]))

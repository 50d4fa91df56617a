"""What is done to voices, to music and to their sum, in the order in which records do it.

    recording ── brighten ── hold, tune, rest ── equalize, reverberate ── … ── pan ──▶ source
    two sources ── guide ── mono, narrow ── room ── master ── bend ── loudness ── MP3 ──▶ mixture

Each step is done as often as the recipe's `Mixing` says. No random number is drawn for what it
leaves out, so that a recipe's examples stay as they are when a step is added here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from splitter.audio import through_aac, through_mp3
from splitter.training import augmentation, effects, melody
from splitter.training.augmentation import Array
from splitter.training.elastic import deform
from splitter.training.recipe import Recipe

DULL = 0.6  # of the bandwidth that there could be; sounds with less may be brightened
NARROW = (3000.0, 12000.0)  # Hz: old records, telephones, karaoke
CODED = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)  # compression of a sum as MP3, which keeps
KEPT = (22050.0, 19250.0, 18500.0, 18000.0, 17250.0, 16000.0, 15000.0)  # Hz, of pink noise
AAC_BITS = (160e3, 48e3)  # a second and channel, of sums as AAC from the best to the worst
KEPT_OF_ALL = 0.9  # of the bandwidth that there could be; matters below 44.1 kHz

Change: TypeAlias = Callable[..., Array]  # of (channels, samples), and `random`


def change_source(
    original: Array, part: str, bandwidth: float, recipe: Recipe, random: np.random.Generator
) -> tuple[Array, float]:
    """Change "vocals" or "instrumental" that reach up to `bandwidth` Hz; return how far they do.

    What sounds stays as loud as it was.
    """
    mixing, rate = recipe.mixing, recipe.rate
    signal = original
    dull = bandwidth < DULL * rate / 2
    if mixing.brighten and dull and random.random() < mixing.brighten:
        signal = augmentation.brighten(signal, rate, bandwidth, random)
        bandwidth = rate / 2
    for share, change in make_chain(part, bandwidth, recipe):
        if share and random.random() < share:
            signal = change(signal, random=random)
    return augmentation.balance(signal, original, 0.0, rate), bandwidth


def make_chain(part: str, bandwidth: float, recipe: Recipe) -> Sequence[tuple[float, Change]]:
    """Return each step for "vocals" or "instrumental", in order, with how often it is done."""
    mixing, rate = recipe.mixing, recipe.rate

    def link(change: Callable[..., Array], **given: Any) -> Change:
        return partial(change, rate=rate, **given)

    equalize = (mixing.equalizer, link(augmentation.equalize, depth=mixing.equalizer_range))
    sampler = link(play_slices, bandwidth=bandwidth)
    if part == "vocals":
        own = [
            (mixing.holds, link(melody.hold_notes)),
            (mixing.tuned, link(melody.correct_pitch)),
            (mixing.rests, link(augmentation.add_rests)),  # then a room, in which it dies away
            (mixing.formants, link(effects.another_singer)),
            (mixing.harmony, link(effects.harmonize)),
            (mixing.compress_voice, link(augmentation.compress)),
            (mixing.deess, link(augmentation.soften_esses)),
            equalize,
            (mixing.reverb_voice, link(augmentation.reverberate)),
            (mixing.sampled, sampler),
            (mixing.effects, link(effects.affect)),
            (mixing.choir, link(effects.gather)),
        ]
    else:
        own = [
            (mixing.rests_music, link(augmentation.add_rests)),
            equalize,
            (mixing.reverb_music, link(augmentation.reverberate)),
            (mixing.sampled_music, sampler),
            (mixing.effects_music, link(effects.affect, effects=effects.EFFECTS_ON_MUSIC)),
        ]
    return [
        *own,
        (mixing.double, link(augmentation.double)),
        (mixing.compress, link(augmentation.compress)),
        (mixing.drive, augmentation.drive),
        (mixing.width, augmentation.widen),
        (mixing.pan, augmentation.pan),
        (mixing.one_sided, augmentation.push_aside),
        (mixing.codec, link(code_source)),
    ]


def play_slices(signal: Array, rate: int, bandwidth: float, random: np.random.Generator) -> Array:
    """Let a sampler play slices of what is no codec's noise."""
    narrow = augmentation.narrow(signal, rate, bandwidth)
    return effects.play_slices(narrow, rate, random)


def code_source(signal: Array, rate: int, random: np.random.Generator) -> Array:
    """Send a sound through MP3 at its middle to its lowest quality."""
    return augmentation.code(
        signal, rate, partial(through_mp3, compression=random.uniform(0.5, 1.0))
    )


def code_sum(
    mixture: Array, rate: int, aac: float, random: np.random.Generator
) -> tuple[Array, float]:
    """Send a mixture through MP3, or, by chance, AAC; return it, and up to which Hz it is whole."""
    compression = random.uniform(CODED[0], CODED[-1])
    kept = float(np.interp(compression, CODED, KEPT))
    codec = partial(through_mp3, compression=compression)
    if aac and random.random() < aac:
        bits = np.interp(compression, (CODED[0], CODED[-1]), AAC_BITS) * len(mixture)
        codec = partial(through_aac, bits=round(bits), bandwidth=min(kept, rate / 2))
    return augmentation.code(mixture, rate, codec), min(kept, KEPT_OF_ALL * rate / 2)


def add_up(
    vocals: Array, music: Array, bandwidth: float, recipe: Recipe, random: np.random.Generator
) -> tuple[Array, Array, float]:
    """Change a voice and its music together; return mixture, voice, and how far up both reach."""
    mixing, rate = recipe.mixing, recipe.rate
    loudness = random.uniform(mixing.loudness[0], mixing.loudness[1])
    if mixing.guide and random.random() < mixing.guide:
        guide = melody.play_along(vocals, rate, random)
        music = music + augmentation.narrow(guide, rate, bandwidth)
    if mixing.mono and random.random() < mixing.mono:
        vocals, music = augmentation.join_channels(vocals), augmentation.join_channels(music)
    if mixing.narrow and random.random() < mixing.narrow:
        limit = float(np.exp(random.uniform(*np.log(NARROW))))
        vocals, music = (augmentation.narrow(each, rate, limit) for each in (vocals, music))
        bandwidth = min(bandwidth, limit)
    if mixing.opposed and random.random() < mixing.opposed:
        vocals, music = augmentation.oppose(vocals, music, random)
    if mixing.live and random.random() < mixing.live:
        vocals, music = augmentation.share_room(vocals, music, rate, random)
    if mixing.master and random.random() < mixing.master:
        vocals, music = augmentation.master(vocals, music, rate, random)
    if mixing.elastic and random.random() < mixing.elastic:
        vocals, music = deform((vocals, music), rate, random)
    mixture, vocals = augmentation.set_loudness(vocals + music, vocals, loudness)
    if mixing.coded and random.random() < mixing.coded:
        mixture, whole = code_sum(mixture, rate, mixing.aac, random)
        bandwidth = min(bandwidth, whole)
    return mixture, vocals, bandwidth

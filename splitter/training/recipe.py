"""Everything that decides how a model is trained, in one file: `recipe.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from splitter.atomic import write_atomically
from splitter.errors import DataError, reason
from splitter.registry import Rate
from splitter.schema import Range, Words, parse, read_json

RECIPE = "recipe.json"  # in the folder of a run

Share = Annotated[float, Range(0, 1)]
Decibels = Annotated[float, Range(-120, 120)]
Spread = Annotated[float, Range(0, 120)]  # dB
Loudness = Annotated[
    tuple[Decibels, Decibels], Words(lambda pair: pair[0] <= pair[1], "with the lower one first")
]
Factor = Annotated[float, Range(0, 1e6)]
Count = Annotated[int, Range(1, 2**48)]


@dataclass(frozen=True)
class Mixing:
    """How examples are drawn and changed; probabilities in 0…1, levels in dB."""

    aligned: Share = 0.22  # part of the examples that are a song's own two stems
    no_voice: Share = 0.08  # of the others: music alone
    no_music: Share = 0.03  # of the others: a voice alone
    second_voice: Share = 0.15  # of voices: two at once
    second_music: Share = 0.25  # of music: two pieces at once
    aligned_level: Spread = 3.0  # ± dB of voice against music in aligned pairs
    aligned_changed: Share = 0.0  # of aligned pairs: both stems are changed, each as if alone
    # of aligned pairs: the music is from anywhere in the same song; song_1 and song_2 are one song
    in_key: Share = 0.0
    level_mean: Decibels = -1.0  # dB of voice against music in random mixes
    level_spread: Spread = 5.0  # its standard deviation
    loudness: Loudness = (-30.0, -12.0)  # dBFS (RMS) of the mix
    stretch: Share = 0.14  # ± part of tempo and pitch, by resampling
    equalizer: Share = 0.6  # sounds filtered by a smooth random curve
    equalizer_range: Spread = 9.0  # ± dB at six points, an octave or more apart
    reverb_voice: Share = 0.35  # voices in a room
    reverb_music: Share = 0.10  # music in one
    width: Share = 0.0  # stereo sources made wider or narrower
    compress: Share = 0.0  # loud parts made quieter, quiet ones louder
    compress_voice: Share = 0.0  # the same of voices, before they are put into a room
    deess: Share = 0.0  # voices whose loud esses are made quieter
    drive: Share = 0.0  # peaks clipped softly
    double: Share = 0.0  # sounds with a late, swaying copy in each channel
    brighten: Share = 0.0  # sounds without treble that get one, invented from what they have
    codec: Share = 0.0  # sources that went through an MP3 of few bits
    coded: Share = 0.0  # examples whose sum went through an MP3 that keeps 15 to 22 kHz
    aac: Share = 0.0  # of these: through an AAC that does
    distort: Share = 0.0  # music behind a wall of distorted guitars, made of itself
    holds: Share = 0.0  # voices that hold some of their notes for seconds
    on_beat: Share = 0.0  # voices whose syllables begin on the beat of the music beside them
    tuned: Share = 0.0  # voices that step from semitone to semitone
    guide: Share = 0.0  # music with one more instrument, which plays the tune of the voice
    rests: Share = 0.0  # voices that fall silent at random times
    rests_music: Share = 0.0  # music that does
    formants: Share = 0.0  # voices whose formants lie up to a quarter higher or lower
    harmony: Share = 0.0  # voices that are sung in one or two more parts
    choir: Share = 0.0  # voices that sing with three to seven copies of themselves
    effects: Share = 0.0  # voices in an echo, a hall, a gate, a telephone, or as a robot
    effects_music: Share = 0.0  # music in an echo, a hall, or a gate
    sampled: Share = 0.0  # voices that are cut into slices, which a sampler plays on a beat
    sampled_music: Share = 0.0  # music that is cut into slices
    mono: Share = 0.0  # examples with the same in all channels
    narrow: Share = 0.0  # examples that hold nothing above 3 to 12 kHz
    elastic: Share = 0.0  # examples whose spectrogram is bent smoothly in time and frequency
    one_sided: Share = 0.0  # sources that are on one side only
    opposed: Share = 0.0  # examples with the voice on one side, and the music on the other
    live: Share = 0.0  # examples in one room, where each microphone hears all
    master: Share = 0.0  # examples whose sum was compressed and clipped softly
    pan: Share = 0.5  # sources that are moved by up to ± 6 dB between channels


@dataclass(frozen=True)
class Adversarial:
    """How songs without stems are learned from: see `splitter.training.critics`."""

    weight: Factor = 0.0  # of the critics' scores in the loss; 0: only stems are learned from
    learning_rate: Factor = 1e-4  # of the critics
    critic_steps: Annotated[int, Range(1, 100)] = 2  # for each step of the network
    penalty: Factor = 10.0  # weight of the gradients' penalty


@dataclass(frozen=True)
class Recipe:
    """How to train a model."""

    network: str = "mask-unet"  # one that `splitter train --networks` lists
    sizes: Mapping[str, Any] = field(default_factory=dict)  # fields of the architecture's dataclass
    rate: Rate = 44100  # Hz
    channels: Annotated[int, Range(1, 2)] = 2  # that the network hears at once
    loss: str = "waveform"  # one of those in train.md
    crop: Count = 262144  # samples an example
    batch: Count = 8  # examples a step
    steps: Count = 6000  # in all
    warmup: Count = 100  # steps in which the rate rises to its peak
    optimizer: str = "adamw"  # adamw or muon
    learning_rate: Factor = 1e-3  # at its peak; it falls to 0 by a cosine
    weight_decay: Factor = 1e-2  # a step, times the rate
    gradient_norm: Factor = 1.0  # a longer gradient is made this long
    average: Share = 0.998  # decay a step of the averaged (EMA) weights
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0  # of weights and examples
    validate_every: Count = 500  # steps
    validation: Sequence[str] = ()  # patterns of source names that are held out
    keep_best: bool = True  # export the weights that scored best on them; else the last ones
    validation_songs: Annotated[int, Range(0, 2**31 - 1)] = (
        40  # at most, spread evenly over the held-out ones
    )
    # (pattern, Hz): above it a source holds nothing but what its encoder left
    bandwidths: Sequence[tuple[str, Annotated[float, Range(1, 1e6)]]] = ()
    # (pattern, factor as voice, factor as music): how often a source is drawn for its length;
    # that as voice goes for aligned pairs
    weights: Sequence[tuple[str, Factor, Factor]] = ()
    # see below
    mixing: Mixing = field(default_factory=Mixing)
    # see below
    adversarial: Adversarial = field(default_factory=Adversarial)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; raise DataError for a file or a key that does not fit."""
    try:
        raw = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a recipe ({reason(error)})") from error
    return recipe_from(raw, path)


def recipe_from(raw: Mapping[str, Any], path: Path) -> Recipe:
    """Make a recipe from parsed JSON; `path` is named in errors."""
    try:
        return parse(Recipe, raw)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def check_begun(recipe: Recipe, path: Path) -> None:
    """Raise DataError where a run was begun by another recipe than this one.

    Only the number of steps may change: a run can be drawn out.
    """
    ours, begun = (json.loads(json.dumps(asdict(one))) for one in (recipe, read_recipe(path)))
    for name in ours:
        if name != "steps" and ours[name] != begun[name]:
            way_out = "give the new recipe a folder of its own (--run)"
            raise DataError(f"{path.parent}: this run has another {name!r}; {way_out}")


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe with every value, defaults included."""
    text = json.dumps(asdict(recipe), indent=2) + "\n"
    write_atomically(path, text.encode("utf-8"))

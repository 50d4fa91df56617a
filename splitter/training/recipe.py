"""Everything that decides how a model is trained, in one file: `recipe.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from splitter.atomic import write_atomically
from splitter.errors import DataError

RECIPE = "recipe.json"  # in the folder of a run
COUNTS = ("rate", "channels", "crop", "batch", "steps", "warmup", "validate_every")


@dataclass(frozen=True)
class Mixing:
    """How examples are drawn and changed; probabilities in 0…1, levels in dB."""

    aligned: float = 0.22  # part of the examples that are a song's own two stems
    no_voice: float = 0.08
    no_music: float = 0.03
    second_voice: float = 0.15
    second_music: float = 0.25
    aligned_level: float = 3.0  # ± dB of voice against music in aligned pairs
    level_mean: float = -1.0  # dB of voice against music in random mixes
    level_spread: float = 5.0  # its standard deviation
    loudness: Sequence[float] = (-30.0, -12.0)  # dBFS (RMS) of the mix
    stretch: float = 0.14  # ± part of tempo and pitch, by resampling
    equalizer: float = 0.6
    equalizer_range: float = 9.0  # ± dB at six points, an octave or more apart
    reverb_voice: float = 0.35
    reverb_music: float = 0.10
    width: float = 0.0  # stereo sources made wider or narrower
    compress: float = 0.0  # loud parts made quieter, quiet ones louder
    drive: float = 0.0  # peaks clipped softly
    double: float = 0.0  # sounds with a late, swaying copy in each channel
    brighten: float = 0.0  # sounds without treble that get one, invented from what they have
    codec: float = 0.0  # sources that went through an MP3 of few bits
    distort: float = 0.0  # music behind a wall of distorted guitars, made of itself
    one_sided: float = 0.0  # sources that are on one side only
    pan: float = 0.5  # of sources in the middle or mono: moved by up to ± 6 dB between channels


@dataclass(frozen=True)
class Recipe:
    """How to train a model."""

    network: str = "mask-unet"
    sizes: Mapping[str, Any] = field(default_factory=dict)  # fields of the architecture's dataclass
    rate: int = 44100  # Hz
    channels: int = 2
    loss: str = "waveform"  # one of splitter.training.losses.LOSSES
    crop: int = 262144  # samples an example
    batch: int = 8
    steps: int = 6000
    warmup: int = 100  # steps
    optimizer: str = "adamw"  # one of splitter.training.optimizers.OPTIMIZERS
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    gradient_norm: float = 1.0
    average: float = 0.998  # decay a step of the averaged (EMA) weights
    seed: int = 0
    validate_every: int = 500  # steps
    validation: Sequence[str] = ()  # patterns of source names that are held out
    keep_best: bool = True  # export the weights that scored best on them; else the last ones
    validation_songs: int = 40  # at most, spread evenly over the held-out ones
    # (pattern, factor as voice, factor as music): how often a source is drawn for its length
    weights: Sequence[tuple[str, float, float]] = ()
    mixing: Mixing = field(default_factory=Mixing)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; raise DataError for a file or a key that does not fit."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable recipe ({error})") from error
    return recipe_from(raw, path)


def recipe_from(raw: Mapping[str, Any], path: Path) -> Recipe:
    """Make a recipe from parsed JSON; `path` is named in errors."""
    mixing = raw.get("mixing", {}) if isinstance(raw, dict) else None
    if not isinstance(mixing, dict):
        raise DataError(f"{path}: a recipe is a JSON object, and so is its mixing")
    _refuse_unknown(raw, Recipe, path)
    _refuse_unknown(mixing, Mixing, path)
    recipe = Recipe(**{**raw, "mixing": Mixing(**mixing)})
    for name in COUNTS:
        value = getattr(recipe, name)
        if not isinstance(value, int) or value < 1:
            raise DataError(f"{path}: {name} is {value!r}; it must be a whole number from 1 on")
    return recipe


def check_begun(recipe: Recipe, path: Path) -> None:
    """Raise DataError where a run was begun by another recipe than this one.

    Only the number of steps may change: a run can be drawn out.
    """
    ours, begun = (json.loads(json.dumps(asdict(one))) for one in (recipe, read_recipe(path)))
    for name in ours:
        if name != "steps" and ours[name] != begun[name]:
            way_out = "give this training a --run of its own"
            raise DataError(f"{path.parent}: was begun with another {name!r}; {way_out}")


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe with every value, defaults included."""
    text = json.dumps(asdict(recipe), indent=2) + "\n"
    write_atomically(path, text.encode("utf-8"))


def _refuse_unknown(raw: Mapping[str, Any], kind: type, path: Path) -> None:
    unknown = raw.keys() - {item.name for item in fields(kind)}
    if unknown:
        known = ", ".join(item.name for item in fields(kind))
        raise DataError(f"{path}: unknown key {min(unknown)!r}; known are: {known}")

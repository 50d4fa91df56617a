"""Every preset, trained for the same time on the same data with the same seed, in one table.

    python -m scripts.zoo DATA -o zoo --minutes 8

Sizes are the presets' own, on the spectrogram of `scripts/ablation.json` (16 kHz mono), where they
compute less than at 44.1 kHz stereo. Minutes are those that this process has each processor for, so
other work on the machine changes little; what is slower takes fewer steps. A network that is done
is kept, one that was interrupted goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.ablate import BASE, SMALL, count_steps, open_record
from splitter.loading import Model, load_model
from splitter.memory import reuse_freed_memory
from splitter.networks import PRESETS
from splitter.networks.cost import measure
from splitter.networks.sizes import MaskSizes
from splitter.separation import Computing, separate
from splitter.training.loop import Trainer, train_on
from splitter.training.mixing import Mixer
from splitter.training.recipe import RECIPE, Recipe, read_recipe, write_recipe
from splitter.training.seams import find_seam, take_song
from splitter.training.sources import Pools, find_sources, load_sources, sort_pools
from splitter.training.validation import Validation

# without norms; their papers have 0.0001, and at 0.001 the mask of sid-unet goes to nothing
RATES = {"sid-unet": 3e-4, "wave-u-net": 3e-4}
SPECTROGRAM = ("window", "hop", "bands")
HEADER = (
    "| network | weights, M | Gflop a second | × real time | sees, s | seam | steps | minutes | "
    "SDR over the mixture, dB |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
)


@dataclass(frozen=True)
class Row:
    """What is known of a network after its training."""

    weights: int
    operations: float  # a second of song
    context: float  # seconds
    speed: float  # × real time
    seam: float | None  # dB of the difference to the whole song below it; None: tiles are exact
    steps: int
    minutes: float  # of each processor
    improvement: float  # dB

    def write(self, name: str) -> str:
        """Return it as a line of Markdown."""
        seam = "exact" if self.seam is None else f"{self.seam:.0f} dB"
        numbers = f"{self.weights / 1e6:.2f} | {self.operations / 1e9:.2f} | {self.speed:.0f}"
        rest = f"{self.context:.1f} | {seam} | {self.steps} | {self.minutes:.1f}"
        return f"| `{name}` | {numbers} | {rest} | {self.improvement:.2f} |\n"


def main() -> None:
    """Train the presets, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("zoo"))
    parser.add_argument("--recipe", type=Path, help="[scripts/ablation.json, with smaller batches]")
    parser.add_argument("--cache", type=Path, help="decoded sound [OUTPUT/cache]")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="of each processor, for each network"
    )
    parser.add_argument("--network", action="append", choices=list(PRESETS), help="only this one")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    reuse_freed_memory()
    arguments.output.mkdir(parents=True, exist_ok=True)
    given = arguments.recipe
    base = read_recipe(given) if given else replace(read_recipe(BASE), **SMALL)
    base = replace(base, seed=arguments.seed)
    sources = load_sources(
        find_sources(arguments.data), arguments.cache or arguments.output / "cache", base.rate
    )
    pools = sort_pools(sources, base)
    record = arguments.output / "zoo.json"
    kept = open_record(record, {"minutes": arguments.minutes, "recipe": asdict(base)}, parser)
    done: dict[str, Any] = kept["rows"]
    for name in arguments.network or PRESETS:
        if name not in done:
            row = train(name, base, pools, arguments.output / name, arguments.minutes * 60)
            done[name] = vars(row)
            record.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        table = make_table(done)
        (arguments.output / "zoo.md").write_text(table, encoding="utf-8")
    print(table, end="")


def train(name: str, base: Recipe, pools: Pools, folder: Path, seconds: float) -> Row:
    """Train a preset for so many seconds of all processors, and measure it."""
    sizes = find_sizes(name, base)
    plan = folder / RECIPE
    if plan.exists():
        recipe = read_recipe(plan)
    else:
        rate = RATES.get(name, base.learning_rate)
        recipe = replace(base, network=name, sizes=sizes, keep_best=False, learning_rate=rate)
        steps = count_steps(recipe, Mixer(pools, recipe), folder / "timed", seconds)
        recipe = replace(recipe, steps=steps, validate_every=steps)
        folder.mkdir(parents=True, exist_ok=True)
        write_recipe(recipe, plan)
    trainer = Trainer(recipe, folder, torch.device("cpu"), torch.float32)
    trainer.load()
    first, started, clock = trainer.step, time.process_time(), folder / "minutes"
    for _ in train_on(pools, trainer):
        pass
    if first < recipe.steps:  # what went before took as long for a step
        spent = (time.process_time() - started) / torch.get_num_threads() / 60
        clock.write_text(str(spent * recipe.steps / (recipe.steps - first)), encoding="utf-8")
    trainer.export(folder / "model")
    validation = Validation(pools, recipe, trainer.device)
    scores = validation(trainer.average.eval()) or (float("nan"), float("nan"))
    cost = measure(name, sizes, recipe.rate, recipe.channels)
    song, model = take_song(pools, recipe), load_model(str(folder / "model"))
    return Row(
        cost.weights,
        cost.operations,
        cost.context,
        find_speed(song, model),
        None if cost.exact else find_seam(song, model),
        recipe.steps,
        float(clock.read_text("utf-8")) if clock.exists() else seconds / 60,
        scores[1],
    )


def find_sizes(name: str, base: Recipe) -> dict[str, Any]:
    """Return what a preset takes of the base recipe: the spectrogram, if it looks at one."""
    given = SPECTROGRAM if issubclass(PRESETS[name].sizes, MaskSizes) else ()
    return {key: base.sizes[key] for key in given if key in base.sizes}


def find_speed(song: np.ndarray[Any, np.dtype[np.float32]], model: Model) -> float:
    """Return the seconds of song that are separated in a second of all processors."""
    started = time.process_time()
    separate(song, model.config.rate, model, Computing(precision="float32"))
    taken = (time.process_time() - started) / torch.get_num_threads()
    return float(song.shape[-1] / model.config.rate / taken)


def make_table(done: Mapping[str, Mapping[str, Any]]) -> str:
    """Return all rows as Markdown."""
    return HEADER + "".join(Row(**row).write(name) for name, row in done.items())


if __name__ == "__main__":
    main()

"""The MIR-1K table: train on its 175 training clips alone, score its 825 test clips.

    python scripts/mir1k.py MIR-1K -o mir1k

MIR-1K is the data set as it is distributed (Wavfile/*.wav), or unpacked to
train|test/<clip>/{vocals,instrumental}.*. The protocol is that of Huang et al. (2014): training on
the singers abjones and amy, tests on the other 17, each clip mixed at 0 dB, BSSEval v3, means
weighted by the clips' lengths. Every twelfth test clip is followed while training, to draw the
learning curve; nothing is chosen by it. A run that was stopped goes on when it is started again.
Each recipe trains a network; the first is scored alone, then the average of all of them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch

from splitter.cli.progress import watch_items
from splitter.cli.screen import Screen
from splitter.cli.train import finish, show_progress
from splitter.datasets import Song, at_level, find_songs, select_songs
from splitter.devices import pick_device, training_dtype
from splitter.evaluation.baselines import Grid
from splitter.evaluation.journal import Journal
from splitter.evaluation.run import evaluate
from splitter.evaluation.scoring import Failure, SongScores
from splitter.evaluation.summary import Results, make_table, write_scores, write_table
from splitter.evaluation.systems import BaselineSystem, System, describe_model
from splitter.memory import reuse_freed_memory
from splitter.registry import ModelChoice
from splitter.training.loop import Trainer, train_on
from splitter.training.recipe import RECIPE, Recipe, read_recipe, write_recipe
from splitter.training.sources import find_sources, load_sources, sort_pools

NAMES = ("mir1k.json", "mir1k-2.json", "mir1k-3.json", "mir1k-4.json")
DEFAULT = [Path(__file__).with_name(name) for name in NAMES]
FOLLOWED = 12  # every so many test clips are in the learning curve
DATA, CACHE = "data", "cache"  # folders of the output
RUN, MODEL = "run-{}", "model-{}"  # and of each network
LEVEL = 0.0  # dB, vocals above accompaniment
METRICS = ("sdr", "si-sdr", "v3")
BASELINES = ("mixture",)


def main() -> None:
    """Train, then score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("mir1k"))
    parser.add_argument("--recipe", type=Path, action="append", help="one or more")
    parser.add_argument("--steps", type=int, help="overrides the recipes")
    parser.add_argument("--stop-at", type=int, help="pause after this step; run again to go on")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=2, help="processes that score")
    parser.add_argument("--clips", type=int, help="score only so many test clips, evenly spread")
    arguments = parser.parse_args()
    reuse_freed_memory()
    songs = find_songs(arguments.data, "mir1k")
    training, test = select_songs(songs, "train"), select_songs(songs, "test")
    output = arguments.output
    unpack([*training, *test[::FOLLOWED]], output / DATA)
    recipes = [read_recipe(path) for path in arguments.recipe or DEFAULT]
    device = pick_device(arguments.device)
    for number, recipe in enumerate(recipes, 1):
        # whatever a recipe says, test clips are neither trained on nor chosen by
        recipe = replace(recipe, validation=("test/*",), keep_best=False)
        recipe = replace(recipe, steps=arguments.steps or recipe.steps)
        if train(output, number, recipe, device, arguments.stop_at) < recipe.steps:
            return
    count = min(arguments.clips or len(test), len(test))
    scored = [test[i] for i in np.linspace(0, len(test) - 1, count).astype(int)]
    print(score(scored, output, len(recipes), arguments.jobs))


def train(
    output: Path, number: int, recipe: Recipe, device: torch.device, stop_at: int | None
) -> int:
    """Train network `number` on what was unpacked; return the step that was reached."""
    run = output / RUN.format(number)
    run.mkdir(exist_ok=True)
    sources = load_sources(find_sources(output / DATA), output / CACHE, recipe.rate)
    pools = sort_pools(sources, recipe)
    trainer = Trainer(recipe, run, device, training_dtype(device))
    trainer.load()
    write_recipe(recipe, run / RECIPE)
    show_progress(Screen(), train_on(pools, trainer, stop_at), trainer)
    finish(trainer, output / MODEL.format(number))
    return trainer.step


def unpack(songs: Sequence[Song], folder: Path) -> None:
    """Write the two stems of each song at 0 dB to a folder, unless they are there."""
    for song in watch_items(Screen(), songs, "unpacking", len(songs), "clips"):
        if (folder / song.label / "instrumental.wav").exists():
            continue
        tracks = at_level(song, LEVEL).load()
        (folder / song.label).mkdir(parents=True, exist_ok=True)
        for name, signal in (("vocals", tracks.vocals), ("instrumental", tracks.instrumental)):
            path = folder / song.label / f"{name}.wav"
            beside = path.with_suffix(".part")
            soundfile.write(beside, signal.T, tracks.rate, "FLOAT", format="WAV")
            beside.replace(path)


def score(test: Sequence[Song], output: Path, networks: int, jobs: int) -> str:
    """Score a model, all of them, all averaged over shifts, and the mixture; return the table."""
    songs = [at_level(song, LEVEL) for song in test]
    models = tuple(str(output / MODEL.format(number + 1)) for number in range(networks))
    several = [ModelChoice(models)] if networks > 1 else []
    choices = [ModelChoice(models[:1]), *several, ModelChoice(models, tta=True)]
    judged = [describe_model(choice, "cpu") for choice in choices]
    grid = judged[0].grid or Grid()
    systems: list[System] = [*judged, *(BaselineSystem(name, grid) for name in BASELINES)]
    os.environ["OMP_NUM_THREADS"] = "1"  # PyTorch reads it where a process starts
    scored = evaluate(songs, systems, METRICS, Journal(output / "scores.jsonl"), jobs)
    outcomes = list(watch_items(Screen(), scored, "scoring", len(songs), "clips"))
    outcomes.sort(key=lambda outcome: outcome.song)
    results = Results(
        data={"folder": str(output), "data set": "MIR-1K at 0 dB", "split": "test"},
        systems={system.name: system.describe() for system in systems},
        timed=frozenset(),
        metrics=METRICS,
        scores=[outcome for outcome in outcomes if isinstance(outcome, SongScores)],
        failures=[outcome for outcome in outcomes if isinstance(outcome, Failure)],
    )
    write_scores(output / "scores.json", results)
    write_table(output / "scores.md", results)
    return make_table(results)


if __name__ == "__main__":
    main()

"""The MIR-1K table: train on its 175 training clips alone, score its 825 test clips.

    python scripts/mir1k.py MIR-1K -o mir1k

MIR-1K is the data set as it is distributed (Wavfile/*.wav), or unpacked to
train|test/<clip>/{vocals,instrumental}.*. The protocol is that of Huang et al. (2014): training on
the singers abjones and amy, tests on the other 17, each clip mixed at 0 dB, BSSEval v3, means
weighted by the clips' lengths. Every twelfth test clip is followed while training, to draw the
learning curve; nothing is chosen by it. A run that was stopped goes on when it is started again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import soundfile
from tqdm import tqdm

from splitter.catalogue import ModelChoice
from splitter.datasets import Song, at_level, find_songs, select_songs
from splitter.devices import fast_dtype, pick_device
from splitter.evaluation.journal import Journal
from splitter.evaluation.running import evaluate
from splitter.evaluation.scoring import Failure, SongScores
from splitter.evaluation.summary import Results, make_table, write_scores, write_table
from splitter.evaluation.systems import BaselineSystem, System, describe_model
from splitter.memory import reuse_freed_memory
from splitter.reporting import draw_curves
from splitter.training.loop import Trainer, Validation, batches
from splitter.training.mixing import Mixer
from splitter.training.pools import find_sources, load_sources, sort_pools
from splitter.training.recipe import Recipe, read_recipe, write_recipe

RECIPE = Path(__file__).with_suffix(".json")
FOLLOWED = 12  # every so many test clips are in the learning curve
LEVEL = 0.0  # dB, vocals above accompaniment
METRICS = ("sdr", "si-sdr", "v3")
BASELINES = ("mixture",)


def main() -> None:
    """Train, then score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("mir1k"))
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--steps", type=int, help="overrides the recipe")
    parser.add_argument("--stop-at", type=int, help="pause after this step; run again to go on")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=2, help="processes that score")
    parser.add_argument("--clips", type=int, help="score only so many test clips, evenly spread")
    arguments = parser.parse_args()
    reuse_freed_memory()
    songs = find_songs(arguments.data, "mir1k")
    training, test = select_songs(songs, "train"), select_songs(songs, "test")
    recipe = read_recipe(arguments.recipe)
    recipe = replace(recipe, steps=arguments.steps or recipe.steps)
    model = arguments.output / "model"
    trained = train(training, test, recipe, arguments.output, arguments.device, arguments.stop_at)
    trained.export(model)
    draw_curves(arguments.output)
    if trained.step == recipe.steps:
        scored = test[:: max(1, len(test) // arguments.clips)] if arguments.clips else test
        print(score(scored, model, arguments.output, arguments.jobs))


def train(
    training: Sequence[Song],
    test: Sequence[Song],
    recipe: Recipe,
    output: Path,
    device: str,
    stop_at: int | None,
) -> Trainer:
    """Train on `training`; follow some of `test`."""
    data = output / "data"
    for song in tqdm([*training, *test[::FOLLOWED]], desc="unpack", unit="clip"):
        unpack(at_level(song, LEVEL), data / song.label)
    write_recipe(recipe, output / "recipe.json")
    sources = load_sources(find_sources(data), output / "cache", recipe.rate)
    pools = sort_pools(sources, recipe.validation)
    target = pick_device(device)
    trainer = Trainer(recipe, output, target, fast_dtype(target))
    trainer.load()
    until = min(stop_at or recipe.steps, recipe.steps)
    examples = batches(Mixer(pools, recipe), recipe, trainer.step, until)
    with tqdm(total=recipe.steps, initial=trainer.step, desc="train", unit="step") as bar:
        for progress in trainer.train(examples, Validation(pools, recipe, target)):
            bar.update(progress.step - bar.n)
            if progress.improvement is not None:
                bar.write(f"step {progress.step}: {progress.improvement:.2f} dB over the mixture")
    trainer.save()
    return trainer


def unpack(song: Song, folder: Path) -> None:
    """Write the two stems of a song to a folder, unless they are there."""
    if (folder / "instrumental.wav").exists():
        return
    tracks = song.load()
    folder.mkdir(parents=True, exist_ok=True)
    for name, signal in (("vocals", tracks.vocals), ("instrumental", tracks.instrumental)):
        soundfile.write(folder / f"{name}.wav", signal.T, tracks.rate, "FLOAT")


def score(test: Sequence[Song], model: Path, output: Path, jobs: int) -> str:
    """Score a model, alone and averaged over shifts, and the mixture; return the table."""
    songs = [at_level(song, LEVEL) for song in test]
    choices = [ModelChoice((str(model),)), ModelChoice((str(model),), tta=True)]
    judged = [describe_model(choice, "cpu") for choice in choices]
    grid = judged[0].grid
    assert grid is not None
    systems: list[System] = [*judged, *(BaselineSystem(name, grid) for name in BASELINES)]
    os.environ["OMP_NUM_THREADS"] = "1"  # PyTorch reads it where a process starts
    bar = tqdm(total=len(songs), desc="score", unit="clip")
    outcomes = []
    for outcome in evaluate(songs, systems, METRICS, Journal(output / "scores.jsonl"), jobs):
        outcomes.append(outcome)
        bar.update()
    bar.close()
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

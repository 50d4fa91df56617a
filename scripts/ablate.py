"""What each part of the training is worth: short trainings of equal time, side by side.

    python -m scripts.ablate DATA -o ablation --minutes 4

Each row changes one thing in a recipe for 16 kHz mono, small enough that minutes say something, and
trains from random weights for the same processor time: what is slower takes fewer steps. Scores are
the median improvement of the vocals' SDR over the mixture, on songs and singers that no row trains
on. Rows that are done are kept; the same command goes on with those that are not. With `--fold 1/4`
they hear none of the first fourth of the sources (`scripts/folds.py`), on which
`python -m scripts.unheard DATA --fold 1/4` can then judge the models that each row leaves.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scripts.folds import choose_fold, name_source, read_fold
from splitter.devices import training_dtype
from splitter.memory import reuse_freed_memory
from splitter.training.batches import batches
from splitter.training.loop import Trainer, train_on
from splitter.training.losses import LOSSES
from splitter.training.mixing import Mixer
from splitter.training.recipe import Mixing, Recipe, read_recipe
from splitter.training.sources import Files, Pools, find_sources, load_sources, sort_pools

BASE = Path(__file__).with_name("ablation.json")
# many steps in little time
SMALL: Mapping[str, Any] = {"crop": 65536, "batch": 2, "warmup": 20}
WARM = 2  # steps, slower than all others, that are not timed
MODEL = "model"  # of a row, in its folder
SHARE = 0.04  # of the time, by which the number of steps is told
NOTHING = Mixing(
    equalizer=0, reverb_voice=0, reverb_music=0, pan=0, stretch=0, second_voice=0, second_music=0
)


@dataclass(frozen=True)
class Row:
    """A recipe, what it is trained on before, and how much of the time that takes."""

    recipe: Recipe
    before: Recipe | None = None
    simulated: bool = False  # the first part is trained on simulated songs
    share: float = 0.0  # of the time, for the first part


def make_rows(base: Recipe) -> dict[str, Row]:
    """List what is compared; the first row is what the others are compared with."""
    mixing = base.mixing

    def mixed(**changes: Any) -> Row:
        return Row(replace(base, mixing=replace(mixing, **changes)))

    coarse = {**base.sizes, "window": 1024, "hop": 256, "bands": [[256, 1], [128, 2]]}
    bands = {**base.sizes, "bands": [[1024, 1]]}
    blocks = {k: v for k, v in base.sizes.items() if k in ("window", "hop", "bands")}
    short = replace(base, warmup=5)  # a quarter of the time is not for warming up
    aligned = replace(short, mixing=replace(mixing, aligned=1.0), learning_rate=3e-4)
    return {
        "baseline": Row(base),
        "baseline, another seed": Row(replace(base, seed=base.seed + 1)),
        "a larger learning rate": Row(replace(base, learning_rate=3e-3)),
        "Muon, the larger learning rate": Row(replace(base, learning_rate=3e-3, optimizer="muon")),
        "blocks: TFC-TDF": Row(replace(base, network="mask-tfc-tdf", sizes=blocks)),
        "blocks: TFC-TDF beside convolutions": Row(
            replace(base, sizes={**base.sizes, "blocks": 5})
        ),
        **{f"loss: {loss}": Row(replace(base, loss=loss)) for loss in LOSSES if loss != base.loss},
        "batches half as large": Row(replace(base, batch=max(1, base.batch // 2))),
        "no band folding": Row(replace(base, sizes=bands)),
        "half the window": Row(replace(base, sizes=coarse)),
        "aligned pairs only": mixed(aligned=1.0),
        "no aligned pairs": mixed(aligned=0.0),
        "no change of the sound": Row(
            replace(base, mixing=replace(NOTHING, aligned=mixing.aligned))
        ),
        "no tempo and pitch": mixed(stretch=0.0),
        "no second sources": mixed(second_voice=0.0, second_music=0.0),
        "no EQ, reverb, pan": mixed(equalizer=0.0, reverb_voice=0.0, reverb_music=0.0, pan=0.0),
        "with compression, clipping, codecs, width": mixed(
            compress=0.2, drive=0.1, codec=0.1, width=0.2
        ),
        "with doubled sounds": mixed(double=0.15),
        "with elastic deformation": mixed(elastic=0.5),
        "simulated first (1/4)": Row(base, before=short, simulated=True, share=0.25),
        "aligned last (1/4)": Row(aligned, before=base, share=0.75),
    }


def main() -> None:
    """Train the rows, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("ablation"))
    parser.add_argument("--recipe", type=Path, default=BASE)
    parser.add_argument("--cache", type=Path, help="decoded sound [OUTPUT/cache]")
    parser.add_argument("--minutes", type=float, default=4.0, help="for each row")
    parser.add_argument("--simulated", type=Path, help="a folder by scripts/simulate.py")
    parser.add_argument("--row", action="append", help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fold", type=read_fold, help="sources that no row hears, such as 1/4")
    arguments = parser.parse_args()
    reuse_freed_memory()
    arguments.output.mkdir(parents=True, exist_ok=True)
    base = replace(read_recipe(arguments.recipe), seed=arguments.seed)
    cache = arguments.cache or arguments.output / "cache"
    found = find_sources(arguments.data)
    left_out = choose_fold(found, arguments.fold) if arguments.fold else set()
    found = [files for files in found if name_source(files) not in left_out]
    real = load(found, cache, base)
    table = arguments.output / "ablation.json"
    settings = {"minutes": arguments.minutes, "recipe": asdict(base), "fold": arguments.fold}
    kept = open_record(table, settings, parser)
    done: dict[str, Any] = kept["rows"]
    for name, row in make_rows(base).items():
        if name in done or (arguments.row and name not in arguments.row):
            continue
        if row.simulated and not arguments.simulated:
            continue
        first = load(find_sources(arguments.simulated), cache, base) if row.simulated else real
        folder = arguments.output / name.translate(str.maketrans(" :,/()", "------"))
        done[name] = train(row, first, real, folder, arguments.minutes * 60)
        table.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        (arguments.output / "ablation.md").write_text(make_table(done), encoding="utf-8")
        print(make_table(done), flush=True)


def open_record(
    path: Path, settings: Mapping[str, Any], parser: argparse.ArgumentParser
) -> dict[str, Any]:
    """Return what is kept of a comparison, its "rows"; refuse one with other settings."""
    settings = json.loads(json.dumps(settings))
    kept = {"settings": settings, "rows": {}}
    if path.exists():
        kept = json.loads(path.read_text("utf-8"))
    else:
        path.write_text(json.dumps(kept) + "\n", encoding="utf-8")
    if kept.get("settings") != settings:
        parser.error(f"{path} is of other minutes, seed, fold or recipe; give another --output")
    return kept


def load(found: Sequence[Files], cache: Path, base: Recipe) -> Pools:
    """Decode what is not yet decoded."""
    return sort_pools(load_sources(found, cache, base.rate), base)


def train(row: Row, first: Pools, real: Pools, folder: Path, seconds: float) -> Mapping[str, Any]:
    """Train one row in all its stages; return its scores."""
    trainer = None
    steps = 0
    if row.before:
        trainer, _ = run(row.before, first, folder / "before", row.share * seconds)
        steps = trainer.step
    share = 1 - row.share
    last, (sdr, improvement) = run(row.recipe, real, folder, share * seconds, trainer)
    steps += last.step
    return {"steps": steps, "sdr": round(sdr, 2), "improvement": round(improvement, 2)}


def run(
    recipe: Recipe, pools: Pools, folder: Path, seconds: float, start: Trainer | None = None
) -> tuple[Trainer, tuple[float, float]]:
    """Train for so many seconds of all processors; return the trainer and what it reached."""
    steps = count_steps(recipe, Mixer(pools, recipe), folder, seconds)
    recipe = replace(recipe, steps=steps, validate_every=steps)
    device = torch.device("cpu")
    trainer = Trainer(recipe, folder, device, training_dtype(device))
    if start is not None:
        trainer.start_from(start.average, start.config, start.run)
    scores = (float("nan"), float("nan"))
    for progress in train_on(pools, trainer):
        if progress.sdr is not None and progress.improvement is not None:
            scores = (progress.sdr, progress.improvement)
    trainer.export(folder / MODEL)
    return trainer, scores


def count_steps(recipe: Recipe, mixer: Mixer, folder: Path, seconds: float) -> int:
    """Return how many steps take so long, by the processor time of a share of them."""
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu")
    trainer = Trainer(recipe, folder, device, training_dtype(device))
    step, spent = 0, 0.0
    while step <= WARM or spent < SHARE * seconds:
        started = time.process_time()
        list(trainer.train(batches(mixer, recipe, step, step + 1), lambda _: None))
        if step >= WARM:
            spent += (time.process_time() - started) / torch.get_num_threads()
        step += 1
    return max(1, int(seconds / spent * (step - WARM)))


def make_table(done: Mapping[str, Any]) -> str:
    """Return the rows as Markdown."""
    reference = done["baseline"]["improvement"] if "baseline" in done else float("nan")
    lines = ["| | steps | SDR over the mixture, dB | against the baseline |", "|---|--:|--:|--:|"]
    for name, scores in done.items():
        value = scores["improvement"]
        lines.append(f"| {name} | {scores['steps']} | {value:.2f} | {value - reference:+.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

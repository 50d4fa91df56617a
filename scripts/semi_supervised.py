"""What songs without stems are worth beside a few aligned pairs, on MIR-1K.

    python -m scripts.semi_supervised MIR-1K -o semi --minutes 4

MIR-1K is a folder of train|test/<song>_<number>/{vocals,instrumental}.*. Of the 21 songs that the
175 training clips are cut from every eighth is pairs. Of the others a third gives its mixtures, a
third its voices, a third its music: none of these belong together. Trainings of equal processor
time are compared, each with three seeds:

- pairs alone, and the same where half of the examples are a pair's voice over another one's music;
- pairs, and critics that compare estimates for the mixtures with the unrelated voices and music
  (Stoller, Ewert and Dixon 2018);
- pairs, and the unrelated voices and music mixed at random in half of the examples.

Scores are the median improvement of the vocals' SDR over the mixture, on test clips of other
singers. Runs that are done are kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from scripts.ablate import BASE, SMALL, open_record, run
from splitter.memory import reuse_freed_memory
from splitter.training.recipe import Adversarial, Recipe, read_recipe
from splitter.training.sources import Pools, Source, find_sources, load_sources

PAIRS = 8  # every so many songs are pairs
WEIGHT = 0.01  # of the critics


def make_rows(base: Recipe, pools: Pools) -> dict[str, tuple[Recipe, Pools]]:
    """List what is compared."""
    aligned = replace(base, mixing=replace(base.mixing, aligned=1.0))
    mixed = replace(base, mixing=replace(base.mixing, aligned=0.5))
    alone = replace(pools, voices=[], music=[])
    return {
        "pairs alone": (aligned, alone),
        "pairs alone, also remixed": (mixed, alone),
        "pairs, and critics": (replace(aligned, adversarial=Adversarial(WEIGHT)), pools),
        "pairs, and random mixes": (mixed, pools),
    }


def deal(clips: list[Source]) -> Pools:
    """Make pairs of some songs' training clips, and of the others mixtures, voices and music."""
    training = [clip for clip in clips if clip.name.split("/")[-2] == "train"]
    test = [clip for clip in clips if clip.name.split("/")[-2] == "test"]
    songs = list(dict.fromkeys(map(find_song, training)))
    paired = songs[::PAIRS]
    rest = [song for song in songs if song not in paired]

    def take(songs: Sequence[str]) -> list[Source]:
        return [clip for clip in training if find_song(clip) in songs]

    return Pools(
        take(paired),
        [Source(clip.name, clip.vocals, None) for clip in take(rest[1::3])],
        [Source(clip.name, None, clip.instrumental) for clip in take(rest[2::3])],
        test,
        [mix(clip) for clip in take(rest[::3])],
    )


def find_song(clip: Source) -> str:
    """Return the song that a clip is cut from: its name without the number."""
    return clip.name.rpartition("_")[0] or clip.name


def mix(clip: Source) -> Source:
    """Forget the stems of a clip."""
    assert clip.vocals and clip.instrumental
    both = sum(one.samples[:, : clip.length] for one in (clip.vocals, clip.instrumental))
    bandwidth = max(clip.vocals.bandwidth, clip.instrumental.bandwidth)
    mixture = replace(clip.vocals, samples=np.asarray(both), bandwidth=bandwidth)
    return Source(clip.name, None, None, mixture)


def main() -> None:
    """Train the rows with every seed, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("semi"))
    parser.add_argument("--recipe", type=Path, help="[scripts/ablation.json, with smaller batches]")
    parser.add_argument("--cache", type=Path, help="decoded sound [OUTPUT/cache]")
    parser.add_argument("--minutes", type=float, default=4.0, help="for each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--row", action="append", help="only this one; repeatable")
    parser.add_argument("--clips", type=int, default=60, help="test clips that are scored")
    asked = parser.parse_args()
    reuse_freed_memory()
    asked.output.mkdir(parents=True, exist_ok=True)
    given = asked.recipe
    base = read_recipe(given) if given else replace(read_recipe(BASE), **SMALL)
    base = replace(base, validation_songs=asked.clips, weights=())
    wanted = find_sources(asked.data)
    train = [files for files in wanted if Path(files.name).parent.name == "train"]
    test = [files for files in wanted if Path(files.name).parent.name == "test"]
    count = min(asked.clips, len(test))
    scored = [test[i] for i in np.linspace(0, len(test) - 1, count).astype(int)]
    cache = asked.cache or asked.output / "cache"
    pools = deal(list(load_sources([*train, *scored], cache, base.rate)))
    record = asked.output / "semi.json"
    kept = open_record(record, {"minutes": asked.minutes, "recipe": asdict(base)}, parser)
    done: dict[str, Any] = kept["rows"]
    for seed in range(asked.seeds):
        for name, (recipe, given) in make_rows(base, pools).items():
            key = f"{name}, seed {seed}"
            if key in done or (asked.row and name not in asked.row):
                continue
            folder = asked.output / key.translate(str.maketrans(" ,", "--"))
            trainer, scores = run(replace(recipe, seed=seed), given, folder, asked.minutes * 60)
            done[key] = {"row": name, "steps": trainer.step, "improvement": round(scores[1], 2)}
            record.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
            (asked.output / "semi.md").write_text(make_table(done), encoding="utf-8")
    print(make_table(done), end="")


def make_table(done: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a row for each kind of training: steps and scores of its seeds, and their mean."""
    lines = ["| | steps | SDR over the mixture, dB | mean |", "|---|--:|--:|--:|"]
    for name in dict.fromkeys(one["row"] for one in done.values()):
        runs = [one for one in done.values() if one["row"] == name]
        steps = ", ".join(str(one["steps"]) for one in runs)
        scores = ", ".join(f"{one['improvement']:.2f}" for one in runs)
        mean = np.mean([one["improvement"] for one in runs])
        lines.append(f"| {name} | {steps} | {scores} | {mean:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

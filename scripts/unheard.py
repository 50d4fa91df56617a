"""Compare models on sources that one of them never heard, source by source.

    python -m scripts.unheard DATA --heard FREE --model unet-free --model unet
    python -m scripts.unheard DATA --fold 1/4 --model without-1 --model without-2

DATA is what `splitter train` reads; FREE the part of it that the first model was trained on
(`scripts/licensed.py` makes one), or 1/4 the sources that it was not (`scripts/ablate.py`). Voices
of each unheard folder are mixed with music of each, at −3 dB; the tables have the SDR of the vocals
over the mixture's in dB, the mean over mixtures. Aligned pairs give voices only, and a folder
`validation` nothing. A model that was trained on these sources scores higher here than on new ones.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from scripts.folds import choose_fold, name_source, read_fold
from scripts.levels import LOUDNESS, RATE, Signal, read, rms
from splitter import separate
from splitter.loading import Model, load_model
from splitter.metrics import usdr
from splitter.training.augmentation import balance
from splitter.training.sources import Files, find_sources

SECONDS = 12  # of a mixture, at most
LONGEST = 600  # seconds of a recording that are looked at
LEVEL = -3.0  # dB, voice against music
SOUNDING = 0.1  # of a recording's RMS
TRIES = 20  # to find such a part
Paths = Mapping[str, list[Path]]


def sort_unheard(unheard: Iterable[Files]) -> tuple[Paths, Paths]:
    """Return voices and music, by source."""
    voices: Paths = defaultdict(list)
    music: Paths = defaultdict(list)
    for files in unheard:
        if files.name.startswith("validation/"):
            continue
        if files.vocals:
            voices[name_source(files)] += files.vocals
        elif files.instrumental:
            music[name_source(files)] += files.instrumental
    return voices, music


def mixtures(voices: Paths, music: Paths, times: int) -> Iterator[tuple[str, str, Signal, Signal]]:
    """Mix each folder of voices with each of music; yield both names, and voice and music."""
    random = np.random.default_rng(0)
    for singer in sorted(voices):
        for band in sorted(music):
            for _ in range(times):
                voice, piece = crop(voices[singer], random), crop(music[band], random)
                samples = min(voice.shape[1], piece.shape[1])
                piece = piece[:, :samples]
                voice = balance(voice[:, :samples], piece, LEVEL, RATE)
                scale = LOUDNESS / rms(voice + piece)
                yield singer, band, voice * scale, piece * scale


def crop(paths: list[Path], random: np.random.Generator) -> Signal:
    """Draw a part that is no pause of its recording."""
    for _ in range(TRIES):
        whole = read_once(paths[random.integers(len(paths))])
        start = int(random.integers(max(1, whole.shape[1] - SECONDS * RATE)))
        part = whole[:, start : start + SECONDS * RATE]
        if rms(part) > SOUNDING * rms(whole):
            break
    return part


@lru_cache(maxsize=100)
def read_once(path: Path) -> Signal:
    return read(path, LONGEST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    left_out = parser.add_mutually_exclusive_group(required=True)
    left_out.add_argument("--heard", type=Path, help="what the first model was trained on")
    left_out.add_argument("--fold", type=read_fold, help="what it was not trained on, such as 1/4")
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--times", type=int, default=1, help="that two folders are mixed")
    given = parser.parse_args()
    models: dict[str, Model] = {name: load_model(name) for name in given.model}
    gains: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    found = find_sources(given.data)
    if given.fold:
        fold = choose_fold(found, given.fold)
        unheard = [files for files in found if name_source(files) in fold]
    else:
        known = {files.name for files in find_sources(given.heard)}
        unheard = [files for files in found if files.name not in known]
    voices, music = sort_unheard(unheard)
    if not voices or not music:
        parser.error(f"{given.data}: holds no voices, or no music, that were not heard")
    for singer, band, voice, piece in mixtures(voices, music, given.times):
        song = voice + piece
        gained = [
            usdr(voice, separate(song, RATE, model)["vocals"]) - usdr(voice, song)
            for model in models.values()
        ]
        gains["voices", singer].append(gained)
        gains["music", band].append(gained)
        gains["all", "all"].append(gained)
    for kind in ("voices", "music", "all"):
        print(f"\n| {kind} | mixtures |", " | ".join(models), "|\n|---|--:|" + "--:|" * len(models))
        for (of, name), scores in gains.items():
            if of == kind:
                means = " | ".join(f"{mean:.2f}" for mean in np.mean(scores, axis=0))
                print(f"| {name} | {len(scores)} | {means} |")


if __name__ == "__main__":
    main()

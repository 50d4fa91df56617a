"""Compare models on sources that the first of them never heard, source by source.

    python -m scripts.unheard DATA --heard FREE --model unet-free --model unet

DATA is what `splitter train` reads; FREE the part of it that the first model was trained on
(`scripts/licensed.py` makes one). Voices that FREE lacks, of each folder, are mixed with music that
it lacks, of each folder, at −3 dB; the tables have the SDR of the vocals over the mixture's in dB,
the mean over mixtures. Aligned pairs give voices only, and a folder `validation` nothing. A model
that was trained on these sources scores higher here than on new ones.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from scripts.levels import LOUDNESS, RATE, Signal, read, rms
from splitter import separate
from splitter.loading import Model, load_model
from splitter.metrics import usdr
from splitter.training.augmentation import balance
from splitter.training.sources import find_sources

SECONDS = 12  # of a mixture, at most
LONGEST = 600  # seconds of a recording that are looked at
LEVEL = -3.0  # dB, voice against music
SOUNDING = 0.1  # of a recording's RMS
TRIES = 20  # to find such a part
Paths = Mapping[str, list[Path]]


def list_unheard(data: Path, heard: Path) -> tuple[Paths, Paths]:
    """Return the voices and the music that `heard` lacks, by folder."""
    known = {source.name for source in find_sources(heard)}
    voices, music = defaultdict(list), defaultdict(list)
    for source in find_sources(data):
        if source.name in known or source.name.startswith("validation/"):
            continue
        is_pair = source.vocals and source.instrumental  # a folder each: their data set's name
        folder = source.name.split("/")[0] if is_pair else source.name.rpartition("/")[0]
        if source.vocals:
            voices[folder].append(source.vocals)
        elif source.instrumental:
            music[folder].append(source.instrumental)
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
    parser.add_argument("--heard", type=Path, required=True)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--times", type=int, default=1, help="that two folders are mixed")
    given = parser.parse_args()
    models: dict[str, Model] = {name: load_model(name) for name in given.model}
    gains: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    voices, music = list_unheard(given.data, given.heard)
    if not voices or not music:
        parser.error(f"{given.data}: holds no voices, or no music, that {given.heard} lacks")
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

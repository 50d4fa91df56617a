"""Say how well models separate sources that one of them never heard, source by source.

    python -m scripts.unheard DATA --heard FREE --model unet-free --model unet

DATA is what `splitter train` reads; FREE the part of it that the first model was trained on
(`scripts/licensed.py` makes one). Every folder of voices that FREE lacks is mixed with every folder
of music that it lacks, at −3 dB. The tables have the SDR of the vocals over the mixture's, dB, the
mean over mixtures. What a model is ahead here that has heard the sources, it is not ahead where
they are new to it as well.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from scripts.levels import RATE, Signal, mix, read, rms, sdr
from splitter import separate
from splitter.loading import Model, load_model
from splitter.training.sources import find_sources

SECONDS = 12  # of a mixture, at most
LONGEST = 600  # seconds of a recording that are looked at
LEVEL = -3.0  # dB, voice against music
SILENT = 1e-4  # RMS: a crop in which nobody sings
Paths = Mapping[str, list[Path]]


def list_unheard(data: Path, heard: Path) -> tuple[Paths, Paths]:
    """Return voices and music, by folder, of which `heard` has none."""
    known = {source.name for source in find_sources(heard)}
    voices, music = defaultdict(list), defaultdict(list)
    for source in find_sources(data):
        parts = source.name.split("/")
        if source.name in known or "validation" in parts:
            continue
        # karaoke clips are one source; of other pairs voice and music are known together
        folder = parts[0] if source.vocals and source.instrumental else parts[-2]
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
                voice = crop(voices[singer], random)
                piece = crop(music[band], random)
                samples = min(voice.shape[1], piece.shape[1])
                voice, piece = voice[:, :samples], piece[:, :samples]
                if min(rms(voice), rms(piece)) > SILENT:
                    yield singer, band, *mix(voice, piece, LEVEL)


def crop(paths: list[Path], random: np.random.Generator) -> Signal:
    whole = read(paths[random.integers(len(paths))], LONGEST)
    start = int(random.integers(max(1, whole.shape[1] - SECONDS * RATE)))
    return whole[:, start : start + SECONDS * RATE]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--heard", type=Path, required=True)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--times", type=int, default=1, help="that two folders are mixed")
    given = parser.parse_args()
    models: dict[str, Model] = {name: load_model(name) for name in given.model}
    gains: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for singer, band, voice, piece in mixtures(*list_unheard(given.data, given.heard), given.times):
        song = voice + piece
        gained = [
            sdr(voice, separate(song, RATE, model)["vocals"]) - sdr(voice, song)
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

"""Say what a score does not: SDR and level of each band, and how loud vocals are in pauses.

    python scripts/listen.py DATA --model unet --model unet-fast [--seconds 60]
    python scripts/listen.py song.mp3 --model unet --model unet-fast

DATA holds folders of `<song>/vocals.*` and `<song>/instrumental.*`. In brackets are a band's level
against the true vocals' and the number of pauses: half seconds in which these are 40 dB below the
song. What is left there is given against the song, too. Long pauses are four such half seconds or
more: the level that nine of ten of them stay below, and how many there are. The last rows have
those of all songs. All in dB.

Of a song whose vocals nobody knows, pauses are the half seconds in which the models leave less than
−12 dB of it, in the mean of their dB: so they tell models apart, and none of them from the truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfilt

from splitter import separate
from splitter.audio import open_song
from splitter.datasets import find_stem, require_alike
from splitter.loading import Model, load_model

Signal = npt.NDArray[np.float32]  # (channels, samples)
Energies = npt.NDArray[np.float32]  # mean squares, one each PAUSE
Mask = npt.NDArray[np.bool_]
BANDS = ((50, 1000), (1000, 4000), (4000, 8000), (8000, 16000))  # Hz
PAUSE = 0.5  # s
LONG = 4  # pauses, one after the other
PAUSE_LEVEL = 1e-4  # of the song's energy
AGREED_PAUSE = -12  # dB against the song
HEARD = 1e-7  # mean square of a song that is not silent itself


def read(path: Path, seconds: float) -> tuple[Signal, int]:
    with open_song(path) as reader:
        whole = np.concatenate(list(reader.read_blocks()), axis=-1)
        return whole[:, : round(seconds * reader.rate)], reader.rate


def decibels(part: npt.ArrayLike, whole: npt.ArrayLike) -> npt.NDArray[np.float64]:
    ratio: npt.NDArray[np.float64] = np.maximum(part, 1e-12) / np.maximum(whole, 1e-12)
    return 10 * np.log10(ratio)


def energies(signal: Signal, rate: int) -> Energies:
    """Return the mean square of each half second."""
    size = round(PAUSE * rate)
    count = signal.shape[1] // size
    parts = signal[:, : count * size].reshape(len(signal), count, size)
    squares: Energies = np.square(parts).mean((0, 2))
    return squares


def level_in(pauses: Mask, left: Energies, whole: Energies) -> str:
    """Say what is left of the song in pauses, and how many they are."""
    level = f"{decibels(left[pauses].sum(), whole[pauses].sum()):.1f} " if pauses.any() else ""
    return f"{level}({pauses.sum()})"


def long_pauses(pauses: Mask, left: Energies, whole: Energies) -> list[float]:
    """Return what is left of the song, dB, in each pause of two seconds or more."""
    edges = np.flatnonzero(np.diff(np.r_[False, pauses, False]))  # where one begins, and ends
    runs = [slice(*edge) for edge in edges.reshape(-1, 2) if edge[1] - edge[0] >= LONG]
    return [float(decibels(left[run].sum(), whole[run].sum())) for run in runs]


def tell_worst(levels: Sequence[float]) -> str:
    return f"{np.percentile(levels, 90):.1f} ({len(levels)})" if levels else "(0)"


def tell_bands(vocals: Signal, estimate: Signal, rate: int) -> str:
    told = []
    for low, high in BANDS:
        if high >= rate / 2:
            told.append("")
            continue
        band = butter(6, (low, high), "bandpass", fs=rate, output="sos")
        truth, heard = sosfilt(band, vocals), sosfilt(band, estimate)
        energy = np.square(truth).sum()
        sdr = decibels(energy, np.square(truth - heard).sum())
        told.append(f"{sdr:.2f} ({decibels(np.square(heard).sum(), energy):+.1f})")
    return " | ".join(told)


def compare_bands(data: Path, models: Mapping[str, Model], seconds: float) -> None:
    heads = [f"{low} to {high} Hz" for low, high in BANDS]
    print("| song | model |", " | ".join(heads), "| pauses | long pauses |")
    print("|---|---|" + "--:|" * (len(BANDS) + 2))
    of_all: dict[str, list[float]] = {name: [] for name in models}
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        first, path = (find_stem(folder, [name]) for name in ("vocals", "instrumental"))
        if first is None or path is None:
            raise SystemExit(f"{folder}: has not both vocals.* and instrumental.*")
        vocals, rate = read(first, seconds)
        music, music_rate = read(path, seconds)
        samples = min(vocals.shape[1], music.shape[1])
        vocals, music = vocals[:, :samples], music[:, :samples]
        require_alike(path, (music, music_rate), "the vocals", (vocals, rate))
        song = vocals + music
        whole = energies(song, rate)
        pauses = (energies(vocals, rate) < PAUSE_LEVEL * whole) & (whole > HEARD)
        for name, model in models.items():
            estimate = separate(song, rate, model)["vocals"]
            left = energies(estimate, rate)
            levels = long_pauses(pauses, left, whole)
            of_all[name] += levels
            told = (tell_bands(vocals, estimate, rate), level_in(pauses, left, whole))
            print("|", " | ".join((folder.name, name, *told, tell_worst(levels))), "|", flush=True)
    for name, levels in of_all.items():
        print("|", " | ".join(("all", name, *[""] * (len(BANDS) + 1), tell_worst(levels))), "|")


def compare_pauses(path: Path, models: Mapping[str, Model], seconds: float) -> None:
    song, rate = read(path, seconds)
    whole = energies(song, rate)
    left = {
        name: energies(separate(song, rate, model)["vocals"], rate)
        for name, model in models.items()
    }
    levels = {name: decibels(part, whole) for name, part in left.items()}
    pauses = (np.mean([*levels.values()], axis=0) < AGREED_PAUSE) & (whole > HEARD)
    print("| model | pauses | mean of their dB | long pauses |\n|---|--:|--:|--:|")
    for name, part in left.items() if pauses.any() else ():
        worst = tell_worst(long_pauses(pauses, part, whole))
        mean = levels[name][pauses].mean()
        print(f"| {name} | {level_in(pauses, part, whole)} | {mean:.1f} | {worst} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--seconds", type=float, default=60, help="of each song")
    given = parser.parse_args()
    models = {name: load_model(name) for name in given.model}
    compare = compare_bands if given.data.is_dir() else compare_pauses
    compare(given.data, models, given.seconds)


if __name__ == "__main__":
    main()

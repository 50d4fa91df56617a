"""Say what levels and sides do to vocals: a quiet voice, a quiet song, a song on one side.

    python scripts/levels.py DATA --model unet --model unet-fast [--clips 4]

Voices are clips of the five singers in DATA/mir1k/test that no shipped model has heard, music is
DATA/validation/*/instrumental.*, which none has heard either; each voice is mixed with each music.
The first table is SDR over the mixture by the level of the voice against the music, the second the
SDR of the voice where the same mixture is changed. All in dB, the mean over mixtures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splitter import separate
from splitter.audio import open_song, resample_signal
from splitter.loading import Model, load_model
from splitter.metrics import usdr

Signal = npt.NDArray[np.float32]  # (channels, samples)
RATE = 44100  # Hz
SINGERS = ("ariel", "davidson", "fdps", "khair", "titon")
LEVELS = (-15, -10, -5, 0, 5)  # dB, voice against music
LOUDNESS = 0.1  # RMS of a mixture, −20 dBFS


def gain(level: float) -> float:
    return float(10 ** (level / 20))


def sides(left: float, right: float) -> Callable[[Signal], Signal]:
    return lambda signal: signal * np.array([[left], [right]], np.float32)


# what is done to voice and music alike
CHANGES: Mapping[str, Callable[[Signal], Signal]] = {
    "as it is": sides(1, 1),
    "+20 dB": sides(10, 10),
    "−20 dB": sides(gain(-20), gain(-20)),
    "−40 dB": sides(gain(-40), gain(-40)),
    "−60 dB": sides(gain(-60), gain(-60)),
    "left only": sides(1, 0),
    "right −32 dB": sides(1, gain(-32)),
    "left −12 dB": sides(gain(-12), 1),
    "sides swapped": lambda signal: signal[::-1],
    "right inverted": sides(1, -1),
    "mono in two channels": lambda signal: signal[[0, 0]],
}


def read(path: Path, seconds: float) -> Signal:
    with open_song(path) as song:
        whole = np.concatenate(list(song.read_blocks()), axis=-1)[:, : round(seconds * song.rate)]
        stereo = np.repeat(whole, 2, axis=0) if len(whole) == 1 else whole[:2]
        return resample_signal(stereo, song.rate, RATE)


def rms(signal: Signal) -> float:
    return float(np.sqrt(np.mean(np.square(signal))))


def mix(voice: Signal, music: Signal, level: float) -> tuple[Signal, Signal]:
    """Return voice and music at `level` dB of each other, together as loud as LOUDNESS."""
    voice = voice * gain(level) * rms(music) / rms(voice)
    scale = LOUDNESS / rms(voice + music)
    return voice * scale, music * scale


def mixtures(data: Path, clips: int) -> Iterator[tuple[Signal, Signal]]:
    """Pair each voice with each music, of its length."""
    found = [
        path
        for singer in SINGERS
        for path in sorted(data.glob(f"mir1k/test/{singer}_*/vocals.*"))[:clips]
    ]
    pieces = [read(path, 60) for path in sorted(data.glob("validation/*/instrumental.*"))]
    if not found or not pieces:
        missing = "validation/*/instrumental.*" if found else f"mir1k/test/{SINGERS[0]}_*/vocals.*"
        raise SystemExit(f"{data}: has no {missing}; give the folder that holds both")
    for number, (path, music) in enumerate(product(found, pieces)):
        voice = read(path, 60)
        samples = min(voice.shape[1], music.shape[1])
        start = number * RATE % (music.shape[1] - samples + 1)  # another place each time
        yield voice[:, :samples], music[:, start : start + samples]


def by_level(pairs: list[tuple[Signal, Signal]], models: Mapping[str, Model]) -> None:
    print("| voice against music |", " | ".join(f"{level:+d} dB" for level in LEVELS), "|")
    print("|---|" + "--:|" * len(LEVELS))
    for name, model in models.items():
        gained = []
        for level in LEVELS:
            mixed = [mix(voice, music, level) for voice, music in pairs]
            scores = [
                usdr(voice, separate(voice + music, RATE, model)["vocals"])
                - usdr(voice, voice + music)
                for voice, music in mixed
            ]
            gained.append(f"{np.mean(scores):.2f}")
        print(f"| {name} |", " | ".join(gained), "|", flush=True)


def by_change(pairs: list[tuple[Signal, Signal]], models: Mapping[str, Model]) -> None:
    print("\n| vocals SDR |", " | ".join(models), "|\n|---|" + "--:|" * len(models))
    mixed = [mix(voice, music, -3) for voice, music in pairs]
    for name, change in CHANGES.items():
        report(name, [(change(voice), change(music)) for voice, music in mixed], models)
    apart = [(sides(1, 0)(voice), sides(0, 1)(music)) for voice, music in mixed]
    report("voice left, music right", apart, models)
    report("offset of 0.1", mixed, models, lambda song: np.asarray(song + 0.1, np.float32))


def report(
    name: str,
    mixed: list[tuple[Signal, Signal]],
    models: Mapping[str, Model],
    disturb: Callable[[Signal], Signal] = lambda song: song,
) -> None:
    scores = []
    for model in models.values():
        told = [
            usdr(voice, separate(disturb(voice + music), RATE, model)["vocals"])
            for voice, music in mixed
        ]
        scores.append(f"{np.mean(told):.2f}")
    print(f"| {name} |", " | ".join(scores), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--clips", type=int, default=4, help="of each singer")
    given = parser.parse_args()
    models = {name: load_model(name) for name in given.model}
    pairs = list(mixtures(given.data, given.clips))
    by_level(pairs, models)
    by_change(pairs, models)


if __name__ == "__main__":
    main()

"""Write simulated voices and music to a folder that `splitter train` reads.

python scripts/simulate.py FOLDER --minutes 30
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from splitter.audio import Block
from splitter.cli.progress import watch_items
from splitter.cli.screen import Screen
from splitter.training.simulation import simulate_music, simulate_voice

SECONDS = 30.0  # a file
PARTS: dict[str, Callable[[float, int, np.random.Generator], Block]] = {
    "vocals": simulate_voice,
    "instrumental": simulate_music,
}


def main() -> None:
    """Write as many files of each part as the minutes hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0, help="of each part")
    parser.add_argument("--rate", type=int, default=44100, help="Hz")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    count = round(arguments.minutes * 60 / SECONDS)
    for index in watch_items(Screen(), range(count), "writing", count, "files"):
        for number, (part, simulate) in enumerate(PARTS.items()):
            random = np.random.default_rng((arguments.seed, index, number))
            path = arguments.folder / part / "simulated" / f"{index:04}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, simulate(SECONDS, arguments.rate, random).T, arguments.rate)


if __name__ == "__main__":
    main()

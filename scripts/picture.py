"""Draw spectrograms of a part of three files: of a song, its vocals and its instrumental.

splitter separate song.ogg -o stems
python scripts/picture.py song.ogg stems/song/vocals.wav stems/song/instrumental.wav docs/song.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from splitter.audio import Reading, open_song
from splitter.pages.pictures import COLUMNS, ROWS, Levels, Scale, cut_tiles, find_levels

TITLES = ("song", "vocals", "instrumental")


def draw(path: Path, start: float, seconds: float) -> Levels:
    """Draw a part of a file: (rows, columns)."""
    with open_song(path, Reading(start, seconds)) as song:
        scale = Scale(song.rate)
        tiles = cut_tiles(song.read_blocks(), scale)
        return np.concatenate([find_levels(tile, scale) for tile in tiles], axis=1)


def main() -> None:
    """Draw three files below each other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs=3, type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--titles", nargs=3, default=TITLES)
    parser.add_argument("--start", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    asked = parser.parse_args()

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(3, 1, figsize=(10, 6), sharex=True, layout="constrained")
    for axes, title, path in zip(rows, asked.titles, asked.files, strict=True):
        levels = draw(path, asked.start, asked.seconds)
        extent = (0, levels.shape[1] / COLUMNS, 0, ROWS)
        axes.imshow(levels, cmap="magma", aspect="auto", vmin=0, vmax=255, extent=extent)
        axes.set_ylabel(title)
        edges = Scale(44100).bins * 44100 / Scale(44100).window  # Hz
        marks = (200, 1000, 4000, 12000)
        axes.set_yticks([int(np.searchsorted(edges, mark)) for mark in marks])
        axes.set_yticklabels([f"{mark} Hz" for mark in marks], fontsize=8)
    rows[-1].set_xlabel("seconds")
    figure.savefig(asked.target, dpi=100, pil_kwargs={"quality": 80})


if __name__ == "__main__":
    main()

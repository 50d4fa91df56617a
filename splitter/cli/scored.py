"""`splitter evaluate --page`: the table, and a page for each song to hear what was scored."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from splitter.cli.screen import Screen, State
from splitter.paths import place_inside

if TYPE_CHECKING:
    from splitter.datasets import Song
    from splitter.evaluation.summary import Results
    from splitter.evaluation.systems import Separate, System
    from splitter.pages import Curve, Take

REFERENCE = "reference"
WINDOW = 1.0  # seconds of a window score
CURVE = "SDR"
_EDGE = re.compile(r"(?<!\\)\|")  # between two cells of a table


def write_pages(
    screen: Screen,
    folder: Path,
    songs: Sequence[Song],
    systems: Sequence[System],
    results: Results,
) -> Path:
    """Write a page for each song that was scored, and an index with the table; return the index.

    The systems separate the songs again: scores are kept from run to run, sound is not.
    """
    from splitter.evaluation.summary import make_table
    from splitter.pages import Listing, write_index, write_page

    scored = {scores.song: scores for scores in results.scores}
    separators = {system.name: system.start() for system in systems}
    listings = []
    for song in songs:
        if song.label in scored:
            screen.show(State(f"drawing {song.label}"))
            place = place_inside(folder, song.label)
            takes = list(_write_takes(place, song, separators))
            curves = {
                (name, stem): [_make_curve(scores.windows[CURVE])]
                for name, stems in scored[song.label].systems.items()
                for stem, scores in stems.items()
                if CURVE in scores.windows
            }
            page = write_page(place / "listen.html", song.label, takes, curves)
            listings.append(Listing(song.label, page))
    table = "".join(_make_tables(make_table(results)))
    return write_index(folder / "index.html", "Scores", listings, table)


def _make_curve(windows: Sequence[float]) -> Curve:
    from splitter.pages import Curve

    return Curve(CURVE, WINDOW, windows)


def _write_takes(place: Path, song: Song, separators: dict[str, Separate]) -> Iterator[Take]:
    """Write what is compared as files: the song's true stems, then each system's."""
    from splitter.audio import OutputFormat, write_stems
    from splitter.evaluation.scoring import STEMS
    from splitter.pages import Take

    tracks = song.load()
    yours = {name: separate(song, tracks) for name, separate in separators.items()}
    for name, signals in {REFERENCE: (tracks.vocals, tracks.instrumental), **yours}.items():
        targets = {stem: place_inside(place, name) / f"{stem}.flac" for stem in STEMS}
        channels = signals[0].shape[0]
        with write_stems(targets, tracks.rate, channels, OutputFormat("flac", 16)) as writers:
            for stem, signal in zip(STEMS, signals, strict=True):
                writers[stem].write(np.asarray(signal, np.float32))
        yield Take(name, targets)


def _make_tables(markdown: str) -> Iterator[str]:
    """Make HTML of the tables and notes of `scores.md`."""
    from splitter.evaluation.summary import BAR

    for part in markdown.split("\n\n"):
        lines = part.strip().splitlines()
        if part.startswith("|"):
            split = [_EDGE.split(line)[1:-1] for line in lines]
            rows = [[cell.strip().replace(BAR, "|") for cell in cells] for cells in split]
            cells = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows[2:]]
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
            body = "".join(f"<tr>{row}</tr>" for row in cells)
            yield f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
        else:
            yield "".join(f"<p>{html.escape(line.removeprefix('- '))}</p>" for line in lines)

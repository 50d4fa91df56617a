"""From scores of songs to what a paper prints: means, medians, a table, and `scores.json`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from splitter.atomic import write_atomically
from splitter.errors import DataError, SplitterError, reason
from splitter.evaluation.scoring import DIGITS, STEMS, Failure, SongScores, encode, to_json
from splitter.metrics import weighted_mean
from splitter.version import __version__

SCHEMA = 1
ROUNDING_DB = 100.0  # a ratio above is not measured any more: what is left is rounding
SCORED = "Scored:"  # how a table begins
NAMES_SHOWN = 5
BAR = r"\|"  # in a cell of a Markdown table, which a mere bar would end
# what papers on MIR-1K print of BSSEval v3: the means by length
GLOBAL_NAMES = {"NSDR": "GNSDR", "SIR v3": "GSIR", "SAR v3": "GSAR"}
UNPRINTED = {"SDR v3"}


@dataclass(frozen=True)
class Results:
    """All that was scored, and what it was scored on."""

    data: Mapping[str, str]  # what the songs are: folder, data set, split
    systems: Mapping[str, str]  # name -> what it is
    timed: frozenset[str]  # systems whose time is that of separating
    metrics: Sequence[str]
    scores: Sequence[SongScores]
    failures: Sequence[Failure]

    def names_of_values(self) -> list[str]:
        """Name the values that each stem has."""
        for song in self.scores:
            for stems in song.systems.values():
                return list(stems[STEMS[0]].values)
        return []


@dataclass(frozen=True)
class Summary:
    """One value of one stem of one system, over songs."""

    median: float  # dB
    mean: float  # dB
    weighted: float  # dB, mean by length of the song
    songs: int  # that have the value
    left_out: tuple[str, ...]  # that have none: the stem, or its estimate, is silent


def summarise(scores: Sequence[SongScores], system: str, stem: str, name: str) -> Summary:
    """Sum up a value; songs that have none are in no mean, and named."""
    values = [(song, song.systems[system][stem].values[name]) for song in scores]
    scored = [(song.seconds, value) for song, value in values if not math.isnan(value)]
    left_out = tuple(song.song for song, value in values if math.isnan(value))
    if not scored:
        return Summary(math.nan, math.nan, math.nan, 0, left_out)
    seconds, only = zip(*scored, strict=True)
    mean, weighted = (weighted_mean(only, by) for by in ([1.0] * len(only), seconds))
    return Summary(median(only), mean, weighted, len(only), left_out)


def write_scores(path: Path, results: Results) -> None:
    """Write `scores.json`, whole or not at all; the same scores give the same bytes."""
    content = {
        "format": "splitter scores",
        "schema": SCHEMA,
        "splitter": __version__,
        "data": dict(results.data),
        "metrics": list(results.metrics),
        "systems": dict(results.systems),
        "summary": {
            system: {
                stem: {
                    name: _summary_to_json(summarise(results.scores, system, stem, name))
                    for name in results.names_of_values()
                }
                for stem in STEMS
            }
            for system in results.systems
        },
        "failed": {failure.song: failure.message for failure in results.failures},
        "songs": [to_json(song) for song in results.scores],
    }
    _write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def check_table(path: Path) -> None:
    """Raise DataError for a file, there already, that is no table of ours."""
    _check_beginning(path, re.escape(SCORED), "table of scores")


def check_scores(path: Path) -> None:
    """Raise DataError for a file, there already, that holds no scores of ours, or its journal."""
    _check_beginning(path, r'\s*\{\s*"format": "splitter scores"', "file of scores")
    journal = path.with_suffix(".jsonl")
    _check_beginning(journal, r'\s*(\{"key": ".*)?$', "journal of scores")


def _check_beginning(path: Path, pattern: str, kind: str) -> None:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            if not re.match(pattern, file.read(100), re.DOTALL):
                raise DataError(f"{path}: is no {kind}; choose another --output")
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error


def write_table(path: Path, results: Results) -> None:
    """Write the Markdown table, whole or not at all."""
    _write_text(path, make_table(results))


def make_table(results: Results) -> str:
    """Make a Markdown table a stem, with what must be known to read them."""
    parts = [f"{SCORED} {_join_lines(_describe(results))}.\n"]
    parts += [_make_stem_table(results, stem) for stem in STEMS]
    parts.append("".join(f"- {_join_lines(note)}\n" for note in _note(results)))
    return "\n".join(parts)


def format_song(scores: SongScores, system: str) -> str:
    """Make one line of a song's scores."""
    stems = [
        " ".join([stem, *(f"{name} {_format(v)}" for name, v in part.values.items())])
        for stem, part in scores.systems[system].items()
    ]
    return _join_lines("  ".join([scores.song, system, *stems]))


def _make_stem_table(results: Results, stem: str) -> str:
    names = [name for name in results.names_of_values() if name not in UNPRINTED]
    header = [stem, *(GLOBAL_NAMES.get(name, name) for name in names), "s/min"]
    rows = [
        [
            _join_lines(system).replace("|", BAR),
            *(
                _format_summary(name, summarise(results.scores, system, stem, name))
                for name in names
            ),
            _format_speed(results, system),
        ]
        for system in results.systems
    ]
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _describe(results: Results) -> str:
    minutes = sum(song.seconds for song in results.scores) / 60
    data = ", ".join(f"{key} {value}" for key, value in results.data.items() if value)
    return f"{_count(len(results.scores))}, {minutes:.1f} min; {data}"


def _note(results: Results) -> Iterator[str]:
    names = set(results.names_of_values())
    yield "dB; median / mean over songs. s/min: seconds of one process for a minute of sound."
    if "SDR" in names:
        yield "SDR: BSSEval v4, median over the windows (1 s) of a song."
    if "ISR" in names:
        yield "ISR, SIR, SAR: BSSEval v4 by museval, median over the windows (1 s) of a song."
    if "NSDR" in names:
        yield "GNSDR, GSIR, GSAR: BSSEval v3, mean by length; NSDR is SDR above the mixture's."
    for what in dict.fromkeys(filter(None, results.systems.values())):
        yield f"{', '.join(n for n, w in results.systems.items() if w == what)}: {what}."
    yield from _note_gaps(results)
    if results.failures:
        failed = _name_some([failure.song for failure in results.failures])
        yield f"{_count(len(results.failures))} could not be scored: {failed}."


def _note_gaps(results: Results) -> Iterator[str]:
    """Say which songs are in no mean, with one note for all systems and values alike."""
    gaps: dict[tuple[str, tuple[str, ...]], tuple[dict[str, None], dict[str, None]]] = {}
    for stem in STEMS:
        for system in results.systems:
            for name in results.names_of_values():
                left_out = summarise(results.scores, system, stem, name).left_out
                systems, names = gaps.setdefault((stem, left_out), ({}, {}))
                systems[system] = names[name] = None
    for (stem, songs), (systems, names) in gaps.items():
        if songs:
            whose = "all" if len(systems) == len(results.systems) else ", ".join(systems)
            yield (
                f"{stem}, {', '.join(names)} of {whose}: without {_count(len(songs))} that have no "
                f"score, because a stem or its estimate is silent: {_name_some(songs)}."
            )


def _summary_to_json(summary: Summary) -> dict[str, Any]:
    return {
        "median": encode(round(summary.median, DIGITS)),
        "mean": encode(round(summary.mean, DIGITS)),
        "weighted": encode(round(summary.weighted, DIGITS)),
        "songs": summary.songs,
        "left_out": len(summary.left_out),
    }


def _format_summary(name: str, summary: Summary) -> str:
    if name in GLOBAL_NAMES:
        return _format(summary.weighted)
    return f"{_format(summary.median)} / {_format(summary.mean)}"


def _format_speed(results: Results, system: str) -> str:
    seconds = sum(song.seconds for song in results.scores)
    if system not in results.timed or not seconds:
        return "–"
    return f"{sum(song.took[system] for song in results.scores) / (seconds / 60):.2f}"


def _format(value: float) -> str:
    if math.isnan(value):
        return "–"
    if abs(value) > ROUNDING_DB:
        return "∞" if value > 0 else "−∞"
    return f"{value:.2f}"


def _join_lines(text: str) -> str:
    """Return a text in one line, as names of files may have several."""
    return " ".join(text.splitlines())


def _count(songs: int) -> str:
    return f"{songs} song{'s' if songs != 1 else ''}"


def _name_some(songs: Iterable[str]) -> str:
    names = list(songs)
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _write_text(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise SplitterError(f"{path}: cannot be written ({reason(error)})") from error

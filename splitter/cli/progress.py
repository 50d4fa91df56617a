"""How far a song is: a bar for people, lines of JSON for programs, on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from splitter.cli.messages import printable

if TYPE_CHECKING:
    from splitter.audio import SongReader
    from splitter.separation import Stems
    from splitter.songs import Watch

PROGRESS = ("bar", "json", "none")
_KNOWN = "{desc}: {percentage:3.0f}% |{bar}| {n:.0f}/{total:.0f} s of song, {rate_noinv_fmt}"
_UNKNOWN = "{desc}: {n:.0f} s of song, {rate_noinv_fmt}"


def choose_watch(kind: str) -> Watch:
    """Return what shows the progress of a song; `kind` is one of PROGRESS."""
    if kind == "json":
        return _with_lines
    return _with_bar if kind == "bar" and sys.stderr.isatty() else _unshown


def _unshown(_: SongReader, stems: Iterator[Stems]) -> Iterator[Stems]:
    return stems


def _with_bar(song: SongReader, stems: Iterator[Stems]) -> Iterator[Stems]:
    """Show how many seconds of the song are done, and how many times real time that is."""
    total = _length(song)
    shape = _UNKNOWN if total is None else _KNOWN
    name = printable(song.source.rpartition("/")[2])
    with tqdm(desc=name, total=total, unit="× real time", bar_format=shape) as bar:
        for block in stems:
            yield block
            bar.update(_samples(block) / song.rate)


def _with_lines(song: SongReader, stems: Iterator[Stems]) -> Iterator[Stems]:
    """Write a JSON object for each block: song, seconds done, seconds in all (null: unknown)."""
    done = 0
    for block in stems:
        yield block
        done += _samples(block)
        state = {"song": song.source, "done": done / song.rate, "total": _length(song)}
        click.echo(json.dumps(state), err=True)


def _length(song: SongReader) -> float | None:
    return None if song.samples is None else song.samples / song.rate


def _samples(block: Stems) -> int:
    return int(next(iter(block.values())).shape[-1])

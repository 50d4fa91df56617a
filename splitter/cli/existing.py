"""Whether stems that are there already are those that a command would make.

Their names alone tell little: they may be of a part of the song, or by another model. So their
lengths are compared with the song's, their rate, channels and bits with what is asked for, and so
is the model that their mark names.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from splitter.audio import (
    OutputFormat,
    Reading,
    SongReader,
    find_shape,
    fit_format,
    open_song,
    read_mark,
)
from splitter.errors import SplitterError
from splitter.jobs import Job
from splitter.paths import is_file, is_local, is_pipe
from splitter.registry import ModelChoice

MARGIN = 0.05  # seconds: what encoders add and round, and nobody means by another length

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Existing:
    """What is known of stems that are there already."""

    made: frozenset[Path]  # those that splitter made, and may make again
    other: str | None  # why they are not what is asked for
    unknown: str | None  # what cannot be known of them


@dataclass(frozen=True)
class Sound:
    """How a file sounds; None for what is not known for sure."""

    seconds: float | None = None
    rate: int | None = None  # Hz
    channels: int | None = None
    bits: int | None = None


def look_at_stems(
    job: Job, reading: Reading, model: ModelChoice, wanted: OutputFormat
) -> Existing | None:
    """Compare a song's stems with what is asked for; None if some, not ours, or all are missing."""
    stems = [path for path in job.stems.values() if job.sees(path)]
    if not stems:
        return None
    if not all(map(is_local, [job.song, *stems])):
        if len(stems) < len(job.stems):
            return None
        return Existing(frozenset(), None, "in a store only their names are compared")
    if not all(map(is_file, stems)):  # a pipe, say, which nobody writes to
        return None
    marks = {path: read_mark(path) for path in stems}
    made = frozenset(path for path, mark in marks.items() if mark)
    if len(stems) < len(job.stems):
        ours = all(mark and mark.model_hash == model.hash for mark in marks.values())
        return Existing(made, "one is missing", None) if ours else None
    by = {mark.model for mark in marks.values() if mark and mark.model_hash != model.hash}
    if by:
        return Existing(made, f"made by another model ({', '.join(sorted(by))})", None)
    song = Sound() if is_pipe(job.song) else _expect(job.song, reading, wanted)
    sounds = {path: _measure(path) for path in stems}
    for path, sound in sounds.items():
        if difference := _compare(sound, song):
            return Existing(made, f"{path.name} {difference}", None)
    unknown = [] if len(made) == len(stems) else ["which model made them"]
    if song.seconds is None or any(sound.seconds is None for sound in sounds.values()):
        unknown.append("how long they are")
    if reading.start or reading.duration is not None:
        unknown.append("which part of the song they are")
    if reading.track is not None:
        unknown.append("of which track they are")
    words = f"it is not known {' and '.join(unknown)}"
    return Existing(made, None, words if unknown else None)


def _compare(stem: Sound, wanted: Sound) -> str | None:
    """Say what tells a stem from the one that is asked for; None if nothing does."""
    lasts, should = stem.seconds, wanted.seconds
    if lasts is not None and should is not None and abs(lasts - should) > MARGIN:
        return f"lasts {lasts:.2f} s instead of {should:.2f} s"
    for name, unit in (("rate", "Hz"), ("channels", "channels"), ("bits", "bits")):
        one, other = getattr(stem, name), getattr(wanted, name)
        if one is not None and other is not None and one != other:
            return f"has {one} {unit} instead of {other}"
    return None


def _expect(song: Path, reading: Reading, wanted: OutputFormat) -> Sound:
    """Say how the stems of a song should sound."""
    try:
        with open_song(song, reading) as opened:
            settled = fit_format(wanted, opened.rate, opened.channels, opened.bits)
            rate, channels = find_shape(wanted, opened.rate, opened.channels)
            # whoever reads opus gets 48 kHz; a peak may have made a file one of floats
            told = None if wanted.container == "opus" else rate
            fixed = wanted.bits and wanted.clip != "float" and not settled.bitrate
            bits = settled.bits if fixed else None
            return Sound(_tell_seconds(opened), told, channels, bits)
    except SplitterError:
        return Sound()


def _measure(path: Path) -> Sound:
    """Say how a file sounds."""
    try:
        with open_song(path) as song:
            return Sound(_tell_seconds(song), song.rate, song.channels, song.bits)
    except SplitterError:
        return Sound()


def _tell_seconds(song: SongReader) -> float | None:
    return song.samples / song.rate if song.samples is not None and song.sure else None

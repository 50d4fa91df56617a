"""Whether stems that are there already are those that a command would make.

Their names alone tell little: they may be of a part of the song, or by another model. So their
lengths are compared with the song's, and the model that their mark names with the one asked for.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from splitter.audio import Reading, open_song, read_mark
from splitter.errors import SplitterError
from splitter.jobs import Job
from splitter.paths import is_local, is_pipe
from splitter.registry import ModelChoice

MARGIN = 0.05  # seconds: what encoders add and round, and nobody means by another length

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Existing:
    """What is known of stems that are there already."""

    made: frozenset[Path]  # those that splitter made, and may make again
    other: str | None  # why they are not what is asked for
    unknown: str | None  # what cannot be known of them


def look_at_stems(job: Job, reading: Reading, model: ModelChoice) -> Existing | None:
    """Compare a song's stems with what is asked for; None if some, not ours, or all are missing."""
    stems = [path for path in job.stems.values() if job.sees(path)]
    if not stems:
        return None
    if not all(map(is_local, [job.song, *stems])):
        if len(stems) < len(job.stems):
            return None
        return Existing(frozenset(), None, "in a store only their names are compared")
    marks = {path: read_mark(path) for path in stems}
    made = frozenset(path for path, mark in marks.items() if mark)
    if len(stems) < len(job.stems):
        ours = all(mark and mark.model_hash == model.hash for mark in marks.values())
        return Existing(made, "one is missing", None) if ours else None
    by = {mark.model for mark in marks.values() if mark and mark.model_hash != model.hash}
    if by:
        return Existing(made, f"made by another model ({', '.join(sorted(by))})", None)
    wanted = None if is_pipe(job.song) else _measure(job.song, reading)
    lengths = {path: _measure(path, Reading()) for path in stems}
    for path, seconds in lengths.items():
        if seconds is not None and wanted is not None and abs(seconds - wanted) > MARGIN:
            words = f"{path.name} lasts {seconds:.2f} s instead of {wanted:.2f} s"
            return Existing(made, words, None)
    unknown = [] if len(made) == len(stems) else ["which model made them"]
    if wanted is None or None in lengths.values():
        unknown.append("how long they are")
    words = f"it is not known {' and '.join(unknown)}"
    return Existing(made, None, words if unknown else None)


def _measure(path: Path, reading: Reading) -> float | None:
    """Return the seconds of sound in a file; None if that is not known for sure."""
    try:
        with open_song(path, reading) as song:
            if song.samples is None or not song.sure:
                return None
            return song.samples / song.rate
    except SplitterError:
        return None

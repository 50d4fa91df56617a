"""The scores so far, a line a song, so that a run that was killed goes on where it stopped.

A line holds the scores, the seconds they took, and a key: a hash of all that they depend on. Lines
with another key (other files, weights, metrics or code) are left alone and not used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splitter.datasets import Song
from splitter.errors import DataError, JournalError, reason
from splitter.evaluation.scoring import SongScores, from_json, to_json
from splitter.evaluation.systems import System, describe_files
from splitter.paths import check_plain_file
from splitter.runtime.traced import hash_code


@dataclass(frozen=True)
class Journal:
    """A file that only grows."""

    path: Path

    def prepare(self) -> None:
        """Make sure that it can be written, before there is anything to lose."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            check_plain_file(self.path)
            self.path.touch()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({reason(error)})") from error

    def read(self) -> dict[str, SongScores]:
        """Read the scores by key; a line that a kill cut off is none."""
        done = {}
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                done[entry["key"]] = from_json(entry["scores"], entry["took"])
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
        return done

    def add(self, key: str, scores: SongScores) -> None:
        """Append one song's scores."""
        entry = {"key": key, "took": scores.took, "scores": to_json(scores)}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                # the newline comes first: a line that was cut off must not swallow this one
                file.write("\n" + json.dumps(entry))
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be written ({reason(error)})") from error


def make_key(song: Song, systems: Sequence[System], metrics: Sequence[str]) -> str:
    """Hash what the scores of a song depend on."""
    parts = [
        hash_code("audio", "networks", "graphs", "runtime", "evaluation", "."),
        song.label,
        describe_files(song.files),
        *metrics,
        *(f"{system.name} {system.identify(song)}" for system in systems),
    ]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]

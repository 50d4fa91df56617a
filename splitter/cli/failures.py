"""Which songs of a run failed, by reason: what one wants to know of ten thousand failures."""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from pathlib import Path

from splitter.atomic import write_atomically
from splitter.cli.messages import count
from splitter.errors import SplitterError, reason
from splitter.jobs.finding import HEAD, has_sound

MOST_REASONS = 10  # that are told, the most frequent first

log = logging.getLogger(__name__)


def may_be_replaced(path: Path) -> bool:
    """Tell whether a file is a list of songs, empty, or not there: nothing else is replaced."""
    if not path.is_file():  # a pipe has no end to look at
        return not path.exists()
    try:
        content = path.read_bytes()
    except OSError:
        return False
    names = content.split(b"\0")
    return not names.pop() and not has_sound(content[:HEAD]) and all(names)


class Failures:
    """The songs that failed; a path and a reason are kept of each."""

    def __init__(self) -> None:
        self._songs: dict[str, list[str]] = defaultdict(list)

    def __len__(self) -> int:
        return sum(map(len, self._songs.values()))

    def add(self, song: str, error: str) -> None:
        """Take in a song; errors that differ in names and figures only have one reason."""
        reason = error.replace(song, "").lstrip(": ")
        reason = re.sub(r"(?<!\w)\S*[/\\]\S*(?=:)", "…", reason)  # a stem, say
        self._songs[re.sub(r"\d+(?:\.\d+)?", "N", reason)].append(song)

    def tell(self) -> None:
        """Say how many songs failed for which reason, where that is shorter than what was said."""
        if len(self) <= len(self._songs) + 1:
            return
        most = sorted(self._songs.items(), key=lambda item: -len(item[1]))
        for why, songs in most[:MOST_REASONS]:
            log.info("%s failed, such as %s: %s", count(len(songs), "song"), songs[0], why)
        if len(most) > MOST_REASONS:
            log.info("%s more", count(len(most) - MOST_REASONS, "reason"))

    def write(self, path: Path) -> None:
        """Write the names of all songs that failed, as --files0-from reads them."""
        songs = [song for songs in self._songs.values() for song in songs]
        try:
            write_atomically(path, b"".join(os.fsencode(song) + b"\0" for song in songs))
        except OSError as error:
            raise SplitterError(f"{path}: cannot be written ({reason(error)})") from error

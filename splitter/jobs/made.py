"""The files of an output folder that were made in it."""

from __future__ import annotations

import os
from pathlib import Path

from splitter.jobs.lines import stays_inside
from splitter.jobs.table import Table
from splitter.paths import is_local

MARKED, BARE = 1, 2  # with and without tags: the lowest two bits of what is known of a file
JOB = 0xFFFF_FFFC  # bits that tell for which job it was made; those above tell of which song


class Files:
    """The files of a folder that were made here; ask for them by where they are located."""

    def __init__(self, folder: Path) -> None:
        separator = os.sep if is_local(folder) else "/"
        self._start = f"{str(folder).rstrip('/' + separator)}{separator}"
        self._table = Table()
        self._before: dict[str, int] = {}  # what was known of files that another song's job began

    def __contains__(self, path: object) -> bool:
        name = str(path)
        return name.startswith(self._start) and bool(self._table[self.relate(name)])

    def relate(self, path: Path | str) -> str:
        """Write a path as seen from the folder, so that the folder may move."""
        name = str(path).removeprefix(self._start)
        return name.replace(os.sep, "/") if os.sep != "/" else name

    def is_bare(self, path: Path) -> bool:
        """Tell whether a file was made without tags, so without a mark."""
        return self._table[self.relate(path)] & 3 == BARE

    def is_of(self, path: Path, song: str, known: str) -> bool:
        """Tell whether the job of a song with this id has made a file, and no other since."""
        made = self._table[self.relate(path)]
        return not self.is_of_another(path, song) and made & JOB == hash(known) & JOB != 0

    def is_of_another(self, path: Path, song: str) -> bool:
        """Tell whether a file was made here of another song."""
        made = self._table[self.relate(path)]
        return made != 0 and made >> 32 != hash(song) >> 32

    def add(self, relative: str, song: str, bare: bool = False) -> None:
        """Take in a file of a song, if its name does not lead out of the folder."""
        if stays_inside(relative):
            before = self._table[relative]
            if before and before >> 32 != hash(song) >> 32:
                self._before.setdefault(relative, before)
            self._table[relative] = hash(song) >> 32 << 32 | (BARE if bare else MARKED)

    def finish(self, relative: str, known: str) -> None:
        """Note which job has made a file that was taken in."""
        self._before.pop(relative, None)
        if made := self._table[relative]:
            self._table[relative] = made & ~JOB | hash(known) & JOB

    def remove(self, relative: str) -> None:
        """Take a file out."""
        self._before.pop(relative, None)
        self._table[relative] = 0

    def give_back(self, relative: str) -> None:
        """Note that a file is still the one that another song's job was to replace."""
        if relative in self._before:
            self._table[relative] = self._before.pop(relative)

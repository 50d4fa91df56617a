"""The files of an output folder that were made in it."""

from __future__ import annotations

import os
from pathlib import Path

from splitter.jobs.lines import stays_inside
from splitter.jobs.table import Table
from splitter.paths import is_local

MARKED, BARE = 1, 2  # with and without tags


class Files:
    """The files of a folder that were made here; ask for them by where they are located."""

    def __init__(self, folder: Path) -> None:
        self._start = f"{str(folder).rstrip('/')}{os.sep if is_local(folder) else '/'}"
        self._table = Table()

    def __contains__(self, path: object) -> bool:
        name = str(path)
        return name.startswith(self._start) and bool(self._table[self.relate(name)])

    def relate(self, path: Path | str) -> str:
        """Write a path as seen from the folder, so that the folder may move."""
        name = str(path).removeprefix(self._start)
        return name.replace(os.sep, "/") if os.sep != "/" else name

    def is_bare(self, path: Path) -> bool:
        """Tell whether a file was made without tags, so without a mark."""
        return self._table[self.relate(path)] == BARE

    def add(self, relative: str, bare: bool = False) -> None:
        """Take a file in, if its name does not lead out of the folder."""
        if stays_inside(relative):
            self._table[relative] = BARE if bare else MARKED

    def remove(self, relative: str) -> None:
        """Take a file out."""
        self._table[relative] = 0

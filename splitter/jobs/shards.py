"""A part of all songs, for one of several runs that share an output folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from splitter.paths import locate


@dataclass(frozen=True)
class Shard:
    """The songs of one of `count` runs; the runs are numbered from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read I/N; raise ValueError for what is none."""
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"{text!r} is not a shard; write I/N, from 1/N to N/N")
        return cls(int(match[1]), int(match[2]))

    def takes(self, song: Path) -> bool:
        """Tell whether a song is of this shard: by its path, whatever other songs there are."""
        path = str(locate(song)).encode("utf-8", "surrogateescape")
        number = int.from_bytes(blake2b(path, digest_size=8).digest(), "big")
        return number % self.count == self.index - 1

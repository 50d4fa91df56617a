"""The lines of a journal: what they say, and how they are read from a file and added to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import blake2b
from io import BufferedReader
from pathlib import PurePosixPath
from typing import IO, Any

LONGEST = 1 << 20  # bytes of a line; a longer one is none of ours
_DONE = re.compile(rb'\{"done":"(\w+)"\}\n?')


def identify(song: str, size: Any, mtime: Any, stems: Any, settings: Any) -> str:
    """Return the id of a song and all that its stems depend on."""
    facts = json.dumps([song, size, mtime, stems, settings], sort_keys=True)
    return blake2b(facts.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def parse(line: bytes) -> dict[str, Any]:
    """Read a line; of one that was cut off, or is damaged, there is nothing."""
    if done := _DONE.fullmatch(line):  # half of all lines
        return {"done": done[1].decode()}
    try:
        entry = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def write_whole(file: IO[bytes], line: bytes) -> None:
    """Write a line, all of it."""
    while line:  # a disk that becomes full takes a part of it
        line = line[file.write(line) :]


def read_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield lines; one that is too long to be ours comes in pieces, which mean nothing."""
    with BufferedReader(file, LONGEST) as buffered:  # type: ignore[type-var]
        while line := buffered.readline(LONGEST):
            yield line


def pick_texts(given: object) -> list[str]:
    """Return the texts of a list; of what is none, nothing."""
    return [text for text in given if isinstance(text, str)] if isinstance(given, list) else []


def stays_inside(name: str) -> bool:
    """Tell whether a name, joined to a folder, names something in it."""
    if name.startswith("/") or "\0" in name:
        return False
    return ".." not in name or ".." not in PurePosixPath(name).parts

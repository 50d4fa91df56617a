"""What a shell's glob brings along beside songs: covers, notes, playlists."""

from __future__ import annotations

import codecs
import logging
from collections.abc import Sequence
from contextlib import suppress
from itertools import compress, islice
from pathlib import Path

from splitter.cli.messages import count
from splitter.jobs import is_song
from splitter.paths import is_file, is_local

HEAD = 512  # bytes
SIGNATURES = (  # pictures and documents, at the very start of a file
    b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"%PDF", b"PK\3\4",
    codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE,
)  # fmt: skip
TEXT = {*range(32, 127), *range(128, 256), *b"\t\n\r\f"}

log = logging.getLogger(__name__)


def drop_others(songs: Sequence[Path]) -> list[Path]:
    """Leave out pictures and texts among several files, and say so.

    A file that is named alone is meant, whatever it holds.
    """
    others = [len(songs) > 1 and is_other(song) for song in songs]
    if any(others):
        what = count(sum(others), "file")
        first = islice(compress(songs, others), 5)
        log.info("left out %s without sound: %s", what, ", ".join(map(str, first)))
    return [song for song, other in zip(songs, others, strict=True) if not other]


def is_other(path: Path) -> bool:
    """Tell a picture or a text by its content; what has the suffix of a song is one."""
    if not is_local(path) or not is_file(path) or is_song(path):
        return False
    with suppress(OSError), path.open("rb") as file:
        head = file.read(HEAD)
        webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
        return webp or head.startswith(SIGNATURES) or _is_text(head)
    return False


def _is_text(head: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with suppress(UnicodeDecodeError):
        decoder.decode(head)  # the last character may be cut off
        return bool(head) and TEXT.issuperset(head)
    return False

"""What became of a song, as the JSON object that `--json` prints.

Every object has every key, so that a program need not ask; what is not known is null:

    schema    1; a later splitter that changes the meaning of a key counts on
    song      the path as it was given
    stems     name → {path, peak, clipped}: the largest magnitude before anything was cut off, and
              the number of samples that were
    seconds, rate, channels, samples    of the song and of each stem
    format, bits    of the stems; bits is null for lossy formats
    gain      what all stems were multiplied by (--clip rescale)
    model     {name, hash}
    taken     seconds
    damage    what is missing of a song that breaks off (--keep-partial)
    skipped   true: the stems were there already (--skip-existing, or a folder's
              journal knows them)
    error     why there are no stems

Any strict parser reads it: what a path holds that is no UTF-8 is U+FFFD, and a number is finite.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitter.audio import CONTAINERS

if TYPE_CHECKING:
    from splitter.songs import Separated

SCHEMA = 1
_EMPTY: dict[str, Any] = {
    "schema": SCHEMA,
    "song": None,
    "stems": {},
    "seconds": None,
    "rate": None,
    "channels": None,
    "samples": None,
    "format": None,
    "bits": None,
    "gain": None,
    "model": None,
    "taken": None,
    "damage": None,
    "skipped": False,
    "error": None,
}


def describe(song: str, done: Separated) -> dict[str, Any]:
    """Describe a song that was separated."""
    return _EMPTY | {
        "song": song,
        "stems": {
            name: {"path": str(path), "peak": done.peaks[name], "clipped": done.clipped[name]}
            for name, path in done.stems.items()
        },
        "seconds": done.samples / done.rate,
        "rate": done.rate,
        "channels": done.channels,
        "samples": done.samples,
        "format": done.format.container,
        "bits": None if CONTAINERS[done.format.container].lossy else done.format.bits,
        "gain": done.gain,
        "model": {"name": done.model, "hash": done.model_hash},
        "taken": round(done.seconds, 3),
        "damage": done.damage,
    }


def describe_failure(song: str, error: str) -> dict[str, Any]:
    """Describe a song that could not be separated."""
    return _EMPTY | {"song": song, "error": error}


def describe_planned(song: str, stems: Mapping[str, Path]) -> dict[str, Any]:
    """Describe a song that would be separated."""
    named = {
        name: {"path": str(path), "peak": None, "clipped": None} for name, path in stems.items()
    }
    return _EMPTY | {"song": song, "stems": named}


def describe_skipped(song: str, stems: Mapping[str, Path]) -> dict[str, Any]:
    """Describe a song whose stems were there already."""
    return describe_planned(song, stems) | {"skipped": True}


def to_json(record: Mapping[str, Any]) -> str:
    """Write a record as one line of strict JSON."""
    return json.dumps(_make_strict(record), allow_nan=False)


def _make_strict(value: Any) -> Any:
    """Replace what JSON has no word for: bytes of a path that are no UTF-8, infinite numbers."""
    if isinstance(value, str):
        # under a C locale a path that is valid UTF-8 is held as single bytes, too
        return os.fsencode(value).decode("utf-8", "replace") if _is_raw(value) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _make_strict(item) for key, item in value.items()}
    return value


def _is_raw(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)

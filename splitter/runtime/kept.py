"""Compiled networks, kept in the user's cache: to take one up takes a third of compiling it.

    head, a line: its hash, and JSON: of what it was made, how songs go through it, …
    what OpenVINO exported, program by program; its hash is in the head

One that was made of anything else, or is damaged, is not used, but made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO

import numpy as np

from splitter.atomic import making, remove_abandoned
from splitter.registry import cache_folder
from splitter.runtime.openvino import Network, Settings, import_network
from splitter.runtime.streams import Spectral

log = logging.getLogger(__name__)

PAGE = 4096  # bytes
MOST = 6  # networks; each takes 50 to 90 MB


def find_shape(origin: str) -> Spectral | None:
    """Return how songs go through the network that was kept of `origin`; None if none was."""
    with suppress(OSError, ValueError, KeyError, TypeError), _path(origin).open("rb") as file:
        return Spectral(**_read_head(file, origin)["shape"])
    return None


def find_network(
    origin: str, shape: Spectral, settings: Settings, make: Callable[[], Network]
) -> Network:
    """Return a network that was made of `origin`: a kept one, or else a new one, and keep it.

    Keeping goes on beside.
    """
    path = _path(origin)
    with suppress(OSError, ValueError, KeyError, TypeError, RuntimeError):
        network = _read(path, origin, settings, shape.unheard)
        with suppress(OSError):
            path.touch()  # it is used
        return network
    network = make()
    Thread(target=_keep, args=(path, origin, shape, network), name="splitter-keep").start()
    return network


def _path(origin: str) -> Path:
    name = hashlib.sha256(origin.encode("utf-8")).hexdigest()[:16]
    return cache_folder() / "compiled" / name


def _read_head(file: BinaryIO, origin: str) -> dict[str, Any]:
    stated, _, text = file.readline(1 << 20).rstrip(b"\n").partition(b" ")
    if stated != _hash(text.rstrip(b" ")):
        raise ValueError("damaged")
    head: dict[str, Any] = json.loads(text)
    if head["origin"] != origin:
        raise ValueError("a network of something else")
    return head


def _read(path: Path, origin: str, settings: Settings, unheard: int) -> Network:
    with path.open("rb") as file:
        head = _read_head(file, origin)
        exported = np.memmap(file, np.uint8, "c", file.tell())
    if head["hash"] != _hash(exported.data).decode("ascii"):
        raise ValueError("damaged")
    programs, start = [], 0
    for size, ages, places in head["programs"]:
        model = np.asarray(exported[start : start + size])
        programs.append((model, [(int(place), int(age)) for place, age in ages], places))
        start += -(-size // PAGE) * PAGE
    return import_network(programs, settings, unheard)


def _keep(path: Path, origin: str, shape: Spectral, network: Network) -> None:
    """Write a network; remove those that were not used for longest, and what kills have left."""
    try:
        programs = network.export()
        exported = [part for model, _, _ in programs for part in (model, b"\0" * _missing(model))]
        head = {
            "origin": origin,
            "shape": asdict(shape),
            "programs": [[len(model), ages, places] for model, ages, places in programs],
            "hash": _hash(*exported).decode("ascii"),
        }
        text = json.dumps(head).encode("utf-8")
        line = _hash(text) + b" " + text
        line += b" " * _missing(line + b"\n") + b"\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent)
        with making(path, shared=True) as beside, beside.open("xb") as file:
            file.writelines([line, *exported])
        kept = sorted(path.parent.glob("[!.]*"), key=lambda each: each.stat().st_mtime)
        for old in kept[:-MOST]:
            old.unlink()
    except (OSError, RuntimeError, MemoryError) as error:  # then it is compiled again next time
        log.debug("%s: is not kept (%s)", path, error)


def _missing(data: bytes) -> int:
    """Count the bytes to whole pages: what lies behind these can be used where it is."""
    return -len(data) % PAGE


def _hash(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest().encode("ascii")

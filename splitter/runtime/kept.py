"""Compiled networks, kept in the user's cache: to take one up takes a third of compiling it.

    head, a line of JSON: of what it was made, a hash of the rest, … · what OpenVINO exported

One that was made of anything else, or is damaged, is not used, but made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

from platformdirs import user_cache_path

from splitter.atomic import write_atomically
from splitter.runtime.openvino import Network, Settings, describe_machine, import_network

log = logging.getLogger(__name__)

MOST = 6  # networks; each takes some 50 MB


def find_network(origin: str, settings: Settings, make: Callable[[], Network]) -> Network:
    """Return a network that was made of `origin`: a kept one, or else a new one, and keep it.

    Keeping goes on beside.
    """
    origin = f"{origin} {describe_machine()}"
    name = hashlib.sha256(origin.encode("utf-8")).hexdigest()[:16]
    path = user_cache_path("splitter") / "compiled" / name
    with suppress(OSError, ValueError, KeyError, TypeError, RuntimeError):
        network = _read(path, origin, settings)
        with suppress(OSError):
            path.touch()  # it is used
        return network
    network = make()
    Thread(target=_keep, args=(path, origin, network), name="splitter-keep").start()
    return network


def _read(path: Path, origin: str, settings: Settings) -> Network:
    with path.open("rb") as file:
        head = json.loads(file.readline(1 << 20))
        exported = file.read()
    if head["origin"] != origin or head["hash"] != hashlib.sha256(exported).hexdigest():
        raise ValueError("a network of something else, or damaged")
    return import_network(
        exported, [(int(place), int(age)) for place, age in head["ages"]], settings
    )


def _keep(path: Path, origin: str, network: Network) -> None:
    """Write a network, and remove those that were not used for longest."""
    try:
        exported, ages = network.export()
        head = {"origin": origin, "ages": ages, "hash": hashlib.sha256(exported).hexdigest()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(head).encode("utf-8") + b"\n" + exported)
        kept = sorted(path.parent.glob("[!.]*"), key=lambda each: each.stat().st_mtime)
        for old in kept[:-MOST]:
            old.unlink()
    except (OSError, RuntimeError) as error:  # then it is compiled again next time
        log.debug("%s: is not kept (%s)", path, error)

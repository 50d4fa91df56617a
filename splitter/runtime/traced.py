"""Graphs of models, which are traced once: as they came with splitter, or in the user's cache.

A graph depends on the sizes in a config and on the code of `splitter.networks`, not on weights. It
says of which it was made; one that was made of others is not used, but made again, with PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path

from splitter.atomic import write_atomically
from splitter.graphs import GraphError, Traced, read_traced, write_traced
from splitter.registry import CONFIG, Config, cache_folder, models_folder, read_config

log = logging.getLogger(__name__)

GRAPH = "graph.json"


def find_traced(folder: Path) -> Traced:
    """Return the graph of a model; trace it if need be. Raises GraphError if it has none."""
    config = read_config(folder / CONFIG)
    if folder.parent == models_folder():
        with suppress(OSError, GraphError):
            return read_traced((folder / GRAPH).read_text("utf-8"), describe(config))
    origin = describe(config) + hash_code()
    cached = cache_folder() / "graphs" / f"{hashlib.sha256(origin.encode()).hexdigest()[:16]}.json"
    with suppress(OSError, GraphError, UnicodeError):
        return read_traced(cached.read_text("utf-8"), origin)
    from splitter.runtime.tracing import trace_model

    log.debug("%s: is traced", folder)
    traced = trace_model(config, folder / CONFIG)
    with suppress(OSError):  # then it is traced again next time
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cached, write_traced(traced, origin).encode("utf-8"), shared=True)
    return traced


def describe(config: Config) -> str:
    """Return what a graph depends on, but for the code."""
    asked = asdict(config)
    return json.dumps(
        [asked[name] for name in ("network", "sizes", "channels")] + [len(config.stems)]
    )


@cache
def hash_code(*parts: str) -> str:
    """Return a hash of parts of the package; of all that a graph is made by, if none are named."""
    package = Path(__file__).parents[1]
    code = hashlib.sha256()
    for part in parts or ("networks", "graphs", "runtime"):
        for path in sorted((package / part).glob("*.py")):
            code.update(path.read_bytes())
    return code.hexdigest()[:16]

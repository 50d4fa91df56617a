"""Graphs of models, which are traced once: as they came with splitter, or in the user's cache.

A graph depends on the sizes in a config and on the code of `splitter.networks`, not on weights. It
says of which it was made; one that was made of others is not used, but made again, with PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from splitter.atomic import write_atomically
from splitter.errors import reason
from splitter.graphs import Graph, GraphError, read_graph, write_graph
from splitter.registry import CONFIG, Config, cache_folder, models_folder, read_config

log = logging.getLogger(__name__)

GRAPH = "graph.json"


@dataclass(frozen=True)
class Traced:
    """A mask network without its weights, and the spectra that it is for."""

    size: int  # samples of a frame
    hop: int  # samples
    graph: Graph  # (1, channels, frames, bins) ≥ 0 → (stems, channels, frames, bins)


def find_traced(folder: Path) -> Traced:
    """Return the graph of a model; trace it if need be. Raises GraphError if it has none."""
    config = read_config(folder / CONFIG)
    if folder.parent == models_folder():
        with suppress(OSError, GraphError):
            return read_traced((folder / GRAPH).read_text("utf-8"), describe(config))
    origin = describe(config) + hash_code()
    cached = cache_folder() / "graphs" / f"{_hash(origin.encode())}.json"
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


def write_traced(traced: Traced, origin: str) -> str:
    """Write a graph as JSON, with what it was made of, and a hash of all of it."""
    head = {"origin": origin, "size": traced.size, "hop": traced.hop}
    body = write_graph(traced.graph)
    head["hash"] = _hash((json.dumps(head) + body).encode("utf-8"))
    return json.dumps(head) + "\n" + body


def read_traced(text: str, origin: str) -> Traced:
    """Read a graph; raise GraphError if it is damaged, or was made of something else."""
    first, _, body = text.partition("\n")
    try:
        head = json.loads(first)
        stated = head.pop("hash")
        whole = stated == _hash((json.dumps(head) + body).encode("utf-8"))
        if not whole or head["origin"] != origin:
            raise GraphError("it is another kind of file")
        return Traced(head["size"], head["hop"], read_graph(body))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GraphError(f"the list of its operations is damaged ({reason(error)})") from error


@cache
def hash_code(*parts: str) -> str:
    """Return a hash of parts of the package; of all that a graph is made by, if none are named."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for part in parts or ("networks", "graphs", "runtime"):
        for path in sorted((package / part).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]

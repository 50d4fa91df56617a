"""The graph of a mask network with the spectra that it is for, and how both are kept in a file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from splitter.errors import reason
from splitter.graphs.graph import Graph, GraphError, read_graph, write_graph


@dataclass(frozen=True)
class Traced:
    """A mask network without its weights, and the spectra that it is for."""

    size: int  # samples of a frame
    hop: int  # samples
    graph: Graph  # (1, channels, frames, bins) ≥ 0 → (stems, channels, frames, bins)


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


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]

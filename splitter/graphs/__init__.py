"""Networks as graphs: lists of a few kinds of operations, which need no PyTorch to be read or run.

A network is traced once (`splitter.networks.tracing`). What a graph says about frames is enough to
find out how far the network sees, and to have it go through a song without computing anything
twice (`streaming`).
"""

from splitter.graphs.graph import Graph, GraphError, Node, Size, read_graph, write_graph
from splitter.graphs.streaming import Stream, find_early, find_reach, find_stride, make_stream
from splitter.graphs.traced import Traced, read_traced, write_traced

__all__ = [
    "Graph",
    "GraphError",
    "Node",
    "Size",
    "Stream",
    "Traced",
    "find_early",
    "find_reach",
    "find_stride",
    "make_stream",
    "read_graph",
    "read_traced",
    "write_graph",
    "write_traced",
]

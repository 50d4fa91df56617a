"""Networks as graphs: lists of a few kinds of operations, which need no PyTorch to be read or run.

A network is traced once (`splitter.networks.tracing`). What a graph says about frames is enough to
find out how far the network sees, and to have it go through a song without computing anything
twice (`streaming`).
"""

from splitter.graphs.graph import Graph, GraphError, Node, Size, read_graph, write_graph
from splitter.graphs.streaming import Stream, find_early, find_reach, find_stride, make_stream

__all__ = [
    "Graph",
    "GraphError",
    "Node",
    "Size",
    "Stream",
    "find_early",
    "find_reach",
    "find_stride",
    "make_stream",
    "read_graph",
    "write_graph",
]

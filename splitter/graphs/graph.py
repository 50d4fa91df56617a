"""A network as a list of operations on arrays, for any number of frames.

Every node says its operation, the nodes that it takes, and the shape of what it gives. A size is a
number, or a fraction that is to be multiplied by the number of frames of the input: 1/4 behind two
layers that halve. So a graph tells by itself which axis is time, and one graph serves pictures of
any length.

    input · weight {name} · number {value}
    add sub mul div pow · lt gt · where · maximum minimum
    neg abs exp log log1p sqrt rsqrt relu leaky_relu {slope} sigmoid tanh gelu silu
    mean sum amax softmax {axes} · concat {axis} · slice {axis, start, stop, step}
    permute {order} · reshape · expand · matmul · pad {before, after, value}
    mirror {before, after}                                a pad by what lies next to the edge
    shift {frames}                                        without the first frames, or later by some
    convolution {stride, padding, dilation, transposed, output_padding, groups}
    average {kernel, stride, padding}                     a mean over neighbours, in the picture
    largest {kernel, stride, padding}                     the largest of neighbours; no padding
    window {frames, ahead}                                what streaming adds: see `streaming`
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import Any

Size = int | Fraction  # a fraction is of the number of frames
Shape = tuple[Size, ...]
VERSION = 1  # of what is written


class GraphError(ValueError):
    """A network does what no graph can say, or what cannot be streamed."""


@dataclass(frozen=True)
class Node:
    """One operation; `inputs` are places of earlier nodes in the list."""

    op: str
    inputs: tuple[int, ...]
    shape: Shape
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def axis(self) -> int | None:
        """Return which axis is time; None for what does not change with time."""
        axes = [axis for axis, size in enumerate(self.shape) if isinstance(size, Fraction)]
        if len(axes) > 1:
            raise GraphError(f"{self.op}: time lies on {len(axes)} axes")
        return axes[0] if axes else None

    @property
    def rate(self) -> Fraction:
        """Return how many frames it gives for one of the input's."""
        if self.axis is None:
            raise GraphError(f"{self.op}: there is no time")
        return Fraction(self.shape[self.axis])

    def sizes(self, frames: int) -> tuple[int, ...]:
        """Return the shape for an input of so many frames."""
        return tuple(_count(size, frames) for size in self.shape)


@dataclass(frozen=True)
class Graph:
    """Operations in their order: the first is the input, the last gives the output."""

    nodes: Sequence[Node]

    @property
    def output(self) -> Node:
        """Return what is computed in the end."""
        return self.nodes[-1]

    @property
    def weights(self) -> list[str]:
        """Name the tensors that are needed."""
        return [node.given["name"] for node in self.nodes if node.op == "weight"]


def _count(size: Size, frames: int) -> int:
    whole = size * frames if isinstance(size, Fraction) else Fraction(size)
    if whole.denominator != 1:
        raise GraphError(f"{frames} frames are no multiple of {whole.denominator}")
    return int(whole)


def ahead_of(shape: Shape, axis: int) -> int:
    """Return how many values lie before each step of an axis: the product of the sizes before."""
    return prod(int(size) for size in shape[:axis])


def write_graph(graph: Graph) -> str:
    """Write a graph as JSON, a line a node."""
    lines = [
        json.dumps([node.op, node.inputs, [_write_size(size) for size in node.shape], node.given])
        for node in graph.nodes
    ]
    return f'{{"version": {VERSION}, "nodes": [\n' + ",\n".join(lines) + "\n]}\n"


def read_graph(text: str) -> Graph:
    """Read a graph from JSON; raise GraphError if it is none."""
    try:
        raw = json.loads(text)
        if raw["version"] != VERSION:
            raise GraphError(f"version {raw['version']} of a graph is unknown")
        return Graph(
            [
                Node(op, tuple(inputs), tuple(map(_read_size, shape)), given)
                for op, inputs, shape, given in raw["nodes"]
            ]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise GraphError(f"not a graph ({error})") from error


def _write_size(size: Size) -> int | str:
    return str(size) if isinstance(size, Fraction) else size


def _read_size(size: int | str) -> Size:
    return Fraction(size) if isinstance(size, str) else size

"""A graph in the making: nodes that are added one behind the other, and named by their places.

What can be said in fewer nodes is: no reshape of a reshape, and nothing large turned twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from splitter.graphs import Graph, Node, Size


class Nodes:
    """The nodes so far."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []

    def __getitem__(self, place: int) -> Node:
        return self._nodes[place]

    def emit(
        self, op: str, inputs: Sequence[int], shape: Sequence[Size], given: Mapping[str, Any] = {}
    ) -> int:
        """Add a node, whose inputs are at these places; return its own."""
        self._nodes.append(Node(op, tuple(inputs), tuple(shape), dict(given)))
        return len(self._nodes) - 1

    def number(self, value: float) -> int:
        """Add a number."""
        return self.emit("number", (), (), {"value": float(value)})

    def reshape(self, place: int, shape: Sequence[Size]) -> int:
        """Add a reshape, but none of a reshape, and none that changes nothing."""
        place = self._unshaped(place)
        if self[place].shape == tuple(shape):
            return place
        return self.emit("reshape", [place], shape)

    def _unshaped(self, place: int) -> int:
        while self[place].op == "reshape":
            (place,) = self[place].inputs
        return place

    def permute(self, place: int, order: Sequence[int]) -> int:
        """Add a permutation, but none of a permutation, and none that changes nothing."""
        if self[place].op == "permute":
            order = [self[place].given["order"][axis] for axis in order]
            (place,) = self[place].inputs
        if [*order] == [*range(len(order))]:
            return place
        shape = self[place].shape
        return self.emit("permute", [place], [shape[axis] for axis in order], {"order": order})

    def multiply(self, left: int, right: int, shape: Sequence[Size]) -> int:
        """Add a product of matrices.

        Where rows of weights are applied to columns that were turned to be rows, (Xᵀ Wᵀ), they are
        applied to the columns as they are, (W X)ᵀ: nothing large need be turned, nor turned back.
        """
        node, weight = self[self._unshaped(left)], self[right]
        columns = node.op == "permute" and node.given["order"] == [0, 2, 1] and node.shape[0] == 1
        rows = weight.op == "permute" and weight.given["order"] == [1, 0] and weight.axis is None
        if not (columns and rows and node.shape[1:] == self[left].shape):
            return self.emit("matmul", [left, right], shape)
        product = [1, shape[1], shape[0]]
        place = self.emit("matmul", [weight.inputs[0], node.inputs[0]], product)
        return self.reshape(self.permute(place, [0, 2, 1]), shape)

    def shift(self, place: int, frames: int) -> int:
        """Leave out the first frames, or put as many before them."""
        if not frames:
            return place
        return self.emit("shift", [place], self[place].shape, {"frames": frames})

    def thin(self, place: int, axis: int, step: int, shape: Sequence[Size]) -> int:
        """Keep one frame of each few."""
        if step == 1:
            return place
        ones = [1] * (len(shape) - 2)
        stride = [*ones]
        stride[axis - 2] = step
        given = {"kernel": ones, "stride": stride, "padding": [0] * len(ones)}
        return self.emit("average", [place], shape, given)

    def cut(self, place: int, axis: int, start: int, stop: int) -> int:
        """Keep what lies between two places of an axis that is not time."""
        shape = [*self[place].shape]
        assert not isinstance(shape[axis], Fraction)
        if (start, stop) == (0, shape[axis]):
            return place
        shape[axis] = stop - start
        given = {"axis": axis % len(shape), "start": start, "stop": stop, "step": 1}
        return self.emit("slice", [place], shape, given)

    def scale(self, place: int, scale: int, alone: bool) -> int:
        """Multiply each channel; behind a convolution that is `alone`, multiply its weights."""
        node = self[place]
        channels, axes = node.shape[1], len(node.shape) - 2
        one_sum = node.op == "convolution" and not (
            node.given["transposed"] and node.given["groups"] > 1
        )
        if not (one_sum and alone):
            factor = self.reshape(scale, [channels, *[1] * axes])
            return self.emit("mul", [place, factor], node.shape)
        picture, weight = node.inputs
        ones = [1] * axes
        form = [1, channels, *ones] if node.given["transposed"] else [channels, 1, *ones]
        scaled = self.emit("mul", [weight, self.reshape(scale, form)], self[weight].shape)
        return self.emit("convolution", [picture, scaled], node.shape, node.given)

    def shift_channels(self, place: int, shift: int) -> int:
        """Add to each channel."""
        shape = self[place].shape
        channel = [shape[1], *[1] * (len(shape) - 2)]
        return self.emit("add", [place, self.reshape(shift, channel)], shape)

    def finish(self, output: int) -> Graph:
        """Leave out what the output does not need; the input is the first, the output the last."""
        needed = {output}
        for place in range(output, -1, -1):
            if place in needed:
                needed |= set(self[place].inputs)
        source = next(place for place, node in enumerate(self._nodes) if node.op == "input")
        order = [source, *sorted(needed - {source})]
        new = {old: place for place, old in enumerate(order)}

        def move(node: Node) -> Node:
            return Node(node.op, tuple(new[i] for i in node.inputs), node.shape, node.given)

        return Graph([move(self[old]) for old in order])

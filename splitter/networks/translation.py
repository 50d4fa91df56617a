"""PyTorch's operations in the few words of `splitter.graphs.graph`, one function for each kind.

Each takes a call, adds what it does to the nodes, and returns the place of its result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import fx

from splitter.graphs import GraphError, Size
from splitter.networks.nodes import Nodes

# PyTorch's word → ours, where arguments that are tensors or numbers are all there is
SAME = {
    **{word: word for word in ("exp", "log", "log1p", "sqrt", "rsqrt", "relu", "sigmoid", "tanh")},
    **{word: word for word in ("where", "maximum", "minimum", "div", "mul", "lt", "gt", "neg")},
    **{"abs": "abs", "silu": "silu", "gelu": "gelu", "pow": "pow"},
    **{"bmm": "matmul", "matmul": "matmul"},
}
RESHAPES = ("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "view_as")
PASSED = ("clone", "contiguous", "alias", "detach", "lift_fresh_copy", "_to_copy", "copy")
NORMS = (
    "native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit"
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    """A call of one of PyTorch's operations."""

    nodes: Nodes
    places: Mapping[fx.Node, int]  # of what was called before
    node: fx.Node
    longer: fx.Node  # the same call for twice the frames
    shape: tuple[Size, ...]  # of its result, the first one of several

    @property
    def word(self) -> str:
        """Return the operation's name."""
        return _operation(self.node)._schema.name.removeprefix("aten::")

    @property
    def given(self) -> dict[str, Any]:
        """Return its arguments by their names."""
        return _name(self.node)

    @property
    def source(self) -> int:
        """Return the place of its first argument."""
        return self.take(self.node.args[0])

    def take(self, argument: Any) -> int:
        """Return the place of an argument: a tensor, or a number, which gets a node of its own."""
        if isinstance(argument, fx.Node):
            return self.places[argument]
        if isinstance(argument, (int, float)):
            return self.nodes.number(argument)
        raise GraphError(f"{argument!r} is neither a tensor nor a number")

    def take_all(self) -> list[int]:
        """Return the places of all arguments that have no names."""
        return [self.take(each) for each in self.node.args]

    def put(self, op: str, inputs: Sequence[int], given: Mapping[str, Any] = {}) -> int:
        """Add a node that is the call's result."""
        return self.nodes.emit(op, inputs, self.shape, given)


Translate: TypeAlias = Callable[[Call], int]


def translate(call: Call) -> int:
    """Add what a call does to the nodes; return the place of its result.

    Raises GraphError for what a graph cannot say.
    """
    if call.word not in TRANSLATIONS:
        raise _cannot(call)
    return TRANSLATIONS[call.word](call)


def _cannot(call: Call) -> GraphError:
    return GraphError(f"it uses {call.word}, which cannot be streamed")


def _pass(call: Call) -> int:
    return call.source


def _apply(op: str, call: Call) -> int:
    return call.put(op, call.take_all())


def _add(call: Call) -> int:
    if call.given.get("alpha", 1) != 1:
        raise GraphError(f"{call.word}: is scaled")
    return call.put(call.word, call.take_all()[:2])


def _invert(call: Call) -> int:
    return call.put("div", [call.take(1.0), call.source])


def _reshape(call: Call) -> int:
    return call.nodes.reshape(call.source, call.shape)


def _expand(call: Call) -> int:
    return call.put("expand", [call.source])


def _leak(call: Call) -> int:
    slope = float(call.given.get("negative_slope", 0.01))
    return call.put("leaky_relu", [call.source], {"slope": slope})


def _permute(call: Call) -> int:
    return call.nodes.permute(call.source, _count(call.given["dims"], len(call.shape)))


def _transpose(call: Call) -> int:
    order = list(range(len(call.shape)))
    one, two = _count([call.given.get("dim0", 0), call.given.get("dim1", 1)], len(order))
    order[one], order[two] = two, one
    return call.nodes.permute(call.source, order)


def _reduce(call: Call) -> int:
    source, given = call.source, call.given
    if not given.get("dim"):
        raise _cannot(call)
    axes = _count(given["dim"], len(call.nodes[source].shape))
    return call.put(call.word, [source], {"axes": axes, "keep": bool(given.get("keepdim", False))})


def _softmax(call: Call) -> int:
    axes = _count([call.given["dim"]], len(call.shape))
    return call.put("softmax", [call.source], {"axes": axes, "keep": True})


def _concatenate(call: Call) -> int:
    (axis,) = _count([call.given.get("dim", 0)], len(call.shape))
    return call.put("concat", [call.take(each) for each in call.given["tensors"]], {"axis": axis})


def _slice(call: Call) -> int:
    """Write a cut, or every second frame and the like."""
    place = call.source
    shape = call.nodes[place].shape
    axis, start, stop, step = _bounds(call.node)
    if isinstance(shape[axis], Fraction):
        if _bounds(call.longer)[1] != start or call.shape[axis] != shape[axis] / step:
            raise GraphError("it uses only some of the frames")
        return call.nodes.thin(call.nodes.shift(place, start), axis, step, call.shape)
    if shape == call.shape:
        return place
    return call.put("slice", [place], {"axis": axis, "start": start, "stop": stop, "step": step})


def _clamp(call: Call) -> int:
    place, *limits = call.node.args
    result = call.take(place)
    for word, limit in zip(("maximum", "minimum"), limits, strict=False):
        if limit is not None:
            result = call.put(word, [result, call.take(limit)])
    return result


def _multiply(call: Call) -> int:
    left, right = call.take_all()
    return call.nodes.multiply(left, right, call.shape)


def _multiply_matrices_and_add(call: Call) -> int:
    base, left, right = call.node.args
    product = call.put("matmul", [call.take(left), call.take(right)])
    return call.put("add", [product, call.take(base)])


def _multiply_and_add(call: Call) -> int:
    base, one, two = call.take_all()
    return call.put("add", [base, call.put("mul", [one, two])])


def _normalise(call: Call) -> int:
    """Write a batch norm: multiply, and add. Behind a convolution, multiply its weights."""
    nodes, given = call.nodes, call.given
    names = ("running_mean", "running_var", "weight", "bias")
    mean, variance, weight, bias = (call.take(given[name]) for name in names)
    one = nodes[mean].shape
    epsilon = call.take(float(given["eps"]))
    deviation = nodes.emit("rsqrt", [nodes.emit("add", [variance, epsilon], one)], one)
    scale = nodes.emit("mul", [weight, deviation], one)
    shift = nodes.emit("sub", [bias, nodes.emit("mul", [mean, scale], one)], one)
    scaled = nodes.scale(call.source, scale, alone=len(given["input"].users) == 1)
    return nodes.shift_channels(scaled, shift)


def _convolve(call: Call) -> int:
    names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
    given = {name: call.given[name] for name in names}
    inputs = [call.take(call.given["input"]), call.take(call.given["weight"])]
    place, bias = call.put("convolution", inputs, given), call.given.get("bias")
    return place if bias is None else call.nodes.shift_channels(place, call.take(bias))


def _choose_largest(call: Call) -> int:
    """Write the largest of neighbours; which one it was, nobody asks."""
    given = call.given
    if any(given.get("padding", [])) or {*given.get("dilation", [1])} != {1}:
        raise GraphError("its max_pool2d is of a kind that cannot be streamed")
    return call.put("largest", [call.source], {**_window(given), "padding": [0, 0]})


def _average(call: Call) -> int:
    """Write a mean over neighbours, as it is away from the picture's edges."""
    given = call.given
    if given.get("ceil_mode") or given.get("divisor_override"):
        raise GraphError("its avg_pool2d is of a kind that cannot be streamed")
    padding = given.get("padding", [0, 0])
    return call.put("average", [call.source], {**_window(given), "padding": padding})


def _window(given: Mapping[str, Any]) -> dict[str, Any]:
    kernel = given["kernel_size"]
    return {"kernel": kernel, "stride": given.get("stride") or kernel}


def _fill(call: Call) -> int:
    return _pad(call, call.given["pad"], {"value": float(call.given.get("value", 0))})


def _mirror(call: Call) -> int:
    return _pad(call, call.given["padding"], {})


def _pad(call: Call, pad: Sequence[int], value: Mapping[str, float]) -> int:
    """Write a padding, mirrored where there is no value; where it is negative, a cut.

    PyTorch counts the axes from the last. Frames before the first are silent, whatever was
    asked for: a song begins with context.
    """
    nodes, place = call.nodes, call.source
    before, after = ([0] * len(call.shape) for _ in range(2))
    for axis, first, last in zip(range(-1, -5, -1), pad[::2], pad[1::2], strict=False):
        size = nodes[place].shape[axis]
        if isinstance(size, Fraction):
            if size != call.shape[axis]:
                raise GraphError("pad: by more where there are more frames")
            place = nodes.shift(place, -first)
            continue
        before[axis], after[axis] = max(0, first), max(0, last)
        place = nodes.cut(place, axis, max(0, -first), size - max(0, -last))
    if not any(before) and not any(after):
        return place
    given = {"before": before, "after": after, **value}
    return call.put("pad" if value else "mirror", [place], given)


TRANSLATIONS: Mapping[str, Translate] = {
    **dict.fromkeys(PASSED, _pass),
    **{word: partial(_apply, op) for word, op in SAME.items()},
    **dict.fromkeys(("add", "sub"), _add),
    "reciprocal": _invert,
    **dict.fromkeys(RESHAPES, _reshape),
    "expand": _expand,
    "leaky_relu": _leak,
    "permute": _permute,
    **dict.fromkeys(("t", "transpose"), _transpose),
    **dict.fromkeys(("mean", "sum", "amax"), _reduce),
    "_softmax": _softmax,
    "cat": _concatenate,
    "slice": _slice,
    **dict.fromkeys(("clamp", "hardtanh"), _clamp),
    "mm": _multiply,
    "addmm": _multiply_matrices_and_add,
    "addcmul": _multiply_and_add,
    **dict.fromkeys(NORMS, _normalise),
    "convolution": _convolve,
    "max_pool2d_with_indices": _choose_largest,
    "avg_pool2d": _average,
    "constant_pad_nd": _fill,
    "reflection_pad2d": _mirror,
}


def _operation(node: fx.Node) -> torch._ops.OpOverload:
    if not isinstance(node.target, torch._ops.OpOverload):
        raise GraphError(f"{node.target}: is no operation on tensors")
    return node.target


def _name(node: fx.Node) -> dict[str, Any]:
    names = [argument.name for argument in _operation(node)._schema.arguments]
    named = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    return {
        "input" if name == "self" else name: [*value] if isinstance(value, (list, tuple)) else value
        for name, value in named.items()
    }


def _bounds(node: fx.Node) -> tuple[int, int, int, int]:
    """Return axis, start, stop and step of a slice, counted from the first value."""
    given, source = _name(node), node.args[0]
    assert isinstance(source, fx.Node)
    sizes = source.meta["val"].shape
    axis = given.get("dim", 0) % len(sizes)
    place = slice(given.get("start"), given.get("end"), given.get("step", 1))
    return axis, *place.indices(sizes[axis])


def _count(axes: Any, rank: int) -> list[int]:
    """Count axes from the first."""
    return [axis % rank for axis in ([axes] if isinstance(axes, int) else axes)]

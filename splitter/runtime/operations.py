"""A graph's operations as OpenVINO's: a chunk of frames in, the mask and what windows keep out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from splitter.graphs import Graph, GraphError, Node, Stream

# what converts models of other programs takes longer to import than all the rest, and is optional
_CONVERTER = "openvino.tools.ovc"
_blocked = sys.modules.setdefault(_CONVERTER, None)  # type: ignore[arg-type]
import openvino as ov  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

if _blocked is None:
    del sys.modules[_CONVERTER]

__all__ = ["Ages", "Array", "build", "check_known", "ov"]  # also OpenVINO, for who runs them

Array = npt.NDArray[np.float32]
Ages = Sequence[tuple[int, int]]  # of inputs: the output that each once was, and how many steps ago
UNARY = {
    "neg": ops.negative,
    "abs": ops.abs,
    "exp": ops.exp,
    "log": ops.log,
    "sqrt": ops.sqrt,
    "relu": ops.relu,
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "silu": ops.swish,
}
BINARY = {
    "add": ops.add,
    "sub": ops.subtract,
    "mul": ops.multiply,
    "div": ops.divide,
    "pow": ops.power,
    "lt": ops.less,
    "gt": ops.greater,
    "maximum": ops.maximum,
    "minimum": ops.minimum,
}
REDUCTIONS = {"mean": ops.reduce_mean, "sum": ops.reduce_sum, "amax": ops.reduce_max}


def build(
    stream: Stream,
    weights: Mapping[str, Array],
    frames: int,
    bfloat16: bool,
    wanted: Container[int],
) -> tuple[ov.Model, Ages, Sequence[int]]:
    """Make an OpenVINO model of wanted nodes that takes a chunk of so many frames.

    Beside the output it gives what windows keep for later chunks: which of them its further inputs
    are, and of how many chunks ago, is returned, too, and which of them it gives. OpenVINO computes
    in float32 what leads from the last products to an output in float32, so to be fast what windows
    keep is bfloat16.
    """
    builder = _Builder(weights, frames, ov.Type.bf16 if bfloat16 else ov.Type.f32)
    for place, node in enumerate(stream.graph.nodes):
        builder.add(node, place in wanted)
    given = {0: builder.made[-1]} if builder.made[-1] is not None else {}
    given |= builder.kept
    model = ov.Model([*map(ops.result, given.values())], [builder.made[0], *builder.old], "stream")
    return model, builder.ages, [*given]


# what is computed of weights alone: of its inputs, what is given with it, and its sizes
ON_WEIGHTS: Mapping[str, Callable[[Sequence[Array], Mapping[str, Any], Sequence[int]], Any]] = {
    "number": lambda _, given, __: np.array(given["value"], np.float32),
    "add": lambda inputs, *_: inputs[0] + inputs[1],
    "sub": lambda inputs, *_: inputs[0] - inputs[1],
    "mul": lambda inputs, *_: inputs[0] * inputs[1],
    "div": lambda inputs, *_: inputs[0] / inputs[1],
    "exp": lambda inputs, *_: np.exp(inputs[0]),
    "neg": lambda inputs, *_: -inputs[0],
    "relu": lambda inputs, *_: np.maximum(inputs[0], 0),
    "rsqrt": lambda inputs, *_: 1 / np.sqrt(inputs[0]),
    "sigmoid": lambda inputs, *_: 1 / (1 + np.exp(-inputs[0])),
    "sqrt": lambda inputs, *_: np.sqrt(inputs[0]),
    "tanh": lambda inputs, *_: np.tanh(inputs[0]),
    "concat": lambda inputs, given, _: np.concatenate(inputs, given["axis"]),
    "expand": lambda inputs, _, sizes: np.broadcast_to(inputs[0], sizes),
    "permute": lambda inputs, given, _: inputs[0].transpose(given["order"]),
    "reshape": lambda inputs, _, sizes: inputs[0].reshape(sizes),
    "slice": lambda inputs, given, _: _cut(inputs[0], given),
}


def check_known(graph: Graph) -> None:
    """Raise GraphError, before anything is compiled, for what cannot be."""
    for node in graph.nodes:
        if node.axis is None and node.op != "weight" and node.op not in ON_WEIGHTS:
            raise GraphError(f"{node.op} of weights alone is not known")
        if node.op == "convolution" and node.given["transposed"] and node.given["groups"] != 1:
            raise GraphError("a transposed convolution in groups is not known")


class _Builder:
    def __init__(self, weights: Mapping[str, Array], frames: int, keeping: ov.Type) -> None:
        self.weights = weights
        self.frames = frames
        self.keeping = keeping  # the type in which windows keep frames
        self.made: list[Any] = []  # None: not wanted
        self.old: list[Any] = []  # what windows kept,
        self.ages: list[tuple[int, int]] = []  # of which output and chunk each of it is,
        self.kept: dict[int, Any] = {}  # and what they keep, by its output
        self.windows = 0  # so far

    def add(self, node: Node, wanted: bool) -> None:
        """Add what a node gives: an operation, or an array, where it does not change with time.

        What a window keeps of a chunk may be wanted where what it gives is not.
        """
        inputs = [self.made[place] for place in node.inputs]
        if node.op == "window":
            self.windows += 1
            if inputs[0] is not None:
                self._keep(inputs[0], node)
        if not wanted:
            self.made.append(None)
            return
        if node.axis is None:
            self.made.append(self._compute(node, inputs))
            return
        arrays = [isinstance(each, np.ndarray) for each in inputs]
        inputs = [
            ops.constant(each, shared_memory=True) if is_array else each
            for each, is_array in zip(inputs, arrays, strict=True)
        ]
        self.made.append(self._make(node, inputs))

    def _compute(self, node: Node, inputs: Sequence[Array]) -> Array:
        """Compute what depends on weights alone; OpenVINO would keep all that leads there."""
        sizes = node.sizes(self.frames)
        if node.op == "weight":
            return np.ascontiguousarray(self._weight(node.given["name"], sizes), np.float32)
        computed = ON_WEIGHTS[node.op](inputs, node.given, sizes)
        return np.ascontiguousarray(computed, np.float32)

    def _make(self, node: Node, inputs: Sequence[Any]) -> Any:
        """Make one operation of those that are there already."""
        sizes = node.sizes(self.frames)
        given = node.given
        if node.op in UNARY:
            return UNARY[node.op](*inputs)
        if node.op in BINARY:
            return BINARY[node.op](*inputs)
        if node.op in REDUCTIONS:
            return REDUCTIONS[node.op](inputs[0], _ints(given["axes"]), given["keep"])
        special: dict[str, Callable[[], Any]] = {
            "input": lambda: ops.parameter(sizes, np.float32),
            "where": lambda: ops.select(*inputs),
            "log1p": lambda: ops.log(ops.add(inputs[0], ops.constant(np.float32(1)))),
            "rsqrt": lambda: ops.power(inputs[0], ops.constant(np.float32(-0.5))),
            "leaky_relu": lambda: ops.prelu(
                inputs[0], ops.constant(np.array([given["slope"]], np.float32))
            ),
            "gelu": lambda: ops.gelu(inputs[0], "ERF"),
            "softmax": lambda: ops.softmax(inputs[0], given["axes"][0]),
            "concat": lambda: ops.concat(inputs, given["axis"]),
            "slice": lambda: _slice(inputs[0], given),
            "permute": lambda: ops.transpose(inputs[0], _ints(given["order"])),
            "reshape": lambda: ops.reshape(inputs[0], _ints(sizes), special_zero=False),
            "expand": lambda: _repeat(inputs[0], sizes),
            "matmul": lambda: ops.matmul(*inputs, False, False),
            "pad": lambda: _pad(inputs[0], given, "constant", np.float32(given["value"])),
            "mirror": lambda: _pad(inputs[0], given, "reflect"),
            "convolution": lambda: _convolve(inputs, given),
            "average": lambda: _average(inputs[0], given),
            "largest": lambda: _largest(inputs[0], given),
            "window": lambda: self._window(inputs[0], node, sizes),
        }
        if node.op not in special:
            raise GraphError(f"it uses {node.op}, which is not known to OpenVINO")
        return special[node.op]()

    def _weight(self, name: str, sizes: Sequence[int]) -> Array:
        weight = self.weights.get(name)
        if weight is None or weight.shape != tuple(sizes):
            raise GraphError(f"tensor {name!r} is missing or has another shape")
        return np.asarray(weight, np.float32)

    def _window(self, source: Any, node: Node, sizes: tuple[int, ...]) -> Any:
        """Return the frames from `frames` before a chunk to `ahead` before what is as long ago."""
        axis, frames, ahead = (node.given[name] for name in ("axis", "frames", "ahead"))
        chunk = sizes[axis]
        if frames <= chunk:
            old = self._recall(1, [*sizes[:axis], frames, *sizes[axis + 1 :]])
            more = chunk + ahead - frames
            new = source if more == chunk else _part(source, axis, 0, more)
            return ops.concat([old, new], axis)
        oldest = -(-frames // chunk)  # chunks
        first, last = oldest * chunk - frames, (oldest + 1) * chunk - frames + ahead
        parts = []
        for number in range(-(-last // chunk)):
            age = oldest - number
            whole = self._recall(age, sizes) if age else source
            start, stop = max(0, first - number * chunk), min(chunk, last - number * chunk)
            parts.append(whole if stop - start == chunk else _part(whole, axis, start, stop))
        return parts[0] if len(parts) == 1 else ops.concat(parts, axis)

    def _keep(self, source: Any, node: Node) -> None:
        """Keep what is needed later: the end of a chunk, or whole chunks."""
        axis, frames = node.given["axis"], node.given["frames"]
        chunk = node.sizes(self.frames)[axis]
        part = _part(source, axis, chunk - frames, chunk) if frames <= chunk else source
        kept = part if self.keeping == ov.Type.f32 else ops.convert(part, self.keeping)
        self.kept[self.windows] = kept

    def _recall(self, age: int, sizes: Sequence[int]) -> Any:
        """Return what was kept last so many chunks ago."""
        old = ops.parameter(sizes, self.keeping)
        self.old.append(old)
        self.ages.append((self.windows, age))
        return old if self.keeping == ov.Type.f32 else ops.convert(old, "f32")


def _part(source: Any, axis: int, start: int, stop: int) -> Any:
    return _slice(source, {"axis": axis, "start": start, "stop": stop, "step": 1})


def _ints(values: Sequence[int]) -> Any:
    return ops.constant(np.array(values, np.int64))


def _cut(source: Array, given: Mapping[str, Any]) -> Array:
    place = slice(given["start"], given["stop"], given["step"])
    part: Array = source[(slice(None),) * given["axis"] + (place,)]
    return part


def _slice(source: Any, given: Mapping[str, Any]) -> Any:
    bounds = (_ints([given[name]]) for name in ("start", "stop", "step", "axis"))
    return ops.slice(source, *bounds)


def _repeat(source: Any, sizes: Sequence[int]) -> Any:
    """Repeat along axes of size one; a product is faster than OpenVINO's operation for it."""
    own = [1] * (len(sizes) - len(source.shape)) + list(source.shape)
    times = [new // old for new, old in zip(sizes, own, strict=True)]
    return ops.multiply(source, ops.constant(np.ones(times, np.float32)))


def _pad(source: Any, given: Mapping[str, Any], mode: str, *value: Any) -> Any:
    return ops.pad(source, _ints(given["before"]), _ints(given["after"]), mode, *value)


def _convolve(inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    stride, dilation, groups = given["stride"], given["dilation"], given["groups"]
    begin, end = list(given["padding"]), list(given["padding"])
    if groups != 1:
        features, *kernel = inputs[1].shape
        form = _ints([groups, features // groups, *kernel])
        weight = ops.reshape(inputs[1], form, special_zero=False)
        return ops.group_convolution(inputs[0], weight, stride, begin, end, dilation)
    if not given["transposed"]:
        return ops.convolution(*inputs, stride, begin, end, dilation)
    more = list(given["output_padding"])
    if "crop" in given:
        place, first, last = given["crop"]
        begin[place], end[place], more[place] = first, max(0, last), max(0, -last)
    return ops.convolution_backprop_data(
        *inputs, stride, None, begin, end, dilation, output_padding=more
    )


def _largest(source: Any, given: Mapping[str, Any]) -> Any:
    ones, none = [1, 1], given["padding"]
    return ops.max_pool(source, given["stride"], ones, none, none, given["kernel"]).output(0)


def _average(source: Any, given: Mapping[str, Any]) -> Any:
    padding = given["padding"]
    return ops.avg_pool(source, given["stride"], padding, padding, given["kernel"], True)

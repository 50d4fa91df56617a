"""Graphs on OpenVINO, which multiplies fastest on a processor, and is there at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from splitter.graphs import GraphError, Node, Stream

# what converts models of other programs takes longer to import than all the rest, and is optional
_CONVERTER = "openvino.tools.ovc"
_blocked = sys.modules.setdefault(_CONVERTER, None)  # type: ignore[arg-type]
import openvino as ov  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

if _blocked is None:
    del sys.modules[_CONVERTER]

Array = npt.NDArray[np.float32]
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


class Network:
    """A compiled stream of one network, that songs in several threads may go through."""

    def __init__(
        self,
        stream: Stream,
        weights: Mapping[str, Array],
        frames: int,  # of a chunk
        threads: int,
        lanes: int,  # songs that share them
    ) -> None:
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": lanes,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # another process may have the same idea
        }
        self._compiled = ov.Core().compile_model(build(stream, weights, frames), "CPU", settings)

    def begin_song(self) -> Song:
        """Return a way through for one song."""
        return Song(self._compiled)


class Song:
    """One song on its way: what windows keep of it, and what is being computed.

    There are two sets of arrays: while a step reads one, it writes the other.
    """

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._request = compiled.create_infer_request()
        shapes = [tuple(port.shape) for port in compiled.outputs]
        self._now, self._next = ([_zeros(shape) for shape in shapes] for _ in range(2))
        self._heard: Array | None = None

    def begin(self, magnitude: Array) -> None:
        """Begin to look at (channels, frames, bins)."""
        self._now, self._next = self._next, self._now
        self._heard = np.ascontiguousarray(magnitude[None])  # batch; kept while it is read
        self._request.set_input_tensor(0, ov.Tensor(self._heard, shared_memory=True))
        for place, (old, new) in enumerate(zip(self._next, self._now, strict=True)):
            if place:
                self._request.set_input_tensor(place, old)
            self._request.set_output_tensor(place, new)
        self._request.start_async()

    def take(self) -> Array:
        """Return the mask (stems, channels, frames, bins) of what was begun; it comes late."""
        self._request.wait()
        return np.asarray(self._now[0].data)


def _zeros(shape: Sequence[int]) -> ov.Tensor:
    return ov.Tensor(np.zeros(shape, np.float32), shared_memory=False)


def build(stream: Stream, weights: Mapping[str, Array], frames: int) -> ov.Model:
    """Make an OpenVINO model that takes a chunk of so many frames, and what windows keep.

    Beside the output it gives what they keep for the next chunk.
    """
    builder = _Builder(weights, frames)
    for node in stream.graph.nodes:
        builder.add(node)
    results = [ops.result(made) for made in (builder.made[-1], *builder.kept)]
    return ov.Model(results, [builder.made[0], *builder.old], "stream")


class _Builder:
    def __init__(self, weights: Mapping[str, Array], frames: int) -> None:
        self.weights = weights
        self.frames = frames
        self.made: list[Any] = []
        self.old: list[Any] = []  # what windows kept,
        self.kept: list[Any] = []  # and what they keep

    def add(self, node: Node) -> None:
        """Add what a node gives: an operation, or an array, where it does not change with time."""
        inputs = [self.made[place] for place in node.inputs]
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
        given, sizes = node.given, node.sizes(self.frames)
        known: dict[str, Callable[[], Any]] = {
            "weight": lambda: self._weight(given["name"], sizes),
            "number": lambda: np.array(given["value"], np.float32),
            "add": lambda: inputs[0] + inputs[1],
            "sub": lambda: inputs[0] - inputs[1],
            "mul": lambda: inputs[0] * inputs[1],
            "div": lambda: inputs[0] / inputs[1],
            "rsqrt": lambda: 1 / np.sqrt(inputs[0]),
            "reshape": lambda: inputs[0].reshape(sizes),
            "expand": lambda: np.broadcast_to(inputs[0], sizes),
            "permute": lambda: inputs[0].transpose(given["order"]),
            "slice": lambda: _cut(inputs[0], given),
        }
        if node.op not in known:
            raise GraphError(f"{node.op}: of weights alone is not known")
        return np.ascontiguousarray(known[node.op](), np.float32)

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
            "expand": lambda: ops.broadcast(inputs[0], _ints(sizes)),
            "matmul": lambda: ops.matmul(*inputs, False, False),
            "pad": lambda: ops.pad(
                inputs[0],
                _ints(given["before"]),
                _ints(given["after"]),
                "constant",
                ops.constant(np.float32(given["value"])),
            ),
            "convolution": lambda: _convolve(inputs, given),
            "average": lambda: _average(inputs[0], given),
            "largest": lambda: _largest(inputs[0], given),
            "window": lambda: self._window(inputs[0], node, sizes),
        }
        if node.op not in special:
            raise GraphError(f"{node.op}: is not known to OpenVINO")
        return special[node.op]()

    def _weight(self, name: str, sizes: Sequence[int]) -> Array:
        weight = self.weights.get(name)
        if weight is None or weight.shape != tuple(sizes):
            raise GraphError(f"tensor {name!r} is missing or misshapen")
        return np.asarray(weight, np.float32)

    def _window(self, source: Any, node: Node, sizes: tuple[int, ...]) -> Any:
        """Join what is kept and the chunk; keep the last frames of it for the next one."""
        axis, frames, ahead = (node.given[name] for name in ("axis", "frames", "ahead"))
        shape = [frames if place == axis else size for place, size in enumerate(sizes)]
        self.old.append(ops.parameter(shape, np.float32))
        joined = ops.concat([self.old[-1], source], axis)
        last = {"axis": axis, "start": sizes[axis], "stop": sizes[axis] + frames, "step": 1}
        self.kept.append(_slice(joined, last))
        if ahead == frames:
            return joined
        return _slice(joined, {"axis": axis, "start": 0, "stop": sizes[axis] + ahead, "step": 1})


def _ints(values: Sequence[int]) -> Any:
    return ops.constant(np.array(values, np.int64))


def _cut(source: Array, given: Mapping[str, Any]) -> Array:
    place = slice(given["start"], given["stop"], given["step"])
    part: Array = source[(slice(None),) * given["axis"] + (place,)]
    return part


def _slice(source: Any, given: Mapping[str, Any]) -> Any:
    bounds = (_ints([given[name]]) for name in ("start", "stop", "step", "axis"))
    return ops.slice(source, *bounds)


def _convolve(inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    if given["groups"] != 1:
        raise GraphError("convolution: in groups")
    stride, dilation = given["stride"], given["dilation"]
    begin, end = list(given["padding"]), list(given["padding"])
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

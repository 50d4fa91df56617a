"""Graphs on OpenVINO, which multiplies fastest on a processor, and is there at once."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from locale import localeconv
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from splitter.graphs import Graph, GraphError, Node, Stream, find_early

# what converts models of other programs takes longer to import than all the rest, and is optional
_CONVERTER = "openvino.tools.ovc"
_blocked = sys.modules.setdefault(_CONVERTER, None)  # type: ignore[arg-type]
import openvino as ov  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

if _blocked is None:
    del sys.modules[_CONVERTER]

Array = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Ages = Sequence[tuple[int, int]]  # of inputs: the output that each once was, and how many steps ago
CAPABILITIES = "OPTIMIZATION_CAPABILITIES"
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


@dataclass(frozen=True)
class Settings:
    """How much of a processor a network may use."""

    threads: int
    lanes: int = 1  # songs that share them
    bfloat16: bool = False  # the precision of products, in place of float32


@dataclass(frozen=True)
class Program:
    """What is computed of a chunk, compiled: it takes what was put out earlier, and puts out."""

    compiled: ov.CompiledModel
    ages: Ages  # of its inputs but the chunk
    places: Sequence[int]  # of its outputs: 0 is the mask, others are what windows keep
    memory: Bytes | None = None  # what it was imported from, and uses


class Network:
    """A compiled stream of one network, that songs in several threads may go through."""

    def __init__(self, programs: Sequence[Program], unheard: int) -> None:
        self._programs = programs
        self._unheard = unheard
        _kept.add(self)

    def begin_song(self) -> Song:
        """Return a way through for one song."""
        return Song(self._programs, self._unheard)

    def export(self) -> list[tuple[bytes, Ages, Sequence[int]]]:
        """Return what `import_network` makes the same network of, on this machine.

        Raises RuntimeError where this process writes numbers with a comma: see `_check_point`.
        """
        exported = []
        for program in self._programs:
            stream = BytesIO()
            _check_point()
            program.compiled.export_model(stream)
            _check_point()  # another thread may have changed it meanwhile
            exported.append((stream.getvalue(), program.ages, program.places))
        return exported


def _check_point() -> None:
    """Raise RuntimeError where a program has chosen a language that writes 0.5 as 0,5.

    OpenVINO exports numbers in the way of that language, and takes up another number.
    """
    point = localeconv()["decimal_point"]
    if point != ".":
        raise RuntimeError(f"numbers are written with {point!r} here")


_kept: WeakSet[Network | Song] = WeakSet()


def _keep_all() -> None:
    """Keep all for ever: at its end a fork would wait for threads that it does not have."""
    for one in _kept:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_all)


def compile_network(
    stream: Stream, weights: Mapping[str, Array], frames: int, settings: Settings, unheard: int
) -> Network:
    """Compile a stream for chunks of so many frames.

    The outputs of the first `unheard` chunks are not asked for. For many songs there is a program
    of its own for these, but for the last: it computes only what sees far.
    """
    core, programs = ov.Core(), []
    wanted: list[Container[int]] = [range(len(stream.graph.nodes))]
    if settings.lanes > 1 and unheard > 1:
        wanted.append(find_early(stream, frames))
    for nodes in wanted:
        model, ages, places = build(stream, weights, frames, settings.bfloat16, nodes)
        compiled = core.compile_model(model, "CPU", _properties(settings))
        programs.append(Program(compiled, ages, places))
    return Network(programs, unheard)


def import_network(
    exported: Iterable[tuple[Bytes, Ages, Sequence[int]]], settings: Settings, unheard: int
) -> Network:
    """Take up what was exported; raise RuntimeError if it is nothing that OpenVINO can use.

    It stays in use: nothing of it is copied.
    """
    core, programs = ov.Core(), []
    for model, ages, places in exported:
        memory = ov.Tensor(model, shared_memory=True)
        compiled = core.import_model(memory, "CPU", _properties(settings))
        programs.append(Program(compiled, ages, places, model))
    return Network(programs, unheard)


def describe_machine() -> str:
    """Return what exported networks depend on, beside the stream and its weights."""
    core = ov.Core()
    known = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", CAPABILITIES)]
    return f"{ov.get_version()} {known}"


def _properties(settings: Settings) -> dict[str, Any]:
    return {
        "INFERENCE_NUM_THREADS": settings.threads,
        "NUM_STREAMS": settings.lanes,
        "INFERENCE_PRECISION_HINT": "bf16" if settings.bfloat16 else "f32",
        "ENABLE_CPU_PINNING": False,  # another process may have the same idea
    }


class Song:
    """One song on its way: what windows keep of it, and what is being computed.

    Each output has a ring of arrays: a step writes one, and reads what was written some steps ago.
    """

    def __init__(self, programs: Sequence[Program], unheard: int) -> None:
        whole = programs[0]
        self._whole = whole, whole.compiled.create_infer_request()
        self._current = self._whole
        if len(programs) > 1:
            self._current = programs[1], programs[1].compiled.create_infer_request()
        self._unheard = unheard
        _kept.add(self)
        depths = [1] * len(whole.places)
        for place, age in whole.ages:
            depths[place] = max(depths[place], age)
        self._rings = [
            [_zeros(port) for _ in range(depth + 1)]
            for port, depth in zip(whole.compiled.outputs, depths, strict=True)
        ]
        self._step = 0
        self._heard: Array | None = None

    def begin(self, magnitude: Array) -> None:
        """Begin to look at (channels, frames, bins)."""
        self._step += 1
        if self._step == self._unheard:
            self._current = self._whole
        program, request = self._current
        self._heard = np.ascontiguousarray(magnitude[None])  # batch; kept while it is read
        request.set_input_tensor(0, ov.Tensor(self._heard, shared_memory=True))
        for number, (place, age) in enumerate(program.ages, 1):
            request.set_input_tensor(number, self._written(place, age))
        for number, place in enumerate(program.places):
            request.set_output_tensor(number, self._written(place, 0))
        request.start_async()

    def take(self) -> Array:
        """Return the mask (stems, channels, frames, bins) of what was begun; it comes late."""
        self._current[1].wait()
        return np.asarray(self._written(0, 0).data)

    def _written(self, place: int, age: int) -> ov.Tensor:
        """Return what an output is written to, or was some steps ago."""
        ring = self._rings[place]
        return ring[(self._step - age) % len(ring)]


def _zeros(port: Any) -> ov.Tensor:
    tensor = ov.Tensor(port.element_type, port.shape)
    tensor.data[:] = 0
    return tensor


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

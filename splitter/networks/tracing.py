"""From a module to a graph: run it once on nothing, and write down which operations it does.

PyTorch tells what is called (`make_fx`); here it is put into the few words of
`splitter.graphs.graph`. It is traced for two numbers of frames: the sizes that change are those
that depend on time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from splitter.errors import reason
from splitter.graphs import Graph, GraphError, Node, Size
from splitter.networks.composites import COMPOSITES

# PyTorch's word → ours, where arguments that are tensors or numbers are all there is
SAME = {
    **{word: word for word in ("exp", "log", "log1p", "sqrt", "rsqrt", "relu", "sigmoid", "tanh")},
    **{word: word for word in ("where", "maximum", "minimum", "div", "mul", "lt", "gt", "neg")},
    **{"abs": "abs", "silu": "silu", "gelu": "gelu", "pow": "pow"},
}
RESHAPES = {"view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "view_as"}
PASSED = {"clone", "contiguous", "alias", "detach", "lift_fresh_copy", "_to_copy", "copy"}
REDUCTIONS = {"mean": "mean", "sum": "sum", "amax": "amax"}


def trace(module: nn.Module, make_input: Callable[[int], Tensor], frames: int) -> Graph:
    """Trace a module in evaluation for pictures of any number of frames; GraphError if it cannot.

    `make_input` makes a picture of so many frames; `frames` is a number of them that the module
    can take.
    """
    if module.training:
        raise GraphError("a network is traced as it is used, after training")
    short, long = (_record(module, make_input(frames * times)) for times in (1, 2))
    writer = _Writer(frames)
    calls = [node for node in short.graph.nodes if node.op != "output"]
    longer = [node for node in long.graph.nodes if node.op != "output"]
    if len(calls) != len(longer):
        raise GraphError("its operations change with the length of the song")
    names = [*_weights(module)]
    for node, other in zip(calls, longer, strict=True):
        writer.add(node, other, names)
    result: Any = next(node for node in short.graph.nodes if node.op == "output").args[0]
    if isinstance(result, (list, tuple)):
        (result,) = result
    return _without_unused(writer.nodes, writer.places[result])


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _record(module: nn.Module, picture: Tensor) -> fx.GraphModule:
    def call(weights: Mapping[str, Tensor], picture: Tensor) -> Any:
        return functional_call(module, dict(weights), (picture,))

    with torch.no_grad():
        try:
            record = make_fx(functionalize(call), {**COMPOSITES}, tracing_mode="fake")
            traced = record(_weights(module), picture)
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise GraphError(f"PyTorch cannot list its operations ({reason(error)})") from error
    traced.graph.eliminate_dead_code()
    return traced


@dataclass
class _Writer:
    """Puts what PyTorch called into our words, one call after the other."""

    frames: int
    nodes: list[Node] = field(default_factory=list)
    places: dict[fx.Node, int] = field(default_factory=dict)
    shapes: dict[fx.Node, tuple[Size, ...]] = field(default_factory=dict)

    def add(self, call: fx.Node, longer: fx.Node, names: Sequence[str]) -> None:
        """Add one call; `longer` is the same call for twice the frames."""
        value, other = (_first(each.meta.get("val")) for each in (call, longer))
        if isinstance(value, Tensor) and isinstance(other, Tensor):
            self.shapes[call] = self._compare(value.shape, other.shape)
        if call.op == "placeholder":
            index = len(self.places)
            kind = {"name": names[index]} if index < len(names) else {}
            self._put(call, "weight" if kind else "input", (), kind)
        elif call.op == "call_function":
            self._translate(call, longer)
        else:
            raise GraphError(f"{call.op} {call.target}: is no operation")

    def _compare(self, short: Sequence[int], long: Sequence[int]) -> tuple[Size, ...]:
        return tuple(self._size(one, two) for one, two in zip(short, long, strict=True))

    def _size(self, short: int, long: int) -> Size:
        """Return a size; frames that are added or cut off at the ends are not counted."""
        return short if short == long else Fraction(long - short, self.frames)

    def _emit(
        self, op: str, inputs: Sequence[int], shape: Sequence[Size], given: Mapping[str, Any] = {}
    ) -> int:
        self.nodes.append(Node(op, tuple(inputs), tuple(shape), dict(given)))
        return len(self.nodes) - 1

    def _put(
        self, call: fx.Node, op: str, inputs: Sequence[int], given: Mapping[str, Any] = {}
    ) -> None:
        self.places[call] = self._emit(op, inputs, self.shapes[call], given)

    def _reshape(self, place: int, shape: Sequence[Size]) -> int:
        """Add a reshape, but none of a reshape, and none that changes nothing."""
        while self.nodes[place].op == "reshape":
            (place,) = self.nodes[place].inputs
        if self.nodes[place].shape == tuple(shape):
            return place
        return self._emit("reshape", [place], shape)

    def _permute(self, place: int, order: Sequence[int]) -> int:
        """Add a permutation, but none of a permutation, and none that changes nothing."""
        if self.nodes[place].op == "permute":
            order = [self.nodes[place].given["order"][axis] for axis in order]
            (place,) = self.nodes[place].inputs
        if [*order] == [*range(len(order))]:
            return place
        shape = self.nodes[place].shape
        return self._emit("permute", [place], [shape[axis] for axis in order], {"order": order})

    def _multiply(self, left: int, right: int, shape: Sequence[Size]) -> int:
        """Add a product of matrices.

        Where rows of weights are applied to columns that were turned to be rows, (Xᵀ Wᵀ), they are
        applied to the columns as they are, (W X)ᵀ: nothing large need be turned, nor turned back.
        """
        turned = left
        while self.nodes[turned].op == "reshape":
            (turned,) = self.nodes[turned].inputs
        node, weight = self.nodes[turned], self.nodes[right]
        columns = node.op == "permute" and node.given["order"] == [0, 2, 1] and node.shape[0] == 1
        rows = weight.op == "permute" and weight.given["order"] == [1, 0] and weight.axis is None
        if not (columns and rows and node.shape[1:] == self.nodes[left].shape):
            return self._emit("matmul", [left, right], shape)
        product = [1, shape[1], shape[0]]
        place = self._emit("matmul", [weight.inputs[0], node.inputs[0]], product)
        return self._reshape(self._permute(place, [0, 2, 1]), shape)

    def _take(self, argument: Any) -> int:
        """Return the place of an argument: a tensor, or a number, which gets a node of its own."""
        if isinstance(argument, fx.Node):
            return self.places[argument]
        if isinstance(argument, (int, float)):
            return self._emit("number", (), (), {"value": float(argument)})
        raise GraphError(f"{argument!r} is neither a tensor nor a number")

    def _translate(self, call: fx.Node, longer: fx.Node) -> None:
        target = str(call.target)
        if not isinstance(call.target, torch._ops.OpOverload):
            if "getitem" in target and isinstance(call.args[0], fx.Node):
                if call.args[1] != 0:
                    raise GraphError("only the first result of an operation is known")
                self.places[call] = self.places[call.args[0]]
                return
            raise GraphError(f"{target}: is no operation on tensors")
        word = call.target._schema.name.removeprefix("aten::")
        arguments = _named(call)
        rank = len(self.shapes.get(call, ()))
        if word in PASSED:
            self.places[call] = self._take(call.args[0])
        elif word in SAME:
            self._put(call, SAME[word], [self._take(each) for each in call.args])
        elif word in ("add", "sub"):
            if arguments.get("alpha", 1) != 1:
                raise GraphError(f"{word}: is scaled")
            self._put(call, word, [self._take(each) for each in call.args[:2]])
        elif word == "reciprocal":
            self._put(call, "div", [self._take(1.0), self._take(call.args[0])])
        elif word in RESHAPES:
            self.places[call] = self._reshape(self._take(call.args[0]), self.shapes[call])
        elif word == "expand":
            self._put(call, "expand", [self._take(call.args[0])])
        elif word == "leaky_relu":
            slope = float(arguments.get("negative_slope", 0.01))
            self._put(call, word, [self._take(call.args[0])], {"slope": slope})
        elif word in ("t", "transpose", "permute"):
            self.places[call] = self._permute(self._take(call.args[0]), _order(call, rank))
        elif word in REDUCTIONS and arguments.get("dim"):
            axes = _positive(arguments["dim"], len(self.shapes[call.args[0]]))  # type: ignore[index]
            given = {"axes": axes, "keep": bool(arguments.get("keepdim", False))}
            self._put(call, REDUCTIONS[word], [self._take(call.args[0])], given)
        elif word == "_softmax":
            given = {"axes": _positive([arguments["dim"]], rank), "keep": True}
            self._put(call, "softmax", [self._take(call.args[0])], given)
        elif word == "cat":
            axis = _positive([arguments.get("dim", 0)], rank)[0]
            self._put(
                call, "concat", [self._take(each) for each in arguments["tensors"]], {"axis": axis}
            )
        elif word == "slice":
            self._slice(call, longer)
        elif word in ("clamp", "hardtanh"):
            self._clamp(call)
        elif word == "mm":
            left, right = (self._take(each) for each in call.args)
            self.places[call] = self._multiply(left, right, self.shapes[call])
        elif word in ("bmm", "matmul"):
            self._put(call, "matmul", [self._take(each) for each in call.args])
        elif word == "addmm":
            product = self._emit(
                "matmul", [self._take(each) for each in call.args[1:3]], self.shapes[call]
            )
            self._put(call, "add", [product, self._take(call.args[0])])
        elif word == "addcmul":
            base, one, two = (self._take(each) for each in call.args)
            product = self._emit("mul", [one, two], self.shapes[call])
            self._put(call, "add", [base, product])
        elif word in (
            "native_batch_norm",
            "_native_batch_norm_legit_no_training",
            "_native_batch_norm_legit",
        ):
            self._normalise(call, arguments)
        elif word == "convolution":
            self._convolve(call, arguments)
        elif word == "max_pool2d_with_indices":
            self._choose_largest(call, arguments)
        elif word == "avg_pool2d":
            self._average(call, arguments)
        elif word == "constant_pad_nd":
            self._pad(call, arguments["pad"], {"value": float(arguments.get("value", 0))})
        elif word == "reflection_pad2d":
            self._pad(call, arguments["padding"], {})
        elif word in ("empty", "new_empty"):
            return  # of no use but to what nobody asks for
        else:
            raise GraphError(f"it uses {word}, which cannot be streamed")

    def _slice(self, call: fx.Node, longer: fx.Node) -> None:
        """Write a cut, or every second frame and the like."""
        place = self._take(call.args[0])
        shape, wanted = self.nodes[place].shape, self.shapes[call]
        axis, start, stop, step = _bounds(call)
        if isinstance(shape[axis], Fraction):
            if _bounds(longer)[1] != start or wanted[axis] != shape[axis] / step:
                raise GraphError("it uses only some of the frames")
            self.places[call] = self._thin(self._shift(place, start), axis, step, wanted)
        elif shape == wanted:
            self.places[call] = place
        else:
            given = {"axis": axis, "start": start, "stop": stop, "step": step}
            self._put(call, "slice", [place], given)

    def _shift(self, place: int, frames: int) -> int:
        """Leave out the first frames, or put as many before them."""
        if not frames:
            return place
        return self._emit("shift", [place], self.nodes[place].shape, {"frames": frames})

    def _thin(self, place: int, axis: int, step: int, shape: Sequence[Size]) -> int:
        """Keep one frame of each few."""
        if step == 1:
            return place
        ones = [1] * (len(shape) - 2)
        stride = [*ones]
        stride[axis - 2] = step
        given = {"kernel": ones, "stride": stride, "padding": [0] * len(ones)}
        return self._emit("average", [place], shape, given)

    def _clamp(self, call: fx.Node) -> None:
        place = self._take(call.args[0])
        for word, limit in zip(("maximum", "minimum"), call.args[1:], strict=False):
            if limit is not None:
                place = self._emit(word, [place, self._take(limit)], self.shapes[call])
        self.places[call] = place

    def _pad(self, call: fx.Node, pad: Sequence[int], value: Mapping[str, float]) -> None:
        """Write a padding, mirrored where there is no value; where it is negative, a cut.

        PyTorch counts the axes from the last. Frames before the first are silent, whatever was
        asked for: a song begins with context.
        """
        place, wanted = self._take(call.args[0]), self.shapes[call]
        before, after = ([0] * len(wanted) for _ in range(2))
        for axis, first, last in zip(range(-1, -5, -1), pad[::2], pad[1::2], strict=False):
            shape = [*self.nodes[place].shape]
            size = shape[axis]
            if isinstance(size, Fraction):
                if size != wanted[axis]:
                    raise GraphError("pad: by more where there are more frames")
                place = self._shift(place, -first)
                continue
            before[axis], after[axis] = max(0, first), max(0, last)
            start, stop = max(0, -first), size - max(0, -last)
            if stop - start < size:
                shape[axis] = stop - start
                cut = {"axis": axis % len(shape), "start": start, "stop": stop, "step": 1}
                place = self._emit("slice", [place], shape, cut)
        if any(before) or any(after):
            given = {"before": before, "after": after, **value}
            place = self._emit("pad" if value else "mirror", [place], wanted, given)
        self.places[call] = place

    def _normalise(self, call: fx.Node, arguments: Mapping[str, Any]) -> None:
        """Write a batch norm: multiply, and add. Behind a convolution, multiply its weights."""
        source = arguments["input"]
        value = call.meta["val"][0]
        shape = self.shapes[source]
        channel = [value.shape[1], *[1] * (value.ndim - 2)]
        mean, variance, weight, bias = (
            self._take(arguments[name])
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        one = [value.shape[1]]
        epsilon = self._take(float(arguments["eps"]))
        deviation = self._emit("rsqrt", [self._emit("add", [variance, epsilon], one)], one)
        scale = self._emit("mul", [weight, deviation], one)
        shift = self._emit("sub", [bias, self._emit("mul", [mean, scale], one)], one)
        scaled = self._scale(self.places[source], scale, channel, shape, len(source.users) == 1)
        place = self._emit("add", [scaled, self._emit("reshape", [shift], channel)], shape)
        self.places[call] = place
        self.shapes[call] = shape

    def _scale(
        self, place: int, scale: int, channel: Sequence[int], shape: Sequence[Size], alone: bool
    ) -> int:
        node = self.nodes[place]
        one_sum = node.op == "convolution" and not (
            node.given["transposed"] and node.given["groups"] > 1
        )
        if one_sum and alone:
            weight = self.nodes[node.inputs[1]]
            taps = [1] * (len(weight.shape) - 2)
            form = [1, channel[0], *taps] if node.given["transposed"] else [channel[0], 1, *taps]
            factor = self._emit("reshape", [scale], form)
            scaled = self._emit("mul", [node.inputs[1], factor], weight.shape)
            return self._emit("convolution", [node.inputs[0], scaled], shape, node.given)
        return self._emit("mul", [place, self._emit("reshape", [scale], channel)], shape)

    def _convolve(self, call: fx.Node, arguments: Mapping[str, Any]) -> None:
        given = {
            name: arguments[name]
            for name in ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
        }
        inputs = [self._take(arguments["input"]), self._take(arguments["weight"])]
        if arguments.get("bias") is None:
            self._put(call, "convolution", inputs, given)
            return
        bias, shape = arguments["bias"], self.shapes[call]
        place = self._emit("convolution", inputs, shape, given)
        channel = [shape[1], *[1] * (len(shape) - 2)]
        self._put(call, "add", [place, self._emit("reshape", [self._take(bias)], channel)])

    def _choose_largest(self, call: fx.Node, arguments: Mapping[str, Any]) -> None:
        """Write the largest of neighbours; which one it was, nobody asks."""
        kernel = arguments["kernel_size"]
        padding, dilation = arguments.get("padding", [0, 0]), arguments.get("dilation", [1, 1])
        if any(padding) or {*dilation} != {1}:
            raise GraphError("its max_pool2d is of a kind that cannot be streamed")
        given = {"kernel": kernel, "stride": arguments.get("stride") or kernel, "padding": [0, 0]}
        self._put(call, "largest", [self._take(call.args[0])], given)

    def _average(self, call: fx.Node, arguments: Mapping[str, Any]) -> None:
        """Write a mean over neighbours, as it is away from the picture's edges."""
        if arguments.get("ceil_mode") or arguments.get("divisor_override"):
            raise GraphError("its avg_pool2d is of a kind that cannot be streamed")
        kernel = arguments["kernel_size"]
        given = {
            "kernel": kernel,
            "stride": arguments.get("stride") or kernel,
            "padding": arguments.get("padding", [0, 0]),
        }
        self._put(call, "average", [self._take(call.args[0])], given)


def _first(value: Any) -> Any:
    """Return the first of several results: others are not asked for."""
    return value[0] if isinstance(value, (list, tuple)) and value else value


def _named(call: fx.Node) -> dict[str, Any]:
    """Return the arguments of a call by their names."""
    assert isinstance(call.target, torch._ops.OpOverload)
    names = [argument.name for argument in call.target._schema.arguments]
    named = dict(zip(names, call.args, strict=False)) | dict(call.kwargs)
    return {
        "input" if name == "self" else name: [*value] if isinstance(value, (list, tuple)) else value
        for name, value in named.items()
    }


def _bounds(call: fx.Node) -> tuple[int, int, int, int]:
    """Return axis, start, stop and step of a slice, counted from the first value."""
    arguments, source = _named(call), call.args[0]
    assert isinstance(source, fx.Node)
    sizes = source.meta["val"].shape
    axis = arguments.get("dim", 0) % len(sizes)
    place = slice(arguments.get("start"), arguments.get("end"), arguments.get("step", 1))
    return axis, *place.indices(sizes[axis])


def _positive(axes: Any, rank: int) -> list[int]:
    return [axis % rank for axis in ([axes] if isinstance(axes, int) else axes)]


def _order(call: fx.Node, rank: int) -> list[int]:
    order = list(range(rank))
    word = call.target._schema.name if isinstance(call.target, torch._ops.OpOverload) else ""
    if word == "aten::permute":
        return _positive(call.args[1], rank)
    one, two = (0, 1) if word == "aten::t" else _positive(call.args[1:3], rank)
    order[one], order[two] = two, one
    return order


def _without_unused(nodes: Sequence[Node], output: int) -> Graph:
    """Leave out what the output does not need; the input stays the first, the output the last."""
    needed = {output}
    for place in range(output, -1, -1):
        if place in needed:
            needed |= set(nodes[place].inputs)
    source = next(place for place, node in enumerate(nodes) if node.op == "input")
    order = [source, *sorted(needed - {source})]
    new = {old: place for place, old in enumerate(order)}
    return Graph(
        [
            Node(
                nodes[old].op,
                tuple(new[i] for i in nodes[old].inputs),
                nodes[old].shape,
                nodes[old].given,
            )
            for old in order
        ]
    )

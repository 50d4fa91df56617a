"""From a module to a graph: run it once on nothing, and write down which operations it does.

PyTorch tells what is called (`make_fx`); here it is put into the few words of
`splitter.graphs.graph`. It is traced for two numbers of frames: the sizes that change are those
that depend on time.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from splitter.errors import reason
from splitter.graphs import Graph, GraphError, Size
from splitter.networks.composites import COMPOSITES
from splitter.networks.nodes import Nodes
from splitter.networks.translation import Call, translate

# of use but to what nobody asks for
UNUSED = {"aten.empty.memory_format", "aten.new_empty.default"}


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
    return writer.nodes.finish(writer.places[result])


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
    nodes: Nodes = field(default_factory=Nodes)
    places: dict[fx.Node, int] = field(default_factory=dict)

    def add(self, call: fx.Node, longer: fx.Node, names: Sequence[str]) -> None:
        """Add one call; `longer` is the same call for twice the frames."""
        value, other = (_first(each.meta.get("val")) for each in (call, longer))
        shape: tuple[Size, ...] = ()
        if isinstance(value, Tensor) and isinstance(other, Tensor):
            shape = self._compare(value.shape, other.shape)
        if call.op == "placeholder":
            index = len(self.places)
            op, kind = ("weight", {"name": names[index]}) if index < len(names) else ("input", {})
            self.places[call] = self.nodes.emit(op, (), shape, kind)
        elif call.op != "call_function":
            raise GraphError(f"{call.op} {call.target}: is no operation")
        elif call.target is operator.getitem:
            if call.args[1] != 0:
                raise GraphError("only the first result of an operation is known")
            self.places[call] = self.places[call.args[0]]  # type: ignore[index]
        elif str(call.target) not in UNUSED:
            self.places[call] = translate(Call(self.nodes, self.places, call, longer, shape))

    def _compare(self, short: Sequence[int], long: Sequence[int]) -> tuple[Size, ...]:
        return tuple(self._size(one, two) for one, two in zip(short, long, strict=True))

    def _size(self, short: int, long: int) -> Size:
        """Return a size; frames that are added or cut off at the ends are not counted."""
        return short if short == long else Fraction(long - short, self.frames)


def _first(value: Any) -> Any:
    """Return the first of several results: others are not asked for."""
    return value[0] if isinstance(value, (list, tuple)) and value else value

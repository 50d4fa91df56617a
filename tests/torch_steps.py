"""Graphs on PyTorch, step by step: what OpenVINO's are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from splitter.graphs import GraphError, Node, Stream

UNARY: Mapping[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in ("abs", "exp", "log", "log1p", "sqrt", "rsqrt")},
    **{name: getattr(torch, name) for name in ("relu", "sigmoid", "tanh", "neg")},
    "silu": F.silu,
    "gelu": F.gelu,
}
BINARY: Mapping[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in ("add", "sub", "mul", "div", "pow", "lt", "gt")},
    **{name: getattr(torch, name) for name in ("where", "maximum", "minimum", "matmul")},
}


class TorchSteps:
    """A stream that takes a chunk at a time, and keeps its windows from one to the next."""

    def __init__(self, stream: Stream, weights: Mapping[str, Tensor]) -> None:
        self.graph = stream.graph
        self.weights = weights
        self.kept: dict[int, Tensor] = {}

    def restart(self) -> None:
        """Forget what was heard."""
        self.kept = {}

    @torch.inference_mode()
    def __call__(self, chunk: Tensor) -> Tensor:
        """Take a chunk, (…, frames), and give as much, `late` frames late."""
        nodes = self.graph.nodes
        last = _last_uses(nodes)
        axis = nodes[0].axis
        assert axis is not None
        frames = chunk.shape[axis]
        made: dict[int, Tensor] = {0: chunk}
        for place, node in enumerate(nodes):
            if place:
                inputs = [made[other] for other in node.inputs]
                made[place] = self._make(place, node, inputs, frames)
            for other in last.get(place, ()):
                del made[other]
        return made[len(nodes) - 1]

    def _make(self, place: int, node: Node, inputs: Sequence[Tensor], frames: int) -> Tensor:
        given = node.given
        if node.op in UNARY or node.op in BINARY:
            return (UNARY.get(node.op) or BINARY[node.op])(*inputs)
        special: dict[str, Callable[[], Tensor]] = {
            "weight": lambda: self.weights[given["name"]],
            "number": lambda: torch.tensor(given["value"]),
            "leaky_relu": lambda: F.leaky_relu(inputs[0], given["slope"]),
            "mean": lambda: inputs[0].mean(given["axes"], given["keep"]),
            "sum": lambda: inputs[0].sum(given["axes"], given["keep"]),
            "amax": lambda: inputs[0].amax(given["axes"], given["keep"]),
            "softmax": lambda: inputs[0].softmax(given["axes"][0]),
            "concat": lambda: torch.cat([*inputs], given["axis"]),
            "slice": lambda: _slice(inputs[0], **given),
            "permute": lambda: inputs[0].permute(given["order"]),
            "reshape": lambda: inputs[0].reshape(node.sizes(frames)),
            "expand": lambda: inputs[0].expand(node.sizes(frames)),
            "pad": lambda: _pad(inputs[0], **given),
            "mirror": lambda: _pad(inputs[0], **given, mode="reflect"),
            "convolution": lambda: _convolve(inputs, given),
            "largest": lambda: F.max_pool2d(inputs[0], given["kernel"], given["stride"]),
            "average": lambda: F.avg_pool2d(
                inputs[0], given["kernel"], given["stride"], given["padding"], False, False
            ),
            "window": lambda: self._window(place, inputs[0], **given),
        }
        if node.op not in special:
            raise GraphError(f"it uses {node.op}, which is not known here")
        return special[node.op]()

    def _window(self, place: int, source: Tensor, axis: int, frames: int, ahead: int) -> Tensor:
        """Join what is kept and the chunk; keep the last frames of it for the next one."""
        size = source.shape[axis]
        old = self.kept.get(place)
        if old is None:
            old = source.new_zeros([*source.shape[:axis], frames, *source.shape[axis + 1 :]])
        joined = torch.cat([old, source], axis)
        self.kept[place] = joined.narrow(axis, size, frames).clone()
        return joined.narrow(axis, 0, size + ahead)


def _last_uses(nodes: Sequence[Node]) -> dict[int, list[int]]:
    """Say behind which node others are not needed any more."""
    last = {other: place for place, node in enumerate(nodes) for other in node.inputs}
    uses: dict[int, list[int]] = {}
    for other, place in last.items():
        uses.setdefault(place, []).append(other)
    return uses


def _slice(source: Tensor, axis: int, start: int, stop: int, step: int) -> Tensor:
    return source[(slice(None),) * axis + (slice(start, stop, step),)]


def _pad(
    source: Tensor,
    before: Sequence[int],
    after: Sequence[int],
    value: float = 0,
    mode: str = "constant",
) -> Tensor:
    pairs = [*zip(before, after, strict=True)]
    if mode == "reflect":
        pairs = pairs[2:]  # those of the picture
    return F.pad(source, [count for pair in reversed(pairs) for count in pair], mode, value)


def _convolve(inputs: Sequence[Tensor], given: Mapping[str, Any]) -> Tensor:
    output = torch.convolution(
        inputs[0],
        inputs[1],
        None,
        given["stride"],
        given["padding"],
        given["dilation"],
        given["transposed"],
        given["output_padding"],
        given["groups"],
    )
    if "crop" not in given:
        return output
    place, first, last = given["crop"]
    axis = place + 2
    if last < 0:
        output = F.pad(output, [0, 0] * (output.ndim - 1 - axis) + [0, -last])
    return output.narrow(axis, first, output.shape[axis] - first - max(0, last))

"""Let a network go through a song chunk by chunk, and compute nothing twice.

    chunk n ──▶ [ … what the layer kept of earlier chunks | chunk n ] ──▶ layer ──▶ its chunk n

A layer that looks at neighbouring frames keeps the last few of its input (a `window`). It gives as
many frames a chunk as ever, but late: it has to wait for those to come. What is joined must be
equally late, so the paths that are ahead wait in windows, too; strided layers wait for the frame
where their grid begins. That is all: how late each node is follows from the operations alone.

With a frame axis on which the layer has k taps (dilation counted), stride s and padding p:

    convolution              late' = (late + k − s − p + wait) / s      keeps k − s + wait frames
    transposed convolution   late' = s · late + p                       keeps ⌊(k − 1) / s⌋ frames

What lies before the first chunk is zero to every layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import lcm
from typing import Any

from splitter.graphs.graph import Graph, GraphError, Node, ahead_of

CONSTANT = {"weight", "number"}
ELEMENTWISE = {
    *("add", "sub", "mul", "div", "pow", "lt", "gt", "where", "maximum", "minimum", "neg", "abs"),
    *("exp", "log", "log1p", "sqrt", "rsqrt", "relu", "leaky_relu", "sigmoid", "tanh", "gelu"),
    *("silu", "expand"),
}
ALONG_AXES = {"mean", "sum", "amax", "softmax"}


@dataclass(frozen=True)
class Stream:
    """A graph that takes a chunk of frames at a time, and gives as many, `late` frames late."""

    graph: Graph
    late: int  # frames
    stride: int  # frames of a chunk are a multiple of it


@dataclass(frozen=True)
class Taps:
    """How a layer looks at the frame axis of its input."""

    span: int  # frames from the first to the last that it sees
    stride: int
    padding: int
    transposed: bool = False


@dataclass(frozen=True)
class Sight:
    """How far a node sees, in frames of the input, from the first of those that it stands for."""

    before: Fraction
    behind: Fraction
    values: Fraction  # that a reshape laid behind each other, of what was one frame

    def part(self, step: Fraction) -> Sight:
        """Take these values for frames of their own: the last sees what the first sees."""
        return Sight(self.before + (self.values - 1) * step, self.behind, Fraction(1))


def find_stride(graph: Graph) -> int:
    """Return the number of frames that the slowest node sees as one."""
    return lcm(*(node.rate.denominator for node in graph.nodes if node.axis is not None))


def find_reach(graph: Graph) -> int:
    """Return how many frames to either side an output depends on.

    Raises GraphError if that has no bound.
    """
    steps = [  # of each node, in frames of the input
        runs / node.rate if node.axis is not None else Fraction(0)
        for node, runs in zip(graph.nodes, find_order(graph), strict=True)
    ]
    seen: list[Sight] = []
    for node, step in zip(graph.nodes, steps, strict=True):
        moving = [place for place in node.inputs if steps[place]]
        taps = find_taps(graph, node)
        sights = [seen[place] for place in moving]
        if taps is not None or len({sight.values for sight in sights}) > 1:
            sights = [seen[place].part(steps[place]) for place in moving]
        before = max((sight.before for sight in sights), default=Fraction(0))
        behind = max((sight.behind for sight in sights), default=Fraction(0))
        values = sights[0].values if sights else Fraction(1)
        if taps is not None:
            last = taps.span - 1 - taps.padding
            first, last = (last, taps.padding) if taps.transposed else (taps.padding, last)
            finer = step if taps.transposed else steps[moving[0]]
            before, behind = before + first * finer, behind + last * finer
        elif node.op == "shift":
            moved = node.given["frames"] * step
            before, behind = before - moved, behind + moved
        elif node.op == "reshape" and moving:
            values = values * steps[moving[0]] / step
            if values < 1:  # several frames become one
                behind, values = behind + (1 - values) * step, Fraction(1)
        seen.append(Sight(before, behind, values))
    output = seen[-1].part(steps[-1])
    return int(-(-max(output.before, output.behind) // 1))


def make_stream(graph: Graph) -> Stream:
    """Rewrite a graph so that it goes through a song by chunks; raise GraphError if it cannot."""
    work = _Rewriting(graph, find_order(graph))
    for node in graph.nodes:
        work.add(node)
    late = work.late[-1]
    if late is None or late < 0 or graph.output.rate != 1:
        raise GraphError("what comes out has another number of frames than what goes in")
    return Stream(Graph(work.nodes), int(late), find_stride(graph))


def find_early(stream: Stream, frames: int) -> set[int]:
    """Return the places of nodes that are needed even before the chunk ahead of the first output.

    These see far; what leads from them to the output is not, as long as no output is asked for.
    """
    nodes = stream.graph.nodes
    # of each node, frames until the last output that its own may be part of
    last = {len(nodes) - 1: Fraction(0)}
    for place in range(len(nodes) - 1, -1, -1):
        node = nodes[place]
        kept = node.given["frames"] / node.rate if node.op == "window" else Fraction(0)
        for source in node.inputs if place in last else ():
            last[source] = max(last.get(source, Fraction(0)), last[place] + kept)
    return {0} | {place for place, until in last.items() if until > frames}


@dataclass
class _Rewriting:
    """The new graph as it grows; for each old node its new place, and how late it is."""

    old: Graph
    order: list[int]
    nodes: list[Node] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    late: list[Fraction | None] = field(default_factory=list)  # in frames of the input

    def add(self, node: Node) -> None:
        """Add an old node, with the windows that it needs."""
        moving = [place for place in node.inputs if self.late[place] is not None]
        late = max((self.late[place] or Fraction(0) for place in moving), default=None)
        if node.op == "input":
            late = Fraction(0)
        elif node.op == "reshape" and late is not None:
            late = -(-late * node.rate // 1) / node.rate  # frames that are joined come together
        inputs = [
            self._wait(place, late) if place in moving and late is not None else self.places[place]
            for place in node.inputs
        ]
        if node.op == "shift" and late is not None:  # nothing is computed: others are the first
            self.places.append(inputs[0])
            self.late.append(late + node.given["frames"] / node.rate)
            return
        taps = find_taps(self.old, node)
        if taps is not None and late is not None:
            axis, source = node.axis, self.old.nodes[node.inputs[0]]
            ahead, kept, late = _look_back(taps, late, source.rate, node.rate)
            inputs[0] = self._window(inputs[0], node.inputs[0], kept, ahead)
            assert axis is not None
            node = replace(node, given=_unpadded(node, axis - 2, taps, ahead))
        self.nodes.append(replace(node, inputs=tuple(inputs)))
        self.places.append(len(self.nodes) - 1)
        self.late.append(late)

    def _wait(self, place: int, until: Fraction) -> int:
        """Make an old node as late as others; return the new place."""
        node = self.old.nodes[place]
        steps = (until - (self.late[place] or 0)) * node.rate
        if steps.denominator != 1:
            raise GraphError(f"its {node.op} joins layers of different steps in time")
        return self._window(self.places[place], place, int(steps), 0)

    def _window(self, place: int, old: int, kept: int, ahead: int) -> int:
        """Keep frames of a node; return the place where so many of them lie ahead of its chunk."""
        if not kept:
            return place
        node = self.old.nodes[old]
        if self.order[old] != 1:
            raise GraphError(f"{node.op}: is late where time is not in order")
        given = {"frames": kept, "ahead": ahead, "axis": node.axis}
        window = Node("window", (place,), node.shape, given)
        if window not in self.nodes:
            self.nodes.append(window)
        return self.nodes.index(window)


def _look_back(
    taps: Taps, late: Fraction, rate: Fraction, new_rate: Fraction
) -> tuple[int, int, Fraction]:
    """Return what goes ahead of a chunk, what is kept (frames), and how late the layer is."""
    own = late * rate
    if own.denominator != 1:
        raise GraphError("a layer begins between frames")
    if taps.transposed:
        kept = (taps.span - 1) // taps.stride
        return kept, kept, (own * taps.stride + taps.padding) / new_rate
    ahead = max(0, taps.span - taps.stride)  # a layer may pass over frames
    moved = int(own) + ahead - taps.padding
    wait = -moved % taps.stride
    return ahead, ahead + wait, Fraction(moved + wait, taps.stride) / new_rate


def _unpadded(node: Node, place: int, taps: Taps, ahead: int) -> dict[str, Any]:
    """Return what a layer is given when it gets its neighbours, and needs no padding in time.

    A transposed convolution gives more than asked for at both ends; `crop` of it is left out.
    """
    given = dict(node.given)
    padding = list(given["padding"])
    padding[place] = 0
    given["padding"] = padding
    if taps.transposed:
        extra = list(given["output_padding"])
        extra[place] = 0
        given["output_padding"] = extra
        given["crop"] = [place, taps.stride * ahead, taps.span - taps.stride]
    return given


def find_taps(graph: Graph, node: Node) -> Taps | None:
    """Return how a node looks at neighbouring frames; None if it does not."""
    if node.op not in ("convolution", "average", "largest") or node.axis is None:
        return None
    source, place = graph.nodes[node.inputs[0]], node.axis - 2
    if source.axis != node.axis or place < 0:
        raise GraphError(f"{node.op}: time is no axis of the picture")
    given = node.given
    if node.op in ("average", "largest"):
        return Taps(given["kernel"][place], given["stride"][place], given["padding"][place])
    taps = graph.nodes[node.inputs[1]].shape[node.axis]
    span = given["dilation"][place] * (int(taps) - 1) + 1
    return Taps(span, given["stride"][place], given["padding"][place], given["transposed"])


def find_order(graph: Graph) -> list[int]:
    """Return for each node how many runs of frames its time axis holds, one after the other.

    It is 1 where time is in order. A reshape may join bands and frames to one axis, as before a
    product of matrices: then there is a run of frames for each band, until another one parts them.
    Raises GraphError if a node mixes frames in a way that is not known.
    """
    runs: list[int] = []
    for node in graph.nodes:
        sources = [graph.nodes[place] for place in node.inputs]
        moving = [place for place in node.inputs if graph.nodes[place].axis is not None]
        if node.op == "input" or (not moving and node.axis is None):
            runs.append(1)
            continue
        if not moving or node.axis is None or len({runs[place] for place in moving}) > 1:
            raise GraphError(f"{node.op}: time comes from nowhere, or gets lost")
        first = graph.nodes[moving[0]]
        own, axis = first.axis, node.axis
        assert own is not None
        before = ahead_of(first.shape, own) * runs[moving[0]]
        after = before // ahead_of(node.shape, axis) if node.op == "reshape" else runs[moving[0]]
        if node.op == "reshape" and (after < 1 or before % ahead_of(node.shape, axis)):
            raise GraphError("reshape: frames are taken apart")
        if not _keeps_time(node, sources, own):
            raise GraphError(f"its {node.op} mixes frames")
        runs.append(after)
    return runs


def _keeps_time(node: Node, sources: list[Node], own: int) -> bool:
    """Tell whether each frame is made of its own frame only, or of neighbours that are known."""
    axis = node.axis
    assert axis is not None
    if node.op in ELEMENTWISE:
        back = axis - len(node.shape)
        return all(s.axis is None or s.axis - len(s.shape) == back for s in sources)
    if node.op in ALONG_AXES:
        return own not in node.given["axes"]
    if node.op in ("concat", "slice"):
        return node.given["axis"] != axis and all(source.axis == axis for source in sources)
    if node.op == "convolution":
        return all(source.axis is None for source in sources[1:])
    if node.op in ("pad", "mirror"):
        return not node.given["before"][axis] and not node.given["after"][axis]
    if node.op == "matmul":
        return _contracts_no_time(*sources)
    return node.op in ("reshape", "permute", "average", "largest", "window", "shift")


def _contracts_no_time(left: Node, right: Node) -> bool:
    return left.axis != len(left.shape) - 1 and right.axis != len(right.shape) - 2

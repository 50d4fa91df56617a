"""Models on a processor, without PyTorch: their graphs are compiled, and songs stream through.

One `Compiled` serves any number of songs from any number of threads; what a song leaves behind in
the layers is its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from splitter.errors import ModelError, StoppedError, reason, saying_shortage
from splitter.graphs import Graph, GraphError, Stream, Traced, find_reach, make_stream
from splitter.paths import check_plain_file
from splitter.registry import CONFIG, WEIGHTS, ModelChoice, hash_model, read_config
from splitter.runtime.channels import channel_pairs, give_pair, take_pair
from splitter.runtime.kept import find_network, find_shape
from splitter.runtime.openvino import Network, Settings, compile_network, describe_machine
from splitter.runtime.operations import check_known
from splitter.runtime.streams import Array, Spectral, estimate
from splitter.runtime.traced import find_traced, hash_code
from splitter.tiling import Block, in_step, share_blocks

_FLOATS = ("F16", "F32", "F64")
CHUNK = 192  # frames at a time: fewer take longer each, more take memory
CHUNK_OF_PIPE = 64  # whose reader waits


@dataclass(frozen=True)
class Part:
    """One network of those that a model is the average of."""

    shape: Spectral
    network: Future[Network]


class Compiled:
    """A model that is ready to use, or will be in a moment."""

    def __init__(
        self, choice: ModelChoice, settings: Settings, frames: int, low_latency: bool = False
    ) -> None:
        self.name = choice.name
        self.hash = choice.hash
        self.config = choice.config
        self.lanes = settings.lanes  # songs at a time that keep the processor busy
        self.precision = "bfloat16" if settings.bfloat16 else "float32"
        self._made_of = choice.resolve(), settings, frames, low_latency
        self._shares = choice.shares
        self._stopped = False
        self._prepare()

    def _prepare(self) -> None:
        choice, settings, frames, low_latency = self._made_of
        compiling = ThreadPoolExecutor(1, "splitter-compile")
        parts = [_prepare(folder, settings, frames, compiling) for folder in choice.folders]
        self.parts = [
            replace(part, shape=replace(part.shape, low_latency=low_latency)) for part in parts
        ]
        compiling.shutdown(wait=False)
        self._process = os.getpid()

    def __reduce__(self) -> tuple[object, ...]:
        """Have another process make its own."""
        return Compiled, self._made_of

    @property
    def stems(self) -> tuple[str, ...]:
        """Return the names of all stems, the residual last."""
        return self.config.all_stems

    def estimate(self, blocks: Iterable[Block], channels: int) -> Iterator[Array]:
        """Yield the estimates (stems, channels, samples) of a song's (channels, samples)."""
        if os.getpid() != self._process:  # a fork has none of the threads that compute
            self._prepare()
        pairs = channel_pairs(channels, self.config.channels)
        heard = iter(share_blocks(self._unless_stopped(blocks), len(pairs) * len(self.parts)))
        networks = [
            _beside([self._hear(part, next(heard), pair) for pair in pairs]) for part in self.parts
        ]
        if len(networks) == 1:
            yield from networks[0]
            return
        for pieces in in_step(networks):
            yield np.average(pieces, axis=0, weights=self._shares).astype(np.float32)

    def stop(self) -> None:
        """Have songs under way end early, by a StoppedError."""
        self._stopped = True

    def when_ready(self, call: Callable[[], object]) -> None:
        """Call something when all is compiled: at once, if it is."""
        self.parts[-1].network.add_done_callback(lambda _: call())

    def close(self) -> None:
        """Stop, for good."""
        self.stop()

    def _hear(self, part: Part, blocks: Iterable[Block], pair: Sequence[int]) -> Iterator[Array]:
        """Yield the estimates of a pair of channels."""
        sound = (take_pair(block, pair, self.config.channels) for block in blocks)
        try:
            with saying_shortage(self.name):
                song = part.network.result().begin_song()
        except (RuntimeError, GraphError) as error:  # OpenVINO's own, too
            told = f"{self.name}: OpenVINO cannot run this model ({reason(error)})"
            raise ModelError(f"{told}; use --runtime torch") from error
        for piece in estimate(sound, song, part.shape):
            yield give_pair(piece, pair)

    def _unless_stopped(self, blocks: Iterable[Block]) -> Iterator[Block]:
        for block in blocks:
            if self._stopped:
                raise StoppedError("stopped")
            yield block


def compile_model(
    choice: ModelChoice, settings: Settings, frames: int = CHUNK, low_latency: bool = False
) -> Compiled:
    """Prepare a model for a processor, in chunks of so many frames.

    `low_latency`: what is computed is given before more sound is asked for.

    Compiling goes on while the first song is opened. Raises GraphError for what only PyTorch can
    do, and ModelError for weights that cannot be read.
    """
    if choice.tta or choice.wiener:
        raise GraphError("estimates are refined on PyTorch only")
    configs = [read_config(folder / CONFIG) for folder in choice.folders]
    if len({(config.rate, *config.stems) for config in configs}) > 1:
        raise GraphError("models of unlike rates or stems are averaged on PyTorch only")
    return Compiled(choice, settings, frames, low_latency)


def _prepare(folder: Path, settings: Settings, frames: int, compiling: ThreadPoolExecutor) -> Part:
    """Begin to take up the compiled network of one model, or to make it."""
    origin = f"{hash_model(folder)} {hash_code()} {frames} {settings} {describe_machine()}"
    made = cache(partial(_make_stream, folder, frames))
    shape = find_shape(origin) or made()[0]

    def compile_new() -> Network:
        weights = _read_arrays(folder / WEIGHTS)
        return compile_network(made()[1], weights, shape.frames, settings, shape.unheard)

    return Part(shape, compiling.submit(find_network, origin, shape, settings, compile_new))


def _make_stream(folder: Path, frames: int) -> tuple[Spectral, Stream]:
    """Trace a model, if need be; return how songs go through it, and the stream of its layers."""
    traced = find_traced(folder)
    _check_weights(folder / WEIGHTS, traced.graph)
    check_known(traced.graph)
    stream = make_stream(traced.graph)
    whole = -(-frames // stream.stride) * stream.stride
    return _describe(traced, stream, whole), stream


def _check_weights(path: Path, graph: Graph) -> None:
    """Raise GraphError, before a song is opened, for tensors that the graph cannot take."""
    try:
        check_plain_file(path)
        with safetensors.safe_open(path, "np") as file:
            tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error})") from error
    for node in graph.nodes:
        if node.op == "weight":
            tensor = tensors.get(name := node.given["name"])
            sizes = None if tensor is None else tuple(tensor.get_shape())
            if tensor is None or sizes != node.sizes(1) or tensor.get_dtype() not in _FLOATS:
                raise GraphError(f"tensor {name!r} is missing or has another shape")


def _describe(traced: Traced, stream: Stream, frames: int) -> Spectral:
    grid = traced.hop * stream.stride
    reach = find_reach(traced.graph) * traced.hop + traced.size  # samples
    context = -(-reach // grid) * grid
    return Spectral(traced.size, traced.hop, frames, stream.late, context, grid)


def _read_arrays(path: Path) -> dict[str, Array]:
    try:
        check_plain_file(path)
        arrays = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error})") from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ModelError(f"{path}: tensor {name!r} holds what is no number; get the file again")
    return arrays


def _beside(pairs: Sequence[Iterator[Array]]) -> Iterator[Array]:
    """Join the estimates of pairs of channels, which come in pieces of the same lengths."""
    for pieces in zip(*pairs, strict=True):
        yield pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)

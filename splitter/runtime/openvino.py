"""Graphs on OpenVINO, which multiplies fastest on a processor, and is there at once."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from locale import localeconv
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from splitter.graphs import Stream, find_early
from splitter.runtime.operations import Ages, Array, build, ov

Bytes = npt.NDArray[np.uint8]
CAPABILITIES = "OPTIMIZATION_CAPABILITIES"


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

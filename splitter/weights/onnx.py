"""ONNX files, read without ONNX: the tensors of a graph, by the place of the node that uses them.

Exporters rename tensors as they please, but a graph lists its nodes in the order in which they are
computed. So a tensor is called by that: `003.Conv.1` is what the fourth node that has any tensors
gets second, the bias of a convolution. Nothing is computed, and tensors in other files are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splitter.errors import ModelError, reason
from splitter.weights.tensorflow import LARGEST, read_fields, read_varint

GRAPH, NODE, INITIALIZER, INPUT = 7, 1, 5, 11  # fields of ModelProto and GraphProto
# of TensorProto.DataType
FLOATS: dict[int | bytes, str] = {1: "<f4", 10: "<f2", 11: "<f8"}
MOST_AXES = 8


def read_onnx(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the float tensors of a graph, and the shape of its input, 0 where that is open."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("it is too large")
        graph = _only(read_fields(path.read_bytes()), GRAPH)
        parts = list(read_fields(graph))
        stored = dict(_read_tensor(_bytes(part)) for kind, part in parts if kind == INITIALIZER)
        shapes = [_read_shape(_bytes(part)) for kind, part in parts if kind == INPUT]
        return dict(_in_order(parts, stored)), {"shape": shapes[0] if shapes else []}
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise ModelError(f"{path}: cannot be read as an ONNX file ({reason(error)})") from error


def _in_order(parts: list[Any], stored: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of each node that has any, in the order of nodes."""
    place = 0
    for node in (part for number, part in parts if number == NODE):
        fields = list(read_fields(node))
        kind = _text(next((value for number, value in fields if number == 4), b""))
        inputs = [_text(value) for number, value in fields if number == 1]
        found = [stored[name] for name in inputs if name in stored]
        if kind == "Identity":  # another name for a tensor that is there already
            stored |= {_text(value): found[0] for number, value in fields if number == 2 and found}
            continue
        for index, tensor in enumerate(found):
            yield f"{place:03}.{kind}.{index}", tensor
        place += bool(found)


def _read_tensor(content: bytes) -> tuple[str, Tensor]:
    """Read a TensorProto of floats; others, which say shapes, are left empty."""
    fields = list(read_fields(content))
    name = _text(next((value for number, value in fields if number == 8), b""))
    if any(number in (13, 14) and value for number, value in fields):
        raise ValueError("its tensors are in other files")
    kind = FLOATS.get(next((value for number, value in fields if number == 2), 0))
    if kind is None:
        return name, torch.zeros(0)
    shape = [axis for number, value in fields if number == 1 for axis in _numbers(value)]
    raw = b"".join(_bytes(value) for number, value in fields if number in (4, 9, 10))
    if len(shape) > MOST_AXES or len(raw) != np.dtype(kind).itemsize * prod(shape):
        raise ValueError(f"tensor {name[:80]} is incomplete")
    return name, torch.from_numpy(np.frombuffer(raw, kind).reshape(shape).astype(np.float32))


def _read_shape(content: bytes) -> list[int]:
    """Return the shape in a ValueInfoProto."""
    tensor = _only(read_fields(_only(read_fields(content), 2)), 1)
    axes = [part for number, part in read_fields(_only(read_fields(tensor), 2)) if number == 1]
    sizes = [dict(read_fields(axis)).get(1, 0) for axis in axes if isinstance(axis, bytes)]
    return [size if isinstance(size, int) else 0 for size in sizes]


def _numbers(value: int | bytes) -> Iterator[int]:
    """Yield a repeated number, of which there are many in one field, or one."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        number, at = read_varint(value, at)
        yield number


def _only(fields: Iterator[tuple[int, int | bytes]], wanted: int) -> bytes:
    found = next((value for number, value in fields if number == wanted), None)
    return _bytes(found)


def _bytes(value: int | bytes | None) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("it is damaged, or another kind of file")
    return value


def _text(value: int | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""

"""TensorFlow's checkpoints, read without TensorFlow: a sorted table of names, and their bytes.

    model.index                  blocks of (key, value), keys with shared beginnings left out; a
                                 value says where a tensor's bytes are (tensor_bundle.proto)
    model.data-00000-of-00001    the bytes of all tensors

The table is LevelDB's (table_format.txt): its last 48 bytes say where the block of blocks is. Every
number from the file is checked against what the file has before it is used; blocks and tensors bear
checksums, which are compared.
"""

from __future__ import annotations

import gzip
import re
import struct
import tarfile
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splitter.errors import ModelError, reason
from splitter.paths import check_plain_file
from splitter.weights.checksums import mask_sum

MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # bytes
FLOAT, INT64 = 1, 9  # of DataType
LARGEST = 1 << 32  # bytes of a file
MOST_AXES = 8
LONGEST_NAME = 1024  # bytes
LAST = re.compile(r'model_checkpoint_path: "(?:.*[/\\])?(.+)"')  # as a training notes it
LONGEST_NOTE = 4096  # characters of what a training writes of its checkpoints
MOST_UNPACKED = 20  # times the archive; weights hardly get smaller
_DAMAGED = (OSError, ValueError, IndexError, struct.error, tarfile.TarError, EOFError, zlib.error)


def is_bundle(path: Path) -> bool:
    """Tell whether a path is a TensorFlow checkpoint: a folder, its index, or an archive of it."""
    return path.is_dir() or path.suffix == ".index" or path.name.endswith((".tar.gz", ".tgz"))


def read_bundle(path: Path) -> dict[str, Tensor]:
    """Read the float tensors of a checkpoint; raise ModelError for what is damaged."""
    try:
        index, data = _find_parts(path)
        return dict(_read_tensors(index, data))
    except _DAMAGED as error:
        raise ModelError(
            f"{path}: cannot be read as a TensorFlow checkpoint ({reason(error)})"
        ) from error


def list_parts(path: Path) -> list[Path]:
    """Return the files of a checkpoint: its index and its data, or the archive of them."""
    if path.name.endswith((".tar.gz", ".tgz")):
        return [path]
    index = _find_index(path) if path.is_dir() else path
    return [index, index.with_suffix(".data-00000-of-00001")]


def find_files(folder: Path, suffix: str) -> list[Path]:
    """Return the files in a folder that have a suffix and are not hidden."""
    return sorted(path for path in folder.glob(f"*{suffix}") if not _is_hidden(path.name))


def _find_index(folder: Path) -> Path:
    """Return the only index in a folder, or the one that a training says is its last."""
    indexes = find_files(folder, ".index")
    if len(indexes) > 1 and (folder / "checkpoint").is_file():
        with (folder / "checkpoint").open(encoding="utf-8", errors="replace") as file:
            stated = LAST.search(file.read(LONGEST_NOTE))
        indexes = [path for path in indexes if stated and path.stem == stated[1]] or indexes
    if not indexes:
        raise ValueError("its folder has no .index file, nor any .pth; give the weights' files")
    if len(indexes) > 1:
        raise ValueError(f"its folder has {len(indexes)} .index files; give the one that is meant")
    return indexes[0]


def _is_hidden(name: str) -> bool:
    """Tell whether a file is hidden, as what macOS puts beside others (`._model.index`)."""
    return name.rpartition("/")[2].startswith(".")


def _find_parts(path: Path) -> tuple[bytes, bytes]:
    """Return the bytes of the index and of the data."""
    parts = list_parts(path)
    for part in parts:
        check_plain_file(part)
        if part.stat().st_size > LARGEST:
            raise ValueError(f"{part.name} is too large")
    if len(parts) == 1:
        return _find_in_archive(path)
    index, data = parts
    return index.read_bytes(), data.read_bytes()


def _find_in_archive(path: Path) -> tuple[bytes, bytes]:
    """Read both members of an archive into memory; nothing is unpacked."""
    found: dict[str, bytes] = {}
    most = min(LARGEST, MOST_UNPACKED * path.stat().st_size)
    with _Bounded(path, most) as content, tarfile.open(fileobj=content, mode="r:") as archive:
        for member in archive:
            kind = member.name.rpartition(".")[2]
            if not member.isfile() or _is_hidden(member.name):
                continue
            if kind in ("index", "data-00000-of-00001"):
                if member.size > most or kind in found:
                    raise ValueError(f"{member.name} is too large, or there are several of it")
                file = archive.extractfile(member)
                found[kind] = file.read() if file else b""
        while content.read(tarfile.RECORDSIZE):  # up to its checksum, which is compared there
            pass
    if len(found) != 2:
        raise ValueError("its .index or its .data file is missing")
    return found["index"], found["data-00000-of-00001"]


class _Bounded(gzip.GzipFile):
    """A file of which so many bytes are read into memory and no more, also as heads of members."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(path)
        self._left = most

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > self._left:
            raise ValueError("it unpacks to more than weights do")
        self._left -= size
        return super().read(size)


def _read_tensors(index: bytes, data: bytes) -> Iterator[tuple[str, Tensor]]:
    left = len(data)  # bytes that no tensor has taken yet
    for key, value in _read_table(index):
        fields = dict(read_fields(value))
        if not key:
            if fields.get(1, 1) != 1 or fields.get(2, 0):
                raise ValueError("it is split into several files, or made on a big-endian machine")
            continue
        kind, offset, size = (_whole(fields.get(number, 0)) for number in (1, 4, 5))
        if 7 in fields or kind not in (FLOAT, INT64):
            raise ValueError(
                f"tensor {key.decode('utf-8', 'replace')[:80]} is split, or not of 32-bit floats"
            )
        if kind == INT64:
            continue  # the step at which training ended
        shape = _read_shape(value)
        if size != 4 * prod(shape) or offset + size > len(data):
            raise ValueError(f"tensor {key.decode('utf-8', 'replace')[:80]} is incomplete")
        left -= size
        if left < 0:
            raise ValueError("its tensors overlap")
        stated = fields.get(6)
        if isinstance(stated, bytes) and stated != mask_sum(data[offset : offset + size]):
            raise ValueError(f"tensor {key.decode('utf-8', 'replace')[:80]} is damaged")
        array = np.frombuffer(data, "<f4", prod(shape), offset).reshape(shape)
        yield key.decode("utf-8"), torch.from_numpy(array.copy())


def _read_table(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values in their order."""
    if len(index) < FOOTER or struct.unpack("<Q", index[-8:])[0] != MAGIC:
        raise ValueError("its index is damaged")
    footer = index[-FOOTER:]
    _, at = _read_handle(footer, 0)
    blocks, _ = _read_handle(footer, at)
    names, end = 0, 0  # bytes; where the last block ended
    for _, handle in _read_block(index, *blocks):
        (offset, size), _ = _read_handle(handle, 0)
        if offset < end:
            raise ValueError("its blocks overlap")
        end = offset + size
        for key, value in _read_block(index, offset, size):
            names += len(key)
            if names > LONGEST_NAME * 1024 and names > 64 * len(index):
                raise ValueError("its names are too long")
            yield key, value


def _read_handle(content: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = read_varint(content, at)
    size, at = read_varint(content, at)
    return (offset, size), at


def _read_block(index: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if offset + size + 5 > len(index) or size < 4:
        raise ValueError("it is damaged")
    if index[offset + size]:
        raise ValueError("its index is compressed")
    if mask_sum(index[offset : offset + size + 1]) != index[offset + size + 1 :][:4]:
        raise ValueError("its index is damaged")
    block = index[offset : offset + size]
    restarts = struct.unpack("<I", block[-4:])[0]
    end = size - 4 * (restarts + 1)
    key, at = b"", 0
    while at < end:
        shared, at = read_varint(block, at)
        fresh, at = read_varint(block, at)
        length, at = read_varint(block, at)
        if shared > len(key) or at + fresh + length > end or shared + fresh > LONGEST_NAME:
            raise ValueError("it is damaged")
        key = key[:shared] + block[at : at + fresh]
        yield key, block[at + fresh : at + fresh + length]
        at += fresh + length


def read_varint(content: bytes, at: int) -> tuple[int, int]:
    """Read a number of 7 bits a byte, the lowest first."""
    value = 0
    for shift in range(0, 64, 7):
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("it is damaged")


def read_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a protocol buffer: numbers, or the bytes of what is nested."""
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = read_varint(message, at)
            yield tag >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            size, at = read_varint(message, at)
        elif not size:
            raise ValueError("it is damaged")
        if at + size > len(message):
            raise ValueError("it is damaged")
        yield tag >> 3, message[at : at + size]
        at += size


def _read_shape(entry: bytes) -> list[int]:
    """Return the shape in a tensor's entry."""
    shape = next((value for number, value in read_fields(entry) if number == 2), b"")
    axes = [
        _whole(dict(read_fields(axis)).get(1, 0))
        for number, axis in read_fields(shape if isinstance(shape, bytes) else b"")
        if number == 2 and isinstance(axis, bytes)
    ]
    if len(axes) > MOST_AXES:
        raise ValueError("it is damaged")
    return axes


def _whole(value: int | bytes) -> int:
    return value if isinstance(value, int) else 0

"""Checkpoints of every family, damaged at random: one line, or a model; never anything else."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import tarfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from splitter.errors import ModelError
from splitter.weights.adding import add_model
from splitter.weights.checkpoint import read_facts
from splitter.weights.tensorflow import MAGIC, read_bundle, read_fields
from splitter.weights.torchfile import read_torch
from tests.commands import files_below
from tests.foreign import REFERENCES, checkpoint_files

SMALL = ("bs-roformer", "htdemucs", "openunmix", "spleeter-2stems", "mdx23c", "mdx-net", "vr")


def damage(content: bytes, random: np.random.Generator) -> bytes:
    """Cut bytes off, flip some, repeat some, or fill some with one value."""
    data = bytearray(content)
    # half of all changes where a file says what is in it, at its ends
    near = min(len(data), 4096)
    at = int(random.integers(near if random.random() < 0.5 else len(data)))
    at = at if random.random() < 0.5 else len(data) - 1 - at
    size = int(random.integers(1, 64))
    way = random.integers(4)
    if way == 0:
        return bytes(data[:at])
    if way == 1:
        for _ in range(size):
            data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
    elif way == 2:
        data[at:at] = data[at : at + size]
    else:
        data[at : at + size] = bytes([int(random.choice([0, 1, 127, 128, 255]))]) * size
    return bytes(data)


def try_damaged(name: str, count: int, folder: Path) -> int:
    """Add so many damaged copies; return how many were refused."""
    random = np.random.default_rng(len(name))
    files = [folder / file.name for file in checkpoint_files(name)]
    for file in (REFERENCES / name).iterdir():
        if file.name != "reference.npz":
            shutil.copy(file, folder)
    hurt = [file for file in folder.iterdir() if file.suffix != ".yaml"]
    whole = {file: file.read_bytes() for file in hurt}
    refused = 0
    for number in range(count):
        victim = hurt[number % len(hurt)]
        victim.write_bytes(damage(whole[victim], random))
        target = folder / "models" / "added"
        try:
            add_model(target, files)
            assert {file.name for file in files_below(target.parent)} == {
                "config.json", "weights.safetensors", "card.md",
            }  # fmt: skip
            shutil.rmtree(target)
        except ModelError as error:
            refused += 1
            assert "\n" not in str(error)
        assert not files_below(folder / "models")
        victim.write_bytes(whole[victim])
    return refused


@pytest.mark.parametrize("name", SMALL)
def test_a_damaged_checkpoint_gets_one_line_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    assert try_damaged(name, 20, tmp_path) > 2


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_two_thousand_damaged_checkpoints(name: str, tmp_path: Path) -> None:
    assert try_damaged(name, 400, tmp_path) > 40


@pytest.mark.parametrize(
    ("first", "nested", "told"),
    [
        ("[x, x, x, x, x, x, x, x, x]", "[%s]", "repeats itself too often"),
        ("{x: 1}", "{<<: [%s]}", "merges keys"),
    ],
)
def test_a_yaml_that_repeats_itself_without_end_is_refused(
    tmp_path: Path, first: str, nested: str, told: str
) -> None:
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} {nested % ', '.join([f'*a{n - 1}'] * 9)}" for n in range(1, 12)]
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(ModelError, match=told):
        read_facts(path)
    path.write_text("a: &a [drums, bass]\nb: *a\nc: *a\n")  # as PyYAML writes what is one object
    assert read_facts(path)["c"] == ["drums", "bass"]


def test_tensors_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    number = b"\x08\x01\x28\x04"  # one float, the first of the file
    entries = b"".join(
        varint(0) + varint(1) + varint(4) + name + number for name in (b"a", b"b", b"c")
    )
    write_bundle(tmp_path, entries, 12)
    assert len(read_bundle(tmp_path / "model.index")) == 3  # they fit into twelve bytes
    (tmp_path / "model.data-00000-of-00001").write_bytes(bytes(8))
    with pytest.raises(ModelError, match=r"cannot be read .*tensors overlap"):
        read_bundle(tmp_path / "model.index")


def write_bundle(folder: Path, entries: bytes, size: int) -> None:
    """Write a checkpoint whose index has these entries in one block, and so many bytes of data."""
    block = entries + struct.pack("<I", 0)
    handle = varint(0) + varint(len(block))
    table = varint(0) + varint(1) + varint(len(handle)) + b"x" + handle + struct.pack("<I", 0)
    footer = (handle + varint(len(block) + 5) + varint(len(table))).ljust(40, b"\0")
    index = block + bytes(5) + table + bytes(5) + footer + struct.pack("<Q", MAGIC)
    (folder / "model.index").write_bytes(index)
    (folder / "model.data-00000-of-00001").write_bytes(bytes(size))


def test_the_heads_of_an_archive_are_bounded_too(tmp_path: Path) -> None:
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("x" * (1 << 26)))
    with pytest.raises(ModelError, match="unpacks to more"):
        read_bundle(path)
    path.write_bytes(gzip.compress(path.read_bytes()))  # what is in it would not be counted
    with pytest.raises(ModelError, match="cannot be read as a TensorFlow checkpoint"):
        read_bundle(path)


def test_a_list_in_itself_over_and_over_and_a_number_without_end_are_no_weights(
    tmp_path: Path,
) -> None:
    nested: list[object] = [1]
    for _ in range(60):
        nested = [nested, nested]
    torch.save({"state": nested, "x": torch.zeros(1)}, tmp_path / "nested.pth")
    assert "x" in read_torch(tmp_path / "nested.pth")
    torch.save({"segment": Fraction(39, 5), "x": torch.zeros(1)}, tmp_path / "whole.pth")
    assert read_torch(tmp_path / "whole.pth")["segment"] == Fraction(39, 5)
    long = (tmp_path / "whole.pth").read_bytes()

    class Long:
        def __reduce__(self) -> tuple[object, ...]:
            return Fraction, ("1e9999999999",)

    torch.save({"segment": Long(), "x": torch.zeros(1)}, tmp_path / "long.pth")
    assert (tmp_path / "long.pth").read_bytes() != long
    with pytest.raises(ModelError, match="not a PyTorch file, or a damaged one"):
        read_torch(tmp_path / "long.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_figures_of_numpy_beside_the_tensors_are_passed_over(tmp_path: Path, zipped: bool) -> None:
    """As in the files of Demucs, whose `metrics` are."""
    metrics = (np.float64(7.5), {"main": np.float32(0.5), "epoch": np.int64(4)})
    package = {"state": {"weight": torch.arange(3.0)}, "metrics": metrics}
    torch.save(package, tmp_path / "a.th", _use_new_zipfile_serialization=zipped)
    assert read_torch(tmp_path / "a.th")["state"]["weight"].tolist() == [0, 1, 2]
    torch.save({"x": np.zeros(3)}, tmp_path / "b.th", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"holds code or classes \(numpy"):
        read_torch(tmp_path / "b.th")


def test_an_archive_of_zeros_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("model.data-00000-of-00001")
        member.size = 1 << 26
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(ModelError, match="too large"):
        read_bundle(path)


def test_names_that_grow_from_entry_to_entry_are_refused(tmp_path: Path) -> None:
    """A table states how much of a name is that of the one before it."""
    number = b"\x08\x01\x28\x04"  # one float
    entries = b"".join(
        varint(100 * rank) + varint(100) + varint(4) + bytes(100) + number for rank in range(20)
    )
    write_bundle(tmp_path, entries, 80)
    with pytest.raises(ModelError, match="damaged"):
        read_bundle(tmp_path / "model.index")


def varint(number: int) -> bytes:
    """Write a number of 7 bits a byte, the lowest first."""
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


@pytest.mark.parametrize("kind", [3, 4, 6, 7])
def test_fields_of_unknown_kinds_are_not_passed_over(kind: int) -> None:
    with pytest.raises(ValueError, match="it is damaged"):
        list(read_fields(bytes([8 | kind, 0, 8, 1])))

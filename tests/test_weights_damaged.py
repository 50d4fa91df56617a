"""Checkpoints of every family, damaged at random: one line, or a model; never anything else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from splitter.errors import ModelError
from splitter.weights.adding import add_model
from splitter.weights.tensorflow import read_fields
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


@pytest.mark.parametrize("kind", [3, 4, 6, 7])
def test_fields_of_unknown_kinds_are_not_passed_over(kind: int) -> None:
    with pytest.raises(ValueError, match="it is damaged"):
        list(read_fields(bytes([8 | kind, 0, 8, 1])))

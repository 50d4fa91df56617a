"""Checkpoints of every family, damaged at random: one line, or a model; never anything else."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import tarfile
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from splitter.errors import ModelError
from splitter.weights.adding import add_model
from splitter.weights.checkpoint import read_facts
from splitter.weights.checksums import find_sum, mask_sum
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
    parts = [part + b"\0" + mask_sum(part + b"\0") for part in (block, table)]
    index = b"".join(parts) + footer + struct.pack("<Q", MAGIC)
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


@pytest.mark.parametrize(
    ("content", "total"),
    [
        (b"", 0),
        (b"a", 0xC1D04330),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # this one and the next: RFC 3720, B.4
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_sums_are_those_that_are_known(content: bytes, total: int) -> None:
    assert find_sum(content) == total


def test_the_sum_of_a_long_file_is_that_of_its_bytes_one_by_one() -> None:
    content = np.random.default_rng(0).integers(0, 256, 9001, np.uint8).tobytes()
    total = 0xFFFFFFFF
    for byte in content:
        total ^= byte
        for _ in range(8):
            total = total >> 1 ^ (total & 1) * 0x82F63B78
    assert find_sum(content) == total ^ 0xFFFFFFFF


def flip(path: Path, at: int) -> None:
    """Change the lowest bit of a byte."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def pack(folder: Path, path: Path, level: int = 9) -> Path:
    """Make an archive of a folder's files."""
    with tarfile.open(path, "w:gz", compresslevel=level) as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, file.name)
    return path


@pytest.fixture
def spleeter(tmp_path: Path) -> Path:
    """A folder with a TensorFlow checkpoint."""
    return Path(shutil.copytree(REFERENCES / "spleeter-2stems", tmp_path / "2stems"))


@pytest.mark.parametrize("name", ["model.data-00000-of-00001", "model.index"])
def test_a_bit_that_fell_over_in_a_tensorflow_checkpoint_is_noticed(
    spleeter: Path, name: str
) -> None:
    assert read_bundle(spleeter)
    flip(spleeter / name, 2000)
    with pytest.raises(ModelError, match="is damaged"):
        read_bundle(spleeter)


def test_a_bit_that_fell_over_in_an_archive_is_noticed(spleeter: Path, tmp_path: Path) -> None:
    path = pack(spleeter, tmp_path / "model.tar.gz", level=0)  # a bit is one bit of its content
    assert read_bundle(path).keys() == read_bundle(spleeter).keys()
    at = path.read_bytes().index((spleeter / "model.json").read_bytes()[:40])
    flip(path, at + 20)  # where no other sum is
    with pytest.raises(ModelError, match=r"\(CRC check failed"):
        read_bundle(path)


def test_an_archive_that_cannot_be_unpacked_gets_one_line(spleeter: Path, tmp_path: Path) -> None:
    path = pack(spleeter, tmp_path / "model.tar.gz")
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + b"\xff" * 1000 + content[middle + 1000 :])
    with pytest.raises(ModelError, match="cannot be read as a TensorFlow checkpoint"):
        read_bundle(path)


def test_what_macos_puts_beside_files_is_passed_over(spleeter: Path, tmp_path: Path) -> None:
    names = read_bundle(spleeter).keys()
    for file in list(spleeter.iterdir()):
        (spleeter / f"._{file.name}").write_bytes(b"Mac OS X")
    assert read_bundle(spleeter).keys() == names
    assert read_bundle(pack(spleeter, tmp_path / "model.tar.gz")).keys() == names


@pytest.mark.parametrize("folder", ["", "/data/run 1/", "C:\\\\run\\\\"])
def test_a_training_says_which_of_its_checkpoints_is_the_last(spleeter: Path, folder: str) -> None:
    for part in list(spleeter.glob("model.[di]*")):
        shutil.copy(part, part.with_name(part.name.replace("model", "model.ckpt-9")))
    flip(spleeter / "model.data-00000-of-00001", 2000)
    (spleeter / "checkpoint").write_text(
        f'model_checkpoint_path: "{folder}model.ckpt-9"\n'
        f'all_model_checkpoint_paths: "{folder}model"\n'
    )
    assert read_bundle(spleeter)
    (spleeter / "checkpoint").unlink()
    with pytest.raises(ModelError, match=r"has 2 .index files; give the one that is meant"):
        read_bundle(spleeter)


def test_a_bit_that_fell_over_in_a_pytorch_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"weight": torch.full((1000,), 0.1)}, path)
    flip(path, path.read_bytes().index(struct.pack("<f", 0.1)) + 400)
    with pytest.raises(ModelError, match=r"is damaged .*; get the file again"):
        read_torch(path)


def test_a_pytorch_file_without_sums_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"weight": torch.arange(3.0)}, path)
    with zipfile.ZipFile(path) as archive:
        sums = {struct.pack("<I", member.CRC) for member in archive.infolist()}
    content = path.read_bytes()
    for each in sums:
        content = content.replace(each, bytes(4))  # as by torch.serialization.set_crc32_options
    path.write_bytes(content)
    assert read_torch(path)["weight"].tolist() == [0, 1, 2]


def test_an_archive_that_lists_one_part_over_and_over_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", bytes(10_000))
        archive.filelist *= 3
    with pytest.raises(ModelError, match="its parts are larger than the file"):
        read_torch(path)


def write_pickle(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr("x/version", "3")
    return path


def test_a_pickle_does_not_copy_what_it_holds_over_and_over(tmp_path: Path) -> None:
    text = "é".encode() * 10_000
    encoded = b"c_codecs\nencode\nq\x00X" + struct.pack("<I", len(text)) + text + b"q\x010"
    encoded += b"X\x06\x00\x00\x00latin1q\x020]" + b"h\x00h\x01h\x02\x86Ra" * 2000
    pairs = b"".join(b"]M" + struct.pack("<H", number) + b"aK\x01a" for number in range(100))
    again = b"h\x00h\x01\x85Ra" * 5000
    ordered = b"ccollections\nOrderedDict\nq\x00]q\x01(" + pairs + b"e0]" + again
    shape = b"ctorch\nSize\nq\x00(" + b"K\x01" * 5000 + b"tq\x010]" + again
    for content in (encoded, ordered, shape):
        with pytest.raises(ModelError, match="repeats itself as PyTorch's files do not"):
            read_torch(write_pickle(tmp_path / "bomb.pth", content))
    kept = {"shape": torch.Size([1, 2]), "text": "x" * 5000, "a": torch.zeros(2)}
    kept |= {"loss": np.float64(1), "history": tuple(range(5000))}
    torch.save({**kept, "inner": torch.nn.BatchNorm1d(2).state_dict()}, tmp_path / "fine.pth")
    assert read_torch(tmp_path / "fine.pth")["text"] == kept["text"]


def test_a_yaml_of_a_megabyte_and_a_pipe_of_weights_keep_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_text("a: [" + "1," * 200_000 + "1]")
    with pytest.raises(ModelError, match=r"large\.yaml: cannot be read .*too large"):
        read_facts(tmp_path / "large.yaml")
    os.mkfifo(tmp_path / "model.index")
    (tmp_path / "model.data-00000-of-00001").touch()
    with pytest.raises(ModelError, match="not a plain file"):
        read_bundle(tmp_path)

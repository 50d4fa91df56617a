"""PyTorch's own files, read with an allow-list: nothing that a file names is called but tensors.

A file of `torch.save` is a pickle, a program for a small machine that may import and call anything.
Here it is looked through first, without running it: every name that it imports must be one of
those below, which only make tensors or stand for a class. PyTorch's restricted unpickler reads it
then, and has the same list.
"""

from __future__ import annotations

import fractions
import io
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from splitter.errors import ModelError, is_shortage, reason

TENSOR_NAMES = re.compile(
    r"collections OrderedDict|fractions Fraction|torch Size|torch device|torch dtype"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch (\w+Storage|[a-z]+\d+)"
    r"|torch\.storage (_|Untyped|Typed)\w*Storage"
    r"|numpy\._?core\.multiarray scalar|numpy dtype|_codecs encode"  # figures beside the tensors
)
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch.save wrote it before files were zip archives
PORTION = 1 << 20  # bytes that are read at a time
LONGEST = 4096  # bytes of a text, and steps to a tuple, that calls may copy as often as they like
MOST_COPIED = 1 << 24  # that they may make of longer ones


class _StandIn:
    """What a class that a file names is replaced by; it does nothing but bear the name."""


class _Figure(_StandIn):
    """What NumPy's scalars and their types are replaced by, whatever they are made of."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


# the classes that Demucs' files name, as the pickle spells them
CLASSES = {
    name: type(name.rpartition(".")[2], (_StandIn,), {})
    for name in (
        "demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs",
        "demucs.demucs.Demucs", "demucs.wdemucs.WDemucs",
    )
}  # fmt: skip


def read_torch(path: Path) -> Any:
    """Read what `torch.save` wrote; raise ModelError for what is damaged, or no mere data."""
    try:
        _check_names(path)
        allowed: list[Any] = [(stand_in, name) for name, stand_in in CLASSES.items()]
        allowed += [(_make_fraction, "fractions.Fraction")]
        figures = ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
        allowed += [(_Figure, name) for name in figures]
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
        _check_sizes(content, path, set())
    except ModelError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in PyTorch
        if is_shortage(error):
            raise
        raise ModelError(f"{path}: not a PyTorch file, or a damaged one") from error
    return content


def class_name(stand_in: object) -> str:
    """Return the name of the class that a file meant."""
    return next((name for name, known in CLASSES.items() if known is stand_in), "")


def _check_names(path: Path) -> None:
    """Raise ModelError for the first name that the pickles of a file import and may not."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ModelError(f"{path}: is compressed, which PyTorch's own files never are")
            _check_sums(archive, path)
            pickles = [member for member in members if member.filename.endswith("data.pkl")]
            if len(pickles) != 1:
                raise ModelError(f"{path}: not a PyTorch file, or a damaged one")
            _check_pickle(io.BytesIO(archive.read(pickles[0])), path)
        return
    with path.open("rb") as file:
        if _check_pickle(file, path) != LEGACY_MAGIC:
            raise ModelError(f"{path}: not a PyTorch file")
        for _ in range(4):  # protocol, system, object, keys of its storages
            _check_pickle(file, path)


def _check_sums(archive: zipfile.ZipFile, path: Path) -> None:
    """Read all parts of an archive; raise ModelError for one that is not what was written."""
    members = archive.infolist()
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ModelError(f"{path}: its parts are larger than the file")  # one, over and over
    for member in members:
        if not member.CRC:  # as where PyTorch was told to write none; zipfile then compares nothing
            del member.CRC
        try:
            with archive.open(member) as part:
                while part.read(PORTION):
                    pass
        except zipfile.BadZipFile as error:
            raise ModelError(f"{path}: is damaged ({reason(error)}); get the file again") from error


class Copies:
    """What calls in a pickle make: PyTorch's own copy little, and dictionaries begin empty."""

    def __init__(self) -> None:
        self.named: dict[int, str] = {}  # what was imported, by its number in the pickle's memo
        self.last = ""  # what was imported or looked up just now
        self.stored = 0  # in the memo
        self.encodes = self.sizes = 0  # calls, at most
        self.longest = self.widest = 0  # bytes of a text; steps between a mark and its tuple
        self.marks: list[int] = []
        self.steps = 0

    def are_few(self, name: str, argument: object) -> bool:
        """Take one step; tell whether all calls so far are such as PyTorch writes."""
        self.steps += 1
        if name == "MARK":
            self.marks.append(self.steps)
        elif name in ("TUPLE", "LIST", "DICT", "APPENDS", "SETITEMS") and self.marks:
            width = self.steps - self.marks.pop()
            self.widest = max(self.widest, width if name == "TUPLE" else 0)
        elif isinstance(argument, str | bytes) and name != "GLOBAL":
            self.longest = max(self.longest, len(argument))
        if name == "POP":  # something else could take the place of an empty list
            return False
        if not self._keep(name, argument):
            # Python 2 gave a list of pairs
            empty = name in ("EMPTY_TUPLE", "EMPTY_LIST")
            if self.last == "collections OrderedDict" and not empty:
                return False
            self.last = self._look_up(name, argument)
            self.encodes += self.last == "_codecs encode"
            self.sizes += self.last == "torch Size"
        copied = ((self.encodes, self.longest), (self.sizes, self.widest))
        return all(size <= LONGEST or calls * size <= MOST_COPIED for calls, size in copied)

    def _look_up(self, name: str, argument: object) -> str:
        """Return what a step imports, now or by the memo; "" if it does not."""
        if name == "GLOBAL":
            return str(argument)
        found = name.endswith("BINGET") and isinstance(argument, int)
        return self.named.get(argument, "") if found else ""  # type: ignore[call-overload]

    def _keep(self, name: str, argument: object) -> bool:
        """Note what is put into the memo; tell whether that is what this step does."""
        if name not in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            return False
        number = argument if isinstance(argument, int) else self.stored
        self.named[number] = self.last
        self.stored += 1
        return True


def _check_pickle(file: BinaryIO, path: Path) -> object:
    """Look through one pickle, up to its end; return the first long integer in it.

    Nor may it copy what it holds over and over: a small file could fill the memory.
    """
    first = None
    copied = Copies()
    for operation, argument, _ in pickletools.genops(file):
        if not copied.are_few(operation.name, argument):
            raise ModelError(f"{path}: repeats itself as PyTorch's files do not; it was not read")
        if operation.name == "LONG1" and first is None:
            first = argument
        elif operation.name in {"STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"}:
            raise ModelError(f"{path}: imports names in a way that PyTorch's files do not")
        elif operation.name == "GLOBAL":
            name = str(argument)
            if not TENSOR_NAMES.fullmatch(name) and name.replace(" ", ".") not in CLASSES:
                raise ModelError(
                    f"{path}: holds code or classes ({name.replace(' ', '.')[:80]}), not only "
                    "tensors; it was not run"
                )
    return first


def _make_fraction(*parts: object) -> fractions.Fraction:
    """Make a Fraction of two whole numbers, or of a short text such as 39/5."""
    text = "/".join(map(str, parts))
    if not re.fullmatch(r"-?\d{1,9}(/\d{1,9})?", text):  # 1e999999999 would take for ever
        raise ValueError("no fraction")
    return fractions.Fraction(text)


def _check_sizes(content: Any, path: Path, seen: set[int]) -> None:
    """Raise ModelError for a tensor that is larger than the file."""
    if id(content) in seen:  # a file may say one thing over and over
        return
    seen.add(id(content))
    if isinstance(content, Tensor):
        size = content.numel() * content.element_size()
        if content.layout != torch.strided or size > path.stat().st_size:
            raise ModelError(f"{path}: a tensor in it is larger than the file")
    elif isinstance(content, dict):
        for value in content.values():
            _check_sizes(value, path, seen)
    elif isinstance(content, list | tuple):
        for value in content:
            _check_sizes(value, path, seen)

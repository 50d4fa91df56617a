"""From other programs' files to a model's folder, once; after that it is a model like any other."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp
from types import ModuleType

from splitter.atomic import PART, find_abandoned, write_atomically
from splitter.errors import ModelError, is_shortage, saying_shortage
from splitter.loading import check_tensors, sketch_network, write_tensors
from splitter.registry import CARD, CONFIG, WEIGHTS, config_from
from splitter.weights import demucs, mdx23c, mdxnet, openunmix, roformer, spleeter, vr
from splitter.weights.checkpoint import Checkpoint, Converted, hash_file, read_checkpoint
from splitter.weights.tensorflow import find_files

ADAPTERS: dict[str, ModuleType] = {
    "roformer": roformer,
    "demucs": demucs,
    "openunmix": openunmix,
    "spleeter": spleeter,
    "mdx23c": mdx23c,
    "mdx-net": mdxnet,
    "vr": vr,
}
SUMMED = (demucs, openunmix)  # their files' names end in the beginning of their SHA-256
UNKNOWN_LICENCE = "unknown: ask its author"
_ODD = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Origin:
    """Where a model is from, for its card."""

    licence: str = UNKNOWN_LICENCE
    url: str = ""
    remark: str = ""


def find_weights(path: Path) -> list[Path]:
    """Return the files that a path stands for: a folder of Open-Unmix has one for each target.

    That of a TensorFlow checkpoint is read as a whole.
    """
    if not path.is_dir() or find_files(path, ".index"):
        return [path]
    return find_files(path, ".pth") or [path]


def convert_files(
    files: Sequence[Path], config: Path | None = None, family: str | None = None
) -> Converted:
    """Read a model's files, recognise their family by their tensors, and convert them."""
    checkpoints = [read_checkpoint(path, config) for path in files]
    first = checkpoints[0]
    adapter = _recognise(first, family)
    if len(checkpoints) > 1 and not hasattr(adapter, "join"):
        raise ModelError(f"{files[1]}: a model of this family is one file; give only that")
    if adapter in SUMMED:
        for path in files:
            _check_sum(path)
    try:
        joined = adapter.join(checkpoints) if hasattr(adapter, "join") else first
        converted: Converted = adapter.convert(joined)
    except _ODD as error:  # of tensors of other shapes, or facts of other types, than expected
        if is_shortage(error):
            raise
        raise ModelError(
            f"{first.path}: its parts do not fit together ({type(error).__name__}: "
            f"{str(error)[:80]!r})"
        ) from error
    return converted


def _check_sum(path: Path) -> None:
    """Raise ModelError for a file that has not the SHA-256 that its name states.

    A .safetensors of that name was made from such a file, and has another sum.
    """
    stated = path.suffix in (".th", ".pth") and re.search(r"-([0-9a-f]{8,64})$", path.stem)
    if stated and not (found := hash_file(path)).startswith(stated[1]):
        raise ModelError(
            f"{path}: its SHA-256 begins with {found[: len(stated[1])]}, but its name says "
            f"{stated[1]}; get the file again, or rename it if that is no sum"
        )


def _recognise(checkpoint: Checkpoint, family: str | None) -> ModuleType:
    names = list(checkpoint.tensors)
    found = next((name for name, one in ADAPTERS.items() if one.matches(names)), None)
    if found is None:
        known = ", ".join(ADAPTERS)
        raise ModelError(
            f"{checkpoint.path}: its tensors belong to no family that splitter knows ({known})"
        )
    if family not in (None, found):
        raise ModelError(
            f"{checkpoint.path}: its tensors are those of {found}, not of {family}; "
            "leave out --as, or give another file"
        )
    return ADAPTERS[found]


def check_vacant(folder: Path) -> None:
    """Raise ModelError if there is anything where a model is to be, were it a link to nowhere."""
    if os.path.lexists(folder):
        raise ModelError(
            f"{folder}: exists already; `splitter models remove` deletes it; or give another --name"
        )


def add_model(
    folder: Path,
    files: Sequence[Path],
    config: Path | None = None,
    family: str | None = None,
    origin: Origin = Origin(),
) -> Path:
    """Convert a model's files into `folder`, whole or not at all; return the folder.

    Raises ModelError for files that are damaged, of no known family, or contradict themselves, and
    another SplitterError where memory is short.
    """
    check_vacant(folder)
    files = [file for path in files for file in find_weights(path)]
    with saying_shortage(str(files[0]), way_out="end what else uses it, or take another machine"):
        converted = convert_files(files, config, family)
        stated = config_from(asdict(converted.config), files[0])  # a yaml may say anything
        check_tensors(sketch_network(stated, files[0]), converted.tensors, files[0])
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in find_abandoned(folder.parent):  # by a kill: it may hold gigabytes
        shutil.rmtree(left, ignore_errors=True)
    part = Path(mkdtemp(prefix=f".{folder.name}.", suffix=PART, dir=folder.parent))
    try:
        write_model(part, converted)
        card = write_card(folder.name, files, converted, origin)
        write_atomically(part / CARD, card.encode("utf-8"))
        part.chmod(0o755)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return folder


def write_model(folder: Path, converted: Converted) -> None:
    """Write config and weights, these as exact as they were."""
    write_tensors(folder / WEIGHTS, converted.tensors)
    text = json.dumps(asdict(converted.config), indent=2) + "\n"
    write_atomically(folder / CONFIG, text.encode("utf-8"))


def write_card(name: str, files: Sequence[Path], converted: Converted, origin: Origin) -> str:
    """Say where a model is from, what its licence is, and what differs from its program."""
    config = converted.config
    sources = "\n".join(f"- `{file.name}`, SHA-256 `{hash_file(file)}`" for file in files)
    parts = [
        f"# {name}",
        f"A model of the network `{config.network}`: {', '.join(config.all_stems)}, "
        f"{config.rate} Hz, {config.channels} channels.",
        f"Licence: {origin.licence}",
        f"Converted from\n\n{sources}" + (f"\n\n{origin.url}" * bool(origin.url)),
        converted.note,
        origin.remark,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"

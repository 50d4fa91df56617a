"""Files of any kind as tensors, and what stands beside them: facts that tensors do not tell."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import yaml
from torch import Tensor

from splitter.errors import ModelError, reason
from splitter.loading import read_tensors
from splitter.paths import check_plain_file
from splitter.registry import Config
from splitter.schema import parse_json
from splitter.weights.onnx import read_onnx
from splitter.weights.tensorflow import is_bundle, list_parts, read_bundle
from splitter.weights.torchfile import class_name, read_torch

LARGEST_TEXT = 1 << 20  # bytes of a json file
LARGEST_YAML = 1 << 16  # bytes; they have a few thousand, and are read slowly
MOST_FACTS = 100_000  # values in it
# under which training programs put tensors
WRAPPERS = ("state_dict", "model_state_dict", "state", "model")
POINTER = b"version https://"  # how what Git LFS leaves in place of a large file begins
TAIL = 10_000 * 1024  # bytes at a file's end that UVR's tables know it by

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by their names in the file, and the facts beside them."""

    path: Path
    tensors: Tensors
    facts: Mapping[str, Any] = field(default_factory=dict)  # of a yaml or json, or of the file
    facts_path: Path | None = None

    def fact(self, *keys: str, default: Any = None) -> Any:
        """Look a fact up by a path of keys; None stands for what is not there."""
        value: Any = self.facts
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return default if value is None else value

    def need(self, *keys: str) -> Any:
        """Look a fact up that nothing else tells; raise ModelError without it."""
        value = self.fact(*keys)
        if value is None:
            beside = f"add it to {self.facts_path}" if self.facts_path else "give its yaml or json"
            if named := self.fact("config_yaml"):  # in an entry of UVR's table
                beside = f"{self.facts_path} says that {str(named)[:80]!r} does; give that"
            elif any(re.fullmatch("[0-9a-f]{32}", str(key)) for key in self.facts):
                known_as = hash_tail(self.path)  # of files that UVR's table does not list
                beside = f"{self.facts_path} has no entry for its MD5, {known_as}; give another"
            raise ModelError(
                f"{self.path}: its tensors do not tell {'.'.join(keys)}; {beside} (--config)"
            )
        return value

    def agree(self, name: str, told: object, *keys: str) -> None:
        """Raise ModelError if the facts beside the tensors contradict them."""
        stated = self.fact(*keys)
        if stated is not None and stated != told:
            raise ModelError(
                f"{self.path}: its tensors say {name} {told}, but {self.facts_path} says {stated}"
            )

    def keep_to(self, value: object, *keys: str) -> None:
        """Raise ModelError if the facts ask for what no network here does."""
        stated = self.fact(*keys, default=value)
        if stated != value:
            raise ModelError(
                f"{self.path}: {'.'.join(keys)} is {stated!r} in {self.facts_path}; only "
                f"{value!r} is supported"
            )


@dataclass(frozen=True)
class Converted:
    """What a model's folder will hold."""

    config: Config
    tensors: Tensors
    note: str = ""  # for the card: what differs from the program that it is from


class _YamlLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain data, and the tuples that configs of this field have.

    Keys that are merged into others (`<<`) would be copied as often as they are said, and no config
    of this field has any.
    """

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse keys that are merged."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "it merges keys (<<)")


_YamlLoader.add_constructor(
    "tag:yaml.org,2002:python/tuple",
    lambda loader, node: loader.construct_sequence(node),
)


def read_facts(path: Path) -> Mapping[str, Any]:
    """Read a yaml or json file of plain data."""
    try:
        check_plain_file(path)
        is_json = path.suffix == ".json"
        if path.stat().st_size > (LARGEST_TEXT if is_json else LARGEST_YAML):
            raise ValueError("too large")
        text = path.read_text(encoding="utf-8-sig")  # Windows may begin a text by a mark
        facts = parse_json(text.encode()) if is_json else yaml.load(text, _YamlLoader)
        if not isinstance(facts, dict):
            raise ValueError("it has no keys and values")
        if _count_values(facts, {}) > MOST_FACTS:  # some say the same over and over
            raise ValueError("it repeats itself too often")
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: cannot be read as yaml or json ({reason(error)})") from error
    return facts


def _count_values(facts: Any, known: dict[int, int]) -> int:
    """Count the values in nested facts, each as often as it is referred to."""
    if not isinstance(facts, (dict, list, tuple)):
        return 1
    if id(facts) not in known:
        known[id(facts)] = 1  # of what refers to itself: it goes on for ever, and is counted so
        parts = [*facts, *facts.values()] if isinstance(facts, dict) else facts
        known[id(facts)] = 1 + sum(_count_values(part, known) for part in parts)
    return known[id(facts)]


def read_checkpoint(path: Path, config: Path | None = None) -> Checkpoint:
    """Read the tensors of a file, whatever its kind, and the facts beside it.

    Facts come from `config`, or from a yaml or json of the same name. Raises ModelError.
    """
    named = path if path.name else path.absolute()  # as the folder "." is not
    beside = [named.with_suffix(suffix) for suffix in (".yaml", ".yml", ".json")]
    found = config or next((candidate for candidate in beside if candidate.is_file()), None)
    tensors, facts = _read(path)
    tensors = strip_shared(tensors)
    if not tensors:
        raise ModelError(f"{path}: holds no tensors")
    if found is not None:
        stated = read_facts(found)
        if path.is_file() and isinstance(entry := stated.get(hash_tail(path)), dict):
            stated = entry  # of UVR's table of all its models
        facts = {**facts, **stated}
    return Checkpoint(path, tensors, facts, found)


def _read(path: Path) -> tuple[Tensors, Mapping[str, Any]]:
    if is_bundle(path):
        return read_bundle(path), {}
    try:
        check_plain_file(path)
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({reason(error)})") from error
    if start == POINTER:
        raise ModelError(
            f"{path}: only stands for the weights; `git lfs pull` in its folder fetches them, or "
            "download the file itself"
        )
    if path.suffix == ".onnx":
        return read_onnx(path)
    if start[8:9] == b"{":
        return read_tensors(path), _read_metadata(path)
    return unwrap(read_torch(path), path)


def _read_metadata(path: Path) -> Mapping[str, Any]:
    """Read what a safetensors file says of itself; each value is text, and perhaps JSON."""
    with safetensors.safe_open(path, "pt") as file:
        stated = file.metadata() or {}
    facts = {}
    for key, text in stated.items():
        try:
            facts[key] = parse_json(text.encode("utf-8"))
        except ValueError:
            facts[key] = text
    return facts


def unwrap(content: Any, path: Path) -> tuple[Tensors, Mapping[str, Any]]:
    """Tell the tensors in what a PyTorch file holds from the facts about them."""
    facts: dict[str, Any] = {}
    if isinstance(content, dict):
        for key in WRAPPERS:
            if isinstance(content.get(key), dict):
                rest = {"class": class_name(content.get("klass")), **content}
                facts = {name: rest[name] for name in ("class", "kwargs", "args") if name in rest}
                content = content[key]
                break
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ModelError(f"{path}: holds no tensors with names")
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(f"{path}: holds no tensors with names")
    return tensors, facts


def strip_shared(tensors: Tensors) -> Tensors:
    """Take off what begins all names, as wrappers of a training's have it: `module.`, `model.`."""
    while len({name.partition(".")[0] for name in tensors}) == 1 and all("." in n for n in tensors):
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
    return tensors


def rename(checkpoint: Checkpoint, table: Mapping[str, str]) -> Tensors:
    """Give tensors the names that networks have, by patterns for whole names.

    An empty name drops a tensor. Raises ModelError for one that no pattern matches.
    """
    renamed = {}
    for name, tensor in checkpoint.tensors.items():
        for pattern, replacement in table.items():
            if match := re.fullmatch(pattern, name):
                if replacement:
                    renamed[match.expand(replacement)] = tensor
                break
        else:
            raise ModelError(
                f"{checkpoint.path}: tensor {name[:80]!r} belongs to no network that splitter knows"
            )
    return renamed


def count(names: Iterable[str], pattern: str) -> int:
    """Count the different values of the pattern's first group at the start of names."""
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def shape_of(checkpoint: Checkpoint, name: str, axes: int) -> Sequence[int]:
    """Return the shape of a tensor; raise ModelError if it is missing, or has not so many axes."""
    tensor = checkpoint.tensors.get(name)
    if tensor is None or tensor.ndim != axes or not tensor.numel():
        raise ModelError(
            f"{checkpoint.path}: tensor {name!r} is missing, or has a shape that does not fit"
        )
    return tuple(tensor.shape)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, or of all the files that make up a checkpoint of TensorFlow."""
    digest = hashlib.sha256()
    for part in list_parts(path) if is_bundle(path) else [path]:
        with part.open("rb") as file:
            while portion := file.read(1 << 20):
                digest.update(portion)
    return digest.hexdigest()


def hash_tail(path: Path) -> str:
    """Return the MD5 by which UVR knows a file: of its last 10,000 KiB."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return hashlib.md5(file.read(), usedforsecurity=False).hexdigest()

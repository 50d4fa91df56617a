"""Which models there are, and what their configs say; nothing here needs PyTorch.

    models/<name>/config.json           what the network is, as JSON
                  weights.safetensors   its tensors; no code is ever loaded
                  card.md               data, licences, scores, limits: for people

A model is found by its name among those that came with splitter, or by the path of its folder. One
whose network is called `average` has no weights: it stands for the models that it names. A
`ModelChoice` says which models are taken, and what is done to make more of them.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from platformdirs import user_cache_path

from splitter.catalogue import read_catalogue
from splitter.errors import ModelError, reason
from splitter.paths import Facts, check_plain_file, find_folder, is_plain_name, look_at
from splitter.schema import Length, Range, Words, parse, read_json

DEFAULT_MODEL = "unet"
SCHEMA = 1
AVERAGE = "average"
CONFIG, WEIGHTS, CARD = "config.json", "weights.safetensors", "card.md"
CHUNK = 2**20  # bytes
NO_FOLDER = Path(os.devnull, "HOME or XDG_CACHE_HOME names no folder")  # nothing can be in it

Kind = TypeVar("Kind")
Name = Annotated[str, Words(is_plain_name, "that can be a file's name on every system")]
Rate = Annotated[int, Range(1000, 192000)]  # Hz
Channels = Annotated[int, Range(1, 32)]
INSTRUMENTAL = "instrumental"
REST = "rest"  # what is left by models that claim all of a song
# what other programs call stems, in small letters
SYNONYMS = {
    **dict.fromkeys(("accompaniment", "no_vocals", "instrum", "karaoke", "inst"), INSTRUMENTAL),
    **dict.fromkeys(("vocal", "voice", "voices", "lead"), "vocals"),
    **dict.fromkeys(("drum",), "drums"),
    **dict.fromkeys(("others",), "other"),
}


@dataclass(frozen=True)
class Config:
    """What `config.json` says."""

    network: str  # a key of networks.ARCHITECTURES, or AVERAGE
    sizes: Mapping[str, Any] = field(default_factory=dict)  # fields of the architecture
    rate: Rate = 44100  # Hz
    channels: Channels = 2
    stems: Annotated[Sequence[Name], Length(1, 64)] = ("vocals",)  # what the network estimates
    residual: Name = "instrumental"  # what is left of the song
    # of an average: folders beside its own; the rest is what they say
    models: Annotated[Sequence[Name], Length(0, 16)] = ()
    schema: Annotated[int, Range(1, SCHEMA)] = SCHEMA

    @property
    def all_stems(self) -> tuple[str, ...]:
        """Return the names of all stems, the residual last."""
        return (*self.stems, self.residual)

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the names of what is heard of a song, whether it is estimated or left."""
        return self.all_stems if self.residual != REST else tuple(self.stems)

    @property
    def known_stems(self) -> tuple[str, ...]:
        """Return the names of all stems, and `instrumental`, which is all but the vocals."""
        derived = "vocals" in self.all_stems and INSTRUMENTAL not in self.all_stems
        return (*self.all_stems, *[INSTRUMENTAL] * derived)


def canonical_stem(name: str) -> str:
    """Return what a stem is called here, whatever another program calls it."""
    small = name.lower()
    return SYNONYMS.get(small.replace("-", "_"), small)


def cache_folder() -> Path:
    """Return the folder of what can be made or fetched anew: the platform's place for that.

    A user without a home, as in some containers, has none: nothing can be kept.
    """
    with suppress(RuntimeError):
        folder = user_cache_path("splitter", appauthor=False)
        if folder.is_absolute():  # else it would be made wherever one is
            return folder
    return NO_FOLDER


def added_folder() -> Path:
    """Return the folder of the models that were added."""
    return cache_folder() / "models"


def models_folder() -> Path:
    """Return the folder of the models that came with splitter: in the wheel, or in the checkout."""
    package = Path(__file__).parent
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"


def list_models() -> list[str]:
    """Name the models that came with splitter."""
    return sorted(path.parent.name for path in models_folder().glob(f"*/{CONFIG}"))


def list_added() -> list[str]:
    """Name the models that `splitter models` added."""
    return sorted(path.parent.name for path in added_folder().glob(f"[!.]*/{CONFIG}"))


def find_model(name: str) -> Path:
    """Return the folder of the model called `name`, or at the path `name`."""
    known = [] if _is_path(name) else [models_folder() / name, added_folder() / name]
    for folder in [*known, Path(name)]:
        if _is_model(folder):
            return folder
    if os.path.isdir(name):  # noqa: PTH112 - as `_is_model` below
        raise ModelError(f"{name}: not a model folder, as it has no {CONFIG}")
    entry = read_catalogue().get(name)
    if entry is not None:
        raise ModelError(
            f"{name} is not installed; `splitter models get {name}` downloads it "
            f"({entry.megabytes:.0f} MB; licence: {entry.licence})"
        )
    if _is_path(name):
        raise ModelError(f"{name}: there is no such folder")
    names = ", ".join([*list_models(), *list_added()]) or "none"
    raise ModelError(f"no model is called {name!r}; choose from {names}, or give a model's folder")


def _is_path(name: str) -> bool:
    """Tell whether a text can only be a path: no model that came, or was added, is meant."""
    return any(separator in name for separator in (os.sep, os.altsep) if separator)


def _share_stems(configs: Sequence[Config], folders: Sequence[Path]) -> tuple[list[str], str]:
    """Return the stems that all models have, and the name of what these leave of a song.

    That is the one more that a model has; if one has no more, it is what is left by that.
    """
    first = shared = list(configs[0].sources)
    for config, folder in zip(configs, folders, strict=True):
        shared = [stem for stem in shared if stem in config.sources]
        if not shared:
            raise ModelError(
                f"{folder}: cannot be averaged with {folders[0]}, because its stems are "
                f"{', '.join(config.sources)}, not {', '.join(first)}"
            )
    whole = next((one for one in configs if set(one.all_stems) <= set(shared)), None)
    if whole:
        shared = [stem for stem in shared if stem != whole.residual]
    others = [[stem for stem in one.all_stems if stem not in shared] for one in configs]
    lone = [left[0] for left in others if len(left) == 1]
    return shared, next((name for name in lone if name != REST), REST)


def _is_model(folder: Path) -> bool:
    return os.path.isfile(folder / CONFIG)  # noqa: PTH113 – Path raises for too long a name


def read_config(path: Path) -> Config:
    """Read `config.json`; raise ModelError for what is not as `Config` declares it."""
    try:
        raw = read_json(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as a model's config ({reason(error)})") from error
    return config_from(raw, path)


def config_from(raw: Any, path: Path) -> Config:
    """Make a config of parsed JSON; `path` is named in errors."""
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise ModelError(f"{path}: made for a newer splitter (schema {schema}); upgrade splitter")
    config = parse_declared(Config, raw, path)
    if (config.network == AVERAGE) != bool(config.models):
        raise ModelError(
            f"{path}: network {AVERAGE!r} must list its 'models'; no other network may"
        )
    _check_stems(config, path)
    return config


def parse_declared(kind: type[Kind], raw: Any, path: Path) -> Kind:
    """Make a dataclass from what a file says; raise ModelError for what it does not declare."""
    try:
        return parse(kind, raw)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from error


def _check_stems(config: Config, path: Path) -> None:
    """Raise ModelError if two stems would be one file, on a system that tells no case apart."""
    names: dict[str, str] = {}
    for stem in config.all_stems:
        alike = unicodedata.normalize("NFKC", stem).casefold()
        if alike in names:
            both = f"{names[alike]!r} and {stem!r}"
            raise ModelError(f"{path}: stems {both} would have the same file name; rename one")
        names[alike] = stem


def _split_weight(text: str) -> tuple[str, str | None]:
    """Split a weight off a name; a folder may be called as if it had one."""
    match = re.fullmatch(r"(.*):(\d+(?:\.\d+)?)", text, re.DOTALL)
    return (match[1], match[2]) if match and not _is_model(Path(text)) else (text, None)


@dataclass(frozen=True)
class ModelChoice:
    """Which models are asked for one estimate, and what is done to make it better."""

    names: tuple[str, ...] = (DEFAULT_MODEL,)  # or folders; the estimates of several are averaged
    tta: bool = False  # test-time augmentation: see networks.Augmented
    wiener: int = 0  # iterations of the multichannel Wiener filter: see networks.Wiener
    weights: tuple[float, ...] = ()  # how much each counts; () is the same for all

    def __post_init__(self) -> None:
        if isinstance(self.names, str) or not self.names:
            raise ModelError(f"names is {self.names!r}; it must be a tuple of one name or more")
        count, fine = len(self.weights), all(0 < weight < math.inf for weight in self.weights)
        if count not in (0, len(self.names)) or not fine:
            what = "it must have a number above 0 for each name"
            raise ModelError(f"weights is {self.weights!r}; {what}")
        if self.wiener < 0:
            raise ModelError(f"wiener is {self.wiener!r}; it must be 0 or more")

    @classmethod
    def parse(cls, text: str, tta: bool = False, wiener: int = 0) -> ModelChoice:
        """Read a name, or several with commas between and perhaps weights, as in unet:1,other:2.

        A folder may have a comma in its name, or end like a weight.
        """
        parts = [text] if _is_model(Path(text)) else text.split(",")
        pairs = [_split_weight(part) for part in parts]
        if not all(name for name, _ in pairs):
            raise ModelError(
                f"--model {text!r}: a name is missing; write, for example, unet,unet-fast"
            )
        stated = tuple(float(weight or 1) for _, weight in pairs)
        if not all(stated):
            raise ModelError(f"--model {text!r}: a weight must be above 0")
        weights = stated if len(set(stated)) > 1 else ()
        return cls(tuple(name for name, _ in pairs), tta, wiener, weights)

    @property
    def shares(self) -> list[float]:
        """Return how much each of the networks in `folders` counts."""
        counts = [len(_find_networks(find_model(name))) for name in self.names]
        if not self.weights:
            return [1.0] * sum(counts)
        pairs = zip(self.weights, counts, strict=True)
        return [weight / count for weight, count in pairs for _ in range(count)]

    @cached_property
    def folders(self) -> list[Path]:
        """Return the folders of networks; raise ModelError for one that is not there."""
        return [folder for name in self.names for folder in _find_networks(find_model(name))]

    @cached_property
    def name(self) -> str:
        """Return what stems, tables and journals call it, as in unet+tta+wiener1."""
        more = ["tta"] * self.tta + [f"wiener{self.wiener}"] * bool(self.wiener)
        return "+".join([*(find_model(name).resolve().name for name in self.names), *more])

    @cached_property
    def hash(self) -> str:
        """Return 16 hex digits that change with the weights and with what is done with them."""
        hashes = [hash_model(folder) for folder in self.folders]
        hashes += [f"weights {self.weights}"] if self.weights else []
        if len(hashes) == 1 and not self.tta and not self.wiener:
            return hashes[0]
        parts = f"{' '.join(hashes)} tta {self.tta} wiener {self.wiener}"
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    @cached_property
    def config(self) -> Config:
        """Read the config; that of several has the stems that each of them estimates or leaves.

        Its rate is the highest of theirs. Raises ModelError where they differ in channels, or have
        no stem in common.
        """
        configs = [read_config(folder / CONFIG) for folder in self.folders]
        first, config = self.folders[0], configs[0]
        for folder, other in zip(self.folders, configs, strict=True):
            if other.channels != config.channels:
                raise ModelError(
                    f"{folder}: cannot be averaged with {first}, because its number of channels is "
                    f"{other.channels}, not {config.channels}"
                )
        if len(configs) > 1:
            stems, residual = _share_stems(configs, self.folders)
            rate = max(one.rate for one in configs)
            config = replace(config, stems=stems, residual=residual, rate=rate)
        if self.wiener and config.channels > 2:
            raise ModelError(f"{first}: has {config.channels} channels; --wiener needs 1 or 2")
        return config

    def resolve(self) -> ModelChoice:
        """Return the same choice by the whole paths of its folders, wherever one is then."""
        return replace(self, names=tuple(str(find_model(name).resolve()) for name in self.names))


def _find_networks(folder: Path) -> list[Path]:
    """Return a model's folder, or those of the networks that it is the average of."""
    config = read_config(folder / CONFIG)
    if config.network != AVERAGE:
        return [folder]
    parts = [find_folder(folder) / name for name in config.models]
    for part in parts:
        if not _is_model(part):
            raise ModelError(f"{folder / CONFIG}: averages {part}, which is not a model folder")
        if read_config(part / CONFIG).network == AVERAGE:
            raise ModelError(f"{folder / CONFIG}: averages {part}, which is an average itself")
    return parts


def hash_model(folder: Path) -> str:
    """Return 16 hex digits of the SHA-256 of config and weights."""
    return _hash_as_it_is(folder, *map(look_at, (folder / CONFIG, folder / WEIGHTS)))


@lru_cache
def _hash_as_it_is(folder: Path, *_: Facts) -> str:
    """Hash a model once, as long as what is known of its files stays: some hold a gigabyte."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        path = folder / name
        try:
            check_plain_file(path)
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({reason(error)})") from error
    return digest.hexdigest()[:16]

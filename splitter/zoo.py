"""Model folders on disk: weights with their config and card.

    models/<name>/config.json           what the network is, as JSON
                  weights.safetensors   its tensors; no code is ever loaded
                  card.md               data, licences, scores, limits: for people

A model is found by its name among those that came with splitter, or by the path of its folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from splitter.errors import ModelError
from splitter.networks import ARCHITECTURES, Network

DEFAULT_MODEL = "unet"
SCHEMA = 1
CONFIG, WEIGHTS, CARD = "config.json", "weights.safetensors", "card.md"


@dataclass(frozen=True)
class Config:
    """What `config.json` says."""

    network: str  # a key of networks.ARCHITECTURES
    sizes: Mapping[str, Any] = field(default_factory=dict)  # fields of the architecture
    rate: int = 44100  # Hz
    channels: int = 2
    stems: Sequence[str] = ("vocals",)  # what the network estimates
    residual: str = "instrumental"  # what is left of the song
    schema: int = SCHEMA


@dataclass(frozen=True)
class Model:
    """A network with its weights, ready to use."""

    name: str
    config: Config
    network: Network
    device: torch.device
    hash: str  # of config and weights; SHA-256, 16 hex digits

    @property
    def stems(self) -> tuple[str, ...]:
        """Return the names of all stems, the residual last."""
        return (*self.config.stems, self.config.residual)


def models_folder() -> Path:
    """Return the folder of the models that came with splitter: in the wheel, or in the checkout."""
    package = Path(__file__).parent
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"


def list_models() -> list[str]:
    """Name the models that came with splitter."""
    return sorted(path.parent.name for path in models_folder().glob(f"*/{CONFIG}"))


def find_model(name: str) -> Path:
    """Return the folder of the model called `name`, or at the path `name`."""
    for folder in (models_folder() / name, Path(name)):
        if (folder / CONFIG).is_file():
            return folder
    if Path(name).is_dir():
        raise ModelError(f"{name}: no {CONFIG} in this folder, so it is no model")
    known = ", ".join(list_models()) or "none"
    raise ModelError(f"no model called {name!r}; there are: {known}; or give a model's folder")


def load_model(name: str = DEFAULT_MODEL, device: torch.device | str = "cpu") -> Model:
    """Load a model by name or path onto `device`; raise ModelError with file and key."""
    folder = find_model(name)
    config = read_config(folder / CONFIG)
    network = build_network(config, folder / CONFIG)
    _fill(network, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Model(folder.resolve().name, config, network, torch.device(device), hash_model(folder))


def read_config(path: Path) -> Config:
    """Read `config.json`; raise ModelError for what is missing, unknown or of a later schema."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not a readable model config ({error})") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{path}: a model config is a JSON object")
    if raw.get("schema", SCHEMA) > SCHEMA:
        raise ModelError(f"{path}: schema {raw['schema']} is newer than this splitter; upgrade it")
    _check_keys(raw, Config, path)
    if "network" not in raw:
        raise ModelError(f"{path}: key 'network' is missing")
    return Config(**raw)


def build_network(config: Config, path: Path) -> Network:
    """Make the network that `config` describes, with random weights; `path` is for errors."""
    architecture = ARCHITECTURES.get(config.network)
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"{path}: unknown network {config.network!r}; known are: {known}")
    _check_keys(config.sizes, architecture, path)
    try:
        return architecture(**config.sizes).build(config.channels, len(config.stems))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: these sizes make no network ({error})") from error


def save_model(folder: Path, config: Config, network: nn.Module) -> None:
    """Write config and weights; matrices as float16, which halves the file and is not heard."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.half() if tensor.ndim > 1 else tensor
        for name, tensor in network.state_dict().items()
    }
    write_tensors(folder / WEIGHTS, tensors)
    text = json.dumps(asdict(config), indent=2) + "\n"
    _replace(folder / CONFIG, text.encode("utf-8"))


def hash_model(folder: Path) -> str:
    """Return 16 hex digits of the SHA-256 of config and weights."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file."""
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error})") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _replace(path, safetensors.torch.save(flat))


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(content)
    beside.replace(path)


def _fill(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load tensors into the network; name the first that is missing, unknown or misshapen."""
    wanted = network.state_dict()
    for name in sorted(wanted.keys() - tensors.keys()):
        raise ModelError(f"{path}: tensor {name!r} is missing")
    for name in sorted(tensors.keys() - wanted.keys()):
        raise ModelError(f"{path}: tensor {name!r} is unknown to the network in {CONFIG}")
    for name, tensor in wanted.items():
        if tensor.shape != tensors[name].shape:
            shapes = f"{tuple(tensors[name].shape)}, not {tuple(tensor.shape)}"
            raise ModelError(f"{path}: tensor {name!r} has shape {shapes}")
    network.load_state_dict(tensors)


def _check_keys(raw: Mapping[str, Any], kind: type, path: Path) -> None:
    unknown = raw.keys() - {item.name for item in fields(kind)}
    if unknown:
        known = ", ".join(item.name for item in fields(kind))
        raise ModelError(f"{path}: unknown key {min(unknown)!r}; known are: {known}")

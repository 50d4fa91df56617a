"""Model folders as networks: loading, checking and saving weights (`registry` finds them)."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from splitter.atomic import making, write_atomically
from splitter.errors import ModelError, reason
from splitter.memory import free_memory
from splitter.networks import ARCHITECTURES, Augmented, Average, Network, Wiener, fold_batch_norms
from splitter.networks.contract import move_network
from splitter.networks.ensemble import AverageOfUnlike
from splitter.networks.resampling import AtRate
from splitter.paths import check_plain_file
from splitter.registry import (
    CONFIG,
    DEFAULT_MODEL,
    WEIGHTS,
    Config,
    ModelChoice,
    parse_declared,
    read_config,
)

__all__ = [
    "Model",
    "build_network",
    "check_memory",
    "check_tensors",
    "fill_network",
    "load_model",
    "read_tensors",
    "save_model",
    "sketch_network",
    "survive_forks",
    "write_tensors",
]


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MAX_CONTEXT = 2**23  # samples, 190 s at 44.1 kHz: tiles are three times as long, and in memory


@dataclass(frozen=True)
class Model:
    """A network with its weights, ready to use."""

    name: str
    config: Config
    network: Network
    device: torch.device
    hash: str  # of config and weights; SHA-256, 16 hex digits
    precision: str = "auto"  # or "float32", where nothing less will do
    share: float = 1  # how much it counts in an average

    @property
    def stems(self) -> tuple[str, ...]:
        """Return the names of all stems, the residual last."""
        return self.config.all_stems

    @property
    def parts(self) -> Sequence[Model]:
        """Return the models that are run one by one and averaged: those of unlike tiles, or it."""
        if not isinstance(self.network, AverageOfUnlike):
            return [self]
        pairs = zip(self.network.parts, self.network.shares, strict=True)
        return [replace(self, network=part, share=share) for part, share in pairs]


def load_model(
    model: ModelChoice | str = DEFAULT_MODEL,
    device: torch.device | str = "cpu",
    folded: bool = False,
) -> Model:
    """Load a model by name or path, or what a ModelChoice makes of several, onto `device`.

    A folded one is a little faster, but has not the weights of its file. Raises ModelError with
    file and key.
    """
    survive_forks()  # weights are looked at in several threads already
    choice = model if isinstance(model, ModelChoice) else ModelChoice((model,))
    config = choice.config
    networks = {folder: _load_network(folder) for folder in dict.fromkeys(choice.folders)}
    network = _improve([networks[folder] for folder in choice.folders], choice)
    network.eval()
    if folded:
        fold_batch_norms(network)
    move_network(network, device)
    return Model(choice.name, config, network, torch.device(device), choice.hash)


@cache
def survive_forks() -> None:
    """Have a forked child compute in one thread, since it would wait forever for the others."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def _load_network(folder: Path) -> Network:
    """Load a network; what its config promises takes no memory that the weights do not fill."""
    config, weights = read_config(folder / CONFIG), folder / WEIGHTS
    sketch = sketch_network(config, folder / CONFIG)
    check_memory(sketch, folder)
    tensors = read_tensors(weights)
    check_tensors(sketch, tensors, weights)
    with _Unfilled():
        network = build_network(config, folder / CONFIG)
    network.load_state_dict(tensors)
    return network


def _improve(networks: Sequence[Network], choice: ModelChoice) -> Network:
    """Make one network of several, and wrap it in what was chosen.

    Networks that one cut of the song serves are averaged in their tiles, others as they are alone.
    """
    if len(networks) == 1:
        return _wrap(networks[0], choice)
    stems, rate = choice.config.stems, choice.config.rate
    theirs = [read_config(folder / CONFIG) for folder in choice.folders]
    picks = [[own.all_stems.index(stem) for stem in stems] for own in theirs]
    alike = all(list(own.stems) == list(stems) for own in theirs)
    heard = [
        one if own.rate == rate else AtRate(one, own.rate, rate)
        for one, own in zip(networks, theirs, strict=True)
    ]
    if len({one.own_tiles for one in heard}) == 1:
        return _wrap(Average(heard, None if alike else picks, choice.shares), choice)
    pairs = zip(heard, picks, strict=True)
    return AverageOfUnlike(
        [Average([_wrap(one, choice)], [pick]) for one, pick in pairs], choice.shares
    )


def _wrap(network: Network, choice: ModelChoice) -> Network:
    """Wrap a network in what was chosen to make its estimate better."""
    if choice.tta:
        network = Augmented(network)
    return Wiener(network, choice.wiener) if choice.wiener else network


def build_network(config: Config, path: Path) -> Network:
    """Make the network that `config` describes, with random weights; `path` is for errors."""
    architecture = ARCHITECTURES.get(config.network)
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"{path}: unknown network {config.network!r}; choose from {known}")
    sizes = parse_declared(architecture, config.sizes, path)
    try:
        network: Network = sizes.build(config.channels, len(config.stems))
    except (AssertionError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ModelError(f"{path}: no network can be built with these sizes ({error})") from error
    return network


_RANDOM = (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_)


class _Unfilled(TorchFunctionMode):
    """Leave out random numbers: a file's weights take their place, or there is no memory to fill.

    For 113 million weights they take half a second; without memory, a compiler would be loaded.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        named = kwargs or {}
        if function in _RANDOM or getattr(function, "__module__", "") == nn.init.__name__:
            return args[0] if args else named["tensor"]
        return function(*args, **named)


def sketch_network(config: Config, path: Path) -> Network:
    """Make a network without any weights, which takes no memory: all its shapes can be asked."""
    with torch.device("meta"), _Unfilled():
        network = build_network(config, path)
    if network.context > MAX_CONTEXT:
        raise ModelError(
            f"{path}: this network needs {network.context} samples on either side of a tile; "
            f"at most {MAX_CONTEXT} are allowed"
        )
    return network


def check_memory(sketch: nn.Module, path: Path) -> None:
    """Raise ModelError for a network whose weights do not fit the memory that is free."""
    size, free = sum(tensor.nbytes for tensor in sketch.state_dict().values()), free_memory()
    if free is not None and size > free:
        raise ModelError(
            f"{path}: its weights need {size / 1e9:.1f} GB of memory, but only {free / 1e9:.1f} GB "
            "are free; use a smaller model, or a machine with more memory"
        )


def save_model(folder: Path, config: Config, network: nn.Module) -> None:
    """Write config and weights; matrices as float16, which halves the file and is not heard.

    What a network keeps beside its weights, as sums over a training, may not fit float16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    matrices = {
        name
        for name, weights in network.named_parameters(remove_duplicate=False)
        if weights.ndim > 1
    }
    tensors = {
        name: tensor.half() if name in matrices else tensor
        for name, tensor in network.state_dict().items()
    }
    write_tensors(folder / WEIGHTS, tensors)
    text = json.dumps(asdict(config), indent=2) + "\n"
    write_atomically(folder / CONFIG, text.encode("utf-8"))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file."""
    try:
        check_plain_file(path)
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error})") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all; tensors may share their bytes."""
    flat, seen = {}, set()
    for name, tensor in tensors.items():
        flat[name] = tensor.detach().cpu().contiguous()
        place = flat[name].untyped_storage().data_ptr()
        flat[name] = flat[name].clone() if place in seen else flat[name]
        seen.add(place)
    with making(path) as beside:
        beside.touch()
        mode = beside.stat().st_mode  # as the umask has it; what is put in its place is private
        try:
            safetensors.torch.save_file(flat, beside)
        except safetensors.SafetensorError as error:
            code = re.search(r"code: (\d+)", str(error))
            raise OSError(int(code[1]) if code else errno.EIO, reason(error), str(path)) from error
        beside.chmod(mode)


def fill_network(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors into the network; raise ModelError as `check_tensors` does."""
    check_tensors(network, tensors, path)
    network.load_state_dict(tensors)


def check_tensors(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise ModelError that names the first tensor that is missing, unknown or misshapen.

    Nor may one be of another kind of number, or hold what is none.
    """
    wanted = network.state_dict()
    for name in sorted(wanted.keys() - tensors.keys()):
        raise ModelError(f"{path}: tensor {name!r} is missing")
    for name in sorted(tensors.keys() - wanted.keys()):
        raise ModelError(f"{path}: tensor {name!r} is not part of the network in {CONFIG}")
    for name, tensor in wanted.items():
        if tensor.is_floating_point() and tensors[name].dtype not in FLOATS:
            kind = str(tensors[name].dtype).removeprefix("torch.")
            told = f"is of {kind}; only floats of 16 to 64 bits are read"
            raise ModelError(f"{path}: tensor {name!r} {told}")
        if tensor.shape != tensors[name].shape:
            shapes = f"{tuple(tensors[name].shape)}, not {tuple(tensor.shape)}"
            raise ModelError(f"{path}: tensor {name!r} has shape {shapes}")
        if not torch.isfinite(tensors[name]).all():
            raise ModelError(f"{path}: tensor {name!r} holds what is no number; get the file again")

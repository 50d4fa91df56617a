"""A model for whoever separates in Python: ready for any number of songs, from any thread."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from splitter.errors import SplitterError
from splitter.registry import DEFAULT_MODEL, ModelChoice
from splitter.runtime.choose import compile_if_best
from splitter.runtime.computing import Computing, Streaming, check_precision

if TYPE_CHECKING:
    import torch

    from splitter.loading import Model


def load_model(
    model: ModelChoice | Path | str = DEFAULT_MODEL,
    device: torch.device | str = "auto",
    precision: str = "auto",
    processors: int = 0,
) -> Model | Streaming:
    """Load a model by name or path, or what a ModelChoice makes of several.

    On a processor it runs on OpenVINO, where that can run it: in bfloat16 where the processor
    multiplies in it, unless `precision` is "float32", and with so many `processors`; 0 is all that
    this process may use. Else, on `device`, on PyTorch, as precisely as that or Computing asks for.
    Raises ModelError with file and key, DeviceError for a device that is not there.
    """
    choice = choose(model)
    check_precision(precision)
    if not isinstance(processors, int) or processors < 0:
        raise SplitterError(f"processors is {processors!r}; it must be a whole number from 0")
    device = "cpu" if str(device).partition(":")[0] == "cpu" else device
    exact = precision == "float32"
    compiled = compile_if_best(choice, [str(device)], exact=exact, processors=processors)
    if compiled:
        return compiled
    from splitter.devices import pick_device
    from splitter.loading import load_model

    return replace(load_model(choice, pick_device(str(device))), precision=precision)


def choose(model: ModelChoice | Path | str) -> ModelChoice:
    """Say which models a name, or the path of one, stands for."""
    if isinstance(model, ModelChoice):
        return model
    if isinstance(model, Path):
        return ModelChoice((str(model.absolute()),))
    return ModelChoice.parse(model)


def make_ready(
    model: Model | Streaming | ModelChoice | Path | str, computing: Computing
) -> Model | Streaming:
    """Load a model, unless it is loaded already.

    Raises SplitterError for one that was loaded to compute less exactly than is asked for now.
    """
    check_precision(computing.precision)
    if isinstance(model, (str, Path, ModelChoice)):
        return load_model(model, precision=computing.precision)
    if isinstance(model, Streaming) and computing.precision == "float32" != model.precision:
        raise SplitterError(
            f"{model.name} was loaded to compute in {model.precision}; load it with "
            'precision="float32"'
        )
    if not isinstance(model, Streaming) and not hasattr(model, "network"):
        kind = type(model).__name__
        raise SplitterError(f"a model is a name, a path or what load_model returns, not a {kind}")
    return model

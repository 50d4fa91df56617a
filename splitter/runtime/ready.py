"""A model for whoever separates in Python: ready for any number of songs, from any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from splitter.registry import DEFAULT_MODEL, ModelChoice
from splitter.runtime.choose import compile_if_best
from splitter.runtime.computing import Streaming

if TYPE_CHECKING:
    import torch

    from splitter.loading import Model


def load_model(
    model: ModelChoice | str = DEFAULT_MODEL,
    device: torch.device | str = "auto",
    precision: str = "auto",
) -> Model | Streaming:
    """Load a model by name or path, or what a ModelChoice makes of several.

    On a processor it runs on OpenVINO, where that can run it: in bfloat16 where the processor
    multiplies in it, unless `precision` is "float32". Else, on `device`, on PyTorch. Raises
    ModelError with file and key.
    """
    choice = model if isinstance(model, ModelChoice) else ModelChoice.parse(model)
    compiled = compile_if_best(choice, [str(device)], exact=precision == "float32")
    if compiled:
        return compiled
    from splitter.devices import pick_device
    from splitter.loading import load_model

    return load_model(choice, pick_device() if str(device) == "auto" else device)

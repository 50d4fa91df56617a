"""The presets at sizes that take no time."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from splitter.loading import Model
from splitter.networks import PRESETS, Network
from splitter.networks.sizes import MaskParts, MaskSizes
from splitter.registry import Config
from tests.sounds import SMALL_SIZES

RATE = 44100
# what hears all time, samples or several windows, or looks up codes, is left to PyTorch
STREAMED = [
    *("mask-unet", "mask-tfc-tdf", "jansson", "unet-2015", "unet-bn", "fcnvmb", "resunet"),
    *("dense-unet", "multires-unet", "r2u-net", "attention-unet", "attention-r2u-net"),
    *("mobile-unet", "sid-unet"),
]
SPECTROGRAM = {name: SMALL_SIZES[name] for name in ("window", "hop", "bands")}


def small_sizes(name: str) -> dict[str, Any]:
    """Sizes of a preset with few features and levels."""
    kind = PRESETS[name].sizes
    sizes: dict[str, Any] = dict(SPECTROGRAM) if issubclass(kind, MaskSizes) else {}
    if name == "wave-u-net":
        sizes |= {"width": 3, "levels": 4}
    elif name == "conv-tasnet":
        sizes |= {"window": 32, "stride": 16, "filters": 16, "bottleneck": 8, "hidden": 16}
        sizes |= {"blocks": 3}
    elif issubclass(kind, MaskParts):
        sizes |= {"width": 16 if kind().block == "dense" else 8, "levels": 2, "latent": 32}
        sizes |= {"level_span": 4} if kind().level_span else {}
        sizes |= {"levels": 1, "codes": 16} if kind().bottom == "quantised" else {}
    elif "tfc-tdf" in name:
        sizes |= {"width": 4, "levels": 2, "patch": 4}
    else:
        sizes |= {"width": 4, "levels": 3}
    return sizes


def build(name: str, channels: int = 2, **changes: Any) -> Network:
    """A small preset with random weights, also in its norms."""
    torch.manual_seed(0)
    network = PRESETS[name].sizes(**{**small_sizes(name), **changes}).build(channels, 1).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):  # as a training leaves them
            assert module.running_var is not None
            module.running_var.uniform_(0.05, 0.2)
    return network


@cache
def small(name: str) -> Network:
    """`build`, once."""
    return build(name)


def model(name: str, network: Network | None = None) -> Model:
    """A small preset as a model."""
    config = Config(name, small_sizes(name), RATE)
    return Model(name, config, network or small(name), torch.device("cpu"), "0")


def decibels(signal: np.ndarray, other: np.ndarray) -> float:
    """How far the difference of two signals lies below them."""
    error = np.square(signal - other).sum()
    return float(10 * np.log10(np.square(signal).sum() / max(error, 1e-30)))


def on_paper(name: str, channels: int = 1, stems: int = 1, **sizes: Any) -> Network:
    """A preset of a paper's own sizes, without weights: all its shapes can be asked."""
    with torch.device("meta"):
        return PRESETS[name].sizes(**sizes).build(channels, stems).eval()


def count_weights(module: nn.Module) -> int:
    """The number of weights."""
    return sum(weight.numel() for weight in module.parameters())

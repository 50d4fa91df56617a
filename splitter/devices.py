"""Which processor computes, and in which precision."""

from __future__ import annotations

import torch
from torch import Tensor

from splitter.errors import DeviceError
from splitter.processors import has_bfloat16


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; "auto" takes CUDA, then Apple's GPU, then the CPU.

    Raises DeviceError when the device that was asked for is not there: never a silent fallback.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"no device is called {name!r}; use auto, cpu, cuda or mps") from error
    if not there.get(device.type, False):
        raise DeviceError(f"PyTorch sees no {device.type} device here; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"{name}: there are only {torch.cuda.device_count()} CUDA devices")
    return device


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return the precision in which `device` multiplies fastest: bfloat16, float16 or float32."""
    if device.type == "cuda":
        # older ones emulate bfloat16, which is_bf16_supported() counts as support
        multiplies_bfloat16 = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if multiplies_bfloat16 else torch.float16
    if device.type == "cpu" and has_bfloat16():
        return torch.bfloat16
    return torch.float32


def training_dtype(device: torch.device) -> torch.dtype:
    """Return the fastest precision to train in: not float16, where small gradients become zero."""
    fastest = fast_dtype(device)
    return torch.float32 if fastest == torch.float16 else fastest


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def exact(tensor: Tensor) -> Tensor:
    """Return a tensor in double precision: on the processor where its device (Apple's) has none."""
    tensor = tensor.cpu() if tensor.device.type == "mps" else tensor
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)

"""Which runtime a model is run by: the one that is fastest where it is to run."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from ctypes.util import find_library
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitter.errors import CommandError, ModelError, reason
from splitter.graphs import GraphError
from splitter.memory import reuse_freed_memory
from splitter.processors import count_processors, has_bfloat16
from splitter.registry import ModelChoice

if TYPE_CHECKING:
    from splitter.runtime.compiled import Compiled

log = logging.getLogger(__name__)

RUNTIMES = ("auto", "torch", "openvino")
MOST_LANES = 8  # songs at a time; each takes memory
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, and either's in WSL


def compile_if_best(
    choice: ModelChoice,
    devices: Sequence[str],
    runtime: str = "auto",
    many: bool = False,  # songs at a time, which share the processor
    low_latency: bool = False,  # whether the first sound is waited for
    exact: bool = True,  # in float32, also where the processor is faster in bfloat16
    processors: int = 0,  # to compute on; 0: all that this process may use
) -> Compiled | None:
    """Return a model that is compiled for the processor; None where PyTorch is to run it.

    Raises CommandError where OpenVINO was asked for, and cannot.
    """
    if runtime == "torch" or (runtime == "auto" and not _is_for_processor(devices)):
        return None
    try:
        if not set(devices) <= {"auto", "cpu"}:
            raise GraphError(f"OpenVINO computes on the processor, not on {', '.join(devices)}")
        if find_spec("openvino") is None:
            raise GraphError("it is not installed here")
        from splitter.runtime.compiled import CHUNK, CHUNK_OF_PIPE, compile_model
        from splitter.runtime.openvino import Settings

        threads = processors or count_processors()
        lanes = min(threads, MOST_LANES) if many else 1
        settings = Settings(threads, lanes, bfloat16=not exact and has_bfloat16())
        return compile_model(choice, settings, CHUNK_OF_PIPE if low_latency else CHUNK, low_latency)
    # by the last, OpenVINO says that a part of it is missing, as in a program that was packed
    except (GraphError, ModelError, ImportError, RuntimeError) as error:
        said = reason(error)
        if runtime == "openvino":
            raise CommandError(
                f"--runtime openvino: this model cannot run on it ({said}); use --runtime auto"
            ) from error
        log.debug("PyTorch takes over from OpenVINO: %s", said)
        return None


def compile_for_program(
    choice: ModelChoice, devices: Sequence[str], runtime: str = "auto", **how: Any
) -> Compiled | None:
    """Do as `compile_if_best`, and have freed memory used again as suits what will run.

    This concerns the whole process, so only a program may call it, once, at its start.
    """
    compiled = compile_if_best(choice, devices, runtime, **how)
    if compiled:  # what compiling took is given back before
        compiled.when_ready(partial(reuse_freed_memory, large=False))
    else:
        reuse_freed_memory()
    return compiled


def describe_runtime(device: str) -> str:
    """Return what estimates on a device depend on, beside the model."""
    if device != "cpu" or find_spec("openvino") is None:
        return f"{device}, PyTorch {version('torch')}"
    return f"{device}, OpenVINO {version('openvino')} in {_name_products()}"


def _name_products() -> str:
    return "bfloat16" if has_bfloat16() else "float32"


def _is_for_processor(devices: Sequence[str]) -> bool:
    """Tell whether a processor is to compute; PyTorch is asked only if there may be a GPU."""
    if [*devices] != ["auto"] or not _may_have_gpu():
        return [*devices] in (["cpu"], ["auto"])
    from splitter.devices import pick_device

    return pick_device().type == "cpu"


def _may_have_gpu() -> bool:
    """Tell whether this machine shows any sign of a GPU that PyTorch may know."""
    system = platform.system()
    if system == "Darwin":
        return platform.machine() == "arm64"
    if system == "Windows":
        return find_library("nvcuda") is not None
    return any(Path(name).exists() for name in GPUS)

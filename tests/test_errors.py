"""Errors are told apart by what can be done about them."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch

from splitter import errors
from splitter.errors import (
    DeviceError,
    MissingExtra,
    SplitterError,
    is_shortage,
    reason,
    saying_shortage,
)

TOO_MANY = 1 << 47  # bytes: no process has so many addresses

SHORTAGES: dict[str, Callable[[], object]] = {
    "NumPy": lambda: np.empty(TOO_MANY, np.uint8),
    "PyTorch": lambda: torch.empty(TOO_MANY, dtype=torch.uint8),
    "Python": lambda: bytearray(TOO_MANY),
}


@pytest.mark.parametrize("library", SHORTAGES)
def test_a_shortage_of_memory_is_one_line_with_a_way_out(library: str) -> None:
    with (
        pytest.raises(DeviceError, match=r"^cpu: there is not enough memory; .*--device$"),
        saying_shortage("cpu", DeviceError),
    ):
        SHORTAGES[library]()


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("Allocation on device"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("Exception from src/inference/src/cpp/core.cpp:117:\nstd::bad_alloc\n\n"),
        RuntimeError("Exception from src/inference/src/cpp/core.cpp:117:\ncan't alloc\n\n"),
    ],
    ids=str,
)
def test_what_devices_say_of_a_shortage_is_understood(error: RuntimeError) -> None:
    assert is_shortage(error)


def test_a_reason_is_the_first_line_that_says_something() -> None:
    assert reason(RuntimeError("\n  \nit is so\nfor long")) == "it is so"


def test_openvino_says_why_and_not_where_in_its_code() -> None:
    ov = pytest.importorskip("openvino")
    with pytest.raises(RuntimeError) as raised:
        ov.Core().get_property("XPU", "FULL_DEVICE_NAME")
    assert reason(raised.value).startswith('Device with "XPU" name is not registered')
    with pytest.raises(RuntimeError) as raised:
        ov.Core().read_model("none.xml")
    assert reason(raised.value) and ".cpp:" not in reason(raised.value)


def test_all_other_errors_stay_what_they_are() -> None:
    for error in (RuntimeError("size mismatch"), ValueError("out of memory"), KeyboardInterrupt()):
        assert not is_shortage(error)
        with pytest.raises(type(error)) as raised, saying_shortage("song.wav"):
            raise error
        assert raised.value is error


def test_errors_say_the_same_in_another_process() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in kinds if issubclass(kind, SplitterError)]
    assert MissingExtra in kinds
    for kind in kinds:
        error = kind("something")
        assert str(pickle.loads(pickle.dumps(error))) == str(error)

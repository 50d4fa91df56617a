"""Errors are told apart by what can be done about them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from splitter.errors import DeviceError, is_shortage, saying_shortage

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
    "words",
    [
        "MPS backend out of memory (MPS allocated: 8.00 GB)",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_devices_that_have_no_class_for_it_are_understood(words: str) -> None:
    assert is_shortage(RuntimeError(words))


def test_all_other_errors_stay_what_they_are() -> None:
    for error in (RuntimeError("size mismatch"), ValueError("out of memory"), KeyboardInterrupt()):
        assert not is_shortage(error)
        with pytest.raises(type(error)) as raised, saying_shortage("song.wav"):
            raise error
        assert raised.value is error

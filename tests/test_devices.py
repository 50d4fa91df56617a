from __future__ import annotations

import pytest
import torch

from splitter.devices import fast_dtype, training_dtype

CAPABILITIES = {0: (7, 5), 1: (8, 0), 2: (9, 0)}  # of CUDA devices, by number


@pytest.mark.parametrize(
    ("number", "separating", "training"),
    [
        (0, torch.float16, torch.float32),
        (1, torch.bfloat16, torch.bfloat16),
        (2, torch.bfloat16, torch.bfloat16),
    ],
)
def test_bfloat16_is_for_gpus_that_multiply_it_and_float16_never_for_training(
    monkeypatch: pytest.MonkeyPatch, number: int, separating: torch.dtype, training: torch.dtype
) -> None:
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device: CAPABILITIES[device.index]
    )
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # it counts emulation
    device = torch.device("cuda", number)
    assert fast_dtype(device) == separating
    assert training_dtype(device) == training


def test_a_processor_trains_as_it_separates() -> None:
    device = torch.device("cpu")
    assert training_dtype(device) == fast_dtype(device)

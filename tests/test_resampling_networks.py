"""Rates that change inside of a network, beside SciPy's resampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly
from torch.utils._python_dispatch import TorchDispatchMode

from splitter.networks.resampling import change_rate
from tests.sounds import noise


@pytest.mark.parametrize(
    ("rate", "wanted"),
    [(44100, 48000), (32000, 44100), (44100, 22050), (22050, 44100), (44100, 16000), (3, 7)],
)
@pytest.mark.parametrize("samples", [1, 2, 7001])
def test_a_rate_changes_as_by_scipy(rate: int, wanted: int, samples: int) -> None:
    signal, common = noise(samples), math.gcd(rate, wanted)
    expected = resample_poly(signal, wanted // common, rate // common, axis=-1)
    resampler = change_rate(rate, wanted)
    made = resampler(torch.from_numpy(signal)[None])[0].numpy()
    np.testing.assert_allclose(made, expected, atol=2e-6)
    with torch.autocast("cpu", torch.bfloat16):  # which is for networks, not for sound
        half = resampler(torch.from_numpy(signal)[None])[0]
    assert half.dtype == torch.float32
    np.testing.assert_array_equal(half.numpy(), made)


def test_no_sample_is_made_in_vain() -> None:
    """At 160 times the rate, the least common one, a minute would take gigabytes."""
    made: list[int] = []

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            answer = func(*args, **(kwargs or {}))
            made.append(answer.numel() if isinstance(answer, torch.Tensor) else 0)
            return answer

    resampler = change_rate(44100, 48000)
    with Counting():
        resampler(torch.zeros(1, 1, 441000))
    assert max(made) < 500_000

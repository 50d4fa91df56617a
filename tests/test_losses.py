from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from splitter.spectral import Stft
from splitter.training.losses import LOSSES, Estimate, heard_bins
from tests import sounds


def estimate(mask: torch.Tensor, bandwidth: float, share: float = 1.0) -> Estimate:
    """Estimate a voice that is `share` of a noise."""
    stft = Stft(1024, 256)
    signal = torch.from_numpy(sounds.noise(16384, channels=2))[None]
    mixture = stft(signal)
    heard = heard_bins(torch.tensor([bandwidth]), stft.bins, 16000)
    return Estimate(mask, mixture, share * mixture, heard, stft)


MASK_SHAPE = (1, 2, 513, 64)


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_the_ideal_mask_is_zero_and_grows_with_the_error(name: str) -> None:
    losses = [
        float(LOSSES[name](estimate(torch.full(MASK_SHAPE, mask), 8000, share=0.5)))
        for mask in (0.5, 0.6, 0.8)
    ]
    assert losses[0] < 1e-5
    assert losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_is_learned_above_the_bandwidth(name: str) -> None:
    mask = torch.full(MASK_SHAPE, 0.5, requires_grad=True)
    LOSSES[name](estimate(mask, 4000.0, share=0.0)).backward()
    touched = mask.grad.abs().sum((0, 1, 3)) > 0
    assert touched.tolist() == [True] * 257 + [False] * 256  # up to 4000 Hz


def test_the_weighted_loss_looks_where_both_sources_are_loud() -> None:
    """The same error counts more in a bin that is half voice than in one that is all music."""

    def error(wrong: slice) -> float:
        truth = estimate(torch.zeros(MASK_SHAPE), 8000)
        share = torch.zeros(MASK_SHAPE)
        share[..., :256, :] = 0.5  # voice below, music above
        mask = share.clone()
        mask[..., wrong, :] += 0.1
        same_loudness = replace(truth, mixture=torch.ones_like(truth.mixture))
        judged = replace(same_loudness, mask=mask, vocals=share * same_loudness.mixture)
        return float(LOSSES["weighted"](judged))

    assert error(slice(0, 100)) > 2 * error(slice(300, 400))

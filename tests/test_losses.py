from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from splitter.spectral import Stft
from splitter.training.losses import CERTAINTY, LOSSES, Estimate, heard_bins
from tests import sounds


def estimate(mask: torch.Tensor, bandwidth: float, share: float = 1.0) -> Estimate:
    """Estimate a voice that is `share` of a noise."""
    stft = Stft(1024, 256)
    signal = torch.from_numpy(sounds.noise(16384, channels=2))[None]
    mixture = stft(signal)
    heard = heard_bins(torch.tensor([bandwidth]), stft.bins, 16000)
    return Estimate(mask * mixture, mixture, share * mixture, heard, stft)


def scale(song: Estimate, gain: float | torch.Tensor) -> Estimate:
    """Make all of a song louder or quieter."""
    parts = {name: gain * getattr(song, name) for name in ("guess", "mixture", "vocals")}
    return replace(song, **parts)


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
        judged = replace(
            same_loudness, guess=mask * same_loudness.mixture, vocals=share * same_loudness.mixture
        )
        return float(LOSSES["weighted"](judged))

    assert error(slice(0, 100)) > 2 * error(slice(300, 400))


def test_the_weighted_loss_does_not_look_where_both_sources_are_quiet() -> None:
    def error(wrong: slice) -> float:
        mixture = torch.ones(MASK_SHAPE, dtype=torch.complex64)
        mixture[..., ::2] = 0.01  # every other frame is quiet; all are half voice
        mask = torch.full(MASK_SHAPE, 0.5)
        mask[..., wrong] += 0.1
        truth = estimate(torch.zeros(MASK_SHAPE), 8000)
        judged = replace(truth, guess=mask * mixture, mixture=mixture, vocals=0.5 * mixture)
        return float(LOSSES["weighted"](judged))

    # 100 times quieter, and with a fifth of the weight
    assert error(slice(1, None, 2)) > 300 * error(slice(0, None, 2))


RATIOS = ("signal-to-noise", "octaves", "segments", "certain")


@pytest.mark.parametrize("name", RATIOS)
def test_to_losses_in_db_quiet_examples_matter_as_much_as_loud_ones(name: str) -> None:
    mask = torch.full(MASK_SHAPE, 0.7)
    loud = estimate(mask, 8000, share=0.5)
    quiet = scale(loud, 0.01)
    loss = LOSSES[name]
    assert float(loss(quiet)) == pytest.approx(float(loss(loud)), abs=1e-3)
    # an error of 0.2 of the mixture is −14 dB, 16 dB above the threshold
    nats = 0.5 * math.log(0.5 / 0.7) + 0.5 * math.log(0.5 / 0.3)
    expected = 10 * math.log10(1 + 0.04 / 1e-3) + (CERTAINTY * nats if name == "certain" else 0)
    assert float(loss(loud)) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("name", RATIOS)
def test_losses_in_db_are_the_mean_of_what_each_example_has(name: str) -> None:
    parts = [estimate(torch.full(MASK_SHAPE, mask), 8000, share=0.5) for mask in (0.6, 0.9)]
    joined = replace(
        parts[0],
        guess=torch.cat([part.guess for part in parts]),
        mixture=torch.cat([part.mixture for part in parts]),
        vocals=torch.cat([part.vocals for part in parts]),
        heard=torch.cat([part.heard for part in parts]),
    )
    loss = LOSSES[name]
    apart = [float(loss(part)) for part in parts]
    assert float(loss(joined)) == pytest.approx(sum(apart) / 2, abs=1e-3)


@pytest.mark.parametrize("name", RATIOS)
def test_silence_has_no_loss_in_db_and_no_gradient_that_is_no_number(name: str) -> None:
    mask = torch.full(MASK_SHAPE, 0.5, requires_grad=True)
    silent = estimate(mask, 8000)
    silent = scale(silent, 0)
    loss = LOSSES[name](silent)
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(mask.grad).all()


def test_to_octaves_a_quiet_treble_matters_as_much_as_a_loud_bass() -> None:
    treble = slice(256, None)  # of 513 bins: the uppermost octave
    quiet = estimate(torch.full(MASK_SHAPE, 0.5), 8000, share=0.5)
    weight = torch.ones(1, 1, 513, 1)
    weight[:, :, treble] = 0.01
    quiet = scale(quiet, weight)
    mask = torch.full(MASK_SHAPE, 0.5)
    mask[:, :, treble] = 0.7
    wrong = replace(quiet, guess=mask * quiet.mixture)
    # 16 dB above the threshold, in one octave of five, which is half of the loss
    assert float(LOSSES["octaves"](wrong)) == pytest.approx(16.1 / 5 / 2, abs=0.05)
    assert float(LOSSES["signal-to-noise"](wrong)) < 0.05


def test_to_segments_what_is_left_in_a_quiet_pause_matters_as_much_as_in_a_loud_verse() -> None:
    pause = slice(0, 8)  # of 64 frames: the first of eight segments
    song = estimate(torch.full(MASK_SHAPE, 0.5), 8000, share=0.5)
    weight = torch.ones(1, 1, 1, 64)
    weight[..., pause] = 0.4  # −8 dB, above the level up to which a segment counts as silent
    song = scale(song, weight)
    mask = torch.full(MASK_SHAPE, 0.5)
    mask[..., pause] = 0.7
    wrong = replace(song, guess=mask * song.mixture)
    whole = float(LOSSES["signal-to-noise"](wrong))
    # 16 dB above the threshold, in one segment of eight
    assert float(LOSSES["segments"](wrong)) == pytest.approx((whole + 16.1 / 8) / 2, abs=0.05)


def test_to_segments_a_pause_of_the_song_itself_does_not_matter() -> None:
    silence = slice(0, 8)
    song = estimate(torch.full(MASK_SHAPE, 0.5), 8000, share=0.5)
    weight = torch.ones(1, 1, 1, 64)
    weight[..., silence] = 0.001  # −60 dB
    song = scale(song, weight)
    mask = torch.full(MASK_SHAPE, 0.5)
    mask[..., silence] = 1.0
    assert float(LOSSES["segments"](replace(song, guess=mask * song.mixture))) < 0.01


def test_a_voice_that_is_surely_missed_is_learned_from() -> None:
    """The logit of a mask near 0 where only a voice sounds: an error in dB hardly moves it."""

    def slope(name: str, share: float, logit: float) -> float:
        logits = torch.full(MASK_SHAPE, logit, requires_grad=True)
        LOSSES[name](estimate(torch.sigmoid(logits), 8000, share)).backward()
        return float(logits.grad.sum())

    assert -0.15 < slope("segments", 1.0, -4.5) < 0
    assert slope("certain", 1.0, -4.5) < -2
    assert 0 < slope("segments", 0.0, 4.5) < 0.15
    assert slope("certain", 0.0, 4.5) > 2

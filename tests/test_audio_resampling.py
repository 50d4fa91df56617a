"""Another sample rate is the same sound at the same time."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from splitter.audio import resample, resample_signal, resampled_length
from tests.codecs import chirps

RATES = [
    (44100, 48000),
    (48000, 44100),
    (8000, 44100),
    (44100, 8000),
    (96000, 44100),
    (44100, 384000),
    (384000, 44100),
    (11025, 44100),
    (44056, 44100),
]


@pytest.mark.parametrize(("source", "target"), RATES)
def test_a_tone_keeps_its_phase(source: int, target: int) -> None:
    frequency = min(source, target) * 0.1
    tone = np.sin(2 * np.pi * frequency * np.arange(20_000) / source)[None].astype(np.float32)
    blocks = [tone[:, start : start + 1000] for start in range(0, 20_000, 1000)]
    resampled = np.concatenate(list(resample(blocks, source, target, 1)), axis=1)[0]
    expected = np.sin(2 * np.pi * frequency * np.arange(len(resampled)) / target)
    middle = slice(len(resampled) // 4, 3 * len(resampled) // 4)
    # one sample of delay would be 0.6; soxr's HQ has a noise floor of −120 dB
    assert np.abs(resampled - expected)[middle].max() < 1e-5


def test_an_impulse_stays_in_its_place() -> None:
    impulse = np.zeros((1, 9600), np.float32)
    impulse[0, 4800] = 1
    resampled = np.concatenate(list(resample([impulse], 48000, 96000, 1)), axis=1)[0]
    assert int(np.argmax(np.abs(resampled))) == 9600
    around = resampled[9000:10201]
    assert np.abs(around - around[::-1]).max() < 1e-5  # linear phase


def test_scipy_agrees() -> None:
    song = chirps(44100)
    ours = np.concatenate(list(resample([song], 44100, 22050, 2)), axis=1)
    theirs = scipy.signal.resample_poly(song, 1, 2, axis=1)
    # two different filters: they agree where both pass everything
    assert np.abs(ours - theirs)[:, 500:-500].max() < 2e-3


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("samples", [0, 1, 2, 7, 1000, 4409, 44100])
def test_the_length_is_exact_whatever_the_blocks(source: int, target: int, samples: int) -> None:
    signal = chirps(samples)
    whole = resample_signal(signal, source, target) if samples else signal
    for size in (1 + samples // 7, 1 + samples):
        blocks = (signal[:, start : start + size] for start in range(0, samples, size))
        pieces = [np.zeros((2, 0), np.float32), *resample(blocks, source, target, 2)]
        resampled = np.concatenate(pieces, axis=1)
        assert resampled.shape == (2, resampled_length(samples, source, target))
        if samples:
            assert np.abs(resampled - whole).max(initial=0) < 1e-5


def test_equal_rates_pass_the_blocks_through() -> None:
    blocks = [chirps(10), chirps(20)]
    passed = list(resample(blocks, 44100, 44100, 2))
    assert [id(block) for block in passed] == [id(block) for block in blocks]
    assert resample_signal(blocks[0], 8000, 8000) is blocks[0]


@pytest.mark.parametrize("quality", ["QQ", "LQ", "MQ", "HQ", "VHQ"])
def test_every_quality_has_the_length(quality: str) -> None:
    assert resample_signal(chirps(4410), 44100, 48000, quality).shape == (2, 4800)

"""Sound for tests, made, not stored: a little song with a voice in it.

Run as a program it writes a song to try splitter on: python -m tests.sounds SONG.wav
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from splitter.audio import Block
from splitter.loading import save_model
from splitter.networks import MaskUNet
from splitter.registry import Config

SMALL_SIZES = {
    "window": 256,
    "hop": 64,
    "bands": [[32, 1], [16, 2], [16, 4]],
    "width": 4,
    "levels": 3,
    "dropout": 0.0,
}


def noise(samples: int, channels: int = 2, seed: int = 0) -> Block:
    """White noise at −20 dBFS."""
    random = np.random.default_rng(seed)
    return np.float32(0.1) * random.standard_normal((channels, samples), dtype=np.float32)


def voice(seconds: float, rate: int = 44100) -> Block:
    """A sung vowel: harmonics of a gliding tone with vibrato, shaped by two formants; stereo."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = 220 * 2 ** (np.floor(time) % 5 / 12) * (1 + 0.01 * np.sin(2 * np.pi * 5.5 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    sung: npt.NDArray[np.float64] = sum(
        _formants(220.0 * k) * np.sin(k * phase) for k in range(1, 30)
    )  # type: ignore[assignment]
    phrases = np.clip(np.sin(2 * np.pi * time / 4) * 4, 0, 1)  # two seconds sung, two silent
    return np.tile(np.float32(0.2 * sung * phrases), (2, 1))


def _formants(frequency: float) -> float:
    return float(sum(np.exp(-(((frequency - f) / 250) ** 2)) for f in (700.0, 1200.0, 2600.0)))


def music(seconds: float, rate: int = 44100) -> Block:
    """Chords of decaying strings left and right, a bass, and noise as a drum; stereo."""
    random = np.random.default_rng(1)
    samples = round(seconds * rate)
    time = np.arange(samples) / rate
    since = time % 0.5  # a beat
    left, right = (
        sum(np.sin(2 * np.pi * f * time) * np.exp(-4 * since) for f in chord)
        for chord in ((130.8, 164.8, 329.6), (130.8, 196.0, 392.0))
    )
    drum = random.standard_normal(samples) * np.exp(-30 * since)
    return np.float32(0.1) * np.stack([left + drum, right + drum]).astype(np.float32)


def song(seconds: float = 12.0, rate: int = 44100) -> Block:
    """A voice over music, (2, samples), peaks at −6 dBFS."""
    mix = voice(seconds, rate) + music(seconds, rate)
    return np.asarray(0.5 * mix / np.abs(mix).max(), np.float32)


def write(path: Path, signal: Block, rate: int = 44100, subtype: str | None = None) -> Path:
    """Write (channels, samples) as whatever the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal.T, rate, subtype=subtype)
    return path


def read(path: Path) -> Block:
    """Read a file as (channels, samples)."""
    return np.asarray(soundfile.read(path, dtype="float32", always_2d=True)[0].T)


def write_small_model(folder: Path, sizes: dict[str, object] = SMALL_SIZES, seed: int = 0) -> Path:
    """Write a model of a few thousand weights, random, but its deepest level is heard."""
    import torch

    torch.manual_seed(seed)
    network = MaskUNet(**sizes).build(channels=2, stems=1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.05, 0.2)  # type: ignore[union-attr]
    save_model(folder, Config("mask-unet", sizes), network)
    return folder


if __name__ == "__main__":
    write(Path(sys.argv[1]), song())

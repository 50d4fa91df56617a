"""What other programs' references are made from: numpy alone, since their environments have it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

REFERENCES = Path(__file__).parent / "references"
RATE = 44100
SECONDS = 20
HEARD = 10240  # samples that networks get alone; hops of 512 divide it
STRIDE = 211  # of a whole song every so many samples are kept


def reference_song(seconds: float = SECONDS, channels: int = 2) -> np.ndarray:
    """Chords that change, a gliding tone and noise, (channels, samples), peaks at −6 dBFS."""
    random = np.random.default_rng(0)
    time = np.arange(round(seconds * RATE)) / RATE
    chord = np.floor(time / 0.7) % 5
    sides = []
    for side in range(channels):
        base = 2 * np.pi * (110 + 20 * side) * (1 + chord / 12) * time
        tones = [np.sin(k * base) / k for k in (1, 2, 3, 5)]
        glide = np.sin(2 * np.pi * 300 * (time + np.sin(2 * np.pi * 0.3 * time)))
        hiss = random.standard_normal(len(time)) * np.exp(-8 * (time % 0.5))
        sides.append(sum(tones) + glide * (side + 0.5) + 0.5 * hiss)
    song = np.stack(sides)
    return (0.5 * song / np.abs(song).max()).astype(np.float32)


def checkpoint_files(name: str) -> list[Path]:
    """Return the files of a reference that are given to `models add`."""
    suffixes = {".ckpt", ".th", ".pth", ".onnx", ".safetensors", ".index"}
    return sorted(path for path in (REFERENCES / name).iterdir() if path.suffix in suffixes)


def bag_of(name: str) -> Path | None:
    """Return the yaml of a reference that is a bag of several networks."""
    path = REFERENCES / name / "bag.yaml"
    return path if path.is_file() else None

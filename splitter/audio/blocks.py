"""What a block of sound is, and the float-to-integer step that keeps it exact.

A sample of 16 or 24 bits, read as float32, is `integer / 2**(bits - 1)`, and float32 holds that
exactly. `to_integers` is the way back, so what is read is written again bit for bit.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Block: TypeAlias = npt.NDArray[np.float32]  # (channels, samples), full scale is ±1


def full_scale(bits: int) -> int:
    """Give the integer that stands for 1.0 in samples of `bits` bits."""
    return 1 << (bits - 1)


def find_peak(block: Block) -> float:
    """Return the largest magnitude; no number (NaN) if there is one that is none."""
    return float(np.maximum(block.max(), -block.min()))


def to_integers(
    block: Block, bits: int, kind: type[np.signedinteger[Any]] = np.int32
) -> npt.NDArray[np.signedinteger[Any]]:
    """Round to the nearest integer of `bits` ≤ 24 bits; what lies beyond full scale is clamped."""
    scale = full_scale(bits)
    scaled = block * np.float32(scale)  # a power of two: no rounding here
    np.rint(scaled, out=scaled)
    np.clip(scaled, -scale, scale - 1, out=scaled)
    return np.asarray(scaled, kind)


class Dither:
    """TPDF noise of ±1 step, which turns the error of rounding into steady, unrelated noise.

    The noise of one sign is the other's negated, so that two stems still sum to their song.
    """

    def __init__(self, bits: int, sign: int) -> None:
        self._step = sign / full_scale(bits)
        self._generator = np.random.default_rng(0)  # the same file each time

    def add(self, block: Block) -> Block:
        """Add noise to a block."""
        channels, samples = block.shape
        noise = self._generator.random((samples, channels, 2), np.float32)
        triangular = (noise[..., 0] - noise[..., 1]).T  # (samples, channels) -> (channels, samples)
        return np.asarray(block + self._step * triangular, np.float32)

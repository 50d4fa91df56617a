"""What two channels of a spectrogram have to do with each other, in NumPy or in PyTorch."""

from __future__ import annotations

from typing import Any, TypeAlias

from array_api_compat import array_namespace

Spectrum: TypeAlias = Any  # complex, an array or a tensor
Real: TypeAlias = Any  # of the same kind and shape
FLOOR = 1e-6  # |X|, about −150 dBFS: weaker is silence
ALIGNED = 4.0  # times cos φ: channels up to 75° apart have the same phase as a whole


def measure_width(left: Spectrum, right: Spectrum) -> Real:
    """Return √(|L| |R|) · |sin φ|, φ the phase between two channels, for each place of a spectrum.

    0 is what both channels have in phase or upside down, wherever its level places it.
    """
    xp = array_namespace(left)
    crossed = left.imag * right.real - left.real * right.imag  # |L| |R| · sin φ
    return xp.abs(crossed) / xp.sqrt(_multiply_magnitudes(left, right))


def align(left: Spectrum, right: Spectrum) -> Real:
    """Return by what one channel is multiplied to be added to the other, for each place: −1…1.

    What is upside down in it is turned over, and what is 90° apart is left out.
    """
    xp = array_namespace(left)
    product = left.real * right.real + left.imag * right.imag  # |L| |R| · cos φ
    return xp.clip(ALIGNED * product / _multiply_magnitudes(left, right), -1.0, 1.0)


def _multiply_magnitudes(left: Spectrum, right: Spectrum) -> Real:
    xp = array_namespace(left)
    return xp.clip(xp.abs(left) * xp.abs(right), FLOOR**2, None)

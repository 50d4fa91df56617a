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
    product, magnitude = _multiply(left, right)
    xp = array_namespace(product)
    return xp.abs(product.imag) / xp.sqrt(magnitude)


def align(left: Spectrum, right: Spectrum) -> Real:
    """Return by what one channel is multiplied to be added to the other, for each place: −1…1.

    What is upside down in it is turned over, and what is 90° apart is left out.
    """
    product, magnitude = _multiply(left, right)
    return array_namespace(product).clip(ALIGNED * product.real / magnitude, -1.0, 1.0)


def _multiply(left: Spectrum, right: Spectrum) -> tuple[Spectrum, Real]:
    """Return L · R*, whose phase is that between both, and its magnitude, but never 0."""
    product = left * right.conj()
    xp = array_namespace(product)
    return product, xp.clip(xp.abs(product), FLOOR**2, None)

"""Score estimated stems against their references, as the field does.

Five families, which do not replace each other:

- `window_sdr`: signal-to-distortion ratio per window, as BSSEval v4 (museval) counts it;
- `bss_eval_images`: ISR, SIR and SAR of BSSEval v4, by museval itself;
- `usdr`: one ratio for the whole song, as the Music Demixing challenge of 2021 defined it;
- `si_sdr`: the same, but blind to the level of the estimate;
- `SourceProjection`: SDR, SIR and SAR of BSSEval v3, which forgive any filter of 512 taps.

All ratios are in dB; all sums are made in float64. A ratio that does not exist (a silent reference)
is NaN; an estimate without any error scores infinity.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import LinAlgError, cholesky, solve_triangular, toeplitz

from splitter.errors import MissingExtra

Signal = NDArray[np.floating[Any]]
Scores = NDArray[np.float64]

# added to both energies, so that silence against silence is 0 dB (Mitsufuji et al., 2022, eq. 1)
USDR_EPSILON = 1e-7
TAPS = 512  # samples: length of the filters that BSSEval forgives
# of the largest power on the diagonal: makes the equations of dependent references solvable
RIDGE = 1e-11


class SourceRatios(NamedTuple):
    """What BSSEval v3 says of one stem, in dB."""

    sdr: float
    sir: float
    sar: float


def window_sdr(references: Signal, estimates: Signal, window: int) -> Scores:
    """Score each window: `(stems, channels, samples)` -> `(stems, windows)`.

    The windows are museval's: they touch, a last one that is not full is left out, and a song
    shorter than one window is one window. Where any reference or any estimate is silent the window
    is NaN for all stems; silent means, as in museval, that the channels add up to zero.
    """
    spans = list(_windows(references.shape[-1], window))
    if not spans:
        return np.empty((len(references), 0))
    return np.stack([_span_sdr(references[..., s], estimates[..., s]) for s in spans], axis=-1)


def bss_eval_images(references: Signal, estimates: Signal, window: int) -> dict[str, Scores]:
    """Let museval give SDR, ISR, SIR and SAR, each `(stems, windows)`.

    Where a whole reference or estimate is silent museval gives up; here all windows are NaN then.
    """
    museval = import_museval()
    names = ("SDR", "ISR", "SIR", "SAR")
    if _any_silent(references) or _any_silent(estimates):
        nothing = np.full(
            (len(references), len(list(_windows(references.shape[-1], window)))), math.nan
        )
        return dict.fromkeys(names, nothing)
    time_first = [np.moveaxis(np.asarray(x, np.float64), -1, 1) for x in (references, estimates)]
    scores = museval.bss_eval(*time_first, window=window, hop=window, filters_len=TAPS)
    return dict(zip(names, scores[:4], strict=True))


def usdr(reference: Signal, estimate: Signal) -> float:
    """Give the signal-to-distortion ratio of a whole song (Music Demixing challenge, 2021)."""
    error = np.subtract(reference, estimate, dtype=np.float64)
    return _decibels(_energy(reference) + USDR_EPSILON, _energy(error) + USDR_EPSILON)


def si_sdr(reference: Signal, estimate: Signal) -> float:
    """Give the ratio that is left when the estimate's level is free (Le Roux et al., 2019, eq. 5).

    The channels are taken as one long signal; no mean is removed.
    """
    target = np.asarray(reference, np.float64).ravel()
    heard = np.asarray(estimate, np.float64).ravel()
    if not target.any() or not heard.any():
        return math.nan
    target = target * (target @ heard / (target @ target))
    return _decibels(_energy(target), _energy(target - heard))


class SourceProjection:
    """Score many estimates against the same references as BSSEval v3 does (`bss_eval_sources`).

    An estimate is projected on the span of a reference and its 511 delayed copies: that part counts
    as the target. What all references together explain beyond it is interference, the rest are
    artifacts (Vincent, Gribonval and Févotte, 2006). The parts are orthogonal, so only their
    energies are needed and nothing is ever filtered: with the target's copies first in the Gram
    matrix G = L·Lᵀ, and the estimate's correlations D, the entries of L⁻¹·D are the coordinates of
    the projection in an orthonormal basis, of which the first 512 belong to the target.
    """

    def __init__(self, references: Signal) -> None:  # (stems, samples)
        self.samples = references.shape[-1]
        self._length = next_fast_len(self.samples + TAPS - 1, real=True)
        self._spectra = np.conj(rfft(np.asarray(references, np.float64), self._length))
        self._orders = [_move_first(stem, len(references)) for stem in range(len(references))]
        self._scored = self.samples > 0 and bool(references.any(axis=-1).all())
        gram = self._correlate_references() if self._scored else None
        self._factors = [_factor(gram, order) for order in self._orders] if gram is not None else []

    def score(self, estimates: Iterable[Signal]) -> list[SourceRatios]:
        """Score one estimate a reference, in the same order: `(samples,)` each.

        All are NaN where any reference is silent; so are those of a silent estimate.
        """
        if not self._scored:
            return [SourceRatios(math.nan, math.nan, math.nan)] * len(self._orders)
        return [self._score_stem(stem, estimate) for stem, estimate in enumerate(estimates)]

    def _score_stem(self, stem: int, estimate: Signal) -> SourceRatios:
        total = _energy(estimate)
        order = self._orders[stem]
        correlations = self._correlate(estimate)[order].ravel()  # (stems * taps,)
        coordinates = solve_triangular(self._factors[stem], correlations, lower=True)
        target = _energy(coordinates[:TAPS])
        interference = _energy(coordinates[TAPS:])
        artifacts = max(total - target - interference, 0.0)
        return SourceRatios(
            sdr=_decibels(target, interference + artifacts),
            sir=_decibels(target, interference),
            sar=_decibels(target + interference, artifacts),
        )

    def _correlate(self, signal: Signal) -> Scores:
        """Correlate the references, delayed by 0 to `TAPS - 1`, with a signal: `(stems, TAPS)`."""
        spectrum = rfft(np.asarray(signal, np.float64), self._length)
        products: Scores = irfft(self._spectra * spectrum, self._length)[:, :TAPS]
        return products

    def _correlate_references(self) -> Scores:
        """Correlate all delayed references with each other: `(stems, stems, taps, taps)`."""
        pairs = self._spectra[:, None] * np.conj(self._spectra[None])
        lags = irfft(pairs, self._length)  # (stems, stems, samples)
        back = -np.arange(TAPS)
        return np.array(
            [[toeplitz(lag[:TAPS], lag[back]) for lag in row] for row in lags],
        )


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """Average values by weight, as GNSDR, GSIR and GSAR average clips by their length."""
    with np.errstate(invalid="ignore"):  # of ∞ and −∞ there is no mean
        return float(np.average(values, weights=weights)) if len(values) else math.nan


def median_window(scores: Scores) -> float:
    """Give the median of the windows that have a score, NaN where none has one."""
    scored = scores[~np.isnan(scores)]
    return float(np.median(scored)) if scored.size else math.nan


def _windows(samples: int, window: int) -> Iterator[slice]:
    count = max(samples // window, min(samples, 1))
    return (slice(n * window, (n + 1) * window) for n in range(count))


def _span_sdr(references: Signal, estimates: Signal) -> list[float]:
    if _any_silent(references) or _any_silent(estimates):
        return [math.nan] * len(references)
    errors = np.subtract(references, estimates, dtype=np.float64)
    return [_decibels(_energy(r), _energy(e)) for r, e in zip(references, errors, strict=True)]


def _any_silent(signals: Signal) -> bool:
    """Say whether the channels of any signal cancel, which is museval's silence."""
    return bool((signals.sum(axis=-2) == 0).all(axis=-1).any())


def _energy(signal: Signal) -> float:
    flat = np.asarray(signal, np.float64).ravel()
    return float(flat @ flat)


def _decibels(wanted: float, unwanted: float) -> float:
    if unwanted == 0:
        return math.inf if wanted else math.nan
    return 10 * math.log10(wanted / unwanted) if wanted else -math.inf


def _move_first(stem: int, stems: int) -> list[int]:
    return [stem, *(other for other in range(stems) if other != stem)]


def _factor(blocks: Scores, order: list[int]) -> Scores:
    """Give L of L·Lᵀ, the Gram matrix `(stems, stems, taps, taps)` with stems in this order."""
    ordered = blocks[np.ix_(order, order)]
    size = ordered.shape[0] * ordered.shape[2]
    gram = ordered.swapaxes(1, 2).reshape(size, size)  # stems and their taps merged
    try:
        factor: Scores = cholesky(gram, lower=True)
    except LinAlgError:
        # references that explain each other, or a band without any power
        ridge = RIDGE * gram.diagonal().max()
        factor = cholesky(gram + ridge * np.eye(size), lower=True)
    return factor


def import_museval() -> ModuleType:
    """Import `museval.metrics` alone: the package insists on ffmpeg, which scoring needs not.

    Raises MissingExtra where museval is not installed.
    """
    package = importlib.util.find_spec("museval")
    if package is None or package.origin is None:
        raise MissingExtra("evaluate")
    path = Path(package.origin).with_name("metrics.py")
    spec = importlib.util.spec_from_file_location("museval.metrics", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""How wrong an estimate is; a recipe names one of `LOSSES`.

All of them look only where there is something to learn: below the bandwidth that each example has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from splitter.spectral import Stft

TINY = 1e-12
WINDOWS = (512, 1024, 2048, 4096)  # samples, of the multi-resolution loss
LEAST_ERROR = 1e-3  # of the mixture's energy, −30 dB: below it `signal_to_noise` is content
SILENCE = 1e-6  # of the mean energy of a batch's mixtures, −60 dB
OCTAVES = 5  # from the top of the spectrum down; the lowest has what is left
SEGMENTS = 8  # of an example; of a recipe's default crop 0.7 s each
SHORT_SEGMENTS = 16  # of an example; of 11 s, 0.7 s each
LEAST_SEGMENT = 0.1  # of the mean energy of an example's segments: quieter ones count as this loud
CERTAINTY = 3.0  # dB that a nat counts
UNSURE = 1e-4  # a mask nearer than this to 0 or 1 is not pushed
SHARED_WEIGHT = 4.0  # how much more a bin weighs where voice and music each make half of the usual


@dataclass(frozen=True)
class Estimate:
    """An estimate and the truth; spectrograms are complex, (batch, channels, bins, frames)."""

    guess: Tensor  # of the vocals
    mixture: Tensor
    vocals: Tensor
    heard: Tensor  # (batch, 1, bins, 1): 1 up to the example's bandwidth, 0 above
    stft: Stft

    @property
    def error(self) -> Tensor:
        """Return Ṽ − V where it counts."""
        return (self.guess - self.vocals) * self.heard

    def mean(self, values: Tensor) -> Tensor:
        """Average (batch, channels, bins, frames) over the bins that count."""
        batch, channels, _, frames = values.shape
        bins = self.heard.expand(batch, channels, -1, frames).sum()
        return (values * self.heard).sum() / bins.clamp_min(1)


def magnitude(estimate: Estimate) -> Tensor:
    """Return the mean of ||Ṽ| − |V||, the loss of Jansson et al. 2017."""
    wrong = estimate.guess.abs() - estimate.vocals.abs()
    return estimate.mean(wrong.abs())


def phase_sensitive(estimate: Estimate) -> Tensor:
    """Return the mean of ||Ṽ| − Re(V·X*)/|X||.

    Of a voice a real mask reaches only the part in phase with the mixture (Erdogan et al. 2015), so
    it should stay low where the mixture's phase is wrong for the voice.
    """
    wrong = estimate.guess.abs() - _in_phase(estimate)
    return estimate.mean(wrong.abs())


def both(estimate: Estimate) -> Tensor:
    """Return the sum of the magnitude's and the phase-sensitive loss."""
    return magnitude(estimate) + phase_sensitive(estimate)


def weighted(estimate: Estimate) -> Tensor:
    """Return `both` with more weight where voice and music meet.

    Ronneberger et al. 2015 weigh the borders between touching cells (eq. 2); the borders of a song
    are the bins where both sources are loud for their frequency.
    """
    voice = estimate.vocals.abs()
    music = (estimate.mixture - estimate.vocals).abs()
    usual = estimate.mixture.abs().mean(-1, keepdim=True).clamp_min(TINY)
    shared = (2 * torch.minimum(voice, music) / usual).clamp_max(1)
    weight = 1 + SHARED_WEIGHT * shared
    masked = estimate.guess.abs()
    wrong = (masked - voice).abs() + (masked - _in_phase(estimate)).abs()
    return estimate.mean(weight * wrong) / estimate.mean(weight)


def complex_spectrum(estimate: Estimate) -> Tensor:
    """Return the mean of |Ṽ − V| over the complex plane."""
    squares = torch.view_as_real(estimate.error).square().sum(-1)
    return estimate.mean((squares + TINY).sqrt())


def waveform(estimate: Estimate) -> Tensor:
    """Return the mean absolute error of the signal, after the inverse STFT."""
    error: Tensor = _signal(estimate, estimate.error).abs().mean() * estimate.stft.size**0.5
    return error


def multi_resolution(estimate: Estimate) -> Tensor:
    """Return the mean error of magnitudes under windows of other sizes, plus `waveform`.

    After Yamamoto et al. 2020, without the logarithmic term: silence is no part of a voice's sound.
    """
    truth = _signal(estimate, estimate.vocals * estimate.heard)
    guess = _signal(estimate, estimate.guess * estimate.heard)
    errors = [
        (first - second).abs().mean()
        for first, second in zip(_magnitudes(guess), _magnitudes(truth), strict=True)
    ]
    error: Tensor = torch.stack(errors).mean() + waveform(estimate)
    return error


def signal_to_noise(estimate: Estimate) -> Tensor:
    """Return how far the signal's error is above −30 dB of the mixture: dB, the mean of examples.

    10·log10(1 + ‖e‖² / (τ‖x‖²)), the thresholded loss of Wisdom et al. 2020. Loud and quiet, hard
    and easy examples weigh the same, as songs do in a mean SDR, also those without a voice.
    """
    error = _signal(estimate, estimate.error).square().sum((1, 2))
    mixture = _signal(estimate, estimate.mixture * estimate.heard).square().sum((1, 2))
    return _exceed(error, mixture).mean()


def octaves(estimate: Estimate) -> Tensor:
    """Return the mean of `signal_to_noise` and of the same in each octave: dB.

    Most of a song's energy lies below 1 kHz. Where that alone counts, the treble of voices is soon
    given away, which a score does not tell and an ear does. An octave's energies are those of its
    bins; one that is not heard has no error.
    """
    error = _sum_octaves(_energies(estimate.error))
    mixture = _sum_octaves(_energies(estimate.mixture * estimate.heard))
    return (signal_to_noise(estimate) + _exceed(error, mixture).mean()) / 2


def segments(estimate: Estimate) -> Tensor:
    """Return the mean of `signal_to_noise` and of the same in each octave of each segment: dB.

    In a whole example music left in the vocals' pauses is hidden by the error under the voice. In a
    segmental signal-to-noise ratio a segment without a voice counts as much as one with.
    """
    error = _sum_segments(_power(estimate.error), SEGMENTS)
    mixture = _sum_segments(_power(estimate.mixture * estimate.heard), SEGMENTS)
    mixture = torch.maximum(mixture, LEAST_SEGMENT * mixture.mean(2, keepdim=True))
    return (signal_to_noise(estimate) + _exceed(error, mixture).mean()) / 2


def certain(estimate: Estimate) -> Tensor:
    """Return finer `segments`, and the divergence of the mask from the best real one.

    Where a mask is surely wrong, nearly 0 in a voice or nearly 1 in music, its logit hardly moves
    an error in dB; down to `UNSURE` it moves this divergence (Kullback and Leibler's) as much
    as anywhere. Bins weigh by their energy within the octave and the segment.
    """
    wrong, heard = estimate.error, estimate.mixture * estimate.heard
    error = _sum_segments(_power(wrong), SHORT_SEGMENTS)
    mixture = _sum_segments(_power(heard), SHORT_SEGMENTS)
    least = LEAST_SEGMENT * mixture.mean(2, keepdim=True)
    fine = _exceed(error, torch.maximum(mixture, least)).mean()
    broad = _exceed(error.sum(1), torch.maximum(mixture.sum(1), least.sum(1))).mean()
    doubt = _sum_segments(_diverge(estimate), SHORT_SEGMENTS)
    doubt = (doubt / torch.maximum(mixture, least).clamp_min(TINY)).mean()
    return fine / 2 + broad / 4 + signal_to_noise(estimate) / 4 + CERTAINTY * doubt


def _diverge(estimate: Estimate) -> Tensor:
    """Return how far each bin's mask is from the best real one in nats, times the bin's energy."""
    power = _power(estimate.mixture)
    mask = (estimate.guess.abs() / power.sqrt().clamp_min(TINY)).clamp(UNSURE, 1 - UNSURE)
    best = (_in_phase(estimate) / power.sqrt().clamp_min(TINY)).clamp(0, 1)
    least = torch.special.entr(best) + torch.special.entr(1 - best)
    nats = -(best * mask.log() + (1 - best) * (1 - mask).log()) - least
    energies: Tensor = nats * power * estimate.heard
    return energies


def _exceed(error: Tensor, mixture: Tensor) -> Tensor:
    """Say how far energies of errors are above −30 dB of the mixture's: dB, 0 for none.

    An example that is silent is judged as if it were 60 dB below the others of its batch.
    """
    mixture = mixture.clamp_min(SILENCE * mixture.mean(0, keepdim=True))
    unheard = error / (LEAST_ERROR * mixture).clamp_min(TINY)
    return 10 / math.log(10) * unheard.log1p()


def _energies(spectrogram: Tensor) -> Tensor:
    """Sum (batch, channels, bins, frames) up to the energy of each bin, (batch, bins)."""
    return _power(spectrogram).sum((1, 3))


def _power(spectrogram: Tensor) -> Tensor:
    """Return the squared magnitude of each place of a complex spectrogram."""
    return torch.view_as_real(spectrogram).square().sum(-1)


def _sum_octaves(energies: Tensor) -> Tensor:
    """Sum (batch, bins) up to (batch, octaves), from high to low."""
    edges = [energies.shape[1] >> octave for octave in range(OCTAVES)] + [0]
    parts = [energies[:, low:high].sum(1) for high, low in pairwise(edges)]
    return torch.stack(parts, 1)


def _sum_segments(values: Tensor, count: int) -> Tensor:
    """Sum (batch, channels, bins, frames) up to (batch, octaves, segments)."""
    parts = values.tensor_split(count, -1)
    return torch.stack([_sum_octaves(part.sum((1, 3))) for part in parts], 2)


LOSSES: dict[str, Callable[[Estimate], Tensor]] = {
    "magnitude": magnitude,
    "phase-sensitive": phase_sensitive,
    "both": both,
    "weighted": weighted,
    "complex": complex_spectrum,
    "waveform": waveform,
    "multi-resolution": multi_resolution,
    "signal-to-noise": signal_to_noise,
    "octaves": octaves,
    "segments": segments,
    "certain": certain,
}


def heard_bins(bandwidths: Tensor, bins: int, rate: int) -> Tensor:
    """Return (batch, 1, bins, 1): 1 up to each bandwidth in Hz, 0 above."""
    frequencies = torch.linspace(0, rate / 2, bins, device=bandwidths.device)
    return (frequencies <= bandwidths[:, None]).float()[:, None, :, None]


@torch.no_grad()
def _in_phase(estimate: Estimate) -> Tensor:
    """Return Re(V·X*)/|X|: of the voice, what has the phase of the mixture."""
    product = torch.view_as_real(estimate.vocals) * torch.view_as_real(estimate.mixture)
    return product.sum(-1) / estimate.mixture.abs().clamp_min(TINY)


def _signal(estimate: Estimate, spectrogram: Tensor) -> Tensor:
    samples = spectrogram.shape[-1] * estimate.stft.hop
    signal: Tensor = estimate.stft.inverse(spectrogram, samples)
    return signal


def _magnitudes(signal: Tensor) -> Iterator[Tensor]:
    for size in WINDOWS:
        window = torch.hann_window(size, device=signal.device)
        spectrum = torch.stft(
            signal.flatten(0, 1), size, size // 4, window=window, return_complex=True
        )
        yield (torch.view_as_real(spectrum).square().sum(-1) + TINY).sqrt()

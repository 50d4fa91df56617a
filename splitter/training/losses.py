"""How wrong a mask is: against the voice's magnitude, and against the part of it in phase."""

from __future__ import annotations

import torch
from torch import Tensor


def mask_loss(mask: Tensor, mixture: Tensor, vocals: Tensor, heard: Tensor) -> Tensor:
    """Return |M·|X| − |V|| plus |M·|X| − Re(V·X*)/|X||, averaged over the bins that are heard.

    The first term is the loss of Jansson et al. 2017. The second is the complex error of a real
    mask: of V only the part in phase with X can be reached (the phase-sensitive approximation of
    Erdogan et al. 2015), so the mask should stay low where the mixture's phase is wrong for the
    voice. M is (batch, channels, bins, frames), X and V are complex spectrograms of the same shape,
    `heard` is 0 or 1 per (batch, bins).
    """
    with torch.no_grad():
        weights = heard[:, None, :, None]  # channels, frames
        loud = mixture.abs() * weights
        voice = vocals.abs() * weights
        in_phase = (torch.view_as_real(vocals) * torch.view_as_real(mixture)).sum(-1)
        in_phase = in_phase * weights / mixture.abs().clamp_min(1e-12)
        count = weights.sum() * mask.shape[1] * mask.shape[-1]
    masked = mask * loud
    return ((masked - voice).abs().sum() + (masked - in_phase).abs().sum()) / count


def heard_bins(bandwidths: Tensor, bins: int, rate: int) -> Tensor:
    """Return (batch, bins): 1 up to each bandwidth in Hz, 0 above."""
    frequencies = torch.linspace(0, rate / 2, bins, device=bandwidths.device)
    return (frequencies <= bandwidths[:, None]).float()

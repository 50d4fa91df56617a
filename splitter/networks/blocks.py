"""The parts that U-Nets are made of."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

KERNEL = 5


class Down(nn.Sequential):
    """Halve both axes: strided 5×5 convolution, batch norm, LeakyReLU (Jansson et al. 2017)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, KERNEL, stride=2, padding=KERNEL // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(0.2, inplace=True),
        )


class Up(nn.Sequential):
    """Double both axes: transposed 5×5 convolution, batch norm, ReLU, dropout if asked for."""

    def __init__(self, inputs: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__(
            nn.ConvTranspose2d(
                inputs, outputs, KERNEL, 2, KERNEL // 2, output_padding=1, bias=False
            ),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
        )


class BandNorm(nn.Module):
    """Give every band zero mean and unit variance, by statistics learned in training.

    Treble is 40 dB below bass in any song; a convolution, the same at all frequencies, would not
    see it (the input scaling of open-unmix has the same purpose).
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(bands)

    def forward(self, signal: Tensor) -> Tensor:
        """Normalise (batch, channels, bands, frames) along bands."""
        if self.training:
            normal: Tensor = self.norm(signal.flatten(0, 1)).view_as(signal)
            return normal
        scale, shift = self._affine()
        return torch.addcmul(shift[:, None], signal, scale[:, None])  # frame

    def _affine(self) -> tuple[Tensor, Tensor]:
        """Return what bands are multiplied by, and what is added then, after training."""
        mean, variance = self.norm.running_mean, self.norm.running_var
        if mean is None or variance is None:
            raise RuntimeError("there are no statistics")
        scale = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
        return scale, self.norm.bias - mean * scale


def fold_batch_norms(network: nn.Module) -> None:
    """Multiply each batch norm behind a convolution into the convolution's weights.

    It computes the same, in fewer passes, but has other weights, and cannot be trained any more.
    """
    for block in network.modules():
        if not isinstance(block, nn.Sequential):
            continue
        for index, (layer, norm) in enumerate(pairwise(block)):
            if isinstance(norm, nn.BatchNorm2d) and isinstance(layer, nn.Conv2d):
                block[index] = fuse_conv_bn_eval(layer, norm)
            elif isinstance(norm, nn.BatchNorm2d) and isinstance(layer, nn.ConvTranspose2d):
                block[index] = fuse_conv_bn_eval(layer, norm, transpose=True)
            else:
                continue
            block[index + 1] = nn.Identity()

"""The parts that U-Nets are made of."""

from __future__ import annotations

from torch import Tensor, nn

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
    """Double both axes: transposed 5×5 convolution, ReLU, batch norm, dropout if asked for."""

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
        normal: Tensor = self.norm(signal.flatten(0, 1)).view_as(signal)
        return normal

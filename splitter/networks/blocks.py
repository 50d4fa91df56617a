"""The parts that U-Nets are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from splitter.networks import tfctdf

KERNEL = 5
FEW = 8  # features: less are a picture
Convolution = TypeVar("Convolution", nn.Conv1d, nn.Conv2d)


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


class Part(nn.Module):
    """What a U-Net is made of."""

    outputs: int  # features
    reach: int = 0  # frames to either side that an output sees
    margin: int = 0  # rows and frames at each side that it eats


class Stacked(nn.Sequential, Part):
    """Two layers one after the other, the second from features to as many."""

    def __init__(
        self,
        layer: Callable[[int, int], list[nn.Module]],
        inputs: int,
        outputs: int,
        rows: int,
        margin: int = 0,
    ) -> None:
        super().__init__(*layer(inputs, outputs), *layer(outputs, outputs))
        self.outputs, self.reach, self.margin = outputs, 2, margin


def keep_level(layer: Convolution, slope: float = 0.0) -> Convolution:
    """Draw a layer's weights so that what passes it and a (leaky) ReLU is as loud as before.

    Ronneberger et al. 2015 begin so, after He et al. 2015. Without a norm that sees to it, signals
    would fade from layer to layer, and a deep network would not learn.
    """
    nn.init.kaiming_normal_(layer.weight, slope)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _valid(inputs: int, outputs: int) -> list[nn.Module]:
    """Convolve where all of the kernel lies inside (Ronneberger et al. 2015)."""
    return [keep_level(nn.Conv2d(inputs, outputs, 3)), nn.ReLU(inplace=True)]


def _leaky(inputs: int, outputs: int) -> list[nn.Module]:
    """Convolve without a norm, which would take a song's level away (Chen et al. 2018)."""
    layer = keep_level(nn.Conv2d(inputs, outputs, 3, padding=1), 0.2)
    return [layer, nn.LeakyReLU(0.2, inplace=True)]


def convolve(inputs: int, outputs: int, size: int = 3, step: int = 1) -> list[nn.Module]:
    """Return a convolution that keeps the picture's size, batch norm and ReLU."""
    layer = nn.Conv2d(inputs, outputs, size, step, size // 2, bias=False)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _depthwise(inputs: int, outputs: int) -> list[nn.Module]:
    """Convolve each feature alone, then mix them: 1/outputs + 1/9 of the cost (Howard 2017).

    The first layer is a plain one, as there: of a picture it would see one filter's answer only.
    """
    if inputs < FEW:
        return [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(inplace=True),
        ]
    return [
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU6(inplace=True),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    ]


def _volume(inputs: int, outputs: int) -> list[nn.Module]:
    """Convolve a stack of pictures, also from one to the next (Çiçek et al. 2016)."""
    layer = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
    return [layer, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)]


class Residual(Part):
    """Norm, ReLU and convolution, twice, added to the input (Zhang et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, rows: int, step: int = 1) -> None:
        super().__init__()
        self.outputs, self.reach = outputs, 2
        self.layers = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, 3, step, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.step = step
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, inputs, rows, frames) to (batch, outputs, rows, frames)."""
        # the backward pass of a 1×1 convolution with a stride crashes (PyTorch 2.13, channels last)
        kept = signal[..., :: self.step, :: self.step]
        answer: Tensor = self.layers(signal) + self.shortcut(kept)
        return answer


class Dense(Part):
    """Four convolutions, each of which sees the features of all before it (Guan et al. 2020).

    From half of the outputs on each adds an eighth.
    """

    def __init__(self, inputs: int, outputs: int, rows: int) -> None:
        super().__init__()
        if outputs % 8:
            raise ValueError(f"{outputs} features of a dense block are not a multiple of 8")
        growth = outputs // 8
        self.outputs, self.reach = outputs, 4
        self.narrow = nn.Sequential(*convolve(inputs, outputs // 2, 1))
        self.layers = nn.ModuleList(
            nn.Sequential(*convolve(width, outputs // 2, 1), *convolve(outputs // 2, growth))
            for width in range(outputs // 2, outputs, growth)
        )

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, inputs, rows, frames) to (batch, outputs, rows, frames)."""
        signal = self.narrow(signal)
        for layer in self.layers:
            signal = torch.cat([signal, layer(signal)], dim=1)
        return signal


class MultiRes(Part):
    """A chain of 3×3 convolutions that are all heard: 3×3, 5×5, 7×7 (Ibtehaz and Rahman 2020)."""

    ALPHA, SHARES = 1.67, (0.167, 0.333, 0.5)  # of a plain block's features, and of those in each

    def __init__(self, inputs: int, outputs: int, rows: int) -> None:
        super().__init__()
        widths = [int(outputs * self.ALPHA * share) for share in self.SHARES]
        self.outputs, self.reach = sum(widths), 3
        self.chain = nn.ModuleList(
            nn.Sequential(*convolve(before, after)) for before, after in pairwise([inputs, *widths])
        )
        shortcut = nn.Conv2d(inputs, self.outputs, 1, bias=False)
        self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(self.outputs))
        self.norms = nn.ModuleList(nn.BatchNorm2d(self.outputs) for _ in range(2))

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, inputs, rows, frames) to (batch, self.outputs, rows, frames)."""
        heard, parts = signal, []
        for convolution in self.chain:
            heard = convolution(heard)
            parts.append(heard)
        joined = self.norms[0](torch.cat(parts, dim=1)) + self.shortcut(signal)
        answer: Tensor = self.norms[1](torch.relu(joined))
        return answer


class Recurrent(Part):
    """Two recurrent convolutions, added to their input (Alom et al. 2018).

    Each hears its own answer with its input `TIMES` times over, by the same weights.
    """

    TIMES = 2

    def __init__(self, inputs: int, outputs: int, rows: int) -> None:
        super().__init__()
        self.outputs, self.reach = outputs, 2 * (self.TIMES + 1)
        self.narrow = nn.Conv2d(inputs, outputs, 1)
        self.layers = nn.ModuleList(nn.Sequential(*convolve(outputs, outputs)) for _ in range(2))

    def forward(self, signal: Tensor) -> Tensor:
        """Map (batch, inputs, rows, frames) to (batch, outputs, rows, frames)."""
        whole: Tensor = self.narrow(signal)
        signal = whole
        for layer in self.layers:
            answer = layer(signal)
            for _ in range(self.TIMES):
                answer = layer(signal + answer)
            signal = answer
        return whole + signal


class TfcTdfBlock(nn.Sequential, Part):
    """Fit the features by a 1×1 convolution, then a TFC-TDF block (Choi et al. 2020)."""

    def __init__(self, inputs: int, outputs: int, rows: int) -> None:
        super().__init__(*convolve(inputs, outputs, 1), tfctdf.Block(outputs, rows))
        self.outputs, self.reach = outputs, tfctdf.CONVOLUTIONS


BLOCKS: dict[str, Callable[..., Part]] = {  # from (inputs, outputs, rows)
    "valid": partial(Stacked, _valid, margin=2),
    "plain": partial(Stacked, convolve),
    "leaky": partial(Stacked, _leaky),
    "depthwise": partial(Stacked, _depthwise),
    "volume": partial(Stacked, _volume),
    "residual": Residual,
    "dense": Dense,
    "multires": MultiRes,
    "recurrent": Recurrent,
    "tfc-tdf": TfcTdfBlock,
}

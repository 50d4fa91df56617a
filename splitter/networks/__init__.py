"""Architectures: from (batch, channels, samples) to (batch, stems, channels, samples).

Every architecture is a dataclass of sizes with `build`: see `sizes`. `ARCHITECTURES` is the one
place where the name in a config meets a class; most of them are `presets`. What all
networks promise stands in `contract`. Networks that make others better, at a price, stand in
`ensemble` and `wiener`.
"""

from __future__ import annotations

from typing import Any

from splitter.networks.bag import BagSizes
from splitter.networks.blocks import fold_batch_norms
from splitter.networks.contract import Network
from splitter.networks.demucs import DemucsSizes
from splitter.networks.ensemble import Augmented, Average
from splitter.networks.mask import Bands, MaskModel
from splitter.networks.mdx23c import Mdx23cSizes
from splitter.networks.mdxnet import MdxNetSizes
from splitter.networks.openunmix import OpenUnmixSizes
from splitter.networks.presets import PRESETS
from splitter.networks.roformer import RoFormerSizes
from splitter.networks.sizes import MaskTfcTdf, MaskUNet
from splitter.networks.spleeter import SpleeterSizes
from splitter.networks.tfctdf import TfcTdf
from splitter.networks.unet import UNet
from splitter.networks.vr import VrSizes
from splitter.networks.wavedemucs import WaveDemucsSizes
from splitter.networks.wiener import Wiener

ARCHITECTURES: dict[str, type[Any]] = {
    **{name: preset.sizes for name, preset in PRESETS.items()},
    # only as other programs' weights
    "roformer": RoFormerSizes,
    "demucs": DemucsSizes,
    "wave-demucs": WaveDemucsSizes,
    "demucs-bag": BagSizes,
    "open-unmix": OpenUnmixSizes,
    "mdx23c": Mdx23cSizes,
    "mdx-net": MdxNetSizes,
    "spleeter": SpleeterSizes,
    "vr": VrSizes,
}

__all__ = [
    "ARCHITECTURES",
    "PRESETS",
    "Augmented",
    "Average",
    "Bands",
    "MaskModel",
    "MaskTfcTdf",
    "MaskUNet",
    "Network",
    "TfcTdf",
    "UNet",
    "Wiener",
    "fold_batch_norms",
]

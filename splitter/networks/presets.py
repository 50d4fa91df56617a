"""The networks of the literature, each a row: where it is from, and its sizes.

A preset is a dataclass of sizes with other defaults, so every size can still be given in a config,
and every part be exchanged. The paper's sizes would take minutes for a song; these compute 0.8 to
2 Gflop a second of song (44.1 kHz, stereo).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import Any, get_type_hints

from splitter.networks.sizes import MaskParts, MaskTfcTdf, MaskUNet, Sizes
from splitter.networks.tasnet import ConvTasNetSizes
from splitter.networks.waveunet import WaveUNetSizes


@dataclass(frozen=True)
class Preset:
    """Sizes, and whose idea they are."""

    source: str
    sizes: type[Sizes]


def vary(sizes: type[Sizes], **defaults: Any) -> type[Sizes]:
    """Make a dataclass of sizes with other defaults."""
    hints = get_type_hints(sizes, include_extras=True)
    fields = [(name, hints[name], field(default=value)) for name, value in defaults.items()]
    return make_dataclass(sizes.__name__, fields, bases=(sizes,), frozen=True)


PRESETS: Mapping[str, Preset] = {
    "mask-unet": Preset("Jansson et al. 2017, with TFC-TDF blocks if asked for", MaskUNet),
    "mask-tfc-tdf": Preset("Choi et al. 2020", MaskTfcTdf),
    "jansson": Preset("Jansson et al. 2017", vary(MaskUNet, dropout=0.5)),
    "unet-2015": Preset("Ronneberger et al. 2015", vary(MaskParts, block="valid", width=11)),
    "unet-bn": Preset("U-Net with batch norms, padded", vary(MaskParts, width=8)),
    "fcnvmb": Preset("Yang and Ma 2019", vary(MaskParts, width=12)),
    "inversion-net": Preset(
        "Wu and Lin 2019",
        vary(
            MaskParts,
            down="strided",
            skip="none",
            bottom="vector",
            span=4,
            latent=256,
            levels=5,
            width=10,
        ),
    ),
    "resunet": Preset(
        "Zhang et al. 2018",
        vary(MaskParts, block="residual", down="in-block", up="bilinear", levels=3, width=13),
    ),
    "dense-unet": Preset("Guan et al. 2020", vary(MaskParts, block="dense", width=24)),
    "multires-unet": Preset(
        "Ibtehaz and Rahman 2020", vary(MaskParts, block="multires", skip="res-path", width=11)
    ),
    "r2u-net": Preset(
        "Alom et al. 2018", vary(MaskParts, block="recurrent", up="repeated", width=7)
    ),
    "attention-unet": Preset(
        "Oktay et al. 2018", vary(MaskParts, skip="attention", up="repeated", width=11)
    ),
    "attention-r2u-net": Preset(
        "Alom et al. 2018, Oktay et al. 2018",
        vary(MaskParts, block="recurrent", skip="attention", up="repeated", width=7),
    ),
    "unet-3d": Preset(
        "Çiçek et al. 2016",
        vary(MaskParts, block="volume", down="volume", up="volume", ends="stack", views=3, width=4),
    ),
    "non-local-unet": Preset(
        "Wang et al. 2020", vary(MaskParts, bottom="non-local", span=24, width=10)
    ),
    "mobile-unet": Preset("Howard et al. 2017", vary(MaskParts, block="depthwise", width=24)),
    "sid-unet": Preset(
        "Chen et al. 2018", vary(MaskParts, block="leaky", pack=2, level_span=430, width=24)
    ),
    # codes for 8 × 8 and for 4 × 4 bands and frames, as in the paper's pictures
    "vq-unet": Preset(
        "Razavi et al. 2019",
        vary(
            MaskParts,
            block="residual",
            down="in-block",
            skip="quantised",
            bottom="quantised",
            levels=1,
            pack=4,
            width=80,
        ),
    ),
    "wave-u-net": Preset("Stoller et al. 2018", WaveUNetSizes),
    "conv-tasnet": Preset("Luo and Mesgarani 2019", ConvTasNetSizes),
}

"""Networks at the sizes of published models have as many weights as these."""

from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import Path

import pytest

from splitter.loading import sketch_network
from splitter.registry import Config
from splitter.weights.roformer import mel_bands

WIDTHS = [2] * 24 + [4] * 12 + [12] * 8 + [24] * 8 + [48] * 8 + [128, 129]
BS = {"bands": [*pairwise(accumulate(WIDTHS, initial=0))]}
MEL = {"normed": "each", "mask_layers": 3}
FOUR, TWO, ONE = ("drums", "bass", "other", "vocals"), ("vocals", "instrumental"), ("vocals",)

# network, sizes, stems, millions of weights as published or counted in the publisher's own class
PUBLISHED = {
    "BS-RoFormer 1297": ("roformer", {**BS, "width": 512, "mask_width": 2048}, ONE, 159.8),
    "BS-RoFormer 1053": ("roformer", {**BS, "hop": 512}, ONE, 98.2),
    "Mel-Band RoFormer 1143": ("roformer", MEL, ONE, 251.9),
    "Mel-Band RoFormer by Kim": ("roformer", {**MEL, "depth": 6}, ONE, 228.2),
    "htdemucs": ("demucs", {"bottom_channels": 512, "t_layers": 5}, FOUR, 41.5),
    "hdemucs_mmi": (
        "demucs",
        {"depth": 6, "dconv_comp": 4, "dconv_attn": 4, "dconv_lstm": 4, "whole": False},
        FOUR,
        83.6,
    ),
    "Demucs 2": (  # a file of 1,014 MiB in float32
        "wave-demucs",
        {
            "channels": 64,
            "depth": 6,
            "gelu": False,
            "dconv_mode": 0,
            "norm_starts": 100,
            "lstm_layers": 2,
            "padded": False,
            "normed": False,
        },
        FOUR,
        265.7,
    ),
    "umxhq, a target": ("open-unmix", {}, ONE, 8.9),
    "umxl, a target": ("open-unmix", {"hidden": 1024}, ONE, 28.3),
    "Spleeter, a stem": ("spleeter", {}, ONE, 9.8),
    "MDX-Net, a file of 66.8 MB": ("mdx-net", {}, ONE, 16.7),
    "MDX23C InstVoc HQ": ("mdx23c", {}, TWO, 112.0),
    "MDX23C D1581": ("mdx23c", {"growth": 64, "window": 12288, "hop": 2048}, TWO, 45.8),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_as_many_weights(name: str) -> None:
    network, sizes, stems, millions = PUBLISHED[name]
    if network == "roformer" and "bands" not in sizes:
        sizes = {**sizes, "bands": mel_bands(60, 44100, 2048)}
    sketch = sketch_network(Config(network, sizes, stems=stems), Path(name))
    count = sum(weight.numel() for weight in sketch.parameters()) / 1e6
    assert round(count, 1) == millions

"""Spleeter's 2, 4 and 5 stems, from TensorFlow's checkpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from splitter.errors import ModelError
from splitter.registry import Config
from splitter.weights.checkpoint import Checkpoint, Converted, Tensors, shape_of
from splitter.weights.stems import name_stems

LEVELS = 6
STEMS = {
    2: ("vocals", "accompaniment"),
    4: ("vocals", "drums", "bass", "other"),
    5: ("vocals", "piano", "drums", "bass", "other"),
}
ACTIVATIONS = {("LeakyReLU", "ReLU"): "relu", ("ELU", "ELU"): "elu"}  # on the way down and up
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
        "moving_variance": "running_var"}  # fmt: skip
NOTE = (
    "Blocks of frames, windows and masks are those of Spleeter; nothing differs but rounding. What "
    "lies above its highest bin (11 kHz, or 16 kHz with F = 1536 in its json) is in no stem, so "
    "it is in `rest`."
)


def matches(names: Sequence[str]) -> bool:
    """Tell whether tensors of these names are of this family."""
    return {"conv2d/kernel", "conv2d_transpose/kernel", "batch_normalization/gamma"} <= set(names)


def convert(checkpoint: Checkpoint) -> Converted:
    """Make a model of a checkpoint; how many stems it has tells which of the published it is.

    One of another number is what its json says, as is any that comes with one.
    """
    count = sum(re.fullmatch(r"conv2d(_\d+)?/kernel", n) is not None for n in checkpoint.tensors)
    number = count // (LEVELS + 1)
    if not number or count % (LEVELS + 1):
        raise ModelError(
            f"{checkpoint.path}: {count} convolutions are not those of any Spleeter model"
        )
    instruments = checkpoint.fact("instrument_list", default=STEMS.get(number))
    instruments = instruments or checkpoint.need("instrument_list")
    if len(instruments) != number:
        raise ModelError(
            f"{checkpoint.path}: its tensors make {number} stems, but {checkpoint.facts_path} "
            f"says {', '.join(map(str, instruments))}"
        )
    checkpoint.keep_to(2, "separation_exponent")
    checkpoint.keep_to("zeros", "mask_extension")
    stems, residual = name_stems(instruments)
    masks, activation = _find_kind(checkpoint, number)
    channels = shape_of(checkpoint, "conv2d/kernel", 4)[2]
    sizes = {
        "filters": [
            shape_of(checkpoint, f"{_numbered('conv2d', level)}/kernel", 4)[3]
            for level in range(LEVELS)
        ],
        "activation": activation,
        "masks": masks,
        "frames": checkpoint.fact("T", default=512),
        "bins": checkpoint.fact("F", default=1024),
        "window": checkpoint.fact("frame_length", default=4096),
        "hop": checkpoint.fact("frame_step", default=1024),
    }
    rate = checkpoint.fact("sample_rate", default=44100)
    config = Config("spleeter", sizes, rate, channels, tuple(stems), residual)
    return Converted(config, _rename(checkpoint.tensors, number), NOTE)


def _find_kind(checkpoint: Checkpoint, number: int) -> tuple[str, str]:
    """Return masks and activation: what the json says, or what a published model has."""
    if checkpoint.fact("model") is None and number in STEMS:
        return "softmax" if number == 5 else "sigmoid", "relu" if number == 2 else "elu"
    soft = "softmax" in checkpoint.need("model", "type")
    pair = tuple(
        checkpoint.fact("model", "params", f"{way}_activation", default=usual)
        for way, usual in (("conv", "LeakyReLU"), ("deconv", "ReLU"))
    )
    if pair not in ACTIVATIONS:
        raise ModelError(f"{checkpoint.path}: activations {' and '.join(pair)} are not supported")
    return "softmax" if soft else "sigmoid", ACTIVATIONS[pair]


def _rename(tensors: Tensors, stems: int) -> Tensors:
    """Give tensors our names; kernels are turned round: TensorFlow's have features last."""
    renamed = {}
    for stem in range(stems):
        for level in range(LEVELS):
            places = {
                f"down.{level}": _numbered("conv2d", (LEVELS + 1) * stem + level),
                f"up.{level}": _numbered("conv2d_transpose", LEVELS * stem + level),
                f"down_norms.{level}": _numbered("batch_normalization", 2 * LEVELS * stem + level),
                f"up_norms.{level}": _numbered(
                    "batch_normalization", 2 * LEVELS * stem + LEVELS + level
                ),
                "leave": _numbered("conv2d", (LEVELS + 1) * stem + LEVELS),
            }
            for ours, theirs in places.items():
                if "norms" in ours:  # PyTorch's count of batches; nothing asks for it
                    name = f"unets.{stem}.{ours}.num_batches_tracked"
                    renamed[name] = torch.zeros((), dtype=torch.int64)
                kinds = NORM if "norms" in ours else {"kernel": "weight", "bias": "bias"}
                for their_kind, our_kind in kinds.items():
                    if (tensor := tensors.get(f"{theirs}/{their_kind}")) is not None:
                        turned = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor
                        renamed[f"unets.{stem}.{ours}.{our_kind}"] = turned
    return renamed


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name

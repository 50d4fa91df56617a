"""MDX-Net: the tensors of an ONNX graph, in its order, as layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from splitter.errors import ModelError
from splitter.registry import Config
from splitter.weights.checkpoint import Checkpoint, Converted, Tensors
from splitter.weights.stems import name_stems, opposite

EPSILON = 1e-5  # of batch norms, which exporters leave as PyTorch has it
MOST_FRAMES = 13  # powers of two of a tile's frames
NOTE = (
    "Tiles are those of the program that it was trained by: half a window at both ends is not "
    "kept, nothing overlaps. UVR overlaps tiles, faded by a Hann window; `--overlap` does so, too. "
    "What UVR multiplies the estimate by (`compensate`) is part of the weights here."
)


def matches(names: Sequence[str]) -> bool:
    """Tell whether tensors of these names are of this family."""
    return "000.Conv.0" in names and any(".ConvTranspose." in name for name in names)


def convert(checkpoint: Checkpoint) -> Converted:
    """Make a model of a graph; window, stem and gain are what the json beside it says."""
    layers = list(_layers(checkpoint.tensors))
    kinds = [kind for kind, _ in layers]
    levels = kinds.count("ConvTranspose")
    blocks = 2 * levels + 1
    dense = kinds.count("MatMul") // blocks
    convolutions = (kinds.count("Conv") - 2 - levels) // blocks
    order = [
        "Conv", *(["Conv"] * convolutions + ["MatMul"] * dense + ["Conv"]) * levels,
        *["Conv"] * convolutions, *["MatMul"] * dense,
        *(["ConvTranspose"] + ["Conv"] * convolutions + ["MatMul"] * dense) * levels, "Conv",
    ]  # fmt: skip
    shape = checkpoint.fact("shape", default=[])  # (batch, planes, bins, frames)
    if kinds != order or dense > 2 or len(shape) != 4:
        raise ModelError(
            f"{checkpoint.path}: its graph is not that of any MDX-Net that splitter knows"
        )
    places = _name_places(levels, convolutions, dense)
    tensors = {
        f"{place}.{part}": tensor
        for place, (_, parts) in zip(places, layers, strict=True)
        for part, tensor in parts.items()
    }
    _, _, bins, frames = shape
    checkpoint.agree("bins", bins, "mdx_dim_f_set")
    if not frames:
        power = checkpoint.need("mdx_dim_t_set")
        if not isinstance(power, int) or not 0 <= power <= MOST_FRAMES:
            raise ModelError(
                f"{checkpoint.facts_path}: mdx_dim_t_set {power!r} is not 0 to {MOST_FRAMES}"
            )
        frames = 2**power
    gain = float(checkpoint.fact("compensate", default=1.0))
    for part in ("leave.weight", "leave.bias"):
        tensors[part] = tensors[part] * gain
    planes, width = tensors["enter.weight"].shape[1], tensors["enter.weight"].shape[0]
    first = [tensor for kind, parts in layers if kind == "MatMul" for tensor in parts.values()]
    sizes = {
        "width": width,
        "levels": levels,
        "convolutions": convolutions,
        "kernel": layers[1][1]["weight"].shape[-1] if convolutions else 3,
        "dense": dense,
        "narrow": first[0].shape[1] // first[0].shape[0] if dense == 2 else 8,
        "bins": bins,
        "frames": frames,
        "window": checkpoint.need("mdx_n_fft_scale_set"),
        "hop": 1024 if checkpoint.fact("hop") is None else checkpoint.fact("hop"),
    }
    stems, _ = name_stems([checkpoint.need("primary_stem")])
    config = Config("mdx-net", sizes, 44100, planes // 2, tuple(stems), opposite(stems[0]))
    return Converted(config, tensors, NOTE)


def _layers(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    """Yield convolutions and dense layers, each with the bias and the norm that follow it."""
    nodes: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        nodes.setdefault(name.rpartition(".")[0], []).append(tensor)
    pending: tuple[str, Tensors] | None = None
    most = 4 * sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors.values()}.values())
    for name, given in nodes.items():
        most -= given[0].nbytes
        if most < 0:
            raise ModelError("its layers share their weights, as in no MDX-Net")
        kind = name.partition(".")[2]
        if kind in ("Conv", "ConvTranspose", "MatMul"):
            if pending:
                yield pending
            pending = kind, _start_layer(kind, given)
        elif pending and kind == "Add" and pending[0] == "MatMul" and given[0].ndim == 1:
            pending[1]["layer.bias"] = given[0]
        elif pending and kind == "BatchNormalization" and len(given) == 4:
            _add_norm(*pending, given)
        elif given[0].numel() > 1:
            raise ModelError(
                f"a layer of the graph is a {kind}, which no MDX-Net that splitter knows has"
            )
    if pending:
        yield pending


def _start_layer(kind: str, given: list[Tensor]) -> Tensors:
    if kind == "MatMul":
        weight = given[0].t()
        bias = torch.zeros(weight.shape[0])
        return {"layer.weight": weight, "layer.bias": bias}
    outputs = given[0].shape[1 if kind == "ConvTranspose" else 0]
    return {"weight": given[0], "bias": given[1] if len(given) > 1 else torch.zeros(outputs)}


def _add_norm(kind: str, parts: Tensors, norm: list[Tensor]) -> None:
    """Make a batch norm part of the convolution before it, or a dense layer's gain and offset."""
    scale, shift, mean, variance = norm
    gain = scale / (variance + EPSILON).sqrt()
    if kind == "MatMul":
        parts["gain"], parts["offset"] = gain, shift - mean * gain
        return
    axes = [1] * parts["weight"].ndim
    axes[1 if kind == "ConvTranspose" else 0] = -1
    parts["weight"] = parts["weight"] * gain.view(axes)
    parts["bias"] = (parts["bias"] - mean) * gain + shift


def _name_places(levels: int, convolutions: int, dense: int) -> Iterator[str]:
    """Yield our names of the layers in the order of the graph."""

    def block(place: str) -> Iterator[str]:
        yield from (f"{place}.convolve.{index}.0" for index in range(convolutions))
        yield from (f"{place}.dense.{index}" for index in range(dense))

    yield "enter"
    for level in range(levels):
        yield from block(f"before.{level}")
        yield f"down.{level}"
    yield from block("deepest")
    for level in range(levels):
        yield f"up.{level}"
        yield from block(f"after.{level}")
    yield "leave"

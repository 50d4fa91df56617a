"""MDX23C, TFC-TDF v3, as Music-Source-Separation-Training and UVR have it."""

from __future__ import annotations

from collections.abc import Sequence

from splitter.errors import ModelError
from splitter.registry import Config
from splitter.weights.checkpoint import Checkpoint, Converted, count, rename, shape_of
from splitter.weights.stems import ENDS, find_stems, find_tiles

NAMES = {
    r"first_conv\.weight": "enter.weight",
    r"encoder_blocks\.(\d+)\.tfc_tdf\.blocks\.(.*)": r"down.\1.blocks.\2",
    r"encoder_blocks\.(\d+)\.downscale\.conv\.(.*)": r"down.\1.turn.\2",
    r"bottleneck_block\.blocks\.(.*)": r"deepest.blocks.\1",
    r"decoder_blocks\.(\d+)\.tfc_tdf\.blocks\.(.*)": r"up.\1.blocks.\2",
    r"decoder_blocks\.(\d+)\.upscale\.conv\.(.*)": r"up.\1.turn.\2",
    r"final_conv\.([02])\.weight": r"leave.\1.weight",
}
NOTE = (
    "The network, tiles of {tile} samples, their overlap and fades are those of "
    "Music-Source-Separation-Training. UVR averages its tiles without fades. " + ENDS
)


def matches(names: Sequence[str]) -> bool:
    """Tell whether tensors of these names are of this family."""
    return {"first_conv.weight", "encoder_blocks.0.tfc_tdf.blocks.0.tfc1.2.weight"} <= set(names)


def convert(checkpoint: Checkpoint) -> Converted:
    """Make a model of a checkpoint; window, hop, tiles and stems are what its yaml says."""
    names = list(checkpoint.tensors)
    width, planes = shape_of(checkpoint, "first_conv.weight", 4)[:2]
    deeper = shape_of(checkpoint, "encoder_blocks.0.downscale.conv.2.weight", 4)[0]
    narrow, rows = shape_of(checkpoint, "encoder_blocks.0.tfc_tdf.blocks.0.tdf.2.weight", 2)
    made = shape_of(checkpoint, "final_conv.2.weight", 4)[0]
    channels = int(checkpoint.fact("audio", "num_channels", default=2))
    if not 0 < channels < 9 or planes % (2 * channels):
        raise ModelError(f"{checkpoint.path}: {planes} planes do not fit {channels} channels")
    subbands = planes // (2 * channels)
    checkpoint.keep_to(False, "inference", "normalize")
    checkpoint.agree("subbands", subbands, "model", "num_subbands")
    checkpoint.agree("bins", rows * subbands, "audio", "dim_f")
    checkpoint.agree("channels", width, "model", "num_channels")
    if list(checkpoint.fact("model", "scale", default=[2, 2])) != [2, 2]:
        raise ModelError(
            f"{checkpoint.path}: its levels are not halved in size; this kind is not supported"
        )
    sizes = {
        "channels": width,
        "growth": deeper - width,
        "levels": count(names, r"encoder_blocks\.(\d+)\."),
        "blocks": count(names, r"bottleneck_block\.blocks\.(\d+)\."),
        "bottleneck": rows // max(1, narrow),
        "subbands": subbands,
        "bins": rows * subbands,
        "norm": checkpoint.need("model", "norm"),
        "activation": checkpoint.fact("model", "act", default="gelu"),
        "window": checkpoint.need("audio", "n_fft"),
        "hop": checkpoint.need("audio", "hop_length"),
        **find_tiles(checkpoint),
    }
    stems, residual = find_stems(checkpoint, made // planes)
    rate = checkpoint.fact("audio", "sample_rate", default=44100)
    config = Config("mdx23c", sizes, rate, channels, tuple(stems), residual)
    return Converted(config, rename(checkpoint, NAMES), NOTE.format(tile=sizes["tile"]))

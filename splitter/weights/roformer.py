"""BS-RoFormer and Mel-Band RoFormer, as Music-Source-Separation-Training and UVR have them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from splitter.errors import ModelError
from splitter.registry import Config
from splitter.weights.checkpoint import Checkpoint, Converted, count, rename, shape_of
from splitter.weights.stems import ENDS, find_stems, find_tiles

BLOCK, OURS = r"layers\.(\d+)\.([01])\.layers\.(\d+)\.", r"layers.\1.\2.blocks.\3."
NAMES = {
    r"band_split\.to_features\.(\d+)\.0\.gamma": r"enter.\1.0.gain",
    r"band_split\.to_features\.(\d+)\.1\.(weight|bias)": r"enter.\1.1.\2",
    rf"{BLOCK}0\.rotary_embed\.freqs": rf"{OURS}0.turns",
    rf"{BLOCK}0\.norm\.gamma": rf"{OURS}0.norm.gain",
    rf"{BLOCK}0\.to_qkv\.weight": rf"{OURS}0.enter.weight",
    rf"{BLOCK}0\.to_gates\.(\w+)": rf"{OURS}0.gates.\4",
    rf"{BLOCK}0\.to_out\.0\.weight": rf"{OURS}0.leave.weight",
    rf"{BLOCK}1\.net\.0\.gamma": rf"{OURS}1.0.gain",
    rf"{BLOCK}1\.net\.1\.(\w+)": rf"{OURS}1.1.\4",
    rf"{BLOCK}1\.net\.4\.(\w+)": rf"{OURS}1.3.\4",
    r"layers\.(\d+)\.([01])\.norm\.gamma": r"layers.\1.\2.norm.gain",
    r"final_norm\.gamma": "norm.gain",
    r"mask_estimators\.(\d+)\.to_freqs\.(\d+)\.0\.(\d+)\.(\w+)": r"masks.\1.\2.\3.\4",
    r".*rotary_embed\.dummy": "",  # an empty tensor of some versions
}
NOTE = (
    "The network, tiles of {tile} samples, their overlap and fades are those of "
    "Music-Source-Separation-Training. UVR and audio-separator cut and fade otherwise. " + ENDS
)


def matches(names: Sequence[str]) -> bool:
    """Tell whether tensors of these names are of this family."""
    return "band_split.to_features.0.1.weight" in names


def convert(checkpoint: Checkpoint) -> Converted:
    """Make a model of a checkpoint; hop, tiles and stems are what its yaml says."""
    names = list(checkpoint.tensors)
    mel = "final_norm.gamma" not in names
    if mel and "layers.0.0.norm.gamma" not in names:
        raise ModelError(f"{checkpoint.path}: this kind of RoFormer is not supported")
    stems = count(names, r"mask_estimators\.(\d+)\.")
    width, _ = shape_of(checkpoint, "band_split.to_features.0.1.weight", 2)
    heads, _ = shape_of(checkpoint, "layers.0.0.layers.0.0.to_gates.weight", 2)
    (half,) = shape_of(checkpoint, "layers.0.0.layers.0.0.rotary_embed.freqs", 1)
    for key in ("skip_connection", "stft_normalized"):
        checkpoint.keep_to(False, "model", key)
    window = checkpoint.fact("model", "stft_n_fft", default=2048)
    if not isinstance(window, int) or not 16 <= window <= 65536:
        raise ModelError(f"{checkpoint.facts_path}: stft_n_fft {window!r} is not 16 to 65536")
    checkpoint.keep_to(window, "model", "stft_win_length")
    checkpoint.agree("width", width, "model", "dim")
    checkpoint.agree("heads", heads, "model", "heads")
    mask_layers = count(names, r"mask_estimators\.0\.to_freqs\.0\.0\.(\d+)\.weight")
    mask_width, _ = shape_of(checkpoint, "mask_estimators.0.to_freqs.0.0.0.weight", 2)
    channels, bands = _find_bands(checkpoint, window, mel)
    sizes = {
        "bands": bands,
        "width": width,
        "depth": count(names, r"layers\.(\d+)\."),
        "heads": heads,
        "head": 2 * half,
        "time_blocks": count(names, r"layers\.0\.0\.layers\.(\d+)\."),
        "band_blocks": count(names, r"layers\.0\.1\.layers\.(\d+)\."),
        "normed": "each" if mel else "last",
        "mask_layers": mask_layers,
        "mask_width": mask_width if mask_layers > 1 else 1,
        "zero_dc": checkpoint.fact("model", "zero_dc", default=False),
        "window": window,
        "hop": checkpoint.need("model", "stft_hop_length"),
        **find_tiles(checkpoint),
    }
    checkpoint.agree("depth", sizes["depth"], "model", "depth")
    estimated, residual = find_stems(checkpoint, stems)
    rate = checkpoint.fact("audio", "sample_rate", default=44100)
    rate = checkpoint.fact("model", "sample_rate", default=rate)
    config = Config("roformer", sizes, rate, channels, tuple(estimated), residual)
    return Converted(config, rename(checkpoint, NAMES), NOTE.format(tile=sizes["tile"]))


def _find_bands(
    checkpoint: Checkpoint, window: int, mel: bool
) -> tuple[int, list[tuple[int, int]]]:
    """Return the channels, and the bins of each band, which must be as many as its tensor has.

    Bands that are not those of the mel scale follow from their tensors alone, and cover each bin
    once. So their sum tells the channels, if the yaml does not.
    """
    number = count(checkpoint.tensors, r"band_split\.to_features\.(\d+)\.")
    inputs = [
        shape_of(checkpoint, f"band_split.to_features.{band}.1.weight", 2)[1]
        for band in range(number)
    ]
    rate = checkpoint.fact("model", "sample_rate", default=44100)
    bands = mel_bands(number, rate, window) if mel else [(0, window // 2 + 1)]
    bins = sum(stop - start for start, stop in bands)
    stereo = checkpoint.fact("model", "stereo", default=sum(inputs) > 3 * bins)
    channels = 2 if stereo else 1
    widths = [each // (2 * channels) for each in inputs]
    if not mel:
        return channels, [*pairwise(accumulate(widths, initial=0))]
    if [stop - start for start, stop in bands] != widths:
        raise ModelError(
            f"{checkpoint.path}: its {number} bands are {widths[0]} to {max(widths)} bins wide; "
            "those of the mel scale at this rate and window are not"
        )
    return channels, bands


def mel_bands(count: int, rate: int, window: int) -> list[tuple[int, int]]:
    """Return (first, behind the last) of the bins in which each filter of a mel bank is not zero.

    The bank is Slaney's, as librosa makes it; 0 Hz and Nyquist belong to the outermost bands.
    """
    from librosa.filters import mel

    bank = mel(sr=rate, n_fft=window, n_mels=count)
    bank[0, 0] = bank[-1, -1] = 1
    inside = [np.flatnonzero(row > 0) for row in bank]
    return [(int(bins[0]), int(bins[-1]) + 1) for bins in inside]

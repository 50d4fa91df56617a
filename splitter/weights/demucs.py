"""Demucs of waveforms, hybrid, or with a transformer: a .th of the program, or safetensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from splitter.errors import ModelError
from splitter.registry import Config
from splitter.weights.checkpoint import Checkpoint, Converted, count, rename, shape_of
from splitter.weights.stems import name_stems

# what may be said of a network without its being another one than ours, and defaults
COMMON = {
    "audio_channels": 2, "channels": 48, "growth": 2, "kernel_size": 8, "stride": 4, "context": 1,
    "norm_starts": 4, "norm_groups": 4, "dconv_mode": 1, "dconv_depth": 2, "samplerate": 44100,
}  # fmt: skip
HYBRID = {**COMMON, "nfft": 4096, "freq_emb": 0.2, "emb_scale": 10, "time_stride": 2, "cac": True,
          "wiener_iters": 0, "wiener_residual": False}  # fmt: skip
ATTENTIVE = {"depth": 6, "dconv_comp": 4, "dconv_attn": 4, "dconv_lstm": 4, "segment": 40}
CLASSES: Mapping[str, Mapping[str, Any]] = {
    "HTDemucs": {
        **HYBRID, "depth": 4, "dconv_comp": 8, "bottom_channels": 0, "t_layers": 5, "t_heads": 8,
        "t_hidden_scale": 4.0, "segment": 10, "use_train_segment": True,
    },
    "HDemucs": {**HYBRID, **ATTENTIVE, "hybrid_old": False, "use_train_segment": False},
    "Demucs": {
        **COMMON, **ATTENTIVE, "channels": 64, "gelu": True, "lstm_layers": 0, "normalize": True,
        "resample": True,
    },
}  # fmt: skip
# what must be so: another value is another network
FIXED: Mapping[str, Any] = {
    "channels_time": None, "rewrite": True, "glu": True, "hybrid": True, "multi_freqs": None,
    "context_enc": 0, "t_emb": "sin", "t_norm_in": True, "t_norm_in_group": False,
    "t_group_norm": False, "t_norm_first": True, "t_norm_out": True, "t_max_period": 10000.0,
    "t_layer_scale": True, "t_gelu": True, "t_weight_pos_embed": 1.0, "t_sin_random_shift": 0,
    "t_sparse_self_attn": False, "t_sparse_cross_attn": False, "t_cross_first": False,
}  # fmt: skip
OURS = {"nfft": "window", "kernel_size": "kernel", "hybrid_old": "padded_with_zeros",
        "use_train_segment": "whole", "wiener_iters": "wiener", "normalize": "normed",
        "resample": "resampled"}  # fmt: skip
NOT_OURS = {"audio_channels", "samplerate", "segment"}
# what Music-Source-Separation-Training calls them
TRAINED = {"htdemucs": "HTDemucs", "hdemucs": "HDemucs", "demucs": "Demucs"}
SECOND_STEMS = ("drums", "bass", "other", "vocals")  # of the second version, whose files name none
NOTE = (
    "Tiles, their overlap and window are those of the program `demucs` with `--shifts 0`: it "
    "shifts songs at random otherwise. The level is that of each tile, not of the song."
)


def matches(names: Sequence[str]) -> bool:
    """Tell whether tensors of these names are of this family."""
    return "tencoder.0.conv.weight" in names or {"encoder.0.0.weight", "decoder.0.0.weight"} <= {
        *names
    }


def join(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """Put the members of a bag into the order that its yaml gives them; a lone one needs none."""
    first = checkpoints[0]
    wanted = first.fact("models")
    if wanted is None and len(checkpoints) > 1:
        raise ModelError(
            f"{first.path}: only the yaml of a bag of {len(checkpoints)} models tells what each "
            "counts in which stem; give it with --config"
        )
    if wanted is None:
        ordered = [first]
    else:
        names = list(map(str, wanted))
        places = {name: one for name in names for one in checkpoints
                  if one.path.name.startswith(name)}  # fmt: skip
        if not len(places) == len(set(names)) == len(checkpoints):
            given = ", ".join(one.path.name for one in checkpoints)
            raise ModelError(
                f"{first.facts_path}: its models are {', '.join(dict.fromkeys(names))}; "
                f"give a file of each, not {given}"
            )
        ordered = [places[name] for name in names]  # a bag may count one of them twice
    return Checkpoint(first.path, {}, {**first.facts, "members": ordered}, first.facts_path)


def convert(checkpoint: Checkpoint) -> Converted:
    """Make a model of one network, or of a bag of several, with weights for each stem."""
    longest = checkpoint.fact("segment")
    made = [convert_one(member, longest) for member in checkpoint.need("members")]
    first = made[0].config
    weights = checkpoint.fact("weights") or [[1.0] * len(first.stems)] * len(made)
    if len(made) == 1:
        return made[0]
    for member in made[1:]:
        if replace(member.config, network=first.network, sizes=first.sizes) != first:
            raise ModelError(
                f"{checkpoint.path}: a bag's models must have the same stems, rate and channels"
            )
    sizes = {"members": [member.config.sizes for member in made], "weights": weights}
    tensors = {
        f"networks.{number}.{name}": tensor
        for number, member in enumerate(made)
        for name, tensor in member.tensors.items()
    }
    return Converted(replace(first, network="demucs-bag", sizes=sizes), tensors, NOTE)


def convert_one(checkpoint: Checkpoint, longest: Any = None) -> Converted:
    """Make a model of a checkpoint; its sizes are those that it was saved with.

    `longest` are a bag's seconds of a tile: no transformer gets longer ones than it has.
    """
    names = checkpoint.tensors
    if "encoder.0.2.weight" in names and "encoder.0.3.weight" not in names:
        return convert_second(checkpoint)
    given = dict(checkpoint.fact("kwargs", default={}))
    arguments = list(checkpoint.fact("args", default=[]))
    name = str(checkpoint.fact("class", default=checkpoint.fact("klass", default="")))
    name = name.rpartition(".")[2].replace("WDemucs", "HDemucs")
    if kind := TRAINED.get(str(checkpoint.fact("model"))):
        name, given = kind, _read_training(checkpoint)
    if name not in CLASSES:
        raise ModelError(f"{checkpoint.path}: does not say which Demucs it is ({name or 'none'})")
    sources = given.pop("sources", None) or (arguments and arguments[0])
    if not sources or len(arguments) > 1:
        raise ModelError(
            f"{checkpoint.path}: does not say which stems it makes; give them with --config"
        )
    for key, value in FIXED.items():
        if given.get(key, value) != value and not (value is None and not given[key]):
            raise ModelError(
                f"{checkpoint.path}: a Demucs whose {key} is {given[key]!r} is not supported"
            )
    said = {key: given.get(key, value) for key, value in CLASSES[name].items()}
    seconds = _read_number(said["segment"], checkpoint)
    if longest is not None:
        stated = _read_number(longest, checkpoint)
        seconds = min(seconds, stated) if name == "HTDemucs" else stated
    sizes = {OURS.get(key, key): value for key, value in said.items() if key not in NOT_OURS}
    if isinstance(sizes["growth"], float) and sizes["growth"].is_integer():
        sizes["growth"] = int(sizes["growth"])
    rate, channels = int(said["samplerate"]), int(said["audio_channels"])
    sizes["tile"] = int(seconds * rate)
    stems, residual = name_stems(sources)
    network = "wave-demucs" if name == "Demucs" else "demucs"
    config = Config(network, sizes, rate, channels, tuple(stems), residual)
    return Converted(config, dict(names), NOTE)


def _read_training(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a network's arguments from the yaml of Music-Source-Separation-Training."""
    checkpoint.keep_to(1, str(checkpoint.fact("model")), "num_subbands")
    given = dict(checkpoint.need(str(checkpoint.fact("model"))))
    given.pop("num_subbands", None)
    training = {"sources": "instruments", "segment": "segment", "samplerate": "samplerate",
                "audio_channels": "channels"}  # fmt: skip
    return {**given, **{ours: checkpoint.need("training", key) for ours, key in training.items()}}


def convert_second(checkpoint: Checkpoint) -> Converted:
    """Make a model of a checkpoint of the second version, which is nothing but tensors."""
    names = list(checkpoint.tensors)
    depth = count(names, r"encoder\.(\d+)\.")
    features, channels, kernel = shape_of(checkpoint, "encoder.0.0.weight", 3)
    made = shape_of(checkpoint, f"decoder.{depth - 1}.2.weight", 3)[1]
    stems, residual = name_stems(checkpoint.fact("sources", default=SECOND_STEMS))
    if made != len(stems) * channels:
        raise ModelError(
            f"{checkpoint.path}: makes {made // channels} stems, not {', '.join(stems)}; name them "
            "as `sources` in a json given with --config"
        )
    sizes = {
        "channels": features, "depth": depth, "kernel": kernel, "gelu": False, "dconv_mode": 0,
        "growth": shape_of(checkpoint, "encoder.1.0.weight", 3)[0] // features,
        "context": shape_of(checkpoint, "decoder.0.0.weight", 3)[2] // 2, "norm_starts": 100,
        "lstm_layers": count(names, r"lstm\.lstm\.weight_ih_l(\d+)"), "padded": False,
        "normed": False, "resampled": True,
    }  # fmt: skip
    config = Config("wave-demucs", sizes, 44100, channels, tuple(stems), residual)
    # a norm, which does nothing there, has the number before the last convolution's now
    table = {r"((?:en|de)coder\.\d+)\.2\.(weight|bias)": r"\1.3.\2", r"(.*)": r"\1"}
    return Converted(config, rename(checkpoint, table), NOTE)


def _read_number(value: Any, checkpoint: Checkpoint) -> Fraction:
    """Read a number, or a fraction as safetensors have it."""
    if isinstance(value, Mapping):
        value = Fraction(value.get("numerator", 0), value.get("denominator", 1) or 1)
    if not isinstance(value, int | float | Fraction) or not 0 < value < 1000:
        raise ModelError(f"{checkpoint.path}: segment {value!r} is not a number of seconds")
    return Fraction(value)

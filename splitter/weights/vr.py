"""UVR's VR architecture: cascades of vocal-remover, versions 5 and 5.1, as .pth files.

Tensors do not tell which bands they were trained for, nor which stem they make. `vr.json` has UVR's
tables of bands, and what it knows of published files by the MD5 of their last 10,000 KiB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from splitter.errors import ModelError
from splitter.registry import Config
from splitter.schema import read_json
from splitter.weights.checkpoint import (
    Checkpoint,
    Converted,
    Tensors,
    count,
    hash_tail,
    rename,
    shape_of,
)
from splitter.weights.stems import name_stems, opposite

STAGES = {
    r"stg1_low_band_net": "stages.0.0.net",
    r"stg1_high_band_net": "stages.0.1.net",
    r"stg2_bridge": "stages.1.0.before",
    r"stg2_full_band_net": "stages.1.0.net",
    r"stg3_bridge": "stages.2.0.before",
    r"stg3_full_band_net": "stages.2.0.net",
}
STAGES_51 = {
    r"stg1_low_band_net\.0": "stages.0.0.net",
    r"stg1_low_band_net\.1": "stages.0.0.after",
    r"stg1_high_band_net": "stages.0.1.net",
    r"stg2_low_band_net\.0": "stages.1.0.net",
    r"stg2_low_band_net\.1": "stages.1.0.after",
    r"stg2_high_band_net": "stages.1.1.net",
    r"stg3_full_band_net": "stages.2.0.net",
}
TOP = {r"out\.weight": "leave.weight", r"aux\w*out\.weight": ""}  # those of the training alone
MIXES = ("mid_side", "mid_side_b2")
# what a mask of 5 of UVR's 100 is sharpened by depends on whether it is of a single instrument
SINGLE = {"vocals", "other", "bass", "drums", "guitar", "piano", "synthesizer", "strings",
          "woodwinds", "brass", "wind-inst"}  # fmt: skip
AGGRESSION = 5
NOTE = (
    "The mask is sharpened as by UVR's aggressiveness {aggression}. Rates change as by UVR on ARM "
    "Macs (polyphase); elsewhere it has other filters. The level is that of each tile, not of "
    "the song. The other stem is what is left of the song, not the rest of the mask. Test-time "
    "augmentation, mirrored high bands and its removal of artefacts are not done."
)
SHARED = " Both of its widest branches have the weights of the last one, as in UVR."


def matches(names: Sequence[str]) -> bool:
    """Tell whether tensors of these names are of this family."""
    return "stg1_high_band_net.enc1.conv1.conv.0.weight" in names or _is_51(names)


def _is_51(names: Sequence[str]) -> bool:
    return "stg1_low_band_net.0.enc1.conv.0.weight" in names


def convert(checkpoint: Checkpoint) -> Converted:
    """Make a model of a checkpoint; bands and stem are what its hash, or a json, says."""
    recurrent = _is_51(list(checkpoint.tensors))
    facts = _find_facts(checkpoint)
    stem = facts.need("primary_stem")
    table = _find_table(facts)
    stems, _ = name_stems([stem])
    aggression = facts.fact("aggressiveness", default=AGGRESSION)
    if not isinstance(aggression, int | float) or not 0 <= aggression <= 100:
        raise ModelError(f"{checkpoint.path}: aggressiveness {aggression!r} is not from 0 to 100")
    sizes = _find_sizes(checkpoint, recurrent)
    if recurrent:
        facts.agree("nout", sizes["width"], "nout")
        facts.agree("nout_lstm", sizes["lstm"], "nout_lstm")
    sizes |= _read_table(table, recurrent)
    sizes["exponents"] = _sharpen(aggression / 50, stems[0] in SINGLE)
    if frames := facts.fact("window_size"):
        sizes["frames"] = frames
    tensors = _name_tensors(checkpoint, recurrent, sizes["levels"])
    shared = sizes["branches"] == 7
    if shared:
        tensors |= {
            name.replace("branches.6.", "branches.5."): tensor
            for name, tensor in tensors.items()
            if ".branches.6." in name
        }
    config = Config("vr", sizes, table["sr"], 2, tuple(stems), opposite(stems[0]))
    return Converted(config, tensors, NOTE.format(aggression=aggression) + SHARED * shared)


def _find_facts(checkpoint: Checkpoint) -> Checkpoint:
    """Add to what stands beside a file what UVR knows of it by its hash."""
    known = _read_known()["models"].get(hash_tail(checkpoint.path), {})
    facts = {**known, **checkpoint.facts}
    for key in known.keys() & checkpoint.facts.keys():
        checkpoint.agree(f"(as UVR knows this file) {key}", known[key], key)
    return Checkpoint(checkpoint.path, checkpoint.tensors, facts, checkpoint.facts_path)


def _find_table(facts: Checkpoint) -> Mapping[str, Any]:
    """Return the table of bands that the facts are, or name."""
    if facts.fact("band") is not None:
        return facts.facts
    name, known = facts.need("vr_model_param"), _read_known()["bands"]
    if name not in known:
        raise ModelError(
            f"{facts.path}: no table of bands is called {name!r}; choose from {', '.join(known)}"
        )
    table: Mapping[str, Any] = known[name]
    return table


def _read_known() -> dict[str, Any]:
    known: dict[str, Any] = read_json(Path(__file__).with_name("vr.json"))
    return known


def _find_sizes(checkpoint: Checkpoint, recurrent: bool) -> dict[str, Any]:
    """Tell the sizes of the cascade from its tensors."""
    names = list(checkpoint.tensors)
    if recurrent:
        width = shape_of(checkpoint, "stg3_full_band_net.enc1.conv.0.weight", 4)[0]
        hidden = shape_of(checkpoint, "stg3_full_band_net.lstm_dec2.dense.0.weight", 2)[1]
        return {"width": width, "levels": 4, "lstm": hidden, "branches": 5}
    place = r"stg3_full_band_net\."
    return {
        "width": shape_of(checkpoint, "stg1_low_band_net.enc1.conv1.conv.0.weight", 4)[0],
        "levels": count(names, place + r"enc(\d+)\."),
        "branches": count(names, place + r"aspp\.conv(\d+)\."),
    }


def _read_table(table: Mapping[str, Any], recurrent: bool) -> dict[str, Any]:
    """Read a table of bands as UVR has them."""
    flag = next((name for name in MIXES if table.get(name)), "plain")
    numbered = sorted(table["band"].items(), key=lambda pair: int(pair[0]))
    bands = []
    for index, (_, band) in enumerate(numbered):
        only = len(numbered) == 1
        rises = (index > 0 or only) and band.get("hpf_start", 0) > 0
        falls = index < len(numbered) - 1
        bands.append({
            "rate": band["sr"], "hop": band["hl"], "window": band["n_fft"],
            "start": band["crop_start"], "stop": band["crop_stop"],
            "rises": (band["hpf_start"], band["hpf_stop"]) if rises else None,
            "falls": (band["lpf_start"], band["lpf_stop"]) if falls else None,
            "mix": band.get("convert_channels", "plain") if recurrent else flag,
        })  # fmt: skip
    slope = table["pre_filter_start"], table["pre_filter_stop"]
    return {
        "bands": bands,
        "rows": table["n_bins"] if "n_bins" in table else table["bins"],
        "falls": slope if slope[0] > 0 else None,
        "backwards": bool(table.get("reverse")) and not recurrent,
    }


def _sharpen(strength: float, single: bool) -> tuple[float, float]:
    """Return the exponents of the mask in the lowest band, and above."""
    strength = 1 - strength if single and strength else strength
    return 1 + strength / 3, 1 + strength


def _name_tensors(checkpoint: Checkpoint, recurrent: bool, levels: int) -> Tensors:
    """Give tensors our names."""
    layers = {
        r"aspp\.conv1\.1\.": "deepest.branches.0.",
        **{rf"aspp\.conv{n}\.": f"deepest.branches.{n - 1}." for n in range(2, 8)},
        r"aspp\.bottleneck\.(?:0\.)?(?=\d)": "deepest.join.",
        r"lstm_dec2\.conv\.": "lstm.enter.",
        r"lstm_dec2\.": "lstm.",
        **{rf"dec{n}\.conv1?\.": f"up.{levels - n}." for n in range(1, levels + 1)},
        r"enc1\.(?=\d)": "down.0.0.",  # of 5.1
    }
    for number in range(1, levels + 2):
        here, next_ = (number - 1, number - 1) if recurrent else (number - 1, number)
        place = 0 if recurrent or number == 1 else 1
        layers[rf"enc{number}\.conv1\."] = f"down.{here}.{place}."
        layers[rf"enc{number}\.conv2\."] = f"down.{next_}.{1 if recurrent else 0}."
    stages = STAGES_51 if recurrent else STAGES
    table = dict(TOP)
    for stage, ours in stages.items():
        table |= {rf"{stage}\.{layer}(.*)": rf"{ours}.{place}\1" for layer, place in layers.items()}
        table[rf"{stage}\.(\d.*)"] = rf"{ours}.\1"
    flat = {
        # what is a sequence within a block of its own there is a sequence here
        re.sub(r"\.conv\.(?=\d)", ".", name): tensor
        for name, tensor in checkpoint.tensors.items()
    }
    return rename(Checkpoint(checkpoint.path, flat), table)

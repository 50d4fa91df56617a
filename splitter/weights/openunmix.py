"""Open-Unmix: a file for each target, and constants that its published models share."""

from __future__ import annotations

import re
from collections.abc import Sequence

from splitter.registry import Config
from splitter.weights.checkpoint import Checkpoint, Converted, count, read_facts, rename, shape_of
from splitter.weights.stems import name_stems

NAMES = {
    r"((?:input|output)_(?:mean|scale)|(?:fc|bn)[123]\..*|lstm\..*)": r"\1",
    r".*(window|sample_rate)": "",  # of the transform, in the oldest files
}
USUAL = 4096  # samples of the window of umx, umxhq and umxl, at 44.1 kHz, a quarter apart
NOTE = (
    "The network and its Wiener filter are those of the package `openunmix` (`niter=1`), which "
    "hears whole songs; here a song longer than a tile is cut, and its tiles are faded. One target "
    "alone is filtered beside what it leaves of the song (`--residual`)."
)


def matches(names: Sequence[str]) -> bool:
    """Tell whether tensors of these names are of this family."""
    return {"input_mean", "fc1.weight", "lstm.weight_ih_l0"} <= set(names) or (
        "0.input_mean" in names
    )


def join(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """Make one checkpoint of those of all targets, which files are named after."""
    first = checkpoints[0]
    targets = [re.split(r"[-_]", one.path.stem)[0] for one in checkpoints]
    tensors = {
        f"{number}.{name}": tensor
        for number, one in enumerate(checkpoints)
        for name, tensor in rename(one, NAMES).items()
    }
    beside = first.path.parent / "separator.json"
    facts = {**(read_facts(beside) if beside.is_file() else {}), **first.facts}
    path = first.facts_path or beside
    return Checkpoint(first.path, tensors, {**facts, "targets": targets}, path)


def convert(checkpoint: Checkpoint) -> Converted:
    """Make a model of all targets."""
    names, tensors = list(checkpoint.tensors), checkpoint.tensors
    hidden, inputs = shape_of(checkpoint, "0.fc1.weight", 2)
    (bins,), (all_bins,) = (
        shape_of(checkpoint, f"0.{name}", 1) for name in ("input_mean", "output_mean")
    )
    window = 2 * (all_bins - 1)
    checkpoint.agree("a window of", window, "nfft")
    checkpoint.agree("channels", inputs // bins, "nb_channels")
    targets = checkpoint.need("targets")  # one file each: not all that a song is made of
    stems, residual = name_stems(targets, whole=False)
    published = window == USUAL
    sizes = {
        "hidden": hidden,
        "bins": bins,
        "layers": count(names, r"0\.lstm\.weight_ih_l(\d+)"),
        "bidirectional": "0.lstm.weight_ih_l0_reverse" in names,
        "wiener": 1,
        "window": window,
        "hop": USUAL // 4 if published and not checkpoint.fact("nhop") else checkpoint.need("nhop"),
    }
    rate = checkpoint.fact("sample_rate", default=44100 if published else None)
    rate = int(checkpoint.need("sample_rate") if rate is None else rate)
    config = Config("open-unmix", sizes, rate, inputs // bins, tuple(stems), residual)
    return Converted(config, {f"targets.{name}": tensors[name] for name in names}, NOTE)

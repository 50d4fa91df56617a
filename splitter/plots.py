"""Pictures: the scores of a training, and spectrograms."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splitter.errors import MissingExtra

CURVES = "curves.png"


def draw_curves(run: Path) -> Path:
    """Draw log.csv and validation.csv of a run as curves.png, over hours of sound."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    log = read_columns(run / "log.csv")
    losses = log.get("loss", [])
    left.plot(log.get("step", []), losses, linewidth=0.8)
    scale = "linear" if any(loss <= 0 for loss in losses) else "log"  # critics' is of either sign
    left.set(xlabel="step", ylabel="training loss", yscale=scale)
    scores = read_columns(run / "validation.csv")
    right.plot(scores.get("hours", []), scores.get("improvement_db", []), marker="o")
    right.set(xlabel="hours of sound heard", ylabel="vocals SDR over the mixture, dB")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(run / CURVES, dpi=120)
    pyplot.close(figure)
    return run / CURVES


def read_columns(path: Path) -> dict[str, list[float]]:
    """Read a CSV file of numbers by columns; no file, no columns."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else ())}


def draw_levels(levels: npt.NDArray[np.uint8]) -> bytes:
    """Draw levels of 0…255, (rows, columns), as a picture in WebP; a pixel each.

    Raises MissingExtra where matplotlib is not installed.
    """
    file = io.BytesIO()
    options = {"quality": 70, "method": 2}
    colors = {"vmin": 0, "vmax": 255, "cmap": "magma"}
    import_imsave()(file, levels, format="webp", pil_kwargs=options, **colors)
    return file.getvalue()


def import_imsave() -> Callable[..., None]:
    """Import what writes pictures; raise MissingExtra where matplotlib is not installed."""
    try:
        from matplotlib.image import imsave
    except ImportError as error:
        raise MissingExtra("plots") from error
    return imsave

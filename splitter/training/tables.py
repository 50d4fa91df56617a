"""What a run tells of itself in its folder, a row every few steps.

log.csv          step, loss, learning rate, × real time, what parts tell (perplexity)
validation.csv   step, hours of sound, SDR on held-out songs, its gain over the mixture
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitter.atomic import write_atomically

LOG, VALIDATION = "log.csv", "validation.csv"


@dataclass(frozen=True)
class Progress:
    """What a training step tells its audience."""

    step: int
    loss: float  # mean since the last report
    speed: float  # seconds of audio a second
    sdr: float | None  # dB, median over held-out songs, when it was just measured
    improvement: float | None  # dB over the mixture handed back


def write_progress(
    run: Path, progress: Progress, rate: float, hours: float, parts: Mapping[str, float]
) -> None:
    """Add a row to the tables: the learning rate, hours of sound heard, what parts measured."""
    row = [progress.step, f"{progress.loss:.6g}", f"{rate:.4g}", f"{progress.speed:.1f}"]
    header = ["step", "loss", "learning_rate", "x_realtime", *parts]
    _append(run / LOG, header, [*row, *(f"{value:.4g}" for value in parts.values())])
    if progress.sdr is not None:
        scores = [f"{hours:.2f}", f"{progress.sdr:.3f}", f"{progress.improvement:.3f}"]
        header = ["step", "hours", "sdr_db", "improvement_db"]
        _append(run / VALIDATION, header, [progress.step, *scores])


def forget_after(run: Path, step: int) -> None:
    """Drop the rows that a killed run wrote after its checkpoint: their steps are taken again."""
    for path in (run / LOG, run / VALIDATION):
        if not path.exists():
            continue
        header, *rows = path.read_bytes().splitlines(keepends=True) or [b""]
        kept = [row for row in rows if row.endswith(b"\n") and int(row.split(b",")[0]) <= step]
        if kept:
            write_atomically(path, b"".join([header, *kept]))
        else:
            path.unlink()


def _append(path: Path, header: list[str], row: list[Any]) -> None:
    fresh = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, row] if fresh else [row])

"""The check of a GPU, on a processor: it runs to its end, and notices what is wrong."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts import gpu_check
from scripts.gpu_check import SMALL, Bench, Row, agreement, check


@pytest.fixture
def bench(tmp_path: Path, small_model_folder: Path) -> Bench:
    size = replace(SMALL, models=(str(small_model_folder),), crop=16_384)
    return Bench(torch.device("cpu"), size, tmp_path)


def test_a_processor_agrees_with_itself_in_everything(bench: Bench) -> None:
    rows = list(check(bench, time.monotonic()))
    assert [str(row) for row in rows if row.fails] == []
    judged = [row for row in rows if row.least is not None]
    assert len(judged) >= 7
    assert all(np.isfinite(row.found) for row in rows)


def test_what_goes_wrong_is_a_row_and_the_rest_is_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_: Bench) -> list[Row]:
        raise RuntimeError("out of memory")

    checks = {"lanes": breaks, "batches": gpu_check.check_batches}
    monkeypatch.setattr(gpu_check, "CHECKS", checks)
    rows = list(check(bench, time.monotonic()))
    assert rows[0].fails
    assert "out of memory" in rows[0].what
    assert [row.what for row in rows[1:]] == ["a batch of 1", "a batch of 2"]
    (late,) = [*check(bench, time.monotonic() - gpu_check.DEADLINE - 1)][:1]
    assert late.fails


def test_agreement_is_a_ratio_of_energies() -> None:
    signal = np.ones((2, 100), np.float32)
    assert agreement(signal, signal * np.float32(0.99)) == pytest.approx(40, abs=0.01)

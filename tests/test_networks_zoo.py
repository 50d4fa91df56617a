"""scripts/zoo.py, in small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.zoo import find_sizes
from splitter.training.recipe import Recipe
from tests import sounds, zoo
from tests.test_scripts import run_script


@pytest.mark.slow
def test_the_table_of_networks_is_resumed_and_says_what_is_exact(
    data: Path, tmp_path: Path
) -> None:
    sizes = {**zoo.SPECTROGRAM, "width": 4, "levels": 3}  # of another network: only the spectrogram
    recipe = {"sizes": sizes, "rate": 8000, "channels": 1, "crop": 4096, "batch": 1, "warmup": 1}
    recipe |= {"validation": ["held/*"]}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    arguments = (data, "-o", tmp_path / "out", "--recipe", tmp_path / "recipe.json")
    chosen = ("--minutes", 0.002, "--network", "mobile-unet")
    assert len(run_script("zoo.py", *arguments, *chosen).splitlines()) == 3
    kept = (tmp_path / "out/mobile-unet/model/weights.safetensors").stat().st_mtime_ns
    table = run_script("zoo.py", *arguments, *chosen, "--network", "non-local-unet")
    first, second = (line.split(" | ") for line in table.splitlines()[2:])
    refused = run_script("zoo.py", *arguments, *chosen, "--seed", 1, status=2)
    assert "of other minutes, seed, fold or recipe; give another --output" in refused
    assert first[0].endswith("`mobile-unet`")
    assert first[5] == "exact"
    assert second[0].endswith("`non-local-unet`")
    assert second[5].endswith(" dB")
    assert (tmp_path / "out/mobile-unet/model/weights.safetensors").stat().st_mtime_ns == kept


def test_what_hears_samples_keeps_its_own_window() -> None:
    base = Recipe(sizes=sounds.SMALL_SIZES)
    assert find_sizes("conv-tasnet", base) == find_sizes("wave-u-net", base) == {}
    assert find_sizes("unet-bn", base) == zoo.SPECTROGRAM

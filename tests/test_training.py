from __future__ import annotations

import csv
import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from splitter.errors import DataError, ModelError
from splitter.reporting import draw_curves
from splitter.spectral import Stft
from splitter.training.loop import Trainer, Validation, batches, learning_rate
from splitter.training.losses import LOSSES, Estimate, heard_bins
from splitter.training.mixing import (
    Mixer,
    Pool,
    code,
    compress,
    drive,
    equalize,
    pan,
    reverberate,
    widen,
)
from splitter.training.pools import (
    Pools,
    find_sources,
    load_sources,
    measure_bandwidth,
    sort_pools,
)
from splitter.training.ranks import Ranks
from splitter.training.recipe import Mixing, Recipe, read_recipe, write_recipe
from splitter.zoo import load_model
from tests import sounds

RECIPE = Recipe(
    sizes=sounds.SMALL_SIZES,
    crop=16384,
    batch=2,
    steps=40,
    warmup=4,
    learning_rate=1e-2,
    validate_every=20,
    validation=("held/*",),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Voices, music and pairs of a few seconds."""
    folder = tmp_path_factory.mktemp("data")
    sounds.write(folder / "vocals/singer/one.wav", sounds.voice(3))
    sounds.write(folder / "vocals/singer/low.wav", sounds.voice(3, 16000), 16000)
    sounds.write(folder / "instrumental/band/two.wav", sounds.music(3))
    for song in ("pairs/a", "held/b"):
        sounds.write(folder / song / "vocals.wav", sounds.voice(2))
        sounds.write(folder / song / "instrumental.wav", sounds.music(2))
    (folder / "notes.txt").write_text("not sound")
    return folder


@pytest.fixture(scope="module")
def pools(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Pools:
    sources = load_sources(find_sources(data), tmp_path_factory.mktemp("cache"), 44100)
    return sort_pools(sources, RECIPE.validation)


def trainer(run: Path, recipe: Recipe = RECIPE) -> Trainer:
    return Trainer(recipe, run, torch.device("cpu"), torch.float32)


def weights(trained: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trained.average.state_dict().items()}


def test_folders_say_what_is_voice_and_what_is_music(pools: Pools) -> None:
    assert [source.name for source in pools.pairs] == ["pairs/a"]
    assert [source.name for source in pools.voices] == ["vocals/singer/low", "vocals/singer/one"]
    assert [source.name for source in pools.music] == ["instrumental/band/two"]
    assert [source.name for source in pools.validation] == ["held/b"]


def test_a_folder_with_nothing_to_train_on_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}: nothing to train on"):
        find_sources(tmp_path)


def test_voices_without_music_are_refused(pools: Pools) -> None:
    with pytest.raises(DataError, match="need aligned pairs, or voices and music"):
        sort_pools(pools.voices, ())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nosuch"):
        find_sources(tmp_path / "nosuch")


def test_files_are_decoded_once(data: Path, tmp_path: Path) -> None:
    first = list(load_sources(find_sources(data), tmp_path, 44100))
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    list(load_sources(find_sources(data), tmp_path, 44100))
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert first[0].length > 0


def _count_sources(data: Path, cache: Path) -> int:
    return len(list(load_sources(find_sources(data), cache, 44100)))


def test_processes_may_fill_one_cache_at_the_same_time(data: Path, tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as processes:
        counts = [processes.submit(_count_sources, data, tmp_path / "cache") for _ in range(3)]
        assert {count.result() for count in counts} == {5}
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("bandwidth", [4000, 8000, 16000])
def test_the_bandwidth_is_measured(bandwidth: int) -> None:
    noise = np.fft.rfft(sounds.noise(2**17))
    frequencies = np.linspace(0, 22050, noise.shape[-1])
    limited = np.fft.irfft(np.where(frequencies < bandwidth, noise, 0))
    # 86 Hz of smoothing, and the slope of the window
    assert measure_bandwidth(limited, 44100) == pytest.approx(bandwidth, abs=300)


def test_an_example_depends_on_seed_and_number_alone(pools: Pools) -> None:
    first, second = Mixer(pools, RECIPE), Mixer(pools, RECIPE)
    second.example(3)
    assert np.array_equal(first.example(7).mixture, second.example(7).mixture)
    assert not np.array_equal(first.example(7).mixture, first.example(8).mixture)
    other = Mixer(pools, replace(RECIPE, seed=1))
    assert not np.array_equal(first.example(7).mixture, other.example(7).mixture)


def test_examples_have_the_shape_and_the_loudness_asked_for(pools: Pools) -> None:
    mixer = Mixer(pools, RECIPE)
    for example in map(mixer.example, range(30)):
        assert example.mixture.shape == example.vocals.shape == (2, RECIPE.crop)
        assert example.mixture.dtype == example.vocals.dtype == np.float32
        loudness = 20 * np.log10(np.sqrt(np.mean(example.mixture**2)) + 1e-9)
        assert -30.1 < loudness < -11.9 or not example.mixture.any()


def test_examples_without_voice_and_without_music_are_drawn(pools: Pools) -> None:
    mixing = Mixing(aligned=0, no_voice=0.3, no_music=0.3)
    mixer = Mixer(pools, replace(RECIPE, mixing=mixing))
    examples = [mixer.example(index) for index in range(60)]
    silent = sum(not example.vocals.any() for example in examples)
    alone = sum(np.array_equal(example.vocals, example.mixture) for example in examples)
    assert 8 <= silent <= 30
    assert 8 <= alone <= 30


def test_the_loss_is_kept_below_what_a_clip_holds(pools: Pools) -> None:
    low = [source for source in pools.voices if source.name.endswith("low")]
    only = Mixer(replace(pools, pairs=[], voices=low), replace(RECIPE, mixing=Mixing(no_voice=0)))
    assert all(only.example(index).bandwidth < 8000 * 1.15 for index in range(10))


def test_weights_decide_how_often_a_source_is_drawn(pools: Pools) -> None:
    pool = Pool(pools.voices, [("*/low", 0.0)])
    random = np.random.default_rng(0)
    assert {pool.draw(random).name for _ in range(50)} == {"vocals/singer/one"}


@pytest.mark.parametrize("samples", [1000, 16384])
def test_changes_keep_the_shape_and_change_the_sound(samples: int) -> None:
    signal = sounds.noise(samples)
    random = np.random.default_rng(0)
    for changed in (
        equalize(signal, 44100, 9.0, random),
        reverberate(signal, 44100, random),
        pan(signal, random),
        widen(signal, random),
        compress(signal, 44100, random),
        drive(signal, random),
        code(signal, 44100, random),
    ):
        assert changed.shape == signal.shape
        assert changed.dtype == np.float32
        assert not np.allclose(changed, signal)


def test_compression_brings_loud_and_quiet_together() -> None:
    signal = sounds.noise(44100)
    signal[:, 22050:] *= 0.1
    squeezed = compress(signal, 44100, np.random.default_rng(0))
    halves = [np.sqrt(np.mean(np.square(part))) for part in np.split(squeezed, 2, axis=1)]
    assert 1.5 < halves[0] / halves[1] < 5  # was 10
    assert np.mean(np.square(squeezed)) == pytest.approx(np.mean(np.square(signal)), rel=1e-3)


def test_soft_clipping_lowers_peaks_only() -> None:
    signal = sounds.noise(44100)
    signal[:, 1000] = 2.0
    clipped = drive(signal, np.random.default_rng(0))
    assert clipped.max() < 1.0
    assert np.corrcoef(clipped[0, 2000:], signal[0, 2000:])[0, 1] > 0.98


def test_width_changes_the_sides_and_keeps_the_middle() -> None:
    signal = sounds.noise(1000)
    wide = widen(signal, np.random.default_rng(0))
    np.testing.assert_allclose(wide.mean(0), signal.mean(0), atol=1e-6)
    sides = (wide[0] - wide[1]) / (signal[0] - signal[1])
    np.testing.assert_allclose(sides, sides[0], rtol=1e-2)


@pytest.mark.parametrize("rate", [16000, 44100, 96000])
def test_a_codec_loses_little_of_a_song(rate: int) -> None:
    signal = sounds.music(1, rate)
    coded = code(signal, rate, np.random.default_rng(0))
    assert 0.9 < np.corrcoef(coded[0], signal[0])[0, 1] < 1


def test_an_equalizer_stays_within_its_range() -> None:
    signal = sounds.noise(2**16)
    changed = equalize(signal, 44100, 6.0, np.random.default_rng(0))
    gain = 20 * np.log10(np.abs(np.fft.rfft(changed)) / np.abs(np.fft.rfft(signal)))
    assert np.abs(gain).max() < 6.01


def estimate(mask: torch.Tensor, bandwidth: float, share: float = 1.0) -> Estimate:
    """Estimate a voice that is `share` of a noise."""
    stft = Stft(1024, 256)
    signal = torch.from_numpy(sounds.noise(16384, channels=2))[None]
    mixture = stft(signal)
    heard = heard_bins(torch.tensor([bandwidth]), stft.bins, 16000)
    return Estimate(mask, mixture, share * mixture, heard, stft)


MASK_SHAPE = (1, 2, 513, 64)


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_the_ideal_mask_is_zero_and_grows_with_the_error(name: str) -> None:
    losses = [
        float(LOSSES[name](estimate(torch.full(MASK_SHAPE, mask), 8000, share=0.5)))
        for mask in (0.5, 0.6, 0.8)
    ]
    assert losses[0] < 1e-5
    assert losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_is_learned_above_the_bandwidth(name: str) -> None:
    mask = torch.full(MASK_SHAPE, 0.5, requires_grad=True)
    LOSSES[name](estimate(mask, 4000.0, share=0.0)).backward()
    touched = mask.grad.abs().sum((0, 1, 3)) > 0
    assert touched.tolist() == [True] * 257 + [False] * 256  # up to 4000 Hz


def test_the_weighted_loss_looks_where_both_sources_are_loud() -> None:
    """The same error counts more in a bin that is half voice than in one that is all music."""

    def error(wrong: slice) -> float:
        truth = estimate(torch.zeros(MASK_SHAPE), 8000)
        share = torch.zeros(MASK_SHAPE)
        share[..., :256, :] = 0.5  # voice below, music above
        mask = share.clone()
        mask[..., wrong, :] += 0.1
        same_loudness = replace(truth, mixture=torch.ones_like(truth.mixture))
        judged = replace(same_loudness, mask=mask, vocals=share * same_loudness.mixture)
        return float(LOSSES["weighted"](judged))

    assert error(slice(0, 100)) > 2 * error(slice(300, 400))


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    rates = [learning_rate(step, RECIPE) for step in range(RECIPE.steps + 1)]
    assert rates[0] == pytest.approx(RECIPE.learning_rate / RECIPE.warmup)
    assert max(rates) == pytest.approx(RECIPE.learning_rate, rel=0.05)
    assert rates[-1] == 0


def test_training_lowers_the_loss_and_exports_a_model(pools: Pools, tmp_path: Path) -> None:
    trained = trainer(tmp_path)
    device = torch.device("cpu")
    steps = batches(Mixer(pools, RECIPE), RECIPE, 0, RECIPE.steps)
    progress = list(trained.train(steps, Validation(pools, RECIPE, device)))
    assert [report.step for report in progress] == [20, 40]
    assert progress[-1].loss < 0.9 * progress[0].loss
    assert progress[-1].sdr is not None
    trained.export(tmp_path / "model")
    assert load_model(str(tmp_path / "model")).stems == ("vocals", "instrumental")
    with (tmp_path / "validation.csv").open(encoding="utf-8") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["20", "40"]


def test_the_best_weights_are_kept_and_exported(pools: Pools, tmp_path: Path) -> None:
    scores = iter([(9.0, 9.0), (1.0, 1.0)])
    trained = trainer(tmp_path)
    states = []
    for _ in trained.train(
        batches(Mixer(pools, RECIPE), RECIPE, 0, RECIPE.steps), lambda _: next(scores)
    ):
        states.append({name: t.clone() for name, t in trained.average.state_dict().items()})
    trained.export(tmp_path / "best")
    kept = load_model(str(tmp_path / "best")).network.state_dict()
    for name, tensor in states[0].items():
        assert torch.allclose(kept[name], tensor, rtol=1e-3, atol=1e-4), name
    assert any(not torch.allclose(kept[n], t, rtol=1e-3, atol=1e-4) for n, t in states[1].items())


def test_a_resumed_training_ends_where_an_undisturbed_one_does(
    pools: Pools, tmp_path: Path
) -> None:
    def run(first: int, until: int, folder: Path) -> Trainer:
        folder.mkdir(exist_ok=True)
        trained = trainer(folder, replace(RECIPE, validate_every=1000))
        assert trained.load() == (first > 0)
        for _ in trained.train(
            batches(Mixer(pools, RECIPE), RECIPE, first, until), lambda _: (0.0, 0.0)
        ):
            pass
        trained.save()
        return trained

    undisturbed = weights(run(0, 8, tmp_path / "one"))
    run(0, 5, tmp_path / "two")
    resumed = weights(run(5, 8, tmp_path / "two"))
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)


def test_a_training_starts_from_a_network_that_lacks_blocks(pools: Pools, tmp_path: Path) -> None:
    first = trainer(tmp_path)
    more = trainer(tmp_path, replace(RECIPE, sizes={**sounds.SMALL_SIZES, "blocks": 2}))
    more.start_from(first.network, tmp_path)
    before = weights(more)
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(before[name], tensor), name
    list(more.train(batches(Mixer(pools, RECIPE), RECIPE, 0, 3), lambda _: (0.0, 0.0)))
    assert more.network.unet.added[0].gain.abs().max() > 0


@pytest.mark.parametrize("sizes", [{"width": 8}, {"levels": 2}, {"blocks": 1}])
def test_a_start_from_another_network_is_refused_in_one_line(
    tmp_path: Path, sizes: dict[str, int]
) -> None:
    other = trainer(tmp_path, replace(RECIPE, sizes={**sounds.SMALL_SIZES, **sizes}))
    with pytest.raises(ModelError, match=r"other: tensor '\S+' (is|has) [^\n]+$"):
        trainer(tmp_path).start_from(other.network, Path("other"))


def test_a_loss_that_is_no_number_changes_nothing(pools: Pools, tmp_path: Path) -> None:
    trained = trainer(tmp_path)
    before = {name: t.clone() for name, t in trained.network.state_dict().items()}
    batch = next(batches(Mixer(pools, RECIPE), RECIPE, 0, 1))
    batch.mixture[0, 0, 100] = float("nan")
    list(trained.train(iter([batch]), lambda _: (0.0, 0.0)))
    after = trained.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_unknown_loss_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'loud'"):
        trainer(tmp_path, replace(RECIPE, loss="loud"))


def test_stereo_is_mixed_down_for_a_mono_network(pools: Pools) -> None:
    example = Mixer(pools, replace(RECIPE, channels=1)).example(3)
    assert example.mixture.shape == (1, RECIPE.crop)


def test_curves_are_drawn_from_what_a_run_logged(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,loss\n20,0.5\n40,0.4\n")
    empty = draw_curves(tmp_path).read_bytes()
    (tmp_path / "validation.csv").write_text("step,hours,improvement_db\n20,1,3\n40,2,4\n")
    drawn = draw_curves(tmp_path).read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert drawn != empty


def test_a_recipe_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    write_recipe(RECIPE, path)
    again = read_recipe(path)
    assert json.dumps(again.sizes) == json.dumps(RECIPE.sizes)
    assert again.mixing == replace(RECIPE.mixing, loudness=[-30.0, -12.0])


@pytest.mark.parametrize("text", ['{"stepz": 1}', '{"mixing": {"stepz": 1}}'])
def test_an_unknown_key_of_a_recipe_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="'stepz'"):
        read_recipe(path)


def test_processes_share_every_batch_and_make_one_model(data: Path, tmp_path: Path) -> None:
    """Two processes give one model; a batch that three cannot share is refused."""
    write_recipe(replace(RECIPE, steps=6, validate_every=3), tmp_path / "recipe.json")
    train = ["splitter", "train", str(data), "-o", str(tmp_path / "model")]
    train += ["--recipe", str(tmp_path / "recipe.json"), "--run", str(tmp_path / "run")]
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, "--", *train], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model") == 1  # one of them reports
    assert load_model(str(tmp_path / "model")).stems == ("vocals", "instrumental")
    with (tmp_path / "run/validation.csv").open(encoding="utf-8") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["3", "6"]
    with pytest.raises(DataError, match="3 equal parts"):
        Trainer(RECIPE, tmp_path, torch.device("cpu"), torch.float32, Ranks(0, 3))


def test_ranks_take_different_examples_of_a_batch(pools: Pools) -> None:
    whole = next(batches(Mixer(pools, RECIPE), RECIPE, 0, 1))
    parts = [
        next(batches(Mixer(pools, RECIPE), RECIPE, 0, 1, ranks=Ranks(number, 2)))
        for number in range(2)
    ]
    assert torch.equal(torch.cat([part.mixture for part in parts]), whole.mixture)

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from splitter.errors import DataError, ModelError, SplitterError
from splitter.loading import load_model
from splitter.locks import try_lock
from splitter.networks import Average
from splitter.plots import draw_curves
from splitter.training.batches import batches
from splitter.training.loop import Trainer, learning_rate, train_on
from splitter.training.mixing import Example, Mixer
from splitter.training.optimizers import OPTIMIZERS
from splitter.training.ranks import Ranks
from splitter.training.recipe import Adversarial, Recipe, read_recipe, write_recipe
from splitter.training.sources import Pools, find_sources, load_sources
from splitter.training.validation import Validation
from tests import sounds, zoo
from tests.commands import ENVIRONMENT, call
from tests.trainings import RECIPE


def trainer(run: Path, recipe: Recipe = RECIPE) -> Trainer:
    return Trainer(recipe, run, torch.device("cpu"), torch.float32)


def weights(trained: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trained.average.state_dict().items()}


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    rates = [learning_rate(step, RECIPE) for step in range(RECIPE.steps + 1)]
    assert rates[0] == pytest.approx(RECIPE.learning_rate / RECIPE.warmup)
    assert max(rates) == pytest.approx(RECIPE.learning_rate, rel=0.05)
    assert rates[-1] == 0


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_lowers_the_loss_and_exports_a_model(
    optimizer: str, pools: Pools, tmp_path: Path
) -> None:
    trained = trainer(tmp_path, replace(RECIPE, optimizer=optimizer))
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


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_training_ends_where_an_undisturbed_one_does(
    optimizer: str, pools: Pools, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, optimizer=optimizer, validate_every=1000)

    def run(first: int, until: int, folder: Path) -> Trainer:
        folder.mkdir(exist_ok=True)
        trained = trainer(folder, recipe)
        assert trained.load() == (first > 0)
        for _ in trained.train(
            batches(Mixer(pools, recipe), recipe, first, until), lambda _: (0.0, 0.0)
        ):
            pass
        trained.save()
        return trained

    undisturbed = weights(run(0, 8, tmp_path / "one"))
    run(0, 5, tmp_path / "two")
    resumed = weights(run(5, 8, tmp_path / "two"))
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)


def test_the_loss_of_parts_is_learned_from_and_their_perplexity_logged(
    pools: Pools, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, network="vq-unet", sizes=zoo.small_sizes("vq-unet"), steps=20)
    trained = trainer(tmp_path, recipe)
    before = {name: t.clone() for name, t in trained.network.state_dict().items()}
    list(trained.train(batches(Mixer(pools, recipe), recipe, 0, 20), lambda _: None))
    with (tmp_path / "log.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert 1 < float(row["perplexity_1"]) <= 16
    assert 1 < float(row["perplexity_2"]) <= 16
    after = trained.network.state_dict()
    assert not torch.equal(before["unet.bottom.sums"], after["unet.bottom.sums"])

    def lose(commitment: float) -> float:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("splitter.networks.quantising.COMMITMENT", commitment)
            torch.manual_seed(0)
            return float(trained._loss(batch).detach())

    (batch,) = batches(Mixer(pools, recipe), recipe, 0, 1)
    state = {name: t.clone() for name, t in trained.network.state_dict().items()}
    without = lose(0.0)
    trained.network.load_state_dict(state)
    assert lose(1.0) > without


@pytest.mark.slow
def test_what_a_killed_run_told_after_its_checkpoint_is_told_once(
    pools: Pools, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, steps=80, validate_every=20)

    def run(folder: Path, until: int) -> None:
        folder.mkdir(exist_ok=True)
        trained = trainer(folder, recipe)
        trained.load()
        for _ in train_on(pools, trained, until):
            pass

    def told(folder: Path, name: str) -> list[list[str]]:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            return [row[:3] for row in csv.reader(file)]  # the last one tells the speed

    one, two = tmp_path / "one", tmp_path / "two"
    run(one, 80)
    run(two, 30)  # between two rows
    run(two, 40)
    checkpoint = (two / "checkpoint.safetensors").read_bytes()
    run(two, 60)
    (two / "checkpoint.safetensors").write_bytes(checkpoint)  # as if killed before the next one
    with (two / "log.csv").open("a", encoding="utf-8") as log:
        log.write("8")  # and in the middle of a row
    run(two, 80)
    for name in ("log.csv", "validation.csv"):
        assert told(two, name) == told(one, name)
    assert [row[0] for row in told(two, "log.csv")] == ["step", "20", "40", "60", "80"]


def test_a_training_starts_from_a_network_that_lacks_blocks(pools: Pools, tmp_path: Path) -> None:
    first = trainer(tmp_path)
    sizes = {**sounds.SMALL_SIZES, "blocks": 2, "blocks_up": 1}
    more = trainer(tmp_path, replace(RECIPE, sizes=sizes))
    more.start_from(first.network, first.config, tmp_path)
    before = weights(more)
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(before[name], tensor), name
    list(more.train(batches(Mixer(pools, RECIPE), RECIPE, 0, 3), lambda _: (0.0, 0.0)))
    assert more.network.unet.added[0].gain.abs().max() > 0
    assert more.network.unet.added_up[0].gain.abs().max() > 0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"width": 8},
            "training cannot start from it, because its width is 8, not 4 as in the recipe",
        ),
        (
            {"hop": 128},
            "training cannot start from it, because its hop is 128, not 64 as in the recipe",
        ),
        ({"blocks": 1}, r"tensor 'unet.added.0.block.convolve.0.weight' is not part of [^\n]+"),
        (
            {"rate": 8000},
            "training cannot start from it, because its rate is 8000, not 44100 as in the recipe",
        ),
    ],
)
def test_a_start_from_another_network_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, int], complaint: str
) -> None:
    sizes = {k: v for k, v in changes.items() if k != "rate"}
    rate = changes.get("rate", RECIPE.rate)
    other = trainer(tmp_path, replace(RECIPE, rate=rate, sizes={**sounds.SMALL_SIZES, **sizes}))
    with pytest.raises(ModelError, match=f"^other: {complaint}$"):
        trainer(tmp_path).start_from(other.network, other.config, Path("other"))


def test_a_start_from_the_average_of_several_is_refused(tmp_path: Path) -> None:
    one = trainer(tmp_path)
    with pytest.raises(ModelError, match=r"^several: an average of models has no weights"):
        one.start_from(Average([one.network]), one.config, Path("several"))


def test_a_run_of_another_recipe_is_not_gone_on_with(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    first.save()
    write_recipe(RECIPE, tmp_path / "recipe.json")
    assert trainer(tmp_path, replace(RECIPE, steps=80)).load()
    other = replace(RECIPE, mixing=replace(RECIPE.mixing, pan=0.1))
    with pytest.raises(DataError, match=r"this run has another 'mixing'; give .* \(--run\)"):
        trainer(tmp_path, other).load()


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ([], "the whole file must be a JSON object"),
        ({"mixing": None}, "mixing must be a JSON object"),
        ({"mixing": {"pan": 2}}, "mixing.pan is 2; it must be a number from 0 to 1"),
        ({"mixing": {"level_spread": -5}}, "mixing.level_spread is -5; it must be a number from 0"),
        (
            {"mixing": {"loudness": [-12, -30]}},
            r"mixing.loudness is \[-12, -30\]; .* lower one first",
        ),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"weights": [["a", 1]]}, r"weights\[0\] is \['a', 1\]"),
        ({"warmup": 0}, "warmup is 0"),
        ({"validate_every": 0.5}, "validate_every is 0.5"),
        ({"stepps": 1}, "unknown key 'stepps'"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_line(raw: object, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(DataError, match=f"^{path}: {complaint}[^\n]*$"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"network": "unet"}, "unknown network 'unet'"), ({"sizes": {"hight": 1}}, "key 'hight'")],
)
def test_a_network_that_is_not_known_is_one_line(
    changes: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=complaint):
        trainer(tmp_path, replace(RECIPE, **changes))


def test_without_held_out_songs_nothing_is_scored(pools: Pools, tmp_path: Path) -> None:
    assert Validation(replace(pools, validation=[]), RECIPE, torch.device("cpu"))(None) is None
    trained = trainer(tmp_path, replace(RECIPE, steps=2))
    none = replace(pools, validation=[])
    (progress,) = train_on(none, trained)
    assert progress.sdr is None and not (tmp_path / "validation.csv").exists()


def test_a_loss_that_is_no_number_changes_nothing(pools: Pools, tmp_path: Path) -> None:
    trained = trainer(tmp_path)
    before = {name: t.clone() for name, t in trained.network.state_dict().items()}
    batch = next(batches(Mixer(pools, RECIPE), RECIPE, 0, 1))
    batch.mixture[0, 0, 100] = float("nan")
    list(trained.train(iter([batch]), lambda _: (0.0, 0.0)))
    after = trained.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(SplitterError, match=r"the last 50 steps is no number; try a lower"):
        list(trained.train(iter([batch] * 60), lambda _: (0.0, 0.0)))


@pytest.mark.parametrize("adversarial", [0.0, 0.1])
def test_a_loss_too_large_for_a_number_changes_nothing(
    adversarial: float, pools: Pools, tmp_path: Path
) -> None:
    songs = [replace(pools.pairs[0], mixture=pools.pairs[0].vocals)]
    recipe = replace(RECIPE, adversarial=Adversarial(weight=adversarial))
    trained = trainer(tmp_path, recipe)
    parts = [trained.network, trained.average, *([trained.critics] if trained.critics else [])]
    mixer = Mixer(replace(pools, mixtures=songs), recipe)
    good, huge = batches(mixer, recipe, 0, 2)
    for signal in (huge.mixture, huge.vocals, *([huge.loose.mixture] if huge.loose else [])):
        signal *= 1e30
    trained.take_step(good)
    before = [t.clone() for part in parts for t in part.state_dict().values()]
    assert math.isnan(trained.take_step(huge))
    after = [t for part in parts for t in part.state_dict().values()]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert math.isfinite(trained.take_step(good))


def test_a_file_of_another_program_is_no_checkpoint(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "checkpoint.safetensors")
    with pytest.raises(DataError, match=r"checkpoint\.safetensors: is no checkpoint of splitter"):
        trainer(tmp_path).load()


def test_a_run_is_for_one_process_and_keeps_its_recipe_where_nothing_is_trained(
    data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "model.run"
    run.mkdir()
    (run / "recipe.json").write_text('{"steps": 7}')
    (tmp_path / "empty").mkdir()
    done = call("train", "empty", "-o", "model", folder=tmp_path)
    assert done.status == 2 and "nothing to train on" in done.stderr
    assert (run / "recipe.json").read_text() == '{"steps": 7}'
    with (run / ".lock").open("w") as lock:
        assert try_lock(lock)
        done = call("train", str(data), "-o", "model", folder=tmp_path)
    assert done.status == 2 and "another process trains there; wait, or give" in done.stderr


def test_a_run_that_has_taken_all_its_steps_says_so(data: Path, tmp_path: Path) -> None:
    write_recipe(
        replace(RECIPE, crop=4096, batch=1, steps=2, validation=()), tmp_path / "mine.json"
    )
    command = ("train", data, "-o", "model", "--recipe", "mine.json")
    assert call(*command, folder=tmp_path).status == 0
    recipe = (tmp_path / "model.run" / "recipe.json").read_bytes()
    done = call(*command, "--steps", "1", "--init", "unet", folder=tmp_path)
    assert done.status == 0
    told = "no more steps are asked for, and the model stays as it is; give more --steps"
    assert told in done.stderr
    assert (tmp_path / "model.run" / "recipe.json").read_bytes() == recipe


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no such names")
def test_songs_are_learned_from_whose_names_are_no_utf8(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"Beyonc\xe9")
    shutil.copytree(data, folder)
    loaded = load_sources(find_sources(folder), tmp_path / "cache", 44100)
    assert [source.name for source in loaded] == [files.name for files in find_sources(data)]


def test_examples_made_ahead_do_not_keep_a_training_that_is_stopped(
    pools: Pools, tmp_path: Path
) -> None:
    mixer = Mixer(pools, RECIPE)
    asked: list[int] = []

    def make(index: int) -> Example:
        asked.append(index)
        time.sleep(0.02)
        return Mixer.example(mixer, index)

    mixer.example = make  # type: ignore[method-assign]
    made = batches(mixer, replace(RECIPE, batch=8), 0, 20)
    next(made)
    made.close()
    assert len(asked) < 16  # of the 40 for five batches


def test_steps_that_change_nothing_are_counted_in_one_go(pools: Pools, tmp_path: Path) -> None:
    trained = trainer(tmp_path)
    good, bad = (next(batches(Mixer(pools, RECIPE), RECIPE, 0, 1)) for _ in range(2))
    bad.mixture[0, 0, 100] = float("nan")
    told = list(trained.train(iter([bad] * 49 + [good] + [bad] * 49), lambda _: (0.0, 0.0)))
    assert [math.isnan(row.loss) for row in told] == [row.step != 60 for row in told]


def test_what_an_earlier_run_left_is_not_the_best_of_a_new_one(
    pools: Pools, tmp_path: Path
) -> None:
    first = trainer(tmp_path)
    list(first.train(batches(Mixer(pools, RECIPE), RECIPE, 0, RECIPE.steps), lambda _: (5.0, 5.0)))
    (tmp_path / "checkpoint.safetensors").unlink()
    assert (tmp_path / "best.safetensors").exists()
    second = trainer(tmp_path, replace(RECIPE, seed=5))
    assert not second.load()
    second.export(tmp_path / "model")
    exported = load_model(str(tmp_path / "model")).network.state_dict()
    for name, tensor in second.average.state_dict().items():
        torch.testing.assert_close(exported[name].float(), tensor.float(), atol=1e-3, rtol=1e-3)


def test_the_best_weights_stay_the_best_when_a_run_goes_on(pools: Pools, tmp_path: Path) -> None:
    first = trainer(tmp_path)
    list(first.train(batches(Mixer(pools, RECIPE), RECIPE, 0, RECIPE.steps), lambda _: (5.0, 5.0)))
    first.save()
    best = (tmp_path / "best.safetensors").read_bytes()
    longer = replace(RECIPE, steps=2 * RECIPE.steps)
    second = trainer(tmp_path, longer)
    assert second.load()
    rest = batches(Mixer(pools, longer), longer, RECIPE.steps, longer.steps)
    list(second.train(rest, lambda _: (4.0, 4.0)))
    assert (tmp_path / "best.safetensors").read_bytes() == best


@pytest.mark.parametrize("part", ["loss", "optimizer"])
def test_an_unknown_part_is_named(part: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"unknown {part} 'loud'; choose from"):
        trainer(tmp_path, replace(RECIPE, **{part: "loud"}))


def test_curves_are_drawn_from_what_a_run_logged(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,loss\n20,0.5\n40,0.4\n")
    empty = draw_curves(tmp_path).read_bytes()
    (tmp_path / "validation.csv").write_text("step,hours,improvement_db\n20,1,3\n40,2,4\n")
    drawn = draw_curves(tmp_path).read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert drawn != empty


def test_a_loss_below_zero_is_drawn(tmp_path: Path) -> None:
    """Critics' may be; a logarithmic axis warned of it and showed nothing."""
    (tmp_path / "log.csv").write_text("step,loss\n20,-0.5\n40,-0.4\n")
    assert draw_curves(tmp_path).exists()


def test_a_recipe_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    write_recipe(RECIPE, path)
    again = read_recipe(path)
    assert json.dumps(again.sizes) == json.dumps(RECIPE.sizes)
    assert again.mixing == replace(RECIPE.mixing, loudness=(-30.0, -12.0))


@pytest.mark.parametrize("text", ['{"stepz": 1}', '{"mixing": {"stepz": 1}}'])
def test_an_unknown_key_of_a_recipe_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="'stepz'"):
        read_recipe(path)


@pytest.mark.slow
def test_processes_share_every_batch_and_make_one_model(data: Path, tmp_path: Path) -> None:
    """Two processes give one model; a batch that three cannot share is refused."""
    write_recipe(replace(RECIPE, steps=6, validate_every=3), tmp_path / "recipe.json")
    train = ["splitter", "train", str(data), "-o", str(tmp_path / "model")]
    train += ["--recipe", str(tmp_path / "recipe.json"), "--run", str(tmp_path / "run")]
    program = tmp_path / "spy.py"  # each process keeps the weights that it ends with, and losses
    program.write_text("""
import os, torch
from splitter.__main__ import main
from splitter.training.loop import Trainer
train, take_step, losses = Trainer.train, Trainer.take_step, []
def spy(self, *given):
    yield from train(self, *given)
    kept = {**self.network.state_dict(), "losses": torch.tensor(losses)}
    torch.save(kept, os.environ["KEPT"] + str(self.ranks.number))
def spy_step(self, batch):
    losses.append(take_step(self, batch))
    return losses[-1]
Trainer.train, Trainer.take_step = spy, spy_step
main()
""")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc-per-node", "2", "--", str(program), *train[1:]]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "KEPT": str(tmp_path / "kept"),
    }
    done = subprocess.run(launch, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model") == 1  # one of them reports
    assert load_model(str(tmp_path / "model")).stems == ("vocals", "instrumental")
    with (tmp_path / "run/validation.csv").open(encoding="utf-8") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["3", "6"]
    first, second = (torch.load(tmp_path / f"kept{rank}", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(DataError, match=r"cannot split a batch of .* 3 equal parts"):
        Trainer(RECIPE, tmp_path, torch.device("cpu"), torch.float32, Ranks(0, 3))


def test_ranks_go_by_the_mean_of_their_gradients_and_statistics(tmp_path: Path) -> None:
    """Two processes, forked from one that has loaded PyTorch, which takes the longest."""
    program = """
import os, sys, torch
from splitter.training.ranks import Ranks
number = 0 if os.fork() else 1
torch.distributed.init_process_group("gloo", f"file://{sys.argv[1]}", rank=number, world_size=2)
network = torch.nn.BatchNorm1d(1)
network.weight.grad = torch.tensor([[1.0, 5.0][number]])
network.running_mean.fill_([2.0, 4.0][number])
Ranks(number, 2).average(network)
fine = Ranks(number, 2).agree(torch.tensor(number == 0))
loss = Ranks(number, 2).mean(torch.tensor([1.0, 4.0][number]))
told = f"{network.weight.grad.item()} {network.running_mean.item()} {loss} {fine}\\n"
os.write(1, told.encode())  # at once: both write to one pipe
torch.distributed.destroy_process_group()
if number == 0:
    os.wait()
"""
    command = [sys.executable, "-c", program, str(tmp_path / "meet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)
    assert done.stdout.splitlines() == ["3.0 3.0 2.5 False"] * 2, done.stderr


def test_ranks_keep_the_codes_of_the_first(tmp_path: Path) -> None:
    """A code that begins anew lies where a vector lies, and not between those of two ranks."""
    program = """
import os, sys, torch
from splitter.networks.quantising import CODE, Codebook
from splitter.training.ranks import Ranks
number = 0 if os.fork() else 1
torch.distributed.init_process_group("gloo", f"file://{sys.argv[1]}", rank=number, world_size=2)
torch.manual_seed(0)
network = Codebook(2, 8)
vectors = torch.full((64, CODE), [1.0, -1.0][number])
network._follow(vectors, network.choose(vectors))
network.expand.bias.grad = torch.zeros(2)
Ranks(number, 2).average(network)
os.write(1, f"{network.codes.round().unique().tolist()}\\n".encode())
torch.distributed.destroy_process_group()
if number == 0:
    os.wait()
"""
    command = [sys.executable, "-c", program, str(tmp_path / "meet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)
    assert done.stdout.splitlines() == ["[1.0]"] * 2, done.stderr


def test_ranks_take_different_examples_of_a_batch(pools: Pools) -> None:
    whole = next(batches(Mixer(pools, RECIPE), RECIPE, 0, 1))
    parts = [
        next(batches(Mixer(pools, RECIPE), RECIPE, 0, 1, ranks=Ranks(number, 2)))
        for number in range(2)
    ]
    assert torch.equal(torch.cat([part.mixture for part in parts]), whole.mixture)


def test_what_is_wrong_with_a_recipe_is_told_of_its_own_file(data: Path, tmp_path: Path) -> None:
    sizes = {**RECIPE.sizes, "bands": [[7, 1]]}
    (tmp_path / "mine.json").write_text(json.dumps({"sizes": sizes}))
    done = call("train", data, "-o", "model", "--recipe", "mine.json", folder=tmp_path)
    assert done.status == 2
    (line,) = done.complaints
    assert line.startswith("splitter: mine.json: ")

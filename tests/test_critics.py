"""Learning from songs without stems."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from splitter.errors import DataError
from splitter.training.critics import Critics, penalise
from splitter.training.loop import Trainer, train_on
from splitter.training.mixing import Mixer
from splitter.training.recipe import Adversarial, Recipe
from splitter.training.sources import Pools, Source, find_sources, load_sources, sort_pools
from tests import sounds
from tests.trainings import RECIPE

HOW = Adversarial(weight=0.1, learning_rate=1e-3)
SEMI = replace(RECIPE, adversarial=HOW, validate_every=1000, steps=8)


@pytest.fixture
def more(pools: Pools) -> Pools:
    """Pools with a song without stems: music, nothing else."""
    (music,) = pools.music
    return replace(pools, mixtures=[Source("mixtures/song", None, None, music.instrumental)])


def train(recipe: Recipe, pools: Pools, run: Path, until: int | None = None) -> Trainer:
    run.mkdir(exist_ok=True)
    trainer = Trainer(recipe, run, torch.device("cpu"), torch.float32)
    trainer.load()
    for _ in train_on(replace(pools, validation=[]), trainer, until):
        pass
    return trainer


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    assert trainer.critics
    return {**trainer.network.state_dict(), **trainer.critics.state_dict()}


def test_a_gradient_as_long_as_1_is_not_penalised() -> None:
    critic = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    guess, truth = torch.randn(2, 5, 1, 3, 4).unbind()
    length = critic[1].weight.norm().item()
    assert penalise(critic, guess, truth).item() == pytest.approx((length - 1) ** 2, rel=1e-4)
    critic[1].weight.data /= length
    assert penalise(critic, guess, truth).item() == pytest.approx(0, abs=1e-9)


def test_critics_learn_what_is_true_and_estimates_to_please_them() -> None:
    torch.manual_seed(0)
    critics = Critics(1, 1, HOW)
    truth = torch.rand(4, 1, 32, 32)
    guess = torch.zeros(4, 1, 32, 32, requires_grad=True)
    for _ in range(30):
        loss = critics.judge([guess], [truth])
    (critic,) = critics.each
    assert critic(truth).mean() > critic(guess).mean() + 0.1
    loss.backward()
    assert guess.grad is not None
    with torch.no_grad():
        better = (guess - guess.grad).clamp_min(0)
        assert critic(better).mean() > critic(guess).mean()
    assert all(weight.grad is not None for weight in critics.parameters())


@pytest.mark.slow
def test_a_resumed_training_with_critics_ends_where_an_undisturbed_one_does(
    more: Pools, tmp_path: Path
) -> None:
    whole = train(SEMI, more, tmp_path / "one")
    train(SEMI, more, tmp_path / "two", 5)
    resumed = train(SEMI, more, tmp_path / "two")
    for name, tensor in state(whole).items():
        assert torch.equal(tensor, state(resumed)[name]), name


def test_what_critics_say_changes_what_is_learned(more: Pools, tmp_path: Path) -> None:
    semi = train(replace(SEMI, steps=3), more, tmp_path / "semi").network.state_dict()
    nothing = replace(SEMI, steps=3, adversarial=Adversarial())
    without = train(nothing, more, tmp_path / "without")
    assert without.critics is None
    weights = dict(without.network.named_parameters())  # statistics of norms differ anyway
    assert any(not torch.equal(semi[name], tensor) for name, tensor in weights.items())


def test_critics_without_songs_are_one_line(pools: Pools, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs songs without stems, in a folder called mixtures$"):
        train(SEMI, pools, tmp_path)


def test_songs_without_stems_have_a_folder(tmp_path: Path) -> None:
    sounds.write(tmp_path / "mixtures/album/song.wav", sounds.music(1))
    for part in ("vocals", "instrumental"):
        sounds.write(tmp_path / "pair" / f"{part}.wav", sounds.voice(1))
    pools = sort_pools(
        load_sources(find_sources(tmp_path), tmp_path / "cache", 44100),
        replace(RECIPE, validation=()),
    )
    assert [source.name for source in pools.mixtures] == ["mixtures/album/song"]
    assert not pools.voices and not pools.music
    mixer = Mixer(pools, SEMI)
    for part in mixer.loose(3)[:3]:
        assert part.shape == (2, SEMI.crop)
    held = sort_pools(
        load_sources(find_sources(tmp_path), tmp_path / "cache", 44100),
        replace(RECIPE, validation=["mix*"]),
    )
    assert not held.mixtures

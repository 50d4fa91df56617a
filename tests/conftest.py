"""What many tests need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from splitter.loading import Model, load_model
from splitter.training.sources import Pools, find_sources, load_sources, sort_pools
from tests import sounds
from tests.commands import Done, call
from tests.trainings import RECIPE


@pytest.fixture(scope="session")
def small_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model with random weights."""
    return sounds.write_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="session")
def small_model(small_model_folder: Path) -> Model:
    """A small model with random weights."""
    return load_model(str(small_model_folder))


@pytest.fixture
def separate(small_model_folder: Path, tmp_path: Path) -> Callable[..., Done]:
    """Run `splitter separate` on songs in tmp_path."""

    def run(*arguments: object, **given: bytes) -> Done:
        model = ("--model", small_model_folder)
        return call("separate", *model, *arguments, folder=tmp_path, **given)

    return run


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def pools(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Pools:
    """What is to be trained on."""
    sources = load_sources(find_sources(data), tmp_path_factory.mktemp("cache"), 44100)
    return sort_pools(sources, RECIPE)

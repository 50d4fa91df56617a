"""What many tests need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from splitter.zoo import Model, load_model
from tests import sounds
from tests.commands import Done, call


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

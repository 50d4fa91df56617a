"""What the README promises is there."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from splitter.cli import COMMANDS, splitter

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = "".join(re.findall(r"^```(?:sh|console)\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
CALLS = re.findall(r"^(?:\$ )?(?:.*&& )?(?:\S*/)?splitter (\w+)(.*)$", BLOCKS, re.MULTILINE)


def test_there_are_calls_to_check() -> None:
    assert {"separate", "train"} <= {name for name, _ in CALLS}


@pytest.mark.parametrize(("name", "rest"), CALLS)
def test_every_call_in_the_readme_is_a_command_with_these_options(name: str, rest: str) -> None:
    command = splitter.get_command(click.Context(splitter), name)
    assert command is not None, name
    known = {option for parameter in command.params for option in parameter.opts}
    asked = re.findall(r"(?<=\s)--?[a-zA-Z][\w-]*", rest.split("#")[0].split("|")[0])
    assert set(asked) <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_help_names_is_there(name: str) -> None:
    assert splitter.get_command(click.Context(splitter), name) is not None


def test_the_command_that_runs_the_tests_is_the_one_that_ci_runs() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "-m pytest" in README
    assert "-m pytest" in ci


def test_files_that_the_readme_names_are_there() -> None:
    for path in re.findall(r"`((?:scripts|tests|models|splitter)/[\w/.-]+)`", README):
        assert (ROOT / path).exists() or path.startswith("models/mine"), path

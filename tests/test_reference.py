"""The reference of the command line and the man page are what the commands say today."""

from __future__ import annotations

import importlib
import shutil
import subprocess

import pytest

from scripts.reference import DOCS, make_files
from splitter.cli import COMMANDS

WAY_OUT = "run: python scripts/reference.py"


@pytest.mark.parametrize(
    "path", [DOCS / "commands.md", DOCS / "splitter.1", DOCS / "recipe.md"], ids=lambda p: p.name
)
def test_the_reference_is_what_the_commands_say(path) -> None:  # type: ignore[no-untyped-def]
    assert path.read_text(encoding="utf-8") == make_files()[path], WAY_OUT


def test_every_command_and_option_is_in_the_man_page() -> None:
    page = make_files()[DOCS / "splitter.1"]
    for name in COMMANDS:
        assert f".SH SPLITTER {name.upper()}" in page
        command = getattr(importlib.import_module(f"splitter.cli.{name}"), name)
        options = [word for param in command.params for word in param.opts if word[:2] == "--"]
        assert options or name == "doctor"
        for option in options:
            assert option.replace("-", "\\-") in page


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff here")
def test_the_man_page_is_set_without_a_warning() -> None:
    command = ["groff", "-man", "-ww", "-Kutf8", "-Tutf8", str(DOCS / "splitter.1")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.stderr == ""
    assert "song/vocals.wav" in done.stdout

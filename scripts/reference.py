"""Write the reference of commands and recipes, docs/commands.md, splitter.1 and recipe.md.

They come from the code itself; a test holds them to what this would write.

    python scripts/reference.py
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path

import click

from splitter.cli import splitter
from splitter.cli.command import COMMON
from splitter.training.recipe import Adversarial, Mixing, Recipe
from splitter.version import __version__

DOCS = Path(__file__).parents[1] / "docs"
STATUS = [
    ("0", "All songs are done."),
    ("1", "Some songs failed; each is named on standard error."),
    ("2", "The command was wrong; nothing was done."),
    ("129", "The terminal was closed."),
    ("130", "The run was interrupted."),
    ("141", "Whoever read standard output has left."),
    ("143", "The run was terminated."),
]


RECIPES = (
    "`splitter train DATA -o MODEL --recipe recipe.json` trains as a recipe says: see",
    "[training a model](train.md). What it leaves out has the default of these tables. Shares and",
    "probabilities go from 0 to 1.",
)


@dataclass(frozen=True)
class Entry:
    """A command as a reader meets it."""

    path: str  # as in splitter separate
    usage: str
    text: Sequence[str]  # paragraphs
    examples: Sequence[tuple[str, str]]
    groups: dict[str, list[tuple[str, str]]]  # heading → options and what they do


def find_entries(command: click.Command, context: click.Context) -> Iterator[Entry]:
    """Describe a command, then those below it."""
    pieces = command.collect_usage_pieces(context)
    text = re.sub(r"[ \n]*\n\n[ \n]*", "\n\n", (command.help or "").strip())
    yield Entry(
        context.command_path,
        " ".join([context.command_path, *pieces]),
        [" ".join(part.split()) for part in text.split("\n\n")],
        list(getattr(command, "examples", ())),
        _sort_options(command, context),
    )
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below
            with click.Context(below, context, name) as inner:
                yield from find_entries(below, inner)


def _sort_options(
    command: click.Command, context: click.Context
) -> dict[str, list[tuple[str, str]]]:
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record and isinstance(parameter, click.Option):
            groups.setdefault(getattr(parameter, "group", COMMON), []).append(record)
    return groups if groups.keys() != {COMMON} else {"Options": groups[COMMON]}


def make_markdown(entries: Iterable[Entry]) -> str:
    """Write the reference as Markdown."""
    return "# Commands\n\n" + "\n".join("".join(_mark_down(entry)) for entry in entries)


def _mark_down(entry: Entry) -> Iterator[str]:
    yield f"## {entry.path}\n\n"
    yield "".join(f"{part}\n\n" for part in entry.text)
    yield f"Usage: `{entry.usage}`\n"
    for call, text in entry.examples:
        yield f"\n    {call}\n\n{text}\n"
    for heading, options in entry.groups.items():
        yield f"\n| {heading} | |\n|---|---|\n"
        yield "".join(f"| `{_cell(written)}` | {_cell(text)} |\n" for written, text in options)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def make_man_page(entries: Iterable[Entry]) -> str:
    """Write the man page."""
    first, *others = entries
    lines = [
        f'.TH SPLITTER 1 "" "splitter {__version__}" "User Commands"',
        ".SH NAME",
        "splitter \\- take songs apart into vocals and instrumental",
        ".SH SYNOPSIS",
        *(f".B {_roff(entry.usage)}\n.br" for entry in others),
        ".SH DESCRIPTION",
        *map(_roff, first.text),
    ]
    for entry in others:
        lines += _make_man_section(entry)
    lines += [".SH EXIT STATUS", *(f".TP\n.B {code}\n{_roff(text)}" for code, text in STATUS)]
    return "\n".join(lines) + "\n"


def _make_man_section(entry: Entry) -> Iterator[str]:
    yield f".SH {_roff(entry.path.upper())}"
    yield "\n.PP\n".join(map(_roff, entry.text))
    for call, text in entry.examples:
        yield f".PP\n.RS\n.nf\n{_roff(call)}\n.fi\n.RE\n{_roff(text)}"
    for heading, options in entry.groups.items():
        yield f".SS {_roff(heading)}"
        yield from (f".TP\n.B {_roff(written)}\n{_roff(text)}" for written, text in options)


def _roff(text: str) -> str:
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def make_recipe_page() -> str:
    """Write what keys a recipe may have, from the fields of its classes and their comments."""
    lines = ["# Recipes", "", *RECIPES, ""]
    for kind, title, words in (
        (Recipe, "All of it", "A recipe has these keys, and no others."),
        (Mixing, "`mixing`", "How examples are drawn, and how often what is done to them."),
        (Adversarial, "`adversarial`", "How songs without stems are learned from."),
    ):
        lines += [f"## {title}", "", words, "", "| key | default | meaning |", "|---|---|---|"]
        lines += [
            f"| `{name}` | {default} | {_cell(told)} |" for name, default, told in _keys(kind)
        ]
        lines.append("")
    return "\n".join(lines)


def _keys(kind: type) -> Iterator[tuple[str, str, str]]:
    """Yield each field's name, its default as JSON, and the comments beside or above it."""
    above: list[str] = []
    name = ""
    told: dict[str, list[str]] = {}
    for line in inspect.getsource(kind).splitlines():
        code, _, comment = line.partition("#")
        begun = re.match(r"    (\w+): ", code)
        if begun:
            name = begun[1]
            told[name] = above
            above = []
        if comment and not code.strip():
            above.append(comment.strip())
        elif comment and name:
            told[name].append(comment.strip())
    usual = kind()
    for name, comments in told.items():
        value = getattr(usual, name)
        default = "" if is_dataclass(value) else f"`{json.dumps(value)}`"
        yield name, default, " ".join(comments)


def make_files() -> dict[Path, str]:
    """Make all files that this writes: path → content."""
    with click.Context(splitter, info_name="splitter") as context:
        entries = list(find_entries(splitter, context))
    return {
        DOCS / "commands.md": make_markdown(entries),
        DOCS / "splitter.1": make_man_page(entries),
        DOCS / "recipe.md": make_recipe_page(),
    }


def main() -> None:
    """Write the files."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for path, content in make_files().items():
        path.write_text(content, encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()

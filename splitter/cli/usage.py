"""What is wrong with a command line, and what to write instead, in one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import click


def explain(error: click.ClickException) -> str:
    """Say in one line what was asked wrongly, and what to write instead."""
    if isinstance(error, click.NoSuchOption):
        return _explain_option(error)
    if isinstance(error, click.BadOptionUsage):
        needs = "requires" in error.message
        return f"{error.option_name} {'needs a value' if needs else 'takes no value'}"
    if isinstance(error, click.MissingParameter) and error.param and error.ctx:
        usage = error.ctx.command.get_usage(error.ctx).removeprefix("Usage: ")
        return f"{_name(error.param)} is missing; write {usage}"
    if isinstance(error, click.BadParameter) and error.param:
        return f"{_name(error.param)}: {_explain_value(error, error.param)}"
    return error.message


def explain_command(name: str, commands: Sequence[str]) -> str:
    """Say what was probably meant by a command that does not exist."""
    close = get_close_matches(name, commands, n=1)
    if close:
        return f"there is no command {name!r}; did you mean {close[0]!r}?"
    if Path(name).suffix or Path(name).exists() or "://" in name:
        return f"{name} is not a command; to separate it, write: splitter separate {name}"
    return f"there is no command {name!r}; choose {', '.join(commands)}"


def _explain_option(error: click.NoSuchOption) -> str:
    name = error.option_name
    for argument in sys.argv[1:]:
        if argument.startswith(name) and Path(argument).exists():
            return f"there is no option {name}; to name the file, write ./{argument}"
    command = error.ctx.command_path if error.ctx else "splitter"
    way_out = f"{command} --help lists all"
    if error.possibilities:
        way_out = f"did you mean {sorted(error.possibilities)[0]}?"
    return f"{command} has no option {name}; {way_out}"


def _explain_value(error: click.BadParameter, parameter: click.Parameter) -> str:
    kind = parameter.type
    if isinstance(kind, click.IntRange):
        return f"write a whole number, {kind.min} or more"
    if isinstance(kind, click.Choice):
        given = error.message.partition(" is not")[0]
        return f"{given} is unknown; choose {', '.join(kind.choices)}"
    return _lower(error.message)


def _name(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return parameter.human_readable_name


def _lower(message: str) -> str:
    message = message.rstrip(".")
    return message if message[1:2].isupper() else message[:1].lower() + message[1:]

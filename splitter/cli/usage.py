"""What is wrong with a command line, and what to write instead, in one line."""

from __future__ import annotations

import re
import shlex
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
        return f"{_name(error.param)} is missing; {_ask(error.param, error.ctx)}"
    if isinstance(error, click.BadParameter) and error.param:
        return f"{_name(error.param)}: {_explain_value(error, error.param)}"
    if error.message == "Missing command." and isinstance(error, click.UsageError) and error.ctx:
        group = error.ctx.command
        names = group.list_commands(error.ctx) if isinstance(group, click.Group) else []
        return f"name a command: {', '.join(names)}"
    extra = re.fullmatch(r"Got unexpected extra arguments? \((.*)\)", error.message, re.DOTALL)
    if extra and isinstance(error, click.UsageError) and error.ctx:
        return f"{extra[1]}: one argument too many; write {_usage(error.ctx)}"
    return error.message


def explain_command(group: str, name: str, commands: Sequence[str]) -> str:
    """Say what was probably meant by a command that a group does not have."""
    top = " " not in group
    if top and name in ("help", "version"):
        return f"there is no command {name!r}; write {group} --{name}"
    close = get_close_matches(name, commands, n=1)
    if close:
        return f"{group} has no command {name!r}; did you mean {close[0]!r}?"
    if top and (Path(name).suffix or Path(name).exists() or "://" in name):
        return (
            f"{name} is not a command; to separate it, write: {group} separate {shlex.quote(name)}"
        )
    return f"{group} has no command {name!r}; choose {', '.join(commands)}"


def _explain_option(error: click.NoSuchOption) -> str:
    name, context = error.option_name, error.ctx
    for argument in sys.argv[1:]:
        if argument.startswith(name) and Path(argument).exists():
            return (
                f"there is no option {name}; to name the file, write {shlex.quote(f'./{argument}')}"
            )
    if context is None:
        return error.message
    command, path = context.command, context.command_path
    if isinstance(command, click.Group) and (owner := _find_owner(command, context, name)):
        command, path = owner, f"{path} {owner.name}"
        if name in _list_options(owner):
            return f"{name} goes after the command; write {path} {name}"
    options = _list_options(command)
    longer = [option for option in options if option.startswith(name)]
    close = longer or get_close_matches(name, options, n=1, cutoff=0.7)
    way_out = f"did you mean {close[0]}?" if close else f"{path} --help lists all"
    return f"{path} has no option {name}; {way_out}"


def _find_owner(group: click.Group, context: click.Context, name: str) -> click.Command | None:
    """Find the command behind an option; where there is none, one that has such an option."""
    names = group.list_commands(context)
    named = [argument for argument in sys.argv[1:] if argument in names][:1]
    commands = filter(None, (group.get_command(context, command) for command in named or names))
    return next((one for one in commands if named or name in _list_options(one)), None)


def _list_options(command: click.Command) -> list[str]:
    return [name for one in command.params for name in (*one.opts, *one.secondary_opts)] + [
        "--help"
    ]


def _ask(parameter: click.Parameter, context: click.Context) -> str:
    if isinstance(parameter, click.Option):
        return f"add {_name(parameter)} {parameter.make_metavar(context)}"
    return f"write {_usage(context)}"


def _usage(context: click.Context) -> str:
    return context.command.get_usage(context).removeprefix("Usage: ")


def _explain_value(error: click.BadParameter, parameter: click.Parameter) -> str:
    kind = parameter.type
    if isinstance(kind, click.IntRange | click.FloatRange):
        number = "a whole number" if isinstance(kind, click.IntRange) else "a number"
        bounds = f", {kind.min} or more" if kind.max is None else f" from {kind.min} to {kind.max}"
        return f"write {number}{bounds}"
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

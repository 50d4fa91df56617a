"""Commands whose help puts the task first: examples, then options in groups."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import click

from splitter.cli.screen import Screen
from splitter.cli.usage import explain_command

COMMON = "Common options"
EXAMPLE_WIDTH = 34  # columns of an example before what it does

pass_screen = click.make_pass_decorator(Screen, ensure=True)


class Option(click.Option):
    """An option that belongs to a group of the help."""

    def __init__(self, *names: Any, group: str = COMMON, **more: Any) -> None:
        super().__init__(*names, **more)
        self.group = group


class Command(click.Command):
    """A command whose help has examples, and its options in groups."""

    def __init__(self, *names: Any, examples: Sequence[tuple[str, str]] = (), **more: Any) -> None:
        super().__init__(*names, **more)
        self.examples = examples

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples below what the command does."""
        super().format_help_text(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                formatter.write_dl(self.examples, col_max=EXAMPLE_WIDTH)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, a section for each group in the order of their first options."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", COMMON), []).append(record)
        for group, records in groups.items():
            with formatter.section(group if len(groups) > 1 else "Options"):
                formatter.write_dl(records)


def option(*names: str, group: str = COMMON, **more: Any) -> Callable[..., Any]:
    """Declare an option of a group."""
    return click.option(*names, cls=Option, group=group, **more)


def volume(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add -q and -v, which may stand before or behind the name of a command."""

    def set_level(_: click.Context, __: click.Parameter, given: bool) -> None:
        if given:
            logging.getLogger("splitter").setLevel(logging.DEBUG)

    def hide_progress(context: click.Context, _: click.Parameter, given: bool) -> None:
        if given:
            choose_progress(context.ensure_object(Screen), "none")

    flags = (
        ("-q", "--quiet", hide_progress, "Show no progress."),
        ("-v", "--verbose", set_level, "Say what is decided for each song."),
    )
    for *names, callback, words in reversed(flags):
        add = click.option(*names, is_flag=True, expose_value=False, callback=callback, help=words)
        command = add(command)
    return command


def choose_progress(screen: Screen, kind: str) -> None:
    """Have progress shown as a bar, as JSON or not at all, unless that was asked otherwise."""
    if {screen.kind, kind} == {"none", "json"}:
        raise click.UsageError("--quiet and --progress json exclude each other; give one")
    if kind != "bar":
        screen.kind = kind


class Commands(click.Group):
    """A group that says what was probably meant by a command that it does not have."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command."""
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            raise click.UsageError(explain_command(ctx.command_path, args[0], names), ctx)
        return super().resolve_command(ctx, args)

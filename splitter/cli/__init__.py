"""The command line: one file per command, imported only when it is called.

`splitter --help` must answer at once, so nothing here imports torch, and a command's module is not
imported before its name was typed. Results go to stdout, everything else to stderr through logging.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from pathlib import Path

import click

from splitter.cli.command import Commands, volume
from splitter.cli.messages import complain
from splitter.cli.screen import Screen
from splitter.cli.streams import bear_any_text, fill_streams, lose_stdout
from splitter.cli.usage import explain
from splitter.errors import CommandError, SplitterError, reason, saying_shortage
from splitter.signals import Raising, Stopped, end_at_once, handle, handling
from splitter.version import __version__

# name of the command → what `splitter --help` says of it; the module has the same name
COMMANDS = {
    "separate": "Take songs apart into stems.",
    "listen": "Write a page to hear, see and compare the stems of a song.",
    "train": "Train a model on voices, music and aligned stems.",
    "evaluate": "Score a model, or stems of any other tool, on a data set.",
    "models": "List, download, add and remove models.",
    "doctor": "Say what is installed, what works, and what is wrong.",
}

ENDED = {130: "interrupted", 143: "terminated"}


class LazyCommands(Commands):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Name the commands, in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        """Import the command called `name`."""
        if name not in COMMANDS:
            return None
        with handling(end_at_once):
            command = getattr(importlib.import_module(f"splitter.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; where whoever reads its output has gone, end quietly."""
        try:
            Path.cwd()
        except OSError as error:
            raise CommandError("the current folder is gone; cd to another one") from error
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            lose_stdout()
            raise click.exceptions.Exit(128 + getattr(signal, "SIGPIPE", 13)) from error

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="splitter")
@volume
def splitter() -> None:
    """Take a song apart into vocals and instrumental."""


def _open_screen() -> Screen:
    """Have all that is logged written to standard error, above the line that says what is done."""
    screen = Screen()
    log = logging.getLogger("splitter")
    log.handlers[:] = [screen]
    log.setLevel(logging.INFO)
    return screen


def main() -> None:
    """Run the command line and exit with a status that tells the truth."""
    fill_streams()
    bear_any_text()
    screen, signals = _open_screen(), Raising()
    handle(signals)
    try:
        status = _run(screen)
    except BaseException as error:  # a library may have made another exception of a signal's
        stopped = error if isinstance(error, Stopped) else signals
        if not stopped.number:
            raise
        status = 128 + stopped.number
    finally:
        screen.clear()
    if signals.number:  # or have dropped it
        status = 128 + signals.number
    if status in ENDED:
        complain(ENDED[status])
    handle(end_at_once)  # there is nothing left to interrupt
    sys.exit(status)


def _run(screen: Screen) -> int:
    """Run the command line; return its exit status."""
    try:
        with saying_shortage("this command"):
            # the status is what click.exceptions.Exit said
            return splitter.main(prog_name="splitter", standalone_mode=False, obj=screen) or 0
    except click.ClickException as error:
        if sys.argv[1:]:
            complain(explain(error))
        else:  # the help
            screen.say(error.message)
        return error.exit_code
    except SplitterError as error:
        complain(error)
        return error.status
    except OSError as error:  # of a file or folder that a command was to read or write
        if error.filename is not None:
            complain(f"{os.fsdecode(error.filename)}: cannot be used ({reason(error)})")
        else:  # of standard output, say, on a full disk
            lose_stdout()
            logging.getLogger(__name__).debug("it happened here", exc_info=True)
            complain(f"the command cannot go on ({reason(error)}); -v says more")
        return 1

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
from types import FrameType

import click

from splitter import __version__
from splitter.cli.messages import complain
from splitter.errors import CommandError, SplitterError, saying_shortage

# name of the command → what `splitter --help` says of it; the module has the same name
COMMANDS = {
    "separate": "Take songs apart into stems.",
    "train": "Train a model on voices, music and aligned stems.",
    "evaluate": "Score a model, or stems of any other tool, on a data set.",
    "models": "List the models that can be used.",
    "doctor": "Say what is installed, what works, and what is wrong.",
}

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class LazyCommands(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Name the commands, in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        """Import the command called `name`."""
        if name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"splitter.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; where whoever reads its output has gone, end quietly."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # keep Python from flushing into the void
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(128 + getattr(signal, "SIGPIPE", 13)) from error

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="splitter")
@click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
def splitter(verbose: bool) -> None:
    """Take a song apart into vocals and instrumental."""
    level = logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("splitter")
    log.handlers[:] = [handler]
    log.setLevel(level)


def _terminate(number: int, _: FrameType | None) -> None:
    """Clean up as for Ctrl-C, and leave with the conventional status."""
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line and exit with a status that tells the truth."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _terminate)
    try:
        with saying_shortage("this command"):
            status = splitter.main(standalone_mode=False) or 0  # what click.exceptions.Exit said
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except SplitterError as error:
        complain(error)
        status = EXIT_USAGE if isinstance(error, CommandError) else EXIT_FAILED
    except (KeyboardInterrupt, click.Abort):
        click.echo("splitter: interrupted", err=True)
        status = EXIT_INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # there is nothing left to interrupt
    sys.exit(status)

"""What a person reads on stderr."""

from __future__ import annotations

import click


def complain(message: object) -> None:
    """Say what is wrong, on one line, whatever a file's name holds."""
    click.echo(f"splitter: {printable(str(message))}", err=True)


def printable(text: str) -> str:
    """Escape what would break the line, command the terminal, or is no Unicode."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)

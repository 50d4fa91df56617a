"""`splitter models`: what can be given to --model."""

from __future__ import annotations

import re
from pathlib import Path

import click

from splitter.registry import CARD, ModelChoice, find_model, list_models


@click.command()
def models() -> None:
    """List the models that came with splitter: name, hash, rate, stems and licence.

    The hash is of config and weights; --json and the journal of a folder name it, too.
    """
    for name in list_models():
        click.echo(describe_model(find_model(name)))


def describe_model(folder: Path) -> str:
    """Describe a model on one line."""
    choice = ModelChoice((str(folder),))
    stems = ", ".join(choice.config.all_stems)
    rate = f"{choice.config.rate} Hz"
    parts = (folder.name, choice.hash, rate, stems, find_licence(folder))
    return "  ".join(parts)


def find_licence(folder: Path) -> str:
    """Return the first line of a model's card that speaks of its licence."""
    card = folder / CARD
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    for line in lines:
        if re.search(r"licen[cs]e", line, re.IGNORECASE) and not line.lstrip().startswith("#"):
            return re.sub(r"[*_`|]|^\W+", "", line).strip()
    return "no licence stated"

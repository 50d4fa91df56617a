"""`splitter models`: what can be given to --model, and what other programs' weights can become."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from splitter.catalogue import read_catalogue
from splitter.cli.progress import Pace
from splitter.cli.screen import Screen, State
from splitter.errors import CommandError
from splitter.registry import (
    CARD,
    CONFIG,
    DEFAULT_MODEL,
    WEIGHTS,
    ModelChoice,
    added_folder,
    find_model,
    list_added,
    list_models,
    read_config,
)

catalogue_option = click.option(
    "--catalogue",
    type=click.Path(path_type=Path),
    help="A list of models, as splitter/catalogue.json.  [default: that one]",
)


@click.group(invoke_without_command=True)
@click.option("--networks", is_flag=True, help="List what can be trained: see train --network.")
@click.pass_context
def models(context: click.Context, networks: bool) -> None:
    """List the models that can be used: name, hash, rate, size, stems and licence.

    The hash is of config and weights; --json and the journal of a folder name it, too.
    """
    if networks:
        list_networks()
        return
    if context.invoked_subcommand:
        return
    for name in [*list_models(), *list_added()]:
        click.echo(describe_model(find_model(name)))


def list_networks() -> None:
    """Print each preset: weights, operations a second of song, what it sees, and its source."""
    from splitter.networks import PRESETS
    from splitter.networks.cost import measure

    for name, preset in PRESETS.items():
        cost = measure(name, {})
        seen = f"{cost.context:4.1f} s" if cost.exact else "all, in tiles that are faded"
        sizes = f"{cost.weights / 1e6:5.2f} M weights  {cost.operations / 1e9:4.2f} Gflop/s"
        click.echo(f"{name:18}  {sizes}  sees {seen}  {preset.source}")


def describe_model(folder: Path) -> str:
    """Describe a model on one line."""
    choice = ModelChoice((str(folder),))
    stems = ", ".join(choice.config.all_stems)
    name = f"{folder.name} (default)" if folder.name == DEFAULT_MODEL else folder.name
    size = sum((part / WEIGHTS).stat().st_size for part in choice.folders) / 1e6
    parts = (name, choice.hash, f"{choice.config.rate} Hz", f"{size:.1f} MB", stems)
    return "  ".join([*parts, find_licence(folder)])


def find_licence(folder: Path) -> str:
    """Return the first line of a model's card that speaks of its licence."""
    card = folder / CARD
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    for line in lines:
        if re.search(r"licen[cs]e", line, re.IGNORECASE) and not line.lstrip().startswith("#"):
            return re.sub(r"[*_`|]|^\W+", "", line).strip()
    return "no licence stated"


@models.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", help="What it is called from then on.  [default: as its first file]")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="A yaml or json that says what tensors do not.  [default: beside the file]",
)
@click.option("--as", "family", help="Insist on this family; it is recognised otherwise.")
def add(files: tuple[Path, ...], name: str | None, config: Path | None, family: str | None) -> None:
    """Convert weights of another program into a model.

    FILES are what that program published: a .ckpt, .pth, .th, .safetensors or .onnx, the folder of
    a TensorFlow checkpoint, or the files of several targets. No code in them is run.
    """
    from splitter.weights.adding import add_model

    folder = add_model(
        added_folder() / check_name(files[0].stem if name is None else name), files, config, family
    )
    click.echo(describe_model(folder))


@models.command()
@click.argument("words", nargs=-1)
@catalogue_option
def search(words: tuple[str, ...], catalogue: Path | None) -> None:
    """List the models that can be downloaded: size, stems, score, use and licence.

    With WORDS, those of which a line has them all. None of them came with splitter.
    """
    for entry in read_catalogue(catalogue).values():
        line = entry.describe()
        if all(word.lower() in line.lower() for word in words):
            click.echo(line)


@models.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--offline", is_flag=True, envvar="SPLITTER_OFFLINE", help="Never use the network.")
@click.option(
    "--mirror",
    envvar="SPLITTER_MODELS_URL",
    metavar="URL",
    help="Fetch files of the same names from here.  [default: from their publishers]",
)
@catalogue_option
def get(names: tuple[str, ...], offline: bool, mirror: str | None, catalogue: Path | None) -> None:
    """Download models, check them and convert them. Only this command uses the network.

    What was downloaded is kept until it is converted; the same command goes on where it stopped.
    A proxy is taken from the environment (https_proxy).
    """
    from splitter.weights.adding import Origin, add_model
    from splitter.weights.download import fetch_file

    entries = read_catalogue(catalogue)
    for name in names:
        if name not in entries:
            raise CommandError(f"{name}: not in the catalogue; `splitter models search` lists it")
        if (added_folder() / check_name(name)).exists():
            raise CommandError(f"{name}: is here already; `splitter models remove` takes it away")
    if offline:
        raise CommandError("--offline: nothing is downloaded; get models while there is a network")
    for name in names:
        entry, folder = entries[name], added_folder().with_name("downloads") / name
        paths = []
        for download in entry.downloads:
            with downloading(download.name) as watch:
                paths.append(fetch_file(download, folder, mirror, watch))
        config = paths.pop() if entry.config else None
        origin = Origin(entry.licence, entry.files[0].url, f"Published score: {entry.score}.")
        add_model(added_folder() / name, paths, config, entry.family, origin)
        shutil.rmtree(folder)
        click.echo(describe_model(added_folder() / name))


@contextmanager
def downloading(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show how far a download is, and the time that is left."""
    screen, pace = Screen(), Pace()

    def watch(done: int, total: int | None) -> None:
        size = f"{done / 1e6:.0f}" + (f" of {total / 1e6:.0f} MB" if total else " MB")
        fraction = done / total if total else None
        left = [] if fraction is None else pace.left(fraction)
        screen.show(State(f"downloading {name}", fraction, [(size, size), *left]))

    try:
        yield watch
    finally:
        screen.clear()


@models.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the card of a model: its origin, licence, and what is known of it."""
    folder = find_model(name)
    click.echo(describe_model(folder))
    config = read_config(folder / CONFIG)
    sizes = ", ".join(f"{key} {value}" for key, value in config.sizes.items() if key != "bands")
    click.echo(f"{folder}\n{config.network}: {sizes}\n")
    card = folder / CARD
    click.echo(card.read_text(encoding="utf-8") if card.is_file() else "it has no card")


@models.command()
@click.argument("names", nargs=-1, required=True)
def remove(names: tuple[str, ...]) -> None:
    """Delete models that were added."""
    for name in names:
        if name not in list_added():
            known = ", ".join(list_added()) or "none"
            raise CommandError(f"no model called {name!r} was added; there are: {known}")
    for name in names:
        shutil.rmtree(added_folder() / name)


def check_name(name: str) -> str:
    """Refuse a name that is no folder's, or that of a model that came with splitter."""
    if not re.fullmatch(r"[\w+-][\w.+-]*", name):
        raise click.UsageError(f"--name {name!r}: use letters, digits, dots and dashes")
    if name in list_models():
        raise click.UsageError(f"--name {name!r}: a model that came with splitter is called so")
    return name

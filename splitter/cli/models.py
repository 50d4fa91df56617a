"""`splitter models`: what can be given to --model, and what other programs' weights can become."""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from splitter.atomic import remove_folder
from splitter.catalogue import read_catalogue
from splitter.cli.command import Commands, pass_screen, volume
from splitter.cli.completion import (
    complete_added,
    complete_catalogue,
    complete_families,
    complete_models,
)
from splitter.cli.messages import complain, printable
from splitter.cli.progress import Pace
from splitter.cli.screen import Screen, State
from splitter.errors import CommandError, ModelError, SplitterError
from splitter.paths import is_plain_name
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
from splitter.schema import MAX_BYTES

SUMMARY, SEAM = "Summary: ", "Seam: "  # in a card
CHANGE_IT = "change it in the catalogue"
TIMED_SECONDS, TIMED_RATE = 20, 44100  # of noise, by which networks are timed

log = logging.getLogger(__name__)

catalogue_option = click.option(
    "--catalogue",
    type=click.Path(path_type=Path),
    help="Read the list of models from this file.  [default: the one that came with splitter]",
)


@click.group(cls=Commands, invoke_without_command=True)
@click.option(
    "--networks", is_flag=True, help="List the networks you can train, for train --network."
)
@click.option(
    "--speed", is_flag=True, help="With --networks: measure how fast each is on this machine."
)
@volume
@click.pass_context
def models(context: click.Context, networks: bool, speed: bool) -> None:
    """List the models you can use: name, hash, sample rate, size, stems, what each is good for.

    The first column is the name for --model. The hash changes with config and weights; --json and
    journals name it, too. The last lines state licences.
    """
    if networks:
        list_networks(speed)
        return
    if speed:
        raise click.UsageError("--speed goes with --networks")
    if context.invoked_subcommand:
        return
    folders, well = [], True
    for folder in [find_model(name) for name in [*list_models(), *list_added()]]:
        try:
            line = describe_model(folder)
        except (SplitterError, OSError) as error:
            complain(f"{folder.name}: cannot be used ({error})")
            well = False
        else:  # that nobody reads on is no fault of a model
            click.echo(line)
            folders.append(folder)
    for line in list_licences(folders):
        click.echo(line)
    if not well:
        context.exit(1)


def list_networks(speed: bool) -> None:
    """Print each preset: weights, operations a second, × real time, what it sees, its source."""
    from splitter.networks import PRESETS
    from splitter.networks.cost import measure

    for name, preset in PRESETS.items():
        cost = measure(name, {})
        seen = f"{cost.context:4.1f} s" if cost.exact else "all, in tiles that are faded"
        sizes = f"{cost.weights / 1e6:5.2f} M weights  {cost.operations / 1e9:4.2f} Gflop/s"
        pace = f"  {measure_speed(name):4.0f} × real time" if speed else ""
        click.echo(f"{name:18}  {sizes}{pace}  sees {seen}  {preset.source}")


def measure_speed(name: str) -> float:
    """Return the seconds of song that a preset separates in a second, with random weights."""
    import numpy as np
    import torch

    from splitter.loading import Model, build_network
    from splitter.networks.contract import move_network
    from splitter.registry import Config
    from splitter.separation import Computing, separate

    config = Config(name, {}, TIMED_RATE, 2)
    network = build_network(config, Path(name)).eval()
    move_network(network, "cpu")
    model = Model(name, config, network, torch.device("cpu"), "")
    song = np.zeros((2, TIMED_SECONDS * TIMED_RATE), np.float32)
    song[:] = np.random.default_rng(0).uniform(-0.1, 0.1, song.shape)
    taken = []
    for _ in range(2):  # the first time there is more to do
        started = time.perf_counter()
        separate(song, TIMED_RATE, model, Computing(precision="float32"))
        taken.append(time.perf_counter() - started)
    return TIMED_SECONDS / min(taken)


def describe_model(folder: Path) -> str:
    """Describe a model on one line."""
    choice = ModelChoice((str(folder),))
    name, known_as = folder.absolute().name, choice.hash  # which raises ModelError without weights
    stems = ", ".join(choice.config.all_stems)
    name = f"{name} (default)" if name == DEFAULT_MODEL else name
    size = sum((part / WEIGHTS).stat().st_size for part in choice.folders) / 1e6
    parts = (name, known_as, f"{choice.config.rate} Hz", f"{size:.1f} MB", stems)
    return "  ".join([*map(printable, parts), *find_summary(folder)])


def list_licences(folders: Sequence[Path]) -> Iterator[str]:
    """Say each licence once, and of which models it is, unless that is all of them."""
    models_under: dict[str, list[str]] = {}
    for folder in folders:
        models_under.setdefault(find_licence(folder), []).append(folder.name)
    for licence, names in models_under.items():
        whose = "all models" if len(models_under) == 1 else ", ".join(names)
        yield f"Licence of {whose}: {licence}"


def find_summary(folder: Path) -> list[str]:
    """Return what a model's card says in a line of "Summary: …", or nothing."""
    found = (line for line in _read_card(folder) if line.startswith(SUMMARY))
    return [line.removeprefix(SUMMARY).strip() for line in found][:1]


def find_licence(folder: Path) -> str:
    """Return what the first line of a model's card that speaks of its licence says of it."""
    for line in _read_card(folder):
        if re.search(r"licen[cs]e", line, re.IGNORECASE) and not line.lstrip().startswith("#"):
            plain = re.sub(r"[*_`|]|^\W+", "", line).strip()
            return re.sub(r"^licen[cs]e[^:]*: *", "", plain, flags=re.IGNORECASE)
    return "not stated"


def _read_card(folder: Path) -> list[str]:
    card = folder / CARD
    if not card.is_file():
        return []
    with card.open("rb") as file:
        text = file.read(MAX_BYTES).decode("utf-8", "replace")
    return [printable(line) for line in text.splitlines()]


@models.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", help="Call the model this.  [default: the name of the first file]")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Read what the tensors do not tell from this yaml or json.  [default: beside FILES]",
)
@click.option(
    "--as",
    "family",
    shell_complete=complete_families,
    help="Read FILES as this family of networks.  [default: recognised]",
)
@volume
def add(files: tuple[Path, ...], name: str | None, config: Path | None, family: str | None) -> None:
    """Convert another program's weights into a model.

    FILES are its published weights: a .ckpt, .pth, .th, .safetensors or .onnx file, the folder or
    .tar.gz of a TensorFlow checkpoint, Open-Unmix's folder or its file per stem, or all files of a
    bag of Demucs. No code in them is run.
    """
    from splitter.weights.adding import add_model

    called = check_name(
        suggest_name(files[0]) if name is None else name, "give another with --name"
    )
    _tell_added(add_model(added_folder() / called, files, config, family))


def suggest_name(path: Path) -> str:
    """Call a model like its file, without what tells its kind, or like its folder."""
    whole = path.absolute()
    return whole.name if whole.is_dir() else whole.stem.removesuffix(".tar")


def _tell_added(folder: Path) -> None:
    click.echo(describe_model(folder))
    click.echo(f"Licence: {find_licence(folder)}")


@models.command()
@click.argument("words", nargs=-1)
@catalogue_option
@volume
def search(words: tuple[str, ...], catalogue: Path | None) -> None:
    """List the models you can download: size, stems, score, use and licence.

    With WORDS, list only models whose line contains all of them.
    """
    lines = [printable(entry.describe()) for entry in read_catalogue(catalogue).values()]
    found = [line for line in lines if all(word.lower() in line.lower() for word in words)]
    for line in found:
        click.echo(line)
    if not found:
        log.info("no such model in the catalogue; try fewer words")


@models.command()
@click.argument("names", nargs=-1, required=True, shell_complete=complete_catalogue)
@click.option("--offline", is_flag=True, envvar="SPLITTER_OFFLINE", help="Never use the network.")
@click.option(
    "--mirror",
    envvar="SPLITTER_MODELS_URL",
    metavar="URL",
    help="Fetch the files from this address.  [default: from their publishers]",
)
@catalogue_option
@volume
@pass_screen
def get(
    screen: Screen,
    names: tuple[str, ...],
    offline: bool,
    mirror: str | None,
    catalogue: Path | None,
) -> None:
    """Download models, check them and convert them.

    Repeat the command to resume a download that was stopped. Set https_proxy to use a proxy. No
    other command downloads models.
    """
    from splitter.weights.adding import Origin, add_model, check_vacant
    from splitter.weights.download import fetch_file

    entries = read_catalogue(catalogue)
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in entries:
            raise CommandError(f"{name}: {_explain_absence(name)}")
    missing = [name for name in wanted if check_name(name, CHANGE_IT) not in list_added()]
    for name in wanted:
        if name not in missing:
            log.info("%s is installed already; `splitter models remove %s` deletes it", name, name)
    if offline and missing:
        raise CommandError("--offline: cannot download; leave it out while there is a network")
    for name in missing:
        check_vacant(added_folder() / name)
        entry, folder = entries[name], added_folder().with_name("downloads") / name
        paths = []
        for download in entry.downloads:
            with downloading(screen, download.name) as watch:
                paths.append(fetch_file(download, folder, mirror, watch))
        config = paths.pop() if entry.config else None
        origin = Origin(
            entry.licence, entry.files[0].url, f"{SUMMARY}published score: {entry.score}"
        )
        try:
            add_model(added_folder() / name, paths, config, entry.family, origin)
        except ModelError:  # what nobody vouches for may be a page of some proxy's
            for download in entry.downloads:
                if not download.sha256:
                    (folder / download.name).unlink(missing_ok=True)
            raise
        shutil.rmtree(folder)
        _tell_added(added_folder() / name)


def _explain_absence(name: str) -> str:
    if name in list_models():
        return "came with splitter; there is nothing to download"
    return "not in the catalogue; see `splitter models search`"


@contextmanager
def downloading(screen: Screen, name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show how far a download is, and the time that is left."""
    pace: Pace | None = None

    def watch(done: int, total: int | None) -> None:
        nonlocal pace
        size = f"{done / 1e6:.0f}" + (f" of {total / 1e6:.0f} MB" if total else " MB")
        fraction = done / total if total else None
        pace = pace or Pace(fraction or 0.0)  # what was there before took no time
        left = [] if fraction is None else pace.left(fraction)
        screen.show(State(f"downloading {name}", fraction, [(size, size), *left]))

    try:
        yield watch
    finally:
        screen.clear()


@models.command()
@click.argument("name", shell_complete=complete_models)
@volume
def show(name: str) -> None:
    """Print a model's card: its origin, licence, scores and limits."""
    folder = find_model(name)
    click.echo(describe_model(folder))
    config = read_config(folder / CONFIG)
    sizes = ", ".join(f"{key} {value}" for key, value in config.sizes.items() if key != "bands")
    click.echo(f"{folder}\n{config.network}: {sizes}\n")
    click.echo("\n".join(_read_card(folder)) or "this model has no card")


@models.command()
@click.argument("name", shell_complete=complete_models)
@click.argument("song", type=click.Path(path_type=Path))
@volume
def seam(name: str, song: Path) -> None:
    """Measure how far tiles differ from SONG in one piece, and write it into the model's card.

    It hears at most a minute, and three tiles. Models whose tiles are exact have no seam.
    """
    from splitter.atomic import write_atomically
    from splitter.audio import resample_signal
    from splitter.datasets import read_sound
    from splitter.loading import load_model
    from splitter.training.mixing import fit_channels
    from splitter.training.seams import SONG, find_seam

    model = load_model(name)
    tiles, rate = model.network.own_tiles, model.config.rate
    if tiles is None:
        click.echo(f"{name}: its tiles are exact; there is no seam")
        return
    signal, own_rate = read_sound(song)
    heard = resample_signal(signal[:, : round(SONG * own_rate)], own_rate, rate)
    heard = fit_channels(heard, model.config.channels)[:, : 3 * tiles.core]
    if heard.shape[-1] <= tiles.core:
        raise CommandError(f"{song}: shorter than a tile ({tiles.core / rate:.1f} s); give another")
    line = (
        f"{SEAM}tiles differ from {heard.shape[-1] / rate:.0f} s of song in one piece by "
        f"−{find_seam(heard, model):.0f} dB"
    )
    click.echo(line)
    if name in list_added():  # others are not ours to write in
        card = [told for told in _read_card(find_model(name)) if not told.startswith(SEAM)]
        text = "\n".join([*card, *[""] * (card[-1:] != [""]), line]) + "\n"
        write_atomically(find_model(name) / CARD, text.encode("utf-8"))


@models.command()
@click.argument("names", nargs=-1, required=True, shell_complete=complete_added)
@volume
def remove(names: tuple[str, ...]) -> None:
    """Delete models that you added or downloaded."""
    for name in names:
        if not (is_plain_name(name) and os.path.lexists(added_folder() / name)):
            known = ", ".join(list_added())
            way_out = f"choose from {known}" if known else "there is none to remove"
            raise CommandError(f"you have not added a model {name!r}; {way_out}")
    for name in dict.fromkeys(names):
        remove_folder(added_folder() / name)


def check_name(name: str, way_out: str) -> str:
    """Refuse a name that is no folder's, or that of a model that came with splitter."""
    if not (is_plain_name(name) and re.fullmatch(r"[\w.+-]+", name)):
        told = "it must be a folder's on every system, of letters, digits, dots and dashes"
        raise click.UsageError(f"{name!r} cannot be the name of a model: {told}; {way_out}")
    if name in list_models():
        raise click.UsageError(f"{name!r} belongs to a model that came with splitter; {way_out}")
    return name

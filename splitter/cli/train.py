"""`splitter train`: from folders of voices and music to a model folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from splitter.cli.command import pass_screen, volume
from splitter.cli.completion import complete_devices, complete_models, complete_networks
from splitter.cli.messages import format_speed
from splitter.cli.progress import Pace, watch_items
from splitter.cli.screen import Screen, State
from splitter.errors import CommandError, DataError, saying_shortage
from splitter.locks import try_lock
from splitter.registry import CONFIG, read_config

if TYPE_CHECKING:
    from splitter.training.loop import Trainer
    from splitter.training.tables import Progress

log = logging.getLogger(__name__)


def list_networks(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print each network and the sizes that a recipe may give it, and end the command."""
    if not wanted or context.resilient_parsing:
        return
    from splitter.networks import ARCHITECTURES, PRESETS
    from splitter.schema import describe_fields

    for name, sizes in ARCHITECTURES.items():
        click.echo(f"{name} ({PRESETS[name].source})" if name in PRESETS else name)
        for size, takes, default in describe_fields(sizes):
            click.echo(f"  {size}: {takes}  [{default}]")
    context.exit()


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="FOLDER",
    help="Write the model to this folder.",
)
@click.option(
    "--recipe",
    type=click.Path(path_type=Path, exists=True),
    help="Train as this recipe.json says.  [default: the built-in recipe]",
)
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    help="Keep checkpoint and logs in this folder.  [default: OUTPUT.run]",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="Keep decoded sound in this folder.  [default: RUN/cache]",
)
@click.option(
    "--network",
    shell_complete=complete_networks,
    help="Train this network, at its own sizes, instead of the recipe's; see --networks.",
)
@click.option(
    "--steps", type=click.IntRange(1), metavar="N", help="Train N steps, whatever the recipe says."
)
@click.option(
    "--stop-at",
    type=click.IntRange(1),
    metavar="N",
    help="Pause after step N; repeat the command to go on.",
)
@click.option(
    "--device",
    shell_complete=complete_devices,
    default="auto",
    show_default=True,
    help="Compute on this device: auto, cpu, cuda or mps.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32"]),
    default="auto",
    show_default=True,
    help="auto computes in bfloat16 where that is faster.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Mix examples in N threads.",
)
@click.option(
    "--init",
    shell_complete=complete_models,
    help="Start from the weights of this model, by name or folder.",
)
@click.option(
    "--networks",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=list_networks,
    help="List the networks and the sizes that each takes, and exit.",
)
@volume
@pass_screen
def train(
    screen: Screen,
    data: Path,
    output: Path,
    recipe: Path | None,
    network: str | None,
    run: Path | None,
    cache: Path | None,
    steps: int | None,
    stop_at: int | None,
    device: str,
    precision: str,
    workers: int,
    init: str | None,
) -> None:
    """Train a model on the folder DATA and write it to OUTPUT.

    Put songs with both stems into DATA as <song>/vocals.* and <song>/instrumental.* (or drums, bass
    and other, as in MUSDB18-HQ), voices alone into a folder called vocals, and music without
    voices into one called instrumental. Songs whose stems nobody has go into one called mixtures;
    a recipe says how they are learned from.

    Repeat the command to resume a run that was stopped. To train on N GPUs, run
    torchrun --nproc-per-node N -m -- splitter train …
    """
    if not output.name or output.name == "..":
        raise click.UsageError(f"-o {output}: name a folder for the model, such as models/mine")
    if (output / CONFIG).exists():
        read_config(output / CONFIG)  # of a model, which is replaced, and not of something else
    screen.show(State("loading"))
    import torch

    from splitter.devices import pick_device, training_dtype
    from splitter.loading import load_model
    from splitter.memory import reuse_freed_memory
    from splitter.training.loop import Trainer, train_on
    from splitter.training.ranks import join_ranks, leave_ranks
    from splitter.training.recipe import RECIPE, Recipe, read_recipe, write_recipe
    from splitter.training.seams import tell_seam
    from splitter.training.sources import (
        find_idle_patterns,
        find_sources,
        load_sources,
        sort_pools,
    )

    reuse_freed_memory()
    plan = read_recipe(recipe) if recipe else Recipe()
    if network and network != plan.network:
        plan = replace(plan, network=check_network(network), sizes={})
    plan = replace(plan, steps=steps or plan.steps)
    run = run or output.with_name(f"{output.name}.run")
    target = pick_device(device)
    ranks, target = join_ranks(target)
    dtype = torch.float32 if precision == "float32" else training_dtype(target)
    trainer = Trainer(plan, run, target, dtype, ranks, recipe)
    if ranks.first:
        click.get_current_context().with_resource(_lock(run))  # until the command ends
    if trainer.load():
        log.info("resuming from step %d", trainer.step)
        if trainer.step >= plan.steps:  # also where --init, or another DATA, promises more
            log.warning(
                "no more steps are asked for, and the model stays as it is; give more --steps to "
                "train on, or another --run to begin anew"
            )
    elif init:
        start = load_model(init)
        trainer.start_from(start.network, start.config, Path(init))
    if not ranks.first:
        screen.kind = "none"
    found = find_sources(data)
    if ranks.first and (idle := find_idle_patterns((files.name for files in found), plan)):
        log.warning("the recipe names what is not there: %s", ", ".join(idle))
    files = watch_items(screen, found, "decoding", len(found), "files")
    pools = sort_pools(load_sources(files, cache or run / "cache", plan.rate), plan)
    log.info(
        "found %d songs with both stems, %d without, %d voices, %d pieces of music; held out %d",
        *map(len, (pools.pairs, pools.mixtures, pools.voices, pools.music, pools.validation)),
    )
    # what was there is replaced when all is well only, and not by fewer steps than were taken
    if ranks.first and trainer.step <= plan.steps:
        write_recipe(plan, run / RECIPE)
    if not pools.validation:
        log.warning("no song is held out for scoring; name some under `validation` in the recipe")
    with saying_shortage(str(target), way_out='give the recipe a smaller "batch" or "crop"'):
        show_progress(screen, train_on(pools, trainer, stop_at, workers), trainer)
    screen.clear()
    if ranks.first:
        finish(trainer, output)
        tell_seam(output, pools, plan)
        click.echo(output)
    leave_ranks(ranks)


def _lock(run: Path) -> IO[str]:
    """Keep other processes from a run's folder; raise DataError if one has it."""
    run.mkdir(parents=True, exist_ok=True)
    file = (run / ".lock").open("w")
    if try_lock(file) is False:
        file.close()
        raise DataError(f"{run}: another process trains there; wait, or give another --run")
    return file


def check_network(name: str) -> str:
    """Return the name of a network; raise CommandError with the nearest one for any other."""
    from splitter.networks import ARCHITECTURES

    if name not in ARCHITECTURES:
        close = get_close_matches(name, ARCHITECTURES, n=1)
        way_out = f"did you mean {close[0]}?" if close else "see `splitter train --networks`"
        raise CommandError(f"no network is called {name!r}; {way_out}")
    return name


def show_progress(screen: Screen, training: Iterator[Progress], trainer: Trainer) -> None:
    """Train to the end, and show how far it is."""
    steps, doing = trainer.recipe.steps, f"training {trainer.run.name}"
    pace = Pace(trainer.step / steps)
    screen.show(State(doing, pace.begun))
    for progress in training:
        step, speed = f"step {progress.step} of {steps}", format_speed(progress.speed, 1)
        facts = [
            (f"loss {progress.loss:.4f}", f"loss {progress.loss:.2g}"),
            (step, f"{progress.step}/{steps}"),
            (f"{speed} × real time", f"{speed} ×"),
            *pace.left(progress.step / steps),
        ]
        screen.show(State(doing, progress.step / steps, facts))
        if progress.sdr is not None:
            log.info(
                "step %d: vocals SDR %.2f dB, %.2f dB over the mixture",
                *(progress.step, progress.sdr, progress.improvement),
            )


def finish(trainer: Trainer, output: Path) -> None:
    """Write the model and, where there is matplotlib, the curves."""
    trainer.export(output)
    if find_spec("matplotlib"):  # an extra
        from splitter.plots import draw_curves

        draw_curves(trainer.run)

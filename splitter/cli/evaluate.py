"""`splitter evaluate`: scores of models and of other tools' stems, with floors and ceilings."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from splitter.cli.command import pass_screen, volume
from splitter.cli.completion import complete_devices, complete_models
from splitter.cli.messages import complain, printable
from splitter.cli.parameters import refining
from splitter.cli.progress import watch_items
from splitter.cli.screen import Screen, State
from splitter.registry import DEFAULT_MODEL, ModelChoice

if TYPE_CHECKING:
    from splitter.datasets import Song
    from splitter.evaluation.run import Outcome
    from splitter.evaluation.summary import Results
    from splitter.evaluation.systems import System

log = logging.getLogger(__name__)

DATASETS = ["musdb18", "musdb18hq", "dsd100", "ccmixter", "mir1k", "ikala", "medleydb", "folders"]
METRICS = ["sdr", "usdr", "si-sdr", "v3", "images"]
BASELINES = ["mixture", "half", "IRM1", "IRM2", "IBM", "REPET-SIM"]
ALL = "all"


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "-m",
    "--model",
    "models",
    shell_complete=complete_models,
    multiple=True,
    help=f"Score this model, by name or folder; average several: a,b. Repeatable.  [default: "
    f"{DEFAULT_MODEL}, unless there are --estimates]",
)
@refining
@click.option(
    "-e",
    "--estimates",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Score the stems in this folder, <song>/vocals.wav, by any tool. Repeatable.",
)
@click.option(
    "--dataset",
    type=click.Choice(DATASETS),
    help="Read DATA as this data set.  [default: recognised]",
)
@click.option("--split", help="Score only this split, or all.  [default: test, if there is one]")
@click.option(
    "--include", multiple=True, metavar="GLOB", help="Score only these songs. Repeatable."
)
@click.option("--exclude", multiple=True, metavar="GLOB", help="Skip these songs. Repeatable.")
@click.option(
    "--metric",
    "metrics",
    type=click.Choice(METRICS),
    multiple=True,
    help="Compute this metric. Repeatable.  [default: sdr, usdr, si-sdr; v3 for MIR-1K, iKala]",
)
@click.option(
    "--baseline",
    "baselines",
    type=click.Choice([*BASELINES, "none"]),
    multiple=True,
    help="Add this baseline to the table, or none. Repeatable.  [default: all]",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Score N songs at once.",
)
@click.option(
    "--device",
    shell_complete=complete_devices,
    default="auto",
    show_default=True,
    help="Compute on this device: auto, cpu, cuda or mps.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("scores.json"),
    show_default=True,
    help="Write scores to this file, and a table and a journal beside it (.md, .jsonl).",
)
@click.option(
    "--page",
    is_flag=True,
    help="Also write a page for each song, and an index, to a folder: scores/ for scores.json.",
)
@click.option("--per-song", is_flag=True, help="Also print a line for each song.")
@volume
@pass_screen
def evaluate(
    screen: Screen,
    data: Path,
    models: Sequence[str],
    tta: bool,
    wiener: int,
    estimates: Sequence[Path],
    dataset: str | None,
    split: str | None,
    include: Sequence[str],
    exclude: Sequence[str],
    metrics: Sequence[str],
    baselines: Sequence[str],
    jobs: int,
    device: str,
    output: Path,
    per_song: bool,
    page: bool,
) -> None:
    """Score models, or the stems of other tools, on the data set in the folder DATA.

    Repeat the command to resume a run that was stopped: the journal keeps finished songs. A song
    that cannot be scored is named on standard error, and the exit status is 1.
    """
    screen.show(State("loading"))
    from splitter.datasets import find_idle_patterns, find_songs, recognise, select_songs
    from splitter.evaluation.journal import Journal
    from splitter.evaluation.run import evaluate as run
    from splitter.evaluation.summary import (
        check_scores,
        check_table,
        make_table,
        write_scores,
        write_table,
    )
    from splitter.metrics import import_museval
    from splitter.plots import import_imsave

    if output.suffix != ".json":
        raise click.UsageError(f"-o {output}: must end in .json; the table is written beside it")
    check_scores(output)
    check_table(output.with_suffix(".md"))
    if page:
        import_imsave()
        _check_pages(output.with_suffix(""), [data, *estimates])
    if "images" in metrics:
        import_museval()  # or else it is said now that it is not there
    dataset = dataset or recognise(data)
    songs = find_songs(data, dataset)
    split = _pick_split(songs, split)
    for pattern in find_idle_patterns(songs, [*include, *exclude]):
        log.warning("no song matches %s; see the names with --per-song", pattern)
    songs = select_songs(songs, split, include, exclude)
    metrics = metrics or _default_metrics(dataset)
    names = models or (() if estimates else (DEFAULT_MODEL,))
    if not names and (tta or wiener):
        raise click.UsageError("--tta and --wiener are for models; add --model")
    choices = [ModelChoice.parse(name, tta, wiener) for name in names]
    contenders = _make_contenders(choices, estimates, device)
    systems = [*contenders, *_make_baselines(contenders, baselines)]
    _share_processor(jobs)

    journal = Journal(output.with_suffix(".jsonl"))
    scored = run(songs, systems, metrics, journal, jobs)
    outcomes = list(watch_items(screen, scored, "scoring", len(songs), "songs"))
    screen.clear()
    described = {"folder": str(data), "data set": dataset, "split": split or ""}
    results = _gather(outcomes, systems, metrics, described)
    write_scores(output, results)
    write_table(output.with_suffix(".md"), results)
    if per_song:
        _print_songs(results, contenders)
    _print(make_table(results))
    if page:
        from splitter.cli.scored import write_pages

        _print(f"{write_pages(screen, output.with_suffix(''), songs, contenders, results)}")
    for failure in results.failures:
        complain(f"{failure.song}: {failure.message}")
    if results.failures:
        raise click.exceptions.Exit(1)


def _check_pages(folder: Path, heard: Sequence[Path]) -> None:
    """Refuse pages among the sound that is scored: the next run would score theirs as well."""
    pages = folder.resolve()
    for place in map(Path.resolve, heard):
        if place == pages or place in pages.parents or pages in place.parents:
            what = f"--page would write into {place}, which is scored"
            raise click.UsageError(f"{what}; name an --output elsewhere")


def _pick_split(songs: Sequence[Song], split: str | None) -> str | None:
    """Take the test songs of a data set that has some, unless the user says otherwise."""
    if split is None:
        return "test" if any(song.split == "test" for song in songs) else None
    return None if split == ALL else split


def _default_metrics(dataset: str) -> tuple[str, ...]:
    from splitter.datasets import DATASETS as LAYOUTS

    return ("sdr", "usdr", "si-sdr", *(["v3"] if LAYOUTS[dataset].karaoke else []))


def _make_contenders(
    choices: Sequence[ModelChoice], estimates: Sequence[Path], device: str
) -> list[System]:
    """List the systems to be judged."""
    from splitter.cli.scored import REFERENCE
    from splitter.devices import pick_device
    from splitter.evaluation.systems import EstimatesSystem, describe_model

    described = [describe_model(choice, str(pick_device(device))) for choice in choices]
    systems: list[System] = [*described, *(EstimatesSystem(folder) for folder in estimates)]
    called = [*(system.name for system in systems), *BASELINES, REFERENCE]
    for name in called:
        if called.count(name) > 1:
            raise click.UsageError(
                f"two systems are called {name}; rename the folder of one of them"
            )
    return systems


def _make_baselines(contenders: Sequence[System], chosen: Sequence[str]) -> list[System]:
    """List the rows to stand beside, their masks at the STFT of the first model that has one."""
    from splitter.evaluation.baselines import Grid
    from splitter.evaluation.systems import BaselineSystem, ModelSystem

    models = (system for system in contenders if isinstance(system, ModelSystem))
    grid = next((model.grid for model in models if model.grid), Grid())
    return [BaselineSystem(name, grid) for name in chosen or BASELINES if name != "none"]


def _share_processor(jobs: int) -> None:
    """Give each process one thread: NumPy and PyTorch read this when a process starts."""
    if jobs > 1:
        os.environ["OMP_NUM_THREADS"] = "1"


def _gather(
    outcomes: Iterable[Outcome],
    systems: Sequence[System],
    metrics: Sequence[str],
    data: dict[str, str],
) -> Results:
    """Sort what was scored from what failed, both by the names of the songs."""
    from splitter.evaluation.scoring import Failure, SongScores
    from splitter.evaluation.summary import Results

    ordered = sorted(outcomes, key=lambda outcome: outcome.song)
    return Results(
        data=data,
        systems={system.name: system.describe() for system in systems},
        timed=frozenset(system.name for system in systems if system.timed),
        metrics=metrics,
        scores=[outcome for outcome in ordered if isinstance(outcome, SongScores)],
        failures=[outcome for outcome in ordered if isinstance(outcome, Failure)],
    )


def _print_songs(results: Results, contenders: Sequence[System]) -> None:
    from splitter.evaluation.summary import format_song

    for scores in results.scores:
        for system in contenders:
            _print(format_song(scores, system.name))


def _print(text: str) -> None:
    """Print lines that may hold names of songs."""
    for line in text.splitlines():
        click.echo(printable(line))

"""Pages of separated songs: written, told, and none to the harm of another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from splitter.cli.messages import complain
from splitter.cli.screen import Screen, State
from splitter.errors import SplitterError
from splitter.registry import ModelChoice

if TYPE_CHECKING:
    from splitter.jobs import Job
    from splitter.pages import Take


def write_pages(screen: Screen, jobs: Sequence[Job], model: ModelChoice) -> bool:
    """Write a page for each job whose stems are all there, unless it is newer than they are.

    One that cannot be written is told, and harms no other; tell whether all went well.
    """
    from splitter.pages import Take, name_page

    well = True
    for job in jobs:
        if is_done(job):
            page = name_page(job.stems)
            newest = max(path.stat().st_mtime for path in job.stems.values())
            if not page.exists() or page.stat().st_mtime < newest:
                takes = [Take(model.name, job.stems)]
                well = write_and_tell(screen, page, job.song.stem, takes) is not None and well
    return well


def is_done(job: Job) -> bool:
    """Tell whether all stems of a song are there."""
    return bool(job.stems) and all(path.is_file() for path in job.stems.values())


def write_and_tell(screen: Screen, page: Path, title: str, takes: Sequence[Take]) -> Path | None:
    """Write a page and print its path; if it cannot be written say so, and return None."""
    from splitter.pages import Take, write_page

    screen.show(State(f"drawing {title}"))
    names = [take.name for take in takes]
    if len(set(names)) < len(names):  # call them by the folders that tell them apart
        folders = [next(iter(take.stems.values())).parent for take in takes]
        takes = [Take(str(folder), take.stems) for folder, take in zip(folders, takes, strict=True)]
    try:
        write_page(page, title, takes)
    except SplitterError as error:  # also of a stem that is no sound
        complain(str(error))
        return None
    click.echo(os.fsencode(str(page)))
    return page

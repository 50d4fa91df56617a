"""Jobs whose songs or stems lie in a store: fetched, separated as files, and put back whole."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from splitter.engines.worker import Outcome, Worker
from splitter.errors import AudioError
from splitter.jobs import Job
from splitter.outputs import check_existing
from splitter.paths import is_local


def separate_stored(worker: Worker, job: Job) -> Outcome:
    """Separate a job whose song or stems may lie in a store."""
    if all(is_local(path) for path in (job.song, *job.stems.values())):
        return worker.separate(job)
    with TemporaryDirectory(prefix="splitter-") as folder:
        here = _localise(job, Path(folder))
        try:
            check_existing(job.stems.values(), worker.work.output, job.claimed)
            if here.song != job.song:
                _copy(job.song, here.song)
            outcome = worker.separate(here)
            if outcome.separated is None:
                error = str(outcome.error).replace(str(here.song), str(job.song))
                return Outcome(job, error=error)
            for name, path in here.stems.items():
                if path != job.stems[name]:
                    _copy(path, job.stems[name])
        except AudioError as error:
            return Outcome(job, error=str(error))
        except (OSError, UnicodeError) as error:  # a store's names are Unicode
            return Outcome(job, error=f"{job.song}: cannot be fetched or stored ({error})")
    return Outcome(job, replace(outcome.separated, song=job.song, stems=dict(job.stems)))


def _localise(job: Job, folder: Path) -> Job:
    """Give what lies in a store a place in a folder here."""
    song = job.song if is_local(job.song) else folder / "song" / job.song.name
    stems = {
        name: path if is_local(path) else folder / name / path.name
        for name, path in job.stems.items()
    }
    return replace(job, song=song, stems=stems)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reading, target.open("wb") as writing:
        shutil.copyfileobj(reading, writing, 1 << 20)

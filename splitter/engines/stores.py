"""Jobs whose songs or stems lie in a store: fetched, separated as files, and put back whole."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from splitter.audio import SUFFIXES
from splitter.engines.worker import Outcome, Worker
from splitter.errors import AudioError, StoppedError, reason
from splitter.jobs import Job
from splitter.objects import fetch, store
from splitter.outputs import check_existing
from splitter.paths import NAME_BYTES, cut_name, is_local


def separate_stored(
    worker: Worker, job: Job, turn: AbstractContextManager[object] = nullcontext()
) -> Outcome:
    """Separate a job whose song or stems may lie in a store; `turn` is waited for to compute."""
    if all(is_local(path) for path in (job.song, *job.stems.values())):
        with turn:
            return worker.separate(job)
    try:
        temporary = TemporaryDirectory(prefix="splitter-", ignore_cleanup_errors=True)
    except OSError as full:
        told = f"{gettempdir()}: cannot be written ({reason(full)}); set TMPDIR to another folder"
        return Outcome(job, error=f"{job.song}: {told}")
    with temporary as folder:
        here = _localise(job, Path(folder))
        try:
            check_existing(job.stems.values(), worker.work.output, job.claimed)
            if here.song != job.song:
                here.song.parent.mkdir()
                fetch(job.song, here.song, worker.pause)
            with turn:
                outcome = worker.separate(here)
            if outcome.separated is None:
                return Outcome(job, error=_tell_places(str(outcome.error), here, job))
            for name, path in here.stems.items():
                if path != job.stems[name]:
                    store(path, job.stems[name], worker.pause)
        except AudioError as error:
            return Outcome(job, error=str(error))
        except StoppedError:
            raise
        except Exception as error:  # a store's names are Unicode, and its errors of any kind
            return Outcome(job, error=f"{job.song}: cannot be fetched or stored ({reason(error)})")
    return Outcome(job, replace(outcome.separated, song=job.song, stems=dict(job.stems)))


def _tell_places(error: str, here: Job, job: Job) -> str:
    """Name the places in the store, and not those in a temporary folder."""
    places = zip([here.song, *here.stems.values()], [job.song, *job.stems.values()], strict=True)
    for path, place in places:
        error = error.replace(str(path), str(place))
    return error


def _localise(job: Job, folder: Path) -> Job:
    """Give what lies in a store a place in a folder here."""
    song = job.song if is_local(job.song) else folder / "song" / _shorten(job.song)
    stems = {
        name: path if is_local(path) else folder / name / path.name
        for name, path in job.stems.items()
    }
    return replace(job, song=song, stems=stems)


def _shorten(song: Path) -> str:
    """Return a name that a disk takes: those in stores may be longer."""
    suffix = song.suffix if song.suffix.lower() in SUFFIXES else ""
    return cut_name(song.name.removesuffix(suffix), NAME_BYTES) + suffix

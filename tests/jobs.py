"""Songs and jobs for engines that work beyond this process."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import soundfile

from splitter.engines.worker import Work
from splitter.jobs import Found, Job, Journal, plan_jobs
from splitter.outputs import Output, name_stems
from splitter.separation import Computing
from tests import sounds

STEMS = ("vocals", "instrumental")


def plan(songs: Iterable[Found], folder: Path) -> list[Job]:
    def name(song: Path, folder: Path, mark: str) -> Mapping[str, Path]:
        return name_stems(song, Output(folder), "small", STEMS, mark=mark)

    return list(plan_jobs(songs, folder, name))


def work() -> Work:
    return Work(computing=Computing(core=16384, precision="float32"))


def make_song(index: int, seconds: float = 0.3) -> bytes:
    file = io.BytesIO()
    signal = sounds.noise(round(seconds * 44100) + index, seed=index)
    soundfile.write(file, signal.T, 44100, format="WAV")
    return file.getvalue()


def select_undone(journal: Journal, jobs: Iterable[Job]) -> list[Job]:
    """List the jobs that are new, changed, failed, or whose stems are gone."""
    return [job for job in jobs if not journal.has(job)]

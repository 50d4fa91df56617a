"""What can be scored: a model, a folder of stems that another tool wrote, a baseline.

A system is small and can be sent to another process; `start` gives the function that separates, and
does there, once, what is slow (a model is loaded). `identify` says what the estimates of a song
depend on, so that a stored score is used again only where it still holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from splitter.datasets import (
    DSD100_SPLITS,
    Signal,
    Song,
    Tracks,
    find_stem,
    read_sound,
    require_alike,
)
from splitter.errors import DataError, ModelError
from splitter.evaluation.baselines import BASELINES, MASKED, Grid, Stems, find_grid
from splitter.loading import load_model
from splitter.registry import INSTRUMENTAL, ModelChoice
from splitter.runtime.choose import describe_runtime
from splitter.runtime.ready import load_model as ready_model
from splitter.separation import separate

DSD100_FOLDERS = {split: folder for folder, split in DSD100_SPLITS.items()}
Separate = Callable[[Song, Tracks], Stems]


class System(Protocol):
    """Something that gives both stems of a song."""

    @property
    def name(self) -> str:
        """Return what the tables call it."""

    @property
    def timed(self) -> bool:
        """Tell whether the time it takes is worth printing."""

    def describe(self) -> str:
        """Say what it is, for people; empty where the name says it."""

    def identify(self, song: Song) -> str:
        """Return a text that changes when the estimates of this song may have changed."""

    def start(self) -> Separate:
        """Get ready and return the function that separates."""


@dataclass(frozen=True)
class ModelSystem:
    """A model, or the average of several."""

    name: str
    choice: ModelChoice
    device: str
    hash: str
    grid: Grid | None  # the STFT that it masks; none for networks without
    timed: bool = True

    def describe(self) -> str:
        """Return the hash of the weights, and of what is done with them."""
        return f"model, weights {self.hash}"

    def identify(self, _: Song) -> str:
        """Return the hash of the weights, and what runs them where."""
        return f"{self.hash} on {describe_runtime(self.device)}"

    def start(self) -> Separate:
        """Load the model."""
        model = ready_model(self.choice, self.device)

        def run(_: Song, tracks: Tracks) -> Stems:
            vocals = separate(tracks.mixture, tracks.rate, model)["vocals"]
            return vocals, tracks.mixture - vocals

        return run


@dataclass(frozen=True)
class EstimatesSystem:
    """A folder of stems: `[split/]song/vocals.*` and, unless it is what is left, the other one.

    The folder of a split may be called `Test`, as that of the songs, or as in DSD100.
    """

    folder: Path
    timed: bool = False

    @property
    def name(self) -> str:
        """Return the folder's name."""
        return self.folder.resolve().name

    def describe(self) -> str:
        """Return the folder."""
        return f"stems in {self.folder}"

    def identify(self, song: Song) -> str:
        """Return path, size and time of the estimates' files."""
        return describe_files(path for path in self._find(song) if path)

    def start(self) -> Separate:
        """Return the function that reads."""
        return self._read

    def _find(self, song: Song) -> tuple[Path | None, Path | None]:
        spelled = [song.split, song.split.capitalize(), DSD100_FOLDERS.get(song.split, "")]
        places = [self.folder / split for split in dict.fromkeys(filter(None, spelled))]
        for folder in (place / song.name for place in [*places, self.folder]):
            found = (find_stem(folder, ["vocals"]), find_stem(folder, [INSTRUMENTAL]))
            if any(found):
                return found
        return None, None

    def _read(self, song: Song, tracks: Tracks) -> Stems:
        vocals_path, instrumental_path = self._find(song)
        vocals = self._read_stem(vocals_path, tracks) if vocals_path else None
        instrumental = self._read_stem(instrumental_path, tracks) if instrumental_path else None
        if vocals is not None:
            return vocals, tracks.mixture - vocals if instrumental is None else instrumental
        if instrumental is not None:
            return tracks.mixture - instrumental, instrumental
        raise DataError(
            f"{self.folder / song.label}: has neither vocals.* nor instrumental.*; "
            "add one, or leave the song out with --exclude"
        )

    def _read_stem(self, path: Path, tracks: Tracks) -> Signal:
        sound = read_sound(path)
        require_alike(path, sound, "the song", (tracks.mixture, tracks.rate))
        return sound[0]


@dataclass(frozen=True)
class BaselineSystem:
    """A floor, a ceiling or a classic."""

    name: str  # of BASELINES
    grid: Grid
    timed: bool = False

    def describe(self) -> str:
        """Return the STFT, where the baseline has one."""
        return f"STFT of {self.grid}" if self.name in MASKED else ""

    def identify(self, _: Song) -> str:
        """Return the STFT."""
        return str(self.grid)

    def start(self) -> Separate:
        """Return the baseline's function."""
        baseline = BASELINES[self.name]
        return lambda _, tracks: baseline(tracks, self.grid)


def describe_model(choice: ModelChoice, device: str) -> ModelSystem:
    """Look up a model's name, hash and STFT; raises ModelError."""
    model = load_model(choice, device)
    if "vocals" not in model.stems:
        stems = ", ".join(model.stems)
        raise ModelError(f"{model.name}: has no stem 'vocals' to score, only {stems}")
    grid = find_grid(model.network, model.config.rate)
    return ModelSystem(model.name, choice, device, model.hash, grid)


def describe_files(paths: Iterable[Path]) -> str:
    """Name files with their sizes and times: a text that changes when they do."""
    return " ".join(_describe_file(path) for path in paths)


def _describe_file(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return f"{path} missing"
    return f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"

"""What the stems of a song will be: their names, their format, and whether they can be written.

    song ── name_stems ──▶ targets ── plan_stems ──▶ a plan, which writing can follow

All of this is settled before anything is computed, and needs no PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import BinaryIO, TypeAlias

from splitter.audio import (
    CONTAINERS,
    OutputFormat,
    SongReader,
    Tags,
    check_outputs,
    fit_format,
    fit_layout,
    fit_pipe,
)
from splitter.collisions import tell_replaced
from splitter.errors import AudioError, SplitterError
from splitter.paths import find_folder, is_there, place_inside, take_path
from splitter.registry import Config
from splitter.templates import TEMPLATE, check_template, fill_template

Target: TypeAlias = Path | BinaryIO  # where a stem goes: a file, or a pipe


@dataclass(frozen=True)
class Output:
    """Where stems go and as what."""

    folder: Path = Path()
    stems: Sequence[str] = ()  # those asked for; () is all
    format: OutputFormat = field(default_factory=OutputFormat)
    template: str = TEMPLATE  # of a stem's path in the folder
    tags: bool = True  # copy title, artist, cover and so on
    overwrite: bool = False  # replace files that are there already; never the song itself

    def __post_init__(self) -> None:
        if isinstance(self.folder, str):  # a text will do
            object.__setattr__(self, "folder", take_path(self.folder))
        if isinstance(self.stems, str):
            object.__setattr__(self, "stems", (self.stems,))
        if isinstance(self.format, str):
            object.__setattr__(self, "format", OutputFormat(self.format))


@dataclass(frozen=True)
class Plan:
    """The stems of one song: where they go, and as what."""

    targets: Mapping[str, Target]  # by name of the stem
    format: OutputFormat  # settled
    tags: Tags
    output: Output = field(default_factory=Output)
    claimed: Collection[Path] = ()

    def check_existing(self) -> None:
        """Raise AudioError if a file is there by now that may not be replaced."""
        files = [target for target in self.targets.values() if isinstance(target, Path)]
        check_existing(files, self.output, self.claimed)


def check_output(output: Output, model: Config) -> None:
    """Raise SplitterError for a stem that a model lacks, and names that share or belie a file."""
    for stem in output.stems:
        if stem not in model.known_stems:
            known = ", ".join(model.known_stems)
            raise SplitterError(f"this model has no stem {stem!r}; it has {known}")
    check_template(output.template, len(output.stems or model.all_stems))
    ending, container = PurePath(output.template).suffix[1:].lower(), output.format.container
    if ending in CONTAINERS and ending != container:
        raise SplitterError(
            f"{output.template}: ends in .{ending}, but stems are {container}; let it end in "
            f".{{ext}}, or choose the format {ending}"
        )


def name_stems(
    song: Path,
    output: Output,
    model: str,
    stems: Sequence[str],
    tags: Tags = Tags(),
    mark: str = "",
) -> dict[str, Path]:
    """Say which files the stems of a song become; `stems` are the model's, if none are asked for.

    What a song or a model calls itself is made fit for a file's name: all lie in the folder. `mark`
    keeps them apart from those of another song.
    """
    year = re.search(r"\d{4}", tags.date or "")
    values = {
        "name": _find_name(song, output.folder),
        "suffix": song.suffix.removeprefix("."),
        "ext": output.format.container,
        "parent": find_folder(song).name or "root",
        "model": model,
        "artist": tags.artist,
        "album_artist": tags.album_artist or tags.artist,
        "title": tags.title,
        "album": tags.album,
        "track": _number(tags.track, 2),
        "disc": _number(tags.disc, 1),
        "year": year[0] if year else None,
        "genre": tags.genre,
    }
    names = {}
    for stem in output.stems or stems:
        name = fill_template(output.template, {**values, "stem": stem}, mark)
        names[stem] = place_inside(output.folder, name)
    return names


def _number(text: str | None, digits: int) -> str | None:
    """Return the first part of 3/12, with zeros before it."""
    number = (text or "").partition("/")[0].strip()
    return number.zfill(digits) if number else None


def _find_name(song: Path, folder: Path) -> str:
    """Return a song's name without its suffix, or `NAME stems` where that is the song itself."""
    itself = not song.suffix and (folder / song.name).absolute() == song.absolute()
    return f"{song.name} stems" if itself else song.stem


def plan_stems(
    song: SongReader,
    targets: Mapping[str, Target],
    output: Output,
    claimed: Collection[Path] = (),
) -> Plan:
    """Settle the format for a song; raise AudioError if its stems cannot be written like this.

    Files that are `claimed` may be replaced, whatever `output` says of others.
    """
    try:
        settled = fit_format(output.format, song.rate, song.channels, song.bits)
        fit_layout(settled, song.channels, song.layout)  # writing does so, too, but hours later
    except AudioError as error:
        raise AudioError(f"{song.source}: cannot have stems of that format ({error})") from error
    files = [target for target in targets.values() if isinstance(target, Path)]
    if len(files) < len(targets):
        settled = fit_pipe(settled)
    check_outputs(files, settled, song.rate, song.channels, song.samples)
    _check_song(Path(song.source), files)
    check_existing(files, output, claimed)
    tags = song.tags if output.tags else Tags()
    return Plan(targets, settled, tags, output, claimed)


def check_existing(files: Iterable[Path], output: Output, claimed: Collection[Path]) -> None:
    """Raise AudioError if one of these files exists already and may not be replaced."""
    for path in files:
        if not output.overwrite and path not in claimed and is_there(path):
            way_out = (
                "--overwrite replaces it, --skip-existing passes over songs that have all stems"
            )
            raise AudioError(f"{path}: exists already; {way_out}")


def _check_song(song: Path, files: Iterable[Path]) -> None:
    for path in files:
        if path.exists() and is_there(song) and path.samefile(song):
            raise AudioError(tell_replaced(song))

"""What the stems of a song will be: their names, their format, and whether they can be written.

    song ── name_stems ──▶ targets ── plan_stems ──▶ a plan, which writing can follow

All of this is settled before anything is computed, and needs no PyTorch.
"""

from __future__ import annotations

import os
import string
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

from splitter.audio import OutputFormat, SongReader, Tags, check_outputs, fit_format, fit_pipe
from splitter.errors import AudioError, SplitterError
from splitter.paths import SEPARATORS, is_device, is_there, place_inside

Target: TypeAlias = Path | BinaryIO  # where a stem goes: a file, or a pipe

TEMPLATE = "{name}/{stem}.{ext}"
FIELDS = ("name", "stem", "ext", "parent", "artist", "title", "model")


@dataclass(frozen=True)
class Output:
    """Where stems go and as what."""

    folder: Path = Path()
    stems: Sequence[str] = ()  # those asked for; () is all
    format: OutputFormat = field(default_factory=OutputFormat)
    template: str = TEMPLATE  # of a stem's path in the folder
    tags: bool = True  # copy title, artist, cover and so on
    overwrite: bool = False  # replace files that are there already; never the song itself


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


def check_template(template: str, stems: int) -> None:
    """Raise SplitterError if `template` cannot name this number of stems."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise SplitterError(f"{template}: not a template ({error})") from error
    names = {name for _, name, _, _ in parsed if name is not None}
    for name in sorted(names - set(FIELDS)):
        known = ", ".join(f"{{{known}}}" for known in FIELDS)
        raise SplitterError(f"{template}: there is no {{{name}}}; known are {known}")
    if any(detail or conversion for _, _, detail, conversion in parsed):
        raise SplitterError(f"{template}: fields are names only, as in {{stem}}")
    if stems > 1 and "stem" not in names:
        raise SplitterError(f"{template}: all stems would have one name; add {{stem}}")
    if not Path(template).name:
        raise SplitterError("an empty template names nothing; try {name}/{stem}.{ext}")
    try:
        place_inside(Path(), template)
    except SplitterError as error:
        way_out = "stems go below --output, and a template names them in there"
        raise SplitterError(f"{template}: leads out of the output folder; {way_out}") from error


def needs_tags(template: str) -> bool:
    """Tell whether only the song itself can say its stems' names."""
    return "{artist}" in template or "{title}" in template


def name_stems(
    song: Path, output: Output, model: str, stems: Sequence[str], tags: Tags = Tags()
) -> dict[str, Path]:
    """Say which files the stems of a song become; `stems` are the model's, if none are asked for.

    What a song or a model calls itself is made fit for a file's name: all lie in the folder.
    """
    values = {
        "name": song.stem,
        "ext": output.format.container,
        "parent": song.absolute().parent.name or "root",
        "artist": tags.artist or "Unknown artist",
        "title": tags.title or song.stem,
        "model": model,
    }
    safe = {name: fit_name(value) for name, value in values.items()}
    return {
        stem: place_inside(output.folder, output.template.format(**safe, stem=fit_name(stem)))
        for stem in output.stems or stems
    }


def fit_name(text: str, windows: bool = os.name == "nt") -> str:
    """Replace what the name of a file cannot hold."""
    reserved = SEPARATORS if windows else "/"
    fitted = "".join("_" if c in reserved or (windows and c < " ") else c for c in text)
    fitted = fitted.replace("\0", "_")
    if windows:
        fitted = fitted.rstrip(". ")
        if is_device(fitted):
            fitted = f"_{fitted}"
    return fitted if fitted.strip(".") else fitted.replace(".", "_") or "_"


def plan_stems(
    song: SongReader,
    targets: Mapping[str, Target],
    output: Output,
    claimed: Collection[Path] = (),
) -> Plan:
    """Settle the format for a song; raise AudioError if its stems cannot be written like this.

    Files that are `claimed` may be replaced, whatever `output` says of others.
    """
    settled = fit_format(output.format, song.rate, song.channels, song.bits)
    files = [target for target in targets.values() if isinstance(target, Path)]
    if len(files) < len(targets):
        settled = fit_pipe(settled)
    check_outputs(files, settled, song.rate, song.channels, song.samples)
    _check_song(Path(song.source), files)
    check_existing(files, output, claimed)
    tags = song.tags if output.tags else Tags()
    return Plan(targets, settled, tags, output, claimed)


def check_existing(files: Iterable[Path], output: Output, claimed: Collection[Path]) -> None:
    """Raise AudioError if one of these files is there already and may not be replaced."""
    for path in files:
        if not output.overwrite and path not in claimed and is_there(path):
            way_out = "--overwrite replaces it, --skip-existing leaves it"
            raise AudioError(f"{path}: is there already; {way_out}")


def _check_song(song: Path, files: Iterable[Path]) -> None:
    for path in files:
        if is_there(path) and is_there(song) and path.samefile(song):
            raise AudioError(f"{song}: a stem would replace the song itself; choose another name")

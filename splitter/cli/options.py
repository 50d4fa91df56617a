"""What `splitter separate` was asked for, checked and put into the terms of the layers below."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

import click

from splitter.audio import (
    CONTAINERS,
    SUFFIXES,
    OutputFormat,
    Reading,
    fit_format,
    fit_pipe,
    parse_raw,
)
from splitter.cli.failures import may_be_replaced
from splitter.cli.parameters import STDIN, parse_place
from splitter.errors import SplitterError
from splitter.jobs import Journal, Shard, open_journal
from splitter.outputs import Output, check_output
from splitter.paths import is_folder, is_local
from splitter.registry import INSTRUMENTAL, Config, ModelChoice, canonical_stem
from splitter.templates import TEMPLATE, escape, needs_tags

log = logging.getLogger(__name__)

PIPE = "-"
DEFAULT_FORMAT = "wav"
VIDEOS = {"avi", "m4v", "mkv", "mov", "mp4", "webm"}  # which are read, and cannot be written
ALIASES = {  # what people call a stem, beside what other programs do
    **dict.fromkeys(("acapella", "a capella", "acappella", "a cappella", "singing"), "vocals"),
    **dict.fromkeys(("instrumentals", "backing", "backing track", "music"), INSTRUMENTAL),
}


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    songs: tuple[Path, ...]
    recursive: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    files0_from: BinaryIO | None
    output: str
    model: str
    tta: bool
    wiener: int
    device: str
    container: str | None
    bits: int | None
    bitrate: int | None
    clip: str
    dither: bool
    rate: int | None
    mono: bool
    stems: str | None
    template: str
    tags: bool
    page: bool
    overwrite: bool
    skip_existing: bool
    dry_run: bool
    start: float
    duration: float | None
    raw: str | None
    keep_partial: bool
    track: str | None
    batch_size: int | None
    overlap: float | None
    precision: str
    runtime: str
    engine: str
    address: str | None
    workers_per_gpu: int | None
    shard: Shard | None
    retry_failed: bool
    max_failures: int | None
    failures: Path | None
    as_json: bool
    null: bool
    keep_existing: bool = False  # stems that are all there, whoever made them

    @property
    def existing(self) -> str | None:
        """Return what is to be done about stems that exist; None refuses them."""
        if self.keep_existing:
            return "keep"
        return "overwrite" if self.overwrite else "skip" if self.skip_existing else None

    @property
    def to_pipe(self) -> bool:
        """Tell whether the stem goes to stdout."""
        return self.output == PIPE


def check_options(options: Options) -> None:
    """Refuse what contradicts itself."""
    if not options.songs and not options.files0_from:
        raise click.UsageError("name a song or a folder: splitter separate song.mp3")
    if not options.output:
        raise click.UsageError("--output is empty; write . for the current folder")
    if options.failures and not options.failures.parent.is_dir():
        folder = options.failures.parent
        raise click.UsageError(f"--failures {options.failures}: there is no folder {folder}")
    if options.failures and not may_be_replaced(options.failures):
        what = "is there already, and no list of songs; name another file"
        raise click.UsageError(f"--failures {options.failures}: {what}")
    if options.raw and options.track is not None:
        raise click.UsageError("--raw has no tracks; leave out --track")
    if options.track == "":
        raise click.UsageError("--track is empty; write a number or a language, such as 2 or de")
    if options.overwrite and options.skip_existing:
        raise click.UsageError("--overwrite and --skip-existing exclude each other; give one")
    if options.null and options.as_json:
        raise click.UsageError("--null and --json would mix two kinds of output; give one")
    if options.duration == 0:
        raise click.UsageError("--duration 0 leaves nothing to separate; give more seconds")
    if options.engine == "ray" and options.device != "auto":
        raise click.UsageError(
            "--device does not go with --engine ray: each node uses its GPUs, or else its cores; "
            "leave one out"
        )
    if options.engine != "ray" and options.address:
        raise click.UsageError("--address names a Ray cluster; add --engine ray")
    if options.engine != "ray" and options.workers_per_gpu:
        raise click.UsageError("--workers-per-gpu is for a Ray cluster; add --engine ray")
    if STDIN in options.songs:
        _check_stdin(options)
    if options.page:
        _check_page(options)
    if options.to_pipe:
        _check_stdout(options)


def _check_page(options: Options) -> None:
    """Refuse stems that no page can play, and say now if pictures cannot be drawn."""
    from splitter.plots import import_imsave

    if options.to_pipe or not is_local(parse_place(options.output)):
        raise click.UsageError("--page lies beside stems in a folder of this machine")
    if options.container == "raw":
        raise click.UsageError("--page: no browser plays raw samples; choose another --format")
    if options.as_json:
        raise click.UsageError("--page and --json would both write to stdout; give one")
    if options.null:
        raise click.UsageError("--page prints paths that end in a line's end; leave out -0")
    import_imsave()


def _check_stdin(options: Options) -> None:
    """Refuse what would need to read stdin twice, or elsewhere."""
    if len(options.songs) > 1 or options.files0_from:
        raise click.UsageError("- reads one song; separate others by another command")
    if options.engine != "local" or not is_local(parse_place(options.output)):
        raise click.UsageError("- is read on this machine; give a local --output and no --engine")


def _check_stdout(options: Options) -> None:
    """Refuse what does not end in one stream of sound."""
    if options.as_json:
        raise click.UsageError("--json and -o - would both write to standard output; give one")
    if len(options.songs) != 1 or options.files0_from or is_folder(options.songs[0]):
        raise click.UsageError("-o - takes one song; name a folder for the stems of several")
    if options.engine != "local" or not is_local(options.songs[0]):
        raise click.UsageError("-o - takes a song on this machine, and no --engine")
    if options.existing == "skip":
        raise click.UsageError("-o - writes no files to skip; leave out --skip-existing")
    if sys.stdout is None or sys.stdout.isatty():
        raise click.UsageError("-o - writes sound; redirect it to a file or a pipe")


def choose_output(options: Options, model: Config) -> Output:
    """Say what is written where."""
    stems = model.all_stems
    wanted = choose_stems(options.stems, model)
    file = _find_file(options, wanted or stems)
    if options.to_pipe and len(wanted or stems) != 1:
        raise click.UsageError(f"-o - writes one stem; add --stems {stems[0]}")
    form = OutputFormat(
        file.suffix[1:].lower() if file else options.container or DEFAULT_FORMAT,
        options.bits,
        options.bitrate,
        options.clip,
        int(options.dither),
        options.rate,
        options.mono,
    )
    try:
        # which bitrates there are depends on the song
        some = replace(form, bitrate=None) if CONTAINERS[form.container].lossy else form
        settled = fit_format(some, rate=44100, channels=1, bits=16)
        if options.to_pipe:
            fit_pipe(settled)
    except SplitterError as error:
        raise click.UsageError(str(error)) from error
    if (file or options.to_pipe) and options.template != TEMPLATE:
        raise click.UsageError("-o names the one file there is; leave out --template")
    template = escape(file.name) if file else options.template
    folder = file.parent if file else parse_place(options.output)
    output = Output(folder, wanted, form, template, options.tags, options.overwrite)
    with _naming("--template"):
        check_output(output, model)
    if needs_tags(template) and not all(map(is_local, options.songs)):
        raise click.UsageError(
            "--template: the tags of a song in a store are not known before it is fetched; name "
            "its stems by {name}"
        )
    return output


def choose_stems(text: str | None, model: Config) -> tuple[str, ...]:
    """Read the stems that are asked for, by whatever name; () is all that the model makes."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if text is not None and not names:
        raise click.UsageError(f"--stems is empty; choose from {', '.join(model.all_stems)}")
    return tuple(dict.fromkeys(_choose_stem(name, model.known_stems) for name in names))


def _choose_stem(given: str, stems: Sequence[str]) -> str:
    name = given.lower()
    known = {**ALIASES, **{stem: stem for stem in stems}}
    for spelled in (name, canonical_stem(name), name.replace("_", " ").replace("-", " ")):
        if known.get(spelled) in stems:
            return known[spelled]
    close = get_close_matches(name, known, n=1, cutoff=0.75)
    # what is left of a song, which models with more stems call other
    meant = (
        INSTRUMENTAL if name in ("other", "others", "rest") else known[close[0]] if close else ""
    )
    way_out = f"did you mean {meant}?" if meant in stems else f"it has {', '.join(stems)}"
    if len(words := name.split()) > 1 and set(words) <= known.keys():
        way_out = "put commas between names"
    raise click.UsageError(f"--stems: this model has no stem {given!r}; {way_out}")


def _find_file(options: Options, stems: Sequence[str]) -> Path | None:
    """Return the one file that -o names, if it names one; a folder that exists is none."""
    place = parse_place(options.output)
    suffix = place.suffix[1:].lower()
    folder = options.to_pipe or options.output.endswith(("/", os.sep)) or is_folder(place)
    if folder or not (suffix in CONTAINERS or suffix in VIDEOS or f".{suffix}" in SUFFIXES):
        if re.fullmatch("[a-z][a-z0-9]{2,4}", suffix) and len(stems) == 1 and not folder:
            log.warning("-o %s: is taken for a folder", options.output)
        return None
    if suffix not in CONTAINERS:
        known = ", ".join(CONTAINERS)
        raise click.UsageError(f"-o {options.output}: cannot write {suffix}; choose from {known}")
    if options.container not in (None, suffix):
        raise click.UsageError(
            f"-o {options.output}: its name says {suffix}; leave out --format, or write "
            f"-o {place.with_suffix(f'.{options.container}')}"
        )
    if len(options.songs) != 1 or options.files0_from or is_folder(options.songs[0]):
        raise click.UsageError(
            f"-o {options.output}: one file cannot hold the stems of many songs; name a folder, "
            f"or write {options.output}/ for a folder of that name"
        )
    if len(stems) != 1:
        raise click.UsageError(
            f"-o {options.output}: one file cannot hold {len(stems)} stems; add --stems "
            f"{stems[0]}, or name a folder"
        )
    return place


def choose_reading(options: Options) -> Reading:
    """Say what of the songs is read, and how."""
    with _naming("--raw"):
        raw = parse_raw(options.raw) if options.raw else None
    return Reading(options.start, options.duration, options.keep_partial, raw, options.track)


@contextmanager
def _naming(option: str) -> Iterator[None]:
    """Say which option asks for what cannot be."""
    try:
        yield
    except SplitterError as error:
        raise click.UsageError(f"{option} {error}") from error


def choose_journal(
    options: Options, output: Output, reading: Reading, model: ModelChoice
) -> Journal | None:
    """Open the journal of a run over folders, with all that stems depend on beside the song."""
    if not options.files0_from and not any(map(is_folder, options.songs)):
        if options.retry_failed:
            raise click.UsageError("--retry-failed is for folders: their journal knows what failed")
        return None
    settings = {
        "model": model.hash,
        "format": asdict(output.format),
        "tags": output.tags,
        "reading": asdict(reading),
        "precision": options.precision,
    }
    if options.overlap is not None:
        settings["overlap"] = options.overlap
    return open_journal(output.folder, settings, options.shard)

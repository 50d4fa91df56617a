"""`splitter separate`: songs in, stems out."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from splitter.audio import (
    CLIPS,
    CONTAINERS,
    OutputFormat,
    Reading,
    SongReader,
    Tags,
    fit_format,
    fit_pipe,
    open_song,
    parse_raw,
)
from splitter.catalogue import DEFAULT_MODEL, ModelChoice
from splitter.cli.batches import ENGINES, Bars, Batch, run_batch
from splitter.cli.messages import complain, printable
from splitter.cli.parameters import parse_bitrate, parse_place, parse_seconds, refining
from splitter.cli.progress import PROGRESS, choose_watch
from splitter.cli.records import describe, describe_failure, describe_skipped
from splitter.errors import AudioError, DataError, SplitterError
from splitter.jobs import (
    Found,
    Job,
    Journal,
    Search,
    find_songs,
    open_journal,
    plan_jobs,
    read_names,
)
from splitter.outputs import (
    TEMPLATE,
    Output,
    Target,
    check_template,
    name_stems,
    needs_tags,
    plan_stems,
)
from splitter.places import is_local

if TYPE_CHECKING:
    from splitter.engines import Outcome
    from splitter.songs import Separated
    from splitter.zoo import Model

log = logging.getLogger(__name__)

PIPE = "-"
STDIN = Path("/dev/stdin")  # what stands for it among the songs, on any system
PIPE_CORE = 1 << 18  # samples: 6 s at 44.1 kHz, so that a pipe's reader need not wait for 24 s


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
    container: str
    bits: str | None
    bitrate: int | None
    clip: str
    dither: bool
    stems: str | None
    template: str
    tags: bool
    existing: str | None  # overwrite or skip; None refuses
    start: float
    duration: float | None
    raw: str | None
    keep_partial: bool
    batch_size: int | None
    precision: str
    engine: str
    address: str | None
    as_json: bool
    progress: str
    quiet: bool

    @property
    def to_pipe(self) -> bool:
        """Tell whether the stem goes to stdout."""
        return self.output == PIPE


@click.command()
@click.argument("songs", nargs=-1, type=parse_place)
@click.option("-r", "--recursive", is_flag=True, help="Look for songs in folders of folders, too.")
@click.option("--include", multiple=True, metavar="GLOB", help="Of folders, only these songs.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Of folders, none of these songs.")
@click.option(
    "--files0-from",
    type=click.File("rb"),
    metavar="FILE",
    help="Songs, their names ended by NUL, as find -print0 writes them; - is stdin.",
)
@click.option(
    "-o",
    "--output",
    default=".",
    metavar="FOLDER",
    help="Where stems go; - writes one stem to stdout as it is computed.  [default: here]",
)
@click.option(
    "--template",
    default=TEMPLATE,
    show_default=True,
    help="A stem's path in the folder, of {name} {stem} {ext} {parent} {artist} {title} {model}.",
)
@click.option("--stems", help="Only these, as in vocals,instrumental.  [default: all]")
@click.option("--overwrite", "existing", flag_value="overwrite", help="Replace stems.")
@click.option(
    "--skip-existing", "existing", flag_value="skip", help="Leave songs alone that have all stems."
)
@click.option(
    "--format", "container", type=click.Choice(list(CONTAINERS)), default="wav", show_default=True
)
@click.option(
    "--bits", type=click.Choice(["16", "24", "32"]), help="32 is float.  [default: as the song]"
)
@click.option(
    "--bitrate", type=parse_bitrate, metavar="BIT/S", help="Of mp3, ogg, opus and m4a, as in 192k."
)
@click.option(
    "--clip",
    type=click.Choice(CLIPS),
    default="clamp",
    show_default=True,
    help="Beyond full scale: cut off, write floats, or make all stems quieter by one gain.",
)
@click.option("--dither/--no-dither", default=True, help="Where bits are reduced.  [default: on]")
@click.option("--tags/--no-tags", default=True, help="Copy title, artist, cover.  [default: on]")
@click.option(
    "--start",
    type=parse_seconds,
    metavar="TIME",
    default=0.0,
    help="Begin at this second, or at 1:30.",
)
@click.option(
    "--duration",
    type=parse_seconds,
    metavar="TIME",
    help="Take so many seconds.  [default: to the end]",
)
@click.option("--raw", metavar="RATE:CHANNELS:FORMAT", help="Headerless PCM, as 48000:2:s16le.")
@click.option("--keep-partial", is_flag=True, help="Take what there is of a song that breaks off.")
@click.option(
    "-m",
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="A model's name or folder; of several, as in a,b, the estimates are averaged.",
)
@refining
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, cpu, cuda, mps, or several, as in cuda:0,cuda:1.",
)
@click.option("--batch-size", type=click.IntRange(1), help="Tiles.  [default: as memory allows]")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32"]),
    default="auto",
    show_default=True,
    help="auto: bfloat16 or float16 where the device is faster with it.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    show_default=True,
    help="ray: on all nodes of a Ray cluster.",
)
@click.option("--address", help="Of a Ray cluster.  [default: start one here]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each song.")
@click.option(
    "--progress", type=click.Choice(PROGRESS), default="bar", help="On stderr.  [default: bar]"
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def separate(**given: Any) -> None:
    """Separate SONGS into stems: <song>/vocals.wav and <song>/instrumental.wav.

    The stems have the song's own sample rate, channels, bit depth and length, and they sum to the
    song. A song can be any file with sound in it; - is stdin. The paths of the stems are printed to
    stdout. Exit status: 0 all done, 1 some songs failed, 2 the command was wrong, 130 interrupted.

    Of a FOLDER all songs are separated, each once: the output folder keeps a journal, so that the
    same command goes on where it stopped, with songs that are new, changed or failed.
    """
    options = Options(**given)
    _check_options(options)
    model = ModelChoice.parse(options.model, options.tta, options.wiener)
    stems = model.config.all_stems
    output = _choose_output(options, stems)
    reading = _choose_reading(options)
    journal = _open_journal(options, output, reading, model)
    run = _Run(options, output, reading, model, stems, journal)
    jobs = run.plan()
    done = run.separate_many(jobs) if run.is_batch(jobs) else [run.separate(job) for job in jobs]
    if not all(done):
        raise click.exceptions.Exit(1)


def _check_options(options: Options) -> None:
    """Refuse what contradicts itself."""
    if not options.songs and not options.files0_from:
        raise click.UsageError("Missing argument 'SONGS': name files or folders")
    if options.duration == 0:
        raise click.UsageError("--duration 0 leaves nothing of a song")
    if not options.to_pipe:
        return
    if options.as_json:
        raise click.UsageError("--json and -o - would both write to stdout")
    if len(options.songs) > 1:
        raise click.UsageError("-o - takes one song, since stdout is one file")
    if sys.stdout is None or sys.stdout.isatty():
        raise click.UsageError("-o - writes sound, which no terminal can show; redirect it")


def _choose_output(options: Options, stems: Sequence[str]) -> Output:
    wanted = tuple(options.stems.split(",")) if options.stems else ()
    for name in wanted:
        if name not in stems:
            raise click.UsageError(f"no stem {name!r}; this model has {', '.join(stems)}")
    if options.to_pipe and len(wanted or stems) != 1:
        raise click.UsageError("-o - writes one stem: add --stems vocals, say")
    bits = int(options.bits) if options.bits else None
    form = OutputFormat(
        options.container, bits, options.bitrate, options.clip, dither=int(options.dither)
    )
    try:
        # which bitrates there are depends on the song
        some = replace(form, bitrate=None) if CONTAINERS[form.container].lossy else form
        settled = fit_format(some, rate=44100, channels=1, bits=16)
        if options.to_pipe:
            fit_pipe(settled)
        check_template(options.template, len(wanted or stems))
    except SplitterError as error:
        raise click.UsageError(str(error)) from error
    overwrite = options.existing == "overwrite"
    folder = parse_place(options.output)
    return Output(folder, wanted, form, options.template, options.tags, overwrite)


def _choose_reading(options: Options) -> Reading:
    try:
        raw = parse_raw(options.raw) if options.raw else None
    except SplitterError as error:
        raise click.UsageError(str(error)) from error
    return Reading(options.start, options.duration, options.keep_partial, raw)


def _open_journal(
    options: Options, output: Output, reading: Reading, model: ModelChoice
) -> Journal | None:
    """Open the journal of a run over folders, with all that stems depend on beside the song."""
    if not options.files0_from and not any(song.is_dir() for song in options.songs):
        return None
    settings = {
        "model": model.hash,
        "format": asdict(output.format),
        "tags": output.tags,
        "reading": asdict(reading),
        "precision": options.precision,
    }
    return open_journal(output.folder, settings)


@dataclass(frozen=True)
class _Run:
    """All songs of one command."""

    options: Options
    output: Output
    reading: Reading
    model: ModelChoice
    stems: Sequence[str]
    journal: Journal | None  # of a run over folders

    def plan(self) -> list[Job]:
        """Name all stems of all songs, and refuse two songs for one file."""
        songs = [STDIN if str(song) == PIPE else song for song in self.options.songs]
        if self.options.to_pipe:
            return [Job(songs[0], {})]
        try:
            jobs = plan_jobs(self._find(songs), self.output.folder, self._name_early)
        except DataError as error:
            raise click.UsageError(str(error)) from error
        kept = {job.song.absolute() for job in jobs}
        for song in songs:
            if song.absolute() not in kept and not song.is_dir():
                raise click.UsageError(f"a stem would replace {song}; choose another folder")
        return jobs

    def _find(self, songs: Sequence[Path]) -> Iterator[Found]:
        """Find the songs; what is known to be a stem is none."""
        skip = self.journal.list_stems() if self.journal else frozenset()
        below = {self.output.folder.absolute()} - {song.absolute() for song in songs}
        options = self.options
        search = Search(options.recursive, options.include, options.exclude, skip | below)
        yield from find_songs(songs, search)
        if options.files0_from:
            yield from read_names(options.files0_from.read())

    def is_batch(self, jobs: Sequence[Job]) -> bool:
        """Tell whether there is work for an engine: many songs, and no pipe among them."""
        many = len(jobs) > 1 or self.journal is not None or self.options.engine == "ray"
        stores = not all(map(is_local, [self.output.folder, *self.options.songs]))
        return (many or stores) and all(job.song != STDIN for job in jobs)

    def separate_many(self, jobs: Sequence[Job]) -> list[bool]:
        """Separate what is not done yet; say what failed, and tell which went well."""
        undone = [job for job in jobs if not self._is_done(job)]
        if len(undone) < len(jobs):
            log.info("%d of %d songs are done already", len(jobs) - len(undone), len(jobs))
        if not undone:
            return []
        kind = "none" if self.options.quiet else self.options.progress
        bars = Bars(undone, kind == "bar" and sys.stderr.isatty())
        outcomes = run_batch(undone, self._batch(), bars, choose_watch(kind))
        return [self._report(outcome, bars) for outcome in outcomes]

    def _is_done(self, job: Job) -> bool:
        if self.options.existing == "overwrite":
            return False
        if self.journal and self.journal.has(job):
            return True
        if self._may_skip(job):
            self._print(describe_skipped(str(job.song), job.stems), [])
            return True
        return False

    def _batch(self) -> Batch:
        from splitter.engines.worker import Work
        from splitter.separation import Computing

        options = self.options
        # a song that a kill interrupted may have one of its stems already
        output = replace(self.output, overwrite=self.output.overwrite or self.journal is not None)
        computing = Computing(batch=options.batch_size or 0, precision=options.precision)
        work = Work(output, self.reading, computing)
        devices = options.device.split(",")
        return Batch(
            work, self.model.resolve(), devices, options.engine, options.address, self.journal
        )

    def _report(self, outcome: Outcome, bars: Bars) -> bool:
        song = str(outcome.job.song)
        with bars.aside():
            if outcome.separated is None:
                complain(outcome.error)
                self._print(describe_failure(song, str(outcome.error)), [])
                return False
            _warn_of_clipping(outcome.separated)
            stems = outcome.separated.stems.values()
            self._print(describe(song, outcome.separated), stems)
            return True

    def _name_early(self, song: Path, folder: Path) -> Mapping[str, Path]:
        """Name the stems of a song that is not open yet; it is opened only if it must be."""
        tags = Tags()
        if needs_tags(self.output.template) and song != STDIN:
            with suppress(SplitterError), open_song(song, self.reading) as reader:
                tags = reader.tags  # or else the song's turn will come, and its error
        return name_stems(
            song, replace(self.output, folder=folder), self.model.name, self.stems, tags
        )

    def separate(self, job: Job) -> bool:
        """Separate one song; say what failed, and tell whether it went well."""
        song = PIPE if job.song == STDIN else str(job.song)
        if self._may_skip(job):
            log.info("%s: its stems are there already, skipped", printable(song))
            self._print(describe_skipped(song, job.stems), [])
            return True
        try:
            with open_song(
                _find_stdin() if job.song == STDIN else job.song, self.reading
            ) as reader:
                done = self._separate_open(job, reader)
        except SplitterError as error:
            complain(error)
            self._print(describe_failure(song, str(error)), [])
            return False
        _warn_of_clipping(done)
        self._print(describe(song, done), done.stems.values())
        return True

    def _may_skip(self, job: Job) -> bool:
        stems = job.stems.values()
        return self.options.existing == "skip" and all(path.exists() for path in stems)

    def _separate_open(self, job: Job, reader: SongReader) -> Separated:
        """Check all that can be checked, then load PyTorch and the model, and separate."""
        plan = plan_stems(reader, self._targets(job, reader), self.output)
        model = _load_model(self.model, self.options.device)
        from splitter.engines.lanes import share_processor, shared_network
        from splitter.separation import Computing
        from splitter.songs import separate_song

        computing = Computing(batch=self.options.batch_size or 1, precision=self.options.precision)
        watch = choose_watch("none" if self.options.quiet else self.options.progress)
        if self.options.to_pipe:  # at once, and not a few tiles later
            small = replace(computing, core=PIPE_CORE)
            return separate_song(reader, plan, model, small, watch)
        with shared_network([model], computing, share_processor()) as shared:
            return separate_song(reader, plan, model, shared, watch)

    def _targets(self, job: Job, reader: SongReader) -> Mapping[str, Target]:
        if self.options.to_pipe:
            return {(self.output.stems or self.stems)[0]: _find_stdout()}
        if job.song == STDIN:  # only now it can say what it is called
            return name_stems(job.song, self.output, self.model.name, self.stems, reader.tags)
        return job.stems

    def _print(self, record: dict[str, Any], paths: Iterable[Path]) -> None:
        if self.options.as_json:
            click.echo(json.dumps(record))
        elif not self.options.to_pipe:
            for path in paths:
                click.echo(str(path) if os.name == "nt" else os.fsencode(str(path)))


@cache
def _load_model(choice: ModelChoice, device: str) -> Model:
    """Load the model when the first song is known to be one."""
    from splitter.devices import pick_device
    from splitter.memory import reuse_freed_memory
    from splitter.zoo import load_model

    reuse_freed_memory()
    try:
        return load_model(choice, pick_device(device), folded=True)
    except SplitterError as error:  # no fault of the song
        raise click.ClickException(str(error)) from error


class _Behind(io.FileIO):
    """A file that holds something already: an encoder that went back would write over it."""

    def seekable(self) -> bool:
        return False


def _find_stdout() -> BinaryIO:
    stdout = sys.stdout.buffer
    if stdout.seekable() and stdout.seek(0, os.SEEK_END):
        return cast(BinaryIO, _Behind(stdout.fileno(), "wb", closefd=False))
    return stdout


def _find_stdin() -> BinaryIO:
    if sys.stdin is None:
        raise AudioError("-: there is no stdin")
    return sys.stdin.buffer


def _warn_of_clipping(done: Separated) -> None:
    for name, count in done.clipped.items():
        if count:
            peak = done.peaks[name]
            level = f"its peak is {peak:.3f}, {20 * math.log10(peak):+.1f} dB"
            way_out = "--clip rescale or --clip float keeps them"
            song = printable(str(done.song))
            log.warning(
                "%s: %d samples of %s were cut off (%s); %s", song, count, name, level, way_out
            )
    if done.gain != 1:
        song, quieter = printable(str(done.song)), -20 * math.log10(done.gain)
        log.warning("%s: its stems were made quieter by %.2f dB to fit", song, quieter)

"""`splitter separate`: songs in, stems out.

Nothing heavy is imported before the first line is on the screen, so what options can be is written
down here; the tests hold it to what the layers below take.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from splitter.cli.command import Command, choose_progress, option, pass_screen, volume
from splitter.cli.completion import (
    complete_devices,
    complete_files,
    complete_folders,
    complete_models,
    complete_stems,
)
from splitter.cli.parameters import (
    parse_bitrate,
    parse_bits,
    parse_seconds,
    parse_shard,
    parse_song,
    refining,
)
from splitter.cli.progress import PROGRESS
from splitter.cli.screen import Screen, State
from splitter.registry import DEFAULT_MODEL, ModelChoice
from splitter.runtime.choose import RUNTIMES
from splitter.signals import end_at_once, handling
from splitter.templates import TEMPLATE

if TYPE_CHECKING:
    from splitter.jobs import Job

FORMATS = ("wav", "raw", "flac", "mp3", "ogg", "opus", "m4a")
CLIPS = ("clamp", "float", "rescale")
ENGINES = ("local", "ray")

SONGS = "Choosing songs"
STEMS = "Naming and writing stems"
COMPUTING = "Quality and speed"
MANY = "Many songs"
PROGRAMS = "For programs"

EXAMPLES = [
    ("splitter separate song.mp3", "Writes song/vocals.wav and song/instrumental.wav."),
    ("splitter separate -r Music -o Stems", "Separates every song in Music and below it."),
    (
        "splitter separate song.mp3 --stems instrumental -o karaoke.mp3",
        "Writes one stem to one file.",
    ),
]


def _set_progress(context: click.Context, _: click.Parameter, kind: str | None) -> None:
    choose_progress(context.ensure_object(Screen), kind or "bar")


@click.command(cls=Command, examples=EXAMPLES)
@click.argument("songs", nargs=-1, type=parse_song, shell_complete=complete_files)
@option(
    "-o",
    "--output",
    default=".",
    metavar="PLACE",
    shell_complete=complete_folders,
    help="Write stems to this folder. One stem of one song can go to a file, such as vocals.wav, "
    "or to standard output: -.  [default: the current folder]",
)
@option("-r", "--recursive", is_flag=True, help="Search the folders in a folder, too.")
@option(
    "--stems",
    shell_complete=complete_stems,
    metavar="NAMES",
    help="Write only these stems, such as vocals.  [default: all]",
)
@option(
    "-f",
    "--format",
    "container",
    type=click.Choice(FORMATS, case_sensitive=False),
    help="Write files of this format.  [default: wav]",
)
@option(
    "-m",
    "--model",
    shell_complete=complete_models,
    default=DEFAULT_MODEL,
    show_default=True,
    help="Use this model, by name or folder; average several: a,b. `splitter models` lists them.",
)
@option("--overwrite", is_flag=True, help="Replace stems that exist.")
@option(
    "--skip-existing",
    is_flag=True,
    help="Skip songs whose stems this model has made; make the others.",
)
@option("-n", "--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
@volume
@option("--include", multiple=True, metavar="GLOB", group=SONGS, help="Take only these songs.")
@option("--exclude", multiple=True, metavar="GLOB", group=SONGS, help="Skip these songs, folders.")
@option(
    "--files0-from",
    type=click.File("rb"),
    metavar="FILE",
    group=SONGS,
    help="Read songs from FILE (- is standard input), each name ended by a NUL byte, as "
    "find -print0 writes them. With SONGS, separate only those of them that FILE names.",
)
@option(
    "--start",
    type=parse_seconds,
    metavar="TIME",
    default=0.0,
    group=SONGS,
    help="Start at this time: 90 or 1:30.",
)
@option(
    "--duration",
    type=parse_seconds,
    metavar="TIME",
    group=SONGS,
    help="Take only so much of each song.  [default: to its end]",
)
@option(
    "--raw",
    metavar="RATE:CHANNELS:FORMAT",
    group=SONGS,
    help="Read samples without a header, such as 48000:2:s16le.",
)
@option(
    "--keep-partial",
    is_flag=True,
    group=SONGS,
    help="Separate what can be read of a damaged song.",
)
@option(
    "--track",
    metavar="TRACK",
    group=SONGS,
    help="Take this sound track of a video, by number or language.  [default: its own default]",
)
@option(
    "--template",
    default=TEMPLATE,
    show_default=True,
    group=STEMS,
    help="Name stems like this. Fields: {name} {suffix} {stem} {ext} {parent} {model} {artist} "
    "{album_artist} {title} {album} {track} {disc} {year} {genre}; {album|Single} writes Single "
    "where a song names no album.",
)
@option(
    "--bits",
    type=parse_bits,
    metavar="16|24|32",
    group=STEMS,
    help="Bits per sample of wav, flac and raw; 32 means float.  [default: as the song]",
)
@option(
    "--bitrate",
    type=parse_bitrate,
    metavar="RATE",
    group=STEMS,
    help="Bitrate of mp3, ogg, opus and m4a, such as 192k.",
)
@option(
    "--rate",
    type=click.IntRange(8000, 384_000),
    metavar="HZ",
    group=STEMS,
    help="Convert stems to this sample rate, such as 16000.  [default: as the song]",
)
@option("--mono", is_flag=True, group=STEMS, help="Mix the channels of each stem to one.")
@option(
    "--clip",
    type=click.Choice(CLIPS, case_sensitive=False),
    default="clamp",
    show_default=True,
    group=STEMS,
    help="Beyond full scale: cut off, write floats, or turn all stems down by the same gain.",
)
@option(
    "--dither/--no-dither",
    default=True,
    group=STEMS,
    help="Add noise where bits are taken away.  [default: --dither]",
)
@option(
    "--tags/--no-tags",
    default=True,
    group=STEMS,
    help="Copy title, artist, cover and other tags.  [default: --tags]",
)
@option(
    "--page",
    is_flag=True,
    group=STEMS,
    help="Write a page to listen to the stems beside them, as `splitter listen` does.",
)
@refining
@option(
    "--device",
    shell_complete=complete_devices,
    default="auto",
    show_default=True,
    group=COMPUTING,
    help="Compute on cpu, cuda or mps, or on several: cuda:0,cuda:1.",
)
@option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="N",
    group=COMPUTING,
    help="Compute N tiles at once.  [default: what memory holds]",
)
@option(
    "--overlap",
    type=click.FloatRange(0, 0.95),
    metavar="SHARE",
    group=COMPUTING,
    help="Let tiles overlap by this share of them, where a network has its own tiles.",
)
@option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    default="auto",
    show_default=True,
    group=COMPUTING,
    help="auto takes openvino on a processor, torch on a GPU.",
)
@option(
    "--precision",
    type=click.Choice(["auto", "float32"]),
    default="auto",
    show_default=True,
    group=COMPUTING,
    help="auto computes in bfloat16 or float16 where that is faster.",
)
@option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    show_default=True,
    group=COMPUTING,
    help="Compute on this machine, or on all nodes of a Ray cluster.",
)
@option(
    "--address",
    metavar="HOST:PORT",
    group=COMPUTING,
    help="Join the Ray cluster at this address.  [default: start one here]",
)
@option(
    "--workers-per-gpu",
    type=click.IntRange(1, 64),
    metavar="N",
    group=COMPUTING,
    help="Let N workers share each GPU of a Ray cluster.  [default: 1]",
)
@option(
    "--shard",
    type=parse_shard,
    metavar="I/N",
    group=MANY,
    help="Separate only part I of N of all songs; the others are for other runs.",
)
@option("--retry-failed", is_flag=True, group=MANY, help="Separate only songs that have failed.")
@option(
    "--max-failures",
    type=click.IntRange(1),
    metavar="N",
    group=MANY,
    help="Stop when N songs have failed.",
)
@option(
    "--failures",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    group=MANY,
    help="Write the names of songs that failed to FILE, for --files0-from. To have their stems "
    "where they belong, name the same SONGS again, too.",
)
@option("--json", "as_json", is_flag=True, group=PROGRAMS, help="Print a JSON object per song.")
@option(
    "-0",
    "--null",
    is_flag=True,
    group=PROGRAMS,
    help="End each printed path with a NUL byte, for xargs -0, in place of a newline.",
)
@option(
    "--progress",
    type=click.Choice(PROGRESS),
    expose_value=False,
    callback=_set_progress,
    group=PROGRAMS,
    help="Show progress on standard error as a bar, as JSON, or not at all.  [default: bar]",
)
@pass_screen
def separate(screen: Screen, /, **given: Any) -> None:
    """Separate SONGS into vocals and instrumental.

    SONGS are files with sound in them (video, too), folders, or - for standard input. The stems
    keep the song's sample rate, channels, length and bit depth, and add up to the song. Their
    paths are printed to standard output. A folder's run keeps a journal beside its stems: repeat
    the command, and it does only what is new, changed or failed.
    """
    if not separate_songs(screen, **given):
        raise click.exceptions.Exit(1)


def separate_songs(screen: Screen, jobs: list[Job] | None = None, /, **given: Any) -> bool:
    """Separate songs as the options say; tell whether all went well.

    All jobs are added to `jobs`, in the order of their songs.
    """
    with handling(end_at_once):
        screen.show(State("loading"))

        from splitter.cli.options import (
            Options,
            check_options,
            choose_journal,
            choose_output,
            choose_reading,
        )
        from splitter.cli.plan import Plan
        from splitter.cli.run import Run

        options = Options(**given)
        check_options(options)
        model = ModelChoice.parse(options.model, options.tta, options.wiener)
        output = choose_output(options, model.config)
        reading = choose_reading(options)
        journal = choose_journal(options, output, reading, model)
        asked = (options, output, reading, model, model.config.all_stems, journal, screen)
        plan = Plan(*asked)
        run = Run(*asked, plan)
        planned = plan.jobs()
        if options.page and jobs is None:
            jobs = []
        if jobs is not None:
            planned = _keep(planned, jobs)
    well = run.preview(planned) if options.dry_run else run.separate_all(planned)
    run.clipping.tell()
    if options.page and jobs and not options.dry_run:
        from splitter.cli.pages import write_pages

        well = write_pages(screen, jobs, model) and well
    run.finish()
    return well


def _keep(jobs: Iterable[Job], kept: list[Job]) -> Iterator[Job]:
    for job in jobs:
        kept.append(job)
        yield job

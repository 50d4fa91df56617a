"""`splitter separate`: songs in, stems out."""

from __future__ import annotations

from typing import Any

import click

from splitter.audio import CLIPS, CONTAINERS
from splitter.cli.batch import ENGINES
from splitter.cli.options import (
    Options,
    check_options,
    choose_journal,
    choose_output,
    choose_reading,
)
from splitter.cli.parameters import parse_bitrate, parse_place, parse_seconds, refining
from splitter.cli.progress import PROGRESS
from splitter.cli.run import Run
from splitter.outputs import TEMPLATE
from splitter.registry import DEFAULT_MODEL, ModelChoice


@click.command()
@click.argument("songs", nargs=-1, type=parse_place)
@click.option("-r", "--recursive", is_flag=True, help="Look for songs in folders of folders, too.")
@click.option("--include", multiple=True, metavar="GLOB", help="Of folders, only these songs.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="None of these songs and folders.")
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
    check_options(options)
    model = ModelChoice.parse(options.model, options.tta, options.wiener)
    stems = model.config.all_stems
    output = choose_output(options, stems)
    reading = choose_reading(options)
    journal = choose_journal(options, output, reading, model)
    run = Run(options, output, reading, model, stems, journal)
    jobs = run.plan()
    done = run.separate_many(jobs) if run.is_batch(jobs) else [run.separate(job) for job in jobs]
    if not all(done):
        raise click.exceptions.Exit(1)

"""`splitter separate`: songs in, stems out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from splitter.errors import SplitterError

if TYPE_CHECKING:
    from splitter.audio import SongReader
    from splitter.separation import Computing, Stems
    from splitter.songs import Output, Separated
    from splitter.zoo import Model

log = logging.getLogger(__name__)


@click.command()
@click.argument("songs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where the folders of stems go.  [default: here]",
)
@click.option("-m", "--model", help="A model's name, or the path of its folder.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--format", "container", type=click.Choice(["wav", "flac"]), default="wav")
@click.option("--stems", help="Only these, as in vocals,instrumental.  [default: all]")
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def separate(
    songs: tuple[Path, ...],
    output: Path,
    model: str | None,
    device: str,
    container: str,
    stems: str | None,
    batch_size: int,
    quiet: bool,
) -> None:
    """Separate SONGS into stems: <song>/vocals.wav and <song>/instrumental.wav.

    The stems have the song's own sample rate, channels and length, and they sum to the song. The
    paths of the stems are printed to stdout. Exit status: 0 all done, 1 some songs failed, 2 the
    command was wrong, 130 interrupted.
    """
    from splitter.devices import pick_device
    from splitter.memory import reuse_freed_memory
    from splitter.separation import Computing
    from splitter.songs import Output
    from splitter.zoo import DEFAULT_MODEL, load_model

    reuse_freed_memory()
    loaded = load_model(model or DEFAULT_MODEL, pick_device(device))
    wanted = tuple(stems.split(",")) if stems else ()
    for name in wanted:
        if name not in loaded.stems:
            raise click.UsageError(f"no stem {name!r}; {loaded.name} has {', '.join(loaded.stems)}")
    where = Output(output, wanted, container)
    computing = Computing(batch=batch_size)
    failed = [song for song in songs if not _one(song, where, loaded, computing, quiet)]
    if failed:
        raise click.exceptions.Exit(1)


def _one(song: Path, output: Output, model: Model, computing: Computing, quiet: bool) -> bool:
    """Separate one song; say what failed, and tell whether it went well."""
    from splitter.songs import separate_file

    try:
        done = separate_file(song, output, model, computing, partial(_with_bar, song.name, quiet))
    except SplitterError as error:
        click.echo(f"splitter: {error}", err=True)
        return False
    _report(done)
    return True


def _with_bar(
    name: str, quiet: bool, reader: SongReader, stems: Iterator[Stems]
) -> Iterator[Stems]:
    """Show how many seconds of the song are done, and how many times real time that is."""
    total = reader.samples / reader.rate if reader.samples else None
    shape = "{desc}: {percentage:3.0f}% |{bar}| {n:.0f}/{total:.0f} s of song, {rate_noinv_fmt}"
    with tqdm(
        desc=name, total=total, unit="× real time", bar_format=shape, disable=quiet or None
    ) as bar:
        for block in stems:
            yield block
            bar.update(next(iter(block.values())).shape[-1] / reader.rate)


def _report(done: Separated) -> None:
    for path in done.stems.values():
        click.echo(path)
    for name, samples in done.clipped.items():
        if samples:
            log.warning("%s: %d samples of %s were clipped", done.song, samples, name)

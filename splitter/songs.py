"""One song in, its stems out.

    song ── open_song ──▶ reader ── plan_stems ──▶ plan ── separate_song ──▶ what became of it

The first two steps say quickly what cannot be done; the third needs a model, and time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from splitter.audio import Mark, OutputFormat, SongReader, StemWriter, open_song, write_stems
from splitter.errors import saying_shortage
from splitter.loading import DEFAULT_MODEL, Model, ModelChoice, load_model
from splitter.outputs import Output, Plan, name_stems, plan_stems
from splitter.separation import Computing, Stems, separate_blocks

__all__ = ["Output", "Separated", "Watch", "separate_file", "separate_song", "unwatched"]

Watch = Callable[[SongReader, Iterator[Stems]], Iterator[Stems]]


def unwatched(_: SongReader, stems: Iterator[Stems]) -> Iterator[Stems]:
    """Pass a song's stems on without a word."""
    return stems


@dataclass(frozen=True)
class Separated:
    """What became of a song."""

    song: Path
    stems: dict[str, Path]  # name → file; a stem that went into a pipe has none
    rate: int  # Hz
    channels: int
    samples: int
    format: OutputFormat  # of the stems
    peaks: dict[str, float]  # name → largest magnitude, before anything was cut off
    clipped: dict[str, int]  # name → samples cut off at full scale
    gain: float  # what all stems were multiplied by, to fit
    damage: str | None  # what is missing, if that was allowed
    model: str
    model_hash: str
    seconds: float  # taken


def separate_song(
    song: SongReader,
    plan: Plan,
    model: Model,
    computing: Computing = Computing(),
    watch: Watch = unwatched,
) -> Separated:
    """Separate an open song as planned; `watch` wraps the stream of stems, to show progress.

    All stem files get their names in the end; after an error there are none.
    """
    started = time.monotonic()
    tags = plan.tags
    if plan.output.tags:
        tags = replace(tags, mark=Mark("", model.name, model.hash))
    with (
        saying_shortage(song.source),
        write_stems(plan.targets, song.rate, song.channels, plan.format, tags) as writers,
    ):
        plan.check_existing()  # again, now that nobody else can write these stems
        blocks, bits = song.read_blocks(), _exact_bits(plan.format)
        stream = separate_blocks(blocks, song.rate, song.channels, model, computing, bits)
        for stems in watch(song, stream):
            for name, writer in writers.items():
                writer.write(stems[name])
    return _describe(song, writers, model, time.monotonic() - started)


def separate_file(
    song: Path | str,
    output: Output = Output(),
    model: Model | ModelChoice | str = DEFAULT_MODEL,
    computing: Computing = Computing(),
    watch: Watch = unwatched,
) -> Separated:
    """Separate a song file into stem files.

    Stems have the song's sample rate, channels and length, and its bit depth unless told otherwise.
    Raises AudioError for a file that cannot be read or written; then no stem is left behind.
    """
    path = Path(song)
    with open_song(path) as reader:
        if not isinstance(model, Model):
            model = load_model(model)
        targets = name_stems(path, output, model.name, model.stems, reader.tags)
        return separate_song(reader, plan_stems(reader, targets, output), model, computing, watch)


def _exact_bits(settled: OutputFormat) -> int:
    """Say to which depth the vocals are rounded before the residual is taken: see separate_blocks.

    Not where samples still change on their way into the file.
    """
    return 32 if settled.dither or settled.clip == "rescale" else settled.bits or 32


def _describe(
    song: SongReader, writers: dict[str, StemWriter], model: Model, seconds: float
) -> Separated:
    first = next(iter(writers.values()))
    targets = {name: writer.target for name, writer in writers.items()}
    return Separated(
        song=Path(song.source),
        stems={name: path for name, path in targets.items() if isinstance(path, Path)},
        rate=song.rate,
        channels=song.channels,
        samples=first.samples,
        format=first.format,
        peaks={name: writer.peak for name, writer in writers.items()},
        clipped={name: writer.clipped for name, writer in writers.items()},
        gain=first.gain,
        damage=song.damage,
        model=model.name,
        model_hash=model.hash,
        seconds=seconds,
    )

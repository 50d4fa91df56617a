"""One song in, its stems out.

    song ── open_song ──▶ reader ── plan_stems ──▶ plan ── separate_song ──▶ what became of it

The first two steps say quickly what cannot be done; the third needs a model, and time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, BinaryIO

from splitter.audio import (
    Block,
    Mark,
    OutputFormat,
    SongReader,
    StemWriter,
    open_song,
    write_stems,
)
from splitter.errors import SplitterError, saying_shortage
from splitter.outputs import Output, Plan, check_output, name_stems, plan_stems
from splitter.paths import take_path
from splitter.registry import DEFAULT_MODEL, Config, ModelChoice
from splitter.runtime.computing import Computing, Streaming
from splitter.runtime.ready import choose, make_ready
from splitter.separation import Stems, separate_blocks

if TYPE_CHECKING:
    from splitter.loading import Model

__all__ = [
    "Output",
    "Progress",
    "Separated",
    "StemStream",
    "Watch",
    "open_stems",
    "separate_file",
    "separate_song",
    "unwatched",
]

log = logging.getLogger(__name__)

Progress = Callable[[float, float | None], None]  # seconds done, and in all, if they are known
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
    model: Model | Streaming,
    computing: Computing = Computing(),
    watch: Watch = unwatched,
) -> Separated:
    """Separate an open song as planned; `watch` wraps the stream of stems, to show progress.

    All stem files get their names in the end; after an error there are none.
    """
    started = time.monotonic()
    _tell_decisions(song, plan, model, computing)
    tags = replace(plan.tags, mark=Mark("", model.name, model.hash))
    with (
        saying_shortage(song.source),
        write_stems(
            plan.targets, song.rate, song.channels, plan.format, tags, song.layout
        ) as writers,
    ):
        plan.check_existing()  # again, now that nobody else can write these stems
        blocks, bits = song.read_blocks(), _exact_bits(plan.format)
        in_scale = plan.format.clip == "clamp"
        stream = separate_blocks(blocks, song.rate, song.channels, model, computing, bits, in_scale)
        with _writing_beside(writers) as write:
            for stems in watch(song, stream):
                write(stems)
    return _describe(song, writers, model, time.monotonic() - started)


@contextmanager
def _writing_beside(writers: Mapping[str, StemWriter]) -> Iterator[Callable[[Stems], None]]:
    """Give what encodes each stem in a thread of its own, while the next block is computed.

    Pipes are written to at once: who reads them may let one wait, and Ctrl-C must end that. So is
    the first block: in a short song there is nothing to compute beside it, and threads take time.
    """

    def write_now(stems: Stems) -> None:
        for name, writer in writers.items():
            writer.write(stems[name])

    if not all(isinstance(writer.target, Path) for writer in writers.values()):
        yield write_now
        return
    under_way: list[Future[None]] = []

    def finish() -> None:
        for future in under_way:
            future.result()
        under_way.clear()

    with ThreadPoolExecutor(len(writers), "splitter-write") as threads:

        def write(stems: Stems) -> None:
            if not any(writer.samples for writer in writers.values()):
                write_now(stems)
                return
            finish()
            under_way.extend(threads.submit(writers[name].write, stems[name]) for name in writers)

        yield write
        finish()


def _tell_decisions(
    song: SongReader, plan: Plan, model: Model | Streaming, computing: Computing
) -> None:
    """Log what was decided for a song."""
    if not log.isEnabledFor(logging.DEBUG):
        return
    how = "the processor, as a stream"
    if not isinstance(model, Streaming):
        shapes = [computing.tile_shape(part.network) for part in model.parts]
        seconds = [(shape.core + 2 * shape.context) / model.config.rate for shape in shapes]
        how = f"{model.device}, tiles of {' and '.join(f'{each:.1f}' for each in seconds)} s"
    written = plan.format
    depth = f"{written.bitrate} bit/s" if written.bitrate else f"{written.bits} bits"
    log.debug(
        "%s: read by %s, %d Hz, %d channels; model %s (%s) on %s; written as %s, %s: %s",
        *(song.source, song.decoder, song.rate, song.channels, model.name, model.hash, how),
        *(written.container, depth, ", ".join(map(str, plan.targets.values()))),
    )


def separate_file(
    song: Path | str,
    output: Output | Path | str = Output(),
    model: Model | Streaming | ModelChoice | Path | str = DEFAULT_MODEL,
    computing: Computing = Computing(),
    progress: Progress | None = None,
) -> Separated:
    """Separate a song file into stem files.

    Stems have the song's sample rate, channels and length, and its bit depth unless told otherwise.
    `output` may be a folder alone. `progress` is called with the seconds of song that are done, and
    those in all. What it raises ends the work. Raises AudioError for a file that cannot be read or
    written, or that is there already, unless `output` says overwrite; then no stem is left behind.
    """
    path = take_path(song)
    output = output if isinstance(output, Output) else Output(take_path(output))
    watch = partial(_tell, progress) if progress else unwatched
    with open_song(path) as reader:
        name, config = _identify(model, computing)
        check_output(output, config)
        names = name_stems(path, output, name, config.all_stems, reader.tags)
        plan = plan_stems(reader, names, output)  # before a model takes its time
        return separate_song(reader, plan, make_ready(model, computing), computing, watch)


@dataclass(frozen=True)
class StemStream:
    """The stems of a song as they are computed: iterate over it."""

    rate: int  # Hz
    channels: int
    samples: int | None  # of the whole song, if it says so
    blocks: Iterator[Stems]  # name → (channels, samples)

    def __iter__(self) -> Iterator[Stems]:
        return self.blocks


@contextmanager
def open_stems(
    song: Path | str | BinaryIO,
    model: Model | Streaming | ModelChoice | Path | str = DEFAULT_MODEL,
    computing: Computing = Computing(),
) -> Iterator[StemStream]:
    """Open the stems of a song, a file or a pipe, as a stream of blocks that sum to the song.

    A block is computed when it is asked for, within the with-block; whoever asks no more may leave.
    Raises AudioError for what cannot be read.
    """
    left = Event()
    with open_song(take_path(song) if isinstance(song, str) else song) as reader:
        blocks = separate_blocks(
            _read_until(left, reader),
            reader.rate,
            reader.channels,
            make_ready(model, computing),
            computing,
        )
        try:
            yield StemStream(reader.rate, reader.channels, reader.samples, blocks)
        finally:
            left.set()


def _read_until(left: Event, song: SongReader) -> Iterator[Block]:
    """Yield a song's blocks; raise SplitterError when it is closed, as decoders would crash."""
    blocks = song.read_blocks()
    while not left.is_set():
        try:
            yield next(blocks)
        except StopIteration:
            return
    raise SplitterError(f"{song.source}: is closed; ask for its stems in the with-block")


def _identify(
    model: Model | Streaming | ModelChoice | Path | str, computing: Computing
) -> tuple[str, Config]:
    """Return the name of a model and its config, without loading it."""
    if isinstance(model, (str, Path, ModelChoice)):
        choice = choose(model)
        return choice.name, choice.config
    ready = make_ready(model, computing)
    return ready.name, ready.config


def _tell(progress: Progress, song: SongReader, stems: Iterator[Stems]) -> Iterator[Stems]:
    """Call `progress` for each block."""
    done, total = 0, None if song.samples is None else song.samples / song.rate
    for block in stems:
        yield block
        done += next(iter(block.values())).shape[-1]
        progress(done / song.rate, total)


def _exact_bits(settled: OutputFormat) -> int:
    """Say to which depth the vocals are rounded before the residual is taken: see separate_blocks.

    Not where samples still change on their way into the file.
    """
    changes = settled.dither or settled.converts or settled.clip == "rescale"
    return 32 if changes else settled.bits or 32


def _describe(
    song: SongReader, writers: dict[str, StemWriter], model: Model | Streaming, seconds: float
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

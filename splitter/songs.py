"""One song file in, its stem files out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from splitter.audio import OutputFormat, SongReader, StemWriter, open_song
from splitter.errors import AudioError
from splitter.separation import Computing, Stems, separate_blocks
from splitter.zoo import Model, load_model

Watch = Callable[[SongReader, Iterator[Stems]], Iterator[Stems]]


def unwatched(_: SongReader, stems: Iterator[Stems]) -> Iterator[Stems]:
    """Pass a song's stems on without a word."""
    return stems


@dataclass(frozen=True)
class Output:
    """Where stems go and as what."""

    folder: Path = Path()
    stems: Sequence[str] = ()  # those asked for; () is all
    container: str = "wav"  # wav or flac
    bits: int | None = None  # 16, 24 or 32 (float); None: as in the song

    def depth_for(self, song_bits: int) -> int:
        """Return the bits of a stem's samples; flac has no float, 24 bits come closest."""
        return self.bits or (24 if self.container == "flac" and song_bits == 32 else song_bits)


@dataclass(frozen=True)
class Separated:
    """What became of a song."""

    song: Path
    stems: dict[str, Path]  # name → file
    rate: int  # Hz
    channels: int
    samples: int
    clipped: dict[str, int]  # name → samples cut off at full scale
    seconds: float  # taken


def stem_paths(song: Path, output: Output, model: Model) -> dict[str, Path]:
    """Say which files the stems of a song will be."""
    wanted = output.stems or model.stems
    return {name: output.folder / song.stem / f"{name}.{output.container}" for name in wanted}


def separate_file(
    song: Path,
    output: Output = Output(),
    model: Model | None = None,
    computing: Computing = Computing(),
    watch: Watch = unwatched,
) -> Separated:
    """Separate a song file into stem files; `watch` wraps the stream of stems, to show progress.

    Stems have the song's sample rate, channels and length, and its bit depth unless told otherwise.
    Raises AudioError for a file that cannot be read or written; then no stem is left behind.
    """
    model = model or load_model()
    started = time.monotonic()
    paths = stem_paths(song, output, model)
    with open_song(song) as reader, ExitStack() as whole:
        bits = output.depth_for(reader.bits)
        writers = {
            name: whole.enter_context(_writer(path, output, reader, bits))
            for name, path in paths.items()
        }
        blocks, rate, channels = reader.read_blocks(), reader.rate, reader.channels
        stream = separate_blocks(blocks, rate, channels, model, computing, bits)
        samples = 0
        for stems in watch(reader, stream):
            for name, writer in writers.items():
                writer.write(stems[name])
            samples += stems[model.stems[0]].shape[-1]
    clipped = {name: writer.clipped for name, writer in writers.items()}
    seconds = time.monotonic() - started
    return Separated(song, paths, rate, channels, samples, clipped, seconds)


def _writer(path: Path, output: Output, song: SongReader, bits: int) -> StemWriter:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioError(f"{path.parent}: cannot make this folder ({error.strerror})") from error
    return StemWriter(path, song.rate, song.channels, OutputFormat(output.container, bits))

"""The table of format × rate × channels × bits: length, sum and tags of what is written.

Run as a program it prints the table: python -m tests.test_formats
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from splitter.audio import Block, OutputFormat, StemWriter, Tags, open_song, resample_signal
from splitter.loading import Model, load_model
from splitter.outputs import Output
from splitter.songs import separate_file
from tests import sounds

TAGS = Tags(
    title="Song", artist="Someone", album="Album", track="3/12", cover=b"\x89PNG" + b"0" * 99
)
LOSSLESS = [
    (container, rate, channels, bits)
    for container, depths in (("wav", (16, 24, 32)), ("flac", (16, 24)))
    for rate in (8000, 44100, 96000)
    for channels in (1, 2, 6)
    for bits in depths
]
LOSSY = [
    (container, rate, channels, 0)
    for container in ("mp3", "ogg", "opus", "m4a")
    for rate in (44100, 48000)
    for channels in (1, 2, 6)
    if container != "mp3" or channels <= 2
]
SECONDS = 0.15


@dataclass(frozen=True)
class Row:
    """What was measured of the stems of a song of one shape."""

    missing: int  # samples, beside the song
    error: float  # of the sum of the stems beside the song, largest magnitude
    noise: float  # the same as a level, root mean square, in dB below the song
    tags: bool  # title with the stem's name, artist, album, track and cover are there


def measure(folder: Path, model: Model, shape: tuple[str, int, int, int]) -> Row:
    """Separate a song into stems of a format, rate, channel count and depth (0: lossy)."""
    container, rate, channels, bits = shape
    song, signal = folder / "song.flac", _make_song(rate, channels)
    source = OutputFormat("wav" if bits == 32 else "flac", bits or 16)
    with StemWriter(song, rate, channels, source, TAGS) as writer:
        writer.write(signal)
    output = Output(folder / "out", format=OutputFormat(container))
    done = separate_file(song, output, model)
    stems, rates, tags = zip(*(_read(path) for path in done.stems.values()), strict=True)
    signal = resample_signal(_read(song)[0], rate, rates[0])  # opus has 48 kHz only
    common = min(signal.shape[1], *(stem.shape[1] for stem in stems))
    difference = sum(stem[:, :common] for stem in stems) - signal[:, :common]
    return Row(
        missing=signal.shape[1] - common,
        error=float(np.abs(difference).max()),
        noise=float(10 * np.log10(np.mean(signal**2) / max(np.mean(difference**2), 1e-20))),
        tags=list(tags) == [TAGS.for_stem(name) for name in done.stems],
    )


def _make_song(rate: int, channels: int) -> Block:
    """A song of any number of channels, each of them different."""
    stereo = sounds.song(SECONDS, rate)
    levels = np.linspace(1, 0.5, channels, dtype=np.float32)
    return np.stack([level * stereo[index % 2] for index, level in enumerate(levels)])


def _read(path: Path) -> tuple[Block, int, Tags]:
    with open_song(path) as reader:
        return np.concatenate(list(reader.read_blocks()), axis=1), reader.rate, reader.tags


@pytest.mark.parametrize("shape", LOSSLESS, ids=str)
def test_lossless_stems_are_as_long_as_the_song_and_sum_to_it(
    tmp_path: Path, small_model: Model, shape: tuple[str, int, int, int]
) -> None:
    row = measure(tmp_path, small_model, shape)
    assert row.missing == 0
    # integers sum exactly; floats round once at a magnitude below one
    assert row.error <= (2**-24 if shape[-1] == 32 else 0)
    assert row.tags


@pytest.mark.parametrize("shape", LOSSY, ids=str)
def test_lossy_stems_are_as_long_as_the_song_and_nearly_sum_to_it(
    tmp_path: Path, small_model: Model, shape: tuple[str, int, int, int]
) -> None:
    row = measure(tmp_path, small_model, shape)
    assert row.missing == 0
    assert row.noise > 8  # dB; an encoder leaves out what is not heard, and 50 ms off would be -3
    assert row.tags


def tabulate(shapes: Sequence[tuple[str, int, int, int]]) -> str:
    """Make the table in Markdown."""
    lines = ["| format | Hz | channels | bits | samples missing | sum − song | tags |"]
    lines += ["|---|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        model = load_model(str(sounds.write_small_model(Path(name) / "model")))
        for index, shape in enumerate(shapes):
            folder = Path(name) / str(index)
            folder.mkdir()
            row = measure(folder, model, shape)
            error = f"{row.error:.1e}" if shape[-1] else f"−{row.noise:.0f} dB"
            cells = (*shape[:3], shape[3] or "lossy", row.missing, error, row.tags)
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(tabulate([*LOSSLESS, *LOSSY]))

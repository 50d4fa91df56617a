"""Format × rate × channels × bits: the stems have the song's length, sum to it, and carry its tags.

`python -m tests.test_audio_formats` prints the table.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from splitter.audio import (
    CONTAINERS,
    Block,
    OutputFormat,
    Tags,
    fit_format,
    open_song,
    resample_signal,
    write_stems,
)
from splitter.jobs.finding import find_songs, has_sound
from tests.codecs import chirps, read

RATES = (8000, 22050, 44100, 48000, 96000, 192000, 384000)
CHANNELS = (1, 2, 6, 8)
SAMPLES = 20_001
TAGS = Tags(
    title="Song",
    artist="Singer",
    album="Album",
    track="3",
    date="1999",
    cover=b"\xff\xd8\xff\xe0" + bytes(500),
)
CASES = [
    (name, rate, channels, bits)
    for name, container in CONTAINERS.items()
    if name != "raw"
    for rate in RATES
    for channels in CHANNELS
    if channels <= container.channels
    for bits in ((0,) if container.lossy else sorted(container.codecs))
]


@dataclass(frozen=True)
class Row:
    """What came back."""

    rate: int  # Hz, as written
    samples: int
    error: float  # of the sum of the stems, largest, full scale is 1
    noise: float  # the same error, root of the mean square
    tags: bool


def write_and_read(folder: Path, case: tuple[str, int, int, int]) -> tuple[Row, Block]:
    """Split a song into two, write both, read them back; also give the song at their rate."""
    name, rate, channels, bits = case
    song = chirps(SAMPLES, channels, rate)
    vocals = np.asarray(song * np.sin(np.arange(SAMPLES) / 700) ** 2, np.float32)
    targets = {stem: folder / f"{stem}.{name}" for stem in ("vocals", "instrumental")}
    settled = fit_format(OutputFormat(name, bits or None, dither=1), rate, channels, bits or 32)
    with write_stems(targets, rate, channels, settled, TAGS) as writers:
        writers["vocals"].write(vocals)
        writers["instrumental"].write(song - vocals)
    stems, tags = [], []
    for path in targets.values():
        with open_song(path) as stem:
            stems.append(np.concatenate(list(stem.read_blocks()), axis=1))
            tags.append(stem.tags)
            written = stem.rate
            assert stem.channels == channels
    total = np.sum(stems, axis=0, dtype=np.float64)
    expected = resample_signal(song, rate, written)
    error = total - expected if total.shape == expected.shape else np.full(1, np.inf)
    kept = tags == [TAGS.for_stem(stem) for stem in targets]
    largest, noise = float(np.abs(error).max()), float(np.sqrt(np.mean(error**2)))
    return Row(written, total.shape[1], largest, noise, kept), expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_stems_of_every_shape_have_the_length_the_sum_and_the_tags(
    tmp_path: Path, case: tuple[str, int, int, int]
) -> None:
    row, expected = write_and_read(tmp_path, case)
    _, rate, channels, bits = case
    assert row.samples == expected.shape[1]
    assert row.tags
    if bits:
        assert row.rate == rate
        step = {16: 2**-15, 24: 2**-23, 32: 2**-23}[bits]
        assert row.error <= step * 1.001  # and the rounding of float32
    elif rate == row.rate >= 44100 and channels <= 2:
        assert row.noise < 0.03  # a tenth of the song: the codecs work; how well is theirs


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mpegts", "mp2"),
        ("m2ts", "mp2"),
        ("mpeg", "mp2"),
        ("vob", "ac3"),
        ("flv", "aac"),
        ("voc", "pcm_u8"),
    ],
)
def test_a_folder_gives_sound_of_every_kind_that_is_read(
    tmp_path: Path, container: str, codec: str
) -> None:
    options = {"mpegts_m2ts_mode": "1"} if container == "m2ts" else {}
    muxer = "mpegts" if container == "m2ts" else container
    with av.open(str(tmp_path / "song"), "w", format=muxer, options=options) as output:
        track: Any = output.add_stream(codec, rate=44100, layout="stereo")
        signal = np.ascontiguousarray(chirps(44100).T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(signal, "flt", "stereo")
        frame.sample_rate, frame.pts = 44100, 0
        output.mux(track.encode(frame))
        output.mux(track.encode(None))
    (song,) = find_songs([tmp_path])
    assert 44100 <= read(song.path).shape[1] < 44100 + 5000


def test_text_that_looks_like_a_stream_is_no_song() -> None:
    assert not has_sound(b"G" + bytes(187) + b"G" + bytes(300))


@pytest.mark.parametrize("sync", ["7ffe8001", "fe7f0180", "1fffe80007f0", "ff1f00e8f007"])
def test_dts_is_known_in_all_four_orders_of_its_bits(sync: str) -> None:
    """ETSI TS 102 114, 6.1.3.1."""
    assert has_sound(bytes.fromhex(sync) + bytes(100))


def main() -> None:
    """Print the table."""
    print("| format | rate | channels | bits | written | samples | sum, LSB of 16 | tags |")
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            row, expected = write_and_read(Path(folder), case)
        name, rate, channels, bits = case
        length = "exact" if row.samples == expected.shape[1] else f"{row.samples}"
        shown = f"{row.error * 32768:.4f}" if bits else "lossy"
        depth = bits or "-"
        print(
            f"| {name} | {rate} | {channels} | {depth} | {row.rate} | {length} | {shown} |"
            f" {'all' if row.tags else 'MISSING'} |"
        )


if __name__ == "__main__":
    sys.exit(main())

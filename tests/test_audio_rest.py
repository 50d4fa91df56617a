"""What lies behind a song's sound: padding and tags are no damage, and another song is told."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
import pytest
import soundfile

from splitter.audio import Block, Reading, open_song
from splitter.errors import AudioError
from tests import sounds
from tests.codecs import Pipe, chirps, make, read

RATE, SAMPLES = 44100, 30_000
ID3V1 = b"TAG" + bytes(125)
ID3V2 = b"ID3\4\0\0\0\0\0\x17TIT2\0\0\0\x06\0\0\3Title" + bytes(7)
ZEROS = bytes(300_000)
JUNK = np.random.default_rng(0).bytes(300_000)
WRITTEN = {"wav": "WAV", "rf64": "RF64", "aiff": "AIFF", "au": "AU", "w64": "W64"}
MUXED = {
    "m4a": ("ipod", "aac", {}),
    "wv": ("wv", "wavpack", {}),
    "opus": ("opus", "libopus", {}),
    "caf": ("caf", "pcm_s16be", {}),
    "tta": ("tta", "tta", {}),
    "wma": ("asf", "wmav2", {}),
    "ac3": ("ac3", "ac3", {}),
    "eac3": ("eac3", "eac3", {}),
    "flac.mka": ("matroska", "flac", {}),
    "pcm.mka": ("matroska", "pcm_s16le", {}),
    "aac.mka": ("matroska", "aac", {}),
    "opus.mka": ("matroska", "libopus", {}),
}
JOINED = [*WRITTEN, "caf", "m4a", "wv", "tta", "wma"]
KINDS: list[type[BinaryIO]] = [BytesIO, cast(type[BinaryIO], Pipe)]
NO_PIPE = ("m4a", Pipe)  # its index lies at its end


def write(kind: str, channels: int = 2, rate: int = RATE) -> bytes:
    """Make a short song of any kind."""
    signal, file = chirps(SAMPLES, channels, rate), BytesIO()
    if kind in WRITTEN or kind in ("flac", "ogg"):
        form = WRITTEN.get(kind, kind.upper())
        soundfile.write(file, signal.T, rate, format=form)
        return file.getvalue()
    if kind == "mka":
        return remux(write("ogg", channels, rate))
    container, codec, options = cast(Any, MUXED[kind])
    rate = 48000 if codec == "libopus" else rate
    with av.open(file, "w", format=container, options=dict(options)) as output:
        layout = {1: "mono", 2: "stereo"}[channels]
        track: Any = output.add_stream(codec, rate=rate, layout=layout)
        track.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(signal, "fltp", layout)
        frame.sample_rate, frame.pts = rate, 0
        output.mux(track.encode(frame))
        output.mux(track.encode(None))
    return file.getvalue()


def remux(content: bytes) -> bytes:
    """Copy the packets of a song into Matroska."""
    target = BytesIO()
    with av.open(BytesIO(content)) as song, av.open(target, "w", format="matroska") as output:
        track = output.add_stream_from_template(song.streams.audio[0])
        for packet in song.demux(audio=0):
            if packet.size:
                packet.stream = track
                output.mux(packet)
    return target.getvalue()


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("kind", JOINED)
def test_a_song_behind_another_is_read_or_told(
    kind: str, source: type[BinaryIO], caplog: pytest.LogCaptureFixture
) -> None:
    if (kind, source) == NO_PIPE:
        return
    first = write(kind)
    whole = read(source(first))
    assert not caplog.messages
    for second in (first, write(kind, 1, 22050)):
        caplog.clear()
        np.testing.assert_array_equal(read(source(first + second)), whole)
        (line,) = caplog.messages
        assert line.endswith("behind its sound are not read; they begin like another song"), line


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("kind", [*JOINED, "ogg", "opus", "ac3", "eac3", "mka"])
def test_zeros_and_tags_behind_the_sound_are_nothing(
    kind: str, source: type[BinaryIO], caplog: pytest.LogCaptureFixture
) -> None:
    if (kind, source) == NO_PIPE:
        return
    song = write(kind)
    whole = read(source(song))
    for tail in (ZEROS, ID3V1, ID3V2):
        np.testing.assert_array_equal(read(source(song + tail)), whole)
    assert not caplog.messages


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("kind", ["aiff", "au", "caf", "w64", "wv", "tta", "wma", "ogg", "opus"])
def test_junk_behind_the_sound_is_told(
    kind: str, source: type[BinaryIO], caplog: pytest.LogCaptureFixture
) -> None:
    song = write(kind)
    np.testing.assert_array_equal(read(source(song + JUNK)), read(source(song)))
    (line,) = caplog.messages
    assert line.endswith("0.3 MB behind its sound are not read")


def test_large_parts_behind_the_sound_are_no_remark(caplog: pytest.LogCaptureFixture) -> None:
    size = 200_000
    chunk = struct.pack("<4sI", b"id3 ", size - 1) + bytes(1) + b"?" * (size - 2)
    box = struct.pack(">I4s", size, b"free") + b"?" * (size - 8)
    for song in (
        write("wav") + chunk + b"\0" + struct.pack("<4sI", b"LIST", 4) + b"INFO",
        write("wav") + chunk + struct.pack("<4sI", b"LIST", 4) + b"INFO",  # not padded
        write("aiff") + struct.pack(">4sI", b"ID3 ", size) + b"?" * size,
        write("m4a") + box,
    ):
        read(BytesIO(song))
    assert not caplog.messages


def shorten(song: bytes, size: int) -> bytes:
    """Let the head of a WAV state less sound."""
    place = song.index(b"data") + 4
    short = bytearray(song)
    short[4:8] = struct.pack("<I", place + 4 + size - 8)
    short[place : place + 4] = struct.pack("<I", size)
    return bytes(short)


@pytest.mark.parametrize("size", [2, 4, 40_000, 30_001])
def test_sound_behind_the_size_of_a_wav_is_read(
    size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As a recorder that crashed leaves it, or more than 4 GB."""
    song = write("wav")
    whole = read(BytesIO(song))
    np.testing.assert_array_equal(read(BytesIO(shorten(song, size))), whole)
    (line,) = caplog.messages
    assert line.endswith("but it goes on; all up to the file's end is read")
    if size > 4:
        caplog.clear()
        piped = read(Pipe(shorten(song, size)))
        np.testing.assert_array_equal(piped, whole[:, : size // 4])
        assert "are not read" in caplog.text


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("kind", ["mka", "pcm.mka", "aac.mka", "flac.mka", "flac"])
def test_unlike_recordings_joined_are_refused_or_the_first_is_kept(
    kind: str, source: type[BinaryIO]
) -> None:
    first, second = write(kind, 1, 22050), write(kind)
    whole = read(source(first))
    with pytest.raises(AudioError, match="joined from unlike recordings"):
        read(source(first + second))
    with open_song(source(first + second), Reading(keep_partial=True)) as song:
        kept = np.concatenate(list(song.read_blocks()), axis=1)
        assert song.damage is not None
    np.testing.assert_array_equal(kept, whole)


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("kind", ["mka", "pcm.mka", "aac.mka", "flac.mka", "flac", "opus.mka"])
def test_like_recordings_joined_are_read_one_after_the_other(
    kind: str, source: type[BinaryIO]
) -> None:
    first = write(kind)
    single: Block = read(source(first))
    joined = read(source(first + first))
    assert abs(joined.shape[1] - 2 * single.shape[1]) < 2000
    if kind == "opus.mka":
        joined = read(source(first + write(kind, 1)))
        assert abs(joined.shape[1] - 2 * single.shape[1]) < 2000


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("kind", [*WRITTEN, "caf", "wv", "wma", "mka"])
def test_a_tag_in_front_is_read_and_passed_over(kind: str, source: type[BinaryIO]) -> None:
    song = write(kind)
    with open_song(source(ID3V2 + ID3V2 + song)) as reader:
        assert reader.tags.title == "Title"
        found = np.concatenate(list(reader.read_blocks()), axis=1)
    np.testing.assert_array_equal(found, read(source(song)))


def test_a_tag_between_frames_of_ac3_is_no_damage_and_a_hole_is() -> None:
    song = write("ac3")
    assert read(BytesIO(song + ID3V1 + song)).shape[1] == 2 * read(BytesIO(song)).shape[1]
    half = len(song) // 2
    with pytest.raises(AudioError, match="damaged"):
        read(BytesIO(song[:half] + bytes(3000) + song[half:]))


def test_an_au_of_unstated_size_is_read_to_its_end() -> None:
    song = bytearray(write("au"))
    song[8:12] = b"\xff" * 4
    assert read(BytesIO(song + bytes(4000))).shape[1] == SAMPLES + 1000


def test_the_first_fragment_is_not_the_length_of_a_pipe(tmp_path: Path) -> None:
    data = make(tmp_path / "song", "fragmented.mp4", chirps(100_001)).read_bytes()
    with open_song(Pipe(data)) as song:
        assert song.samples is None and not song.sure
        assert sum(block.shape[1] for block in song.read_blocks()) >= 100_001


@pytest.mark.parametrize(
    ("junk", "riff"),
    [
        (b"id3 " + (100_000).to_bytes(4, "little") + bytes(range(1, 251)) * 200, 50_008),
        (b"\xff\xd8\xff\xe0" + bytes(range(1, 251)) * 200, 0),
        (b"PK\3\4" + bytes(range(1, 251)) * 200, 0),
        (bytes(40 << 20), 0),
    ],
    ids=["a tag cut short", "a picture", "an archive", "a preallocated file"],
)
def test_what_is_behind_a_whole_wav_is_no_sound(tmp_path: Path, junk: bytes, riff: int) -> None:
    path = sounds.write(tmp_path / "song.wav", sounds.noise(44100))
    content = bytearray(path.read_bytes())
    content[4:8] = (len(content) - 8 + riff).to_bytes(4, "little")
    path.write_bytes(content + junk)
    with open_song(path) as song:
        assert song.samples == sum(block.shape[1] for block in song.read_blocks()) == 44100

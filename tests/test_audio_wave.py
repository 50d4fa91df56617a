"""WAVs of rare kinds, beside what libsndfile reads of the same bytes."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from splitter.audio import Block, open_song
from splitter.errors import AudioError
from splitter.jobs.finding import has_sound
from tests import codecs, sounds

RATE, SAMPLES = 44100, 20_000
PCM = bytes.fromhex("0100000000001000800000aa00389b71")  # the GUID of integers


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content


def write_extensible(bits: int, valid: int, channels: int) -> bytes:
    """Write samples of `valid` bits at the top of `bits`, 0 for all of them."""
    tone = 0.4 * np.sin(np.arange(SAMPLES) * 0.05)[:, None] * np.array([1, 0.5])[:channels]
    size, used = bits // 8, valid or bits
    whole = np.round(tone * (2 ** (used - 1) - 1)).astype(np.int64) << (bits - used)
    sound = whole.astype("<i8").view("u1").reshape(-1, 8)[:, :size].tobytes()
    head = struct.pack(
        *("<HHIIHHHHI", 0xFFFE, channels, RATE, RATE * channels * size, channels * size),
        *(bits, 22, valid, 3 if channels == 2 else 4),
    )
    return chunk(b"RIFF", b"WAVE" + chunk(b"fmt ", head + PCM) + chunk(b"data", sound))


def write_plain(align: int = 4, riff_size: int | None = None) -> tuple[bytes, Block]:
    """Write 16 bits in stereo, with what the head says of a block's and the file's size."""
    sound = np.round(sounds.noise(SAMPLES) * 2**15).clip(-(2**15), 2**15 - 1).astype("<i2")
    head = struct.pack("<HHIIHH", 1, 2, RATE, RATE * 4, align, 16)
    wave = chunk(b"RIFF", b"WAVE" + chunk(b"fmt ", head) + chunk(b"data", sound.T.tobytes()))
    size = struct.pack("<I", len(wave) - 8 if riff_size is None else riff_size)
    return wave[:4] + size + wave[8:], sound.astype(np.float32) / 2**15


def read(content: bytes, path: Path) -> Block:
    path.write_bytes(content)
    with open_song(path) as song:
        whole = np.concatenate(list(song.read_blocks()), axis=-1)
        assert song.samples == whole.shape[-1]
    return whole


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("bits", "valid"),
    [(16, 12), (24, 16), (24, 20), (32, 16), (32, 20), (32, 24), (32, 32), (24, 0), (16, 16)],
)
def test_samples_that_do_not_fill_their_bytes_are_read(
    bits: int, valid: int, channels: int, tmp_path: Path
) -> None:
    content = write_extensible(bits, valid, channels)
    expected, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    np.testing.assert_allclose(read(content, tmp_path / "x.wav"), expected.T, atol=1e-6)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_wavs_with_the_high_byte_first_are_read(subtype: str, tmp_path: Path) -> None:
    file = io.BytesIO()
    soundfile.write(
        file, sounds.noise(SAMPLES).T, RATE, format="WAV", subtype=subtype, endian="BIG"
    )
    content = file.getvalue()
    assert content[:4] == b"RIFX" and has_sound(content[:64])
    expected, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    np.testing.assert_allclose(read(content, tmp_path / "x.wav"), expected.T, atol=1e-6)


@pytest.mark.parametrize("align", [0, 1, 2, 8])
def test_what_a_head_says_of_a_block_does_not_matter(align: int, tmp_path: Path) -> None:
    content, sound = write_plain(align)
    np.testing.assert_array_equal(read(content, tmp_path / "x.wav"), sound)


@pytest.mark.parametrize("size", [36, 10_000])
def test_a_size_that_the_file_exceeds_is_not_its_end(size: int, tmp_path: Path) -> None:
    content, sound = write_plain(riff_size=size)
    np.testing.assert_array_equal(read(content, tmp_path / "x.wav"), sound)


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


def test_a_pipe_cannot_give_what_decoders_misread() -> None:
    for content in (write_extensible(32, 24, 2), b"RIFX" + write_plain()[0][4:]):
        with pytest.raises(AudioError, match="can only be read as a file"):
            open_song(Pipe(content))


def leave_open(content: bytes, big: int, order: str) -> bytes:
    """Write the sizes that sox puts before sound that it streams."""
    frame = 6  # bytes
    name, counted = (b"data", b"fact") if order == "<" else (b"SSND", b"COMM")
    place, count = content.index(name) + 4, content.index(counted) + 8 + 2 * (order == ">")
    opened = bytearray(content)
    struct.pack_into(order + "I", opened, 4, big)
    struct.pack_into(order + "I", opened, place, big // frame * frame + 8 * (order == ">"))
    struct.pack_into(order + "I", opened, count, big // frame)
    return bytes(opened)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("whole", [True, False])
def test_no_size_in_a_head_counts_that_sox_wrote_before_the_sound(
    order: str, whole: bool, tmp_path: Path
) -> None:
    expected = sounds.noise(SAMPLES)
    if order == "<":
        content = write_extensible(24, 24, 2)
        place = content.index(b"data")
        content = content[:place] + chunk(b"fact", bytes(4)) + content[place:]
        expected = codecs.read(io.BytesIO(write_extensible(24, 24, 2)))
    else:
        file = io.BytesIO()
        soundfile.write(file, expected.T, RATE, format="AIFF", subtype="PCM_24")
        content = file.getvalue()
    content = leave_open(content, 0x7FFFF000 if order == "<" else 0x7F000000, order)
    path = tmp_path / "song"
    path.write_bytes(content[: len(content) if whole else -600])
    with open_song(path) as song:  # what breaks off there cannot be told
        assert song.samples == SAMPLES - 100 * (not whole) and not song.sure
    np.testing.assert_allclose(codecs.read(path), expected[:, : song.samples], atol=2**-23)
    with open_song(codecs.Pipe(path.read_bytes())) as song:
        assert song.samples is None and not song.sure
        assert sum(block.shape[1] for block in song.read_blocks()) == SAMPLES - 100 * (not whole)


@pytest.mark.parametrize("codec", ["adpcm_ms", "adpcm_ima_wav", "libmp3lame"])
def test_a_compressed_wav_that_was_written_to_a_pipe_is_whole(codec: str, tmp_path: Path) -> None:
    signal, sink = codecs.chirps(), codecs.Sink()
    with av.open(sink, "w", format="wav") as output:
        track: Any = output.add_stream(codec, rate=RATE, layout="stereo")
        if codec == "libmp3lame":
            track.format = "s16p"
        packed = np.ascontiguousarray(signal if track.format.is_planar else signal.T)
        sound = np.round(packed * 32767).astype(np.int16)
        sound = sound if track.format.is_planar else sound.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(sound, track.format.name, "stereo")
        frame.sample_rate, frame.pts = RATE, 0
        output.mux(track.encode(frame))
        output.mux(track.encode(None))
    path = tmp_path / "song.wav"
    path.write_bytes(sink.data)
    for source in (path, codecs.Pipe(bytes(sink.data))):
        assert abs(codecs.read(source).shape[1] - signal.shape[1]) < 2500  # blocks have 2036


@pytest.mark.parametrize(("channels", "align"), [(0, 0), (65535, 4)])
def test_a_head_without_channels_or_bytes_a_sample_is_one_line(channels: int, align: int) -> None:
    head = struct.pack("<HHIIHH", 1, channels, 44100, 0, align, 16)
    data = b"RIFF$\0\0\0WAVEfmt \x10\0\0\0" + head + b"data\0\0\0\0"
    with pytest.raises(AudioError), open_song(io.BytesIO(data)) as song:
        list(song.read_blocks())

"""WAVs of rare kinds, beside what libsndfile reads of the same bytes."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from splitter.audio import Block, open_song
from splitter.errors import AudioError
from splitter.jobs.finding import has_sound
from tests import sounds

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

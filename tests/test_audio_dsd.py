"""DSD, one bit at a time: what is read is the tone that was written, and stems have 24 bits."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from splitter.audio import open_song
from splitter.errors import AudioError
from tests.codecs import read
from tests.commands import Done

DSD_RATE = 2_822_400  # Hz, 64 times that of a CD
RATE = DSD_RATE // 8  # Hz, as it is decoded
BLOCK = 4096  # bytes of a channel at a time, in DSF
BITS = 8 * BLOCK * 8  # of a channel: 93 ms
TONES = 1000.0, 1500.0  # Hz, left and right
Bits = npt.NDArray[np.uint8]


def modulate(signal: npt.NDArray[np.float64]) -> Bits:
    """Turn a signal into bits whose mean it is: sigma-delta modulation of the second order."""
    bits = np.zeros(len(signal), np.uint8)
    first = second = 0.0
    for place, value in enumerate(signal.tolist()):
        output = 1.0 if second >= 0 else -1.0
        first += value - output
        second += first - 2 * output
        bits[place] = output > 0
    return bits


@pytest.fixture(scope="module")
def channels() -> list[Bits]:
    time = np.arange(BITS) / DSD_RATE
    return [modulate(0.3 * np.sin(2 * np.pi * tone * time)) for tone in TONES]


def make_dsf(channels: list[Bits]) -> bytes:
    """Write a DSF: blocks of each channel in turn, the oldest bit lowest (Sony's DSF 1.01)."""
    packed = [np.packbits(bits, bitorder="little").tobytes() for bits in channels]
    sound = b"".join(p[i : i + BLOCK] for i in range(0, BITS // 8, BLOCK) for p in packed)
    form = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 2, 2, DSD_RATE, 1, BITS, BLOCK, 0)
    data = struct.pack("<4sQ", b"data", 12 + len(sound)) + sound
    return struct.pack("<4sQQQ", b"DSD ", 28, 28 + len(form) + len(data), 0) + form + data


def make_dff(channels: list[Bits]) -> bytes:
    """Write a DFF: a byte of each channel in turn, the oldest bit highest (DSDIFF 1.5)."""
    sound = np.stack([np.packbits(bits) for bits in channels], axis=1).tobytes()

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">4sQ", name, len(body)) + body + b"\0" * (len(body) % 2)

    shape = chunk(b"FS  ", struct.pack(">I", DSD_RATE))
    shape += chunk(b"CHNL", struct.pack(">H", 2) + b"SLFTSRGT")
    shape += chunk(b"CMPR", b"DSD \x0enot compressed")
    body = b"DSD " + chunk(b"FVER", b"\1\5\0\0") + chunk(b"PROP", b"SND " + shape)
    return chunk(b"FRM8", body + chunk(b"DSD ", sound))


MAKERS = {"dsf": make_dsf, "dff": make_dff}


@pytest.mark.parametrize("kind", MAKERS)
def test_dsd_is_the_tone_that_was_written(channels: list[Bits], kind: str) -> None:
    with open_song(BytesIO(MAKERS[kind](channels))) as song:
        signal = np.concatenate(list(song.read_blocks()), axis=1)
        assert (song.rate, song.bits, song.floating) == (RATE, 24, False)
        assert song.samples == signal.shape[1] == BITS // 8
        assert song.damage is None
    time = np.arange(signal.shape[1]) / RATE
    for row, tone in zip(signal, TONES, strict=True):
        carrier = np.exp(-2j * np.pi * tone * time)[4000:-4000]
        assert 2 * abs(np.mean(row[4000:-4000] * carrier)) == pytest.approx(0.3, abs=0.01)


def test_a_dsf_that_breaks_off_is_an_error(channels: list[Bits]) -> None:
    data = make_dsf(channels)
    with pytest.raises(AudioError, match="breaks off"):
        read(BytesIO(data[: len(data) * 2 // 3]))


@pytest.mark.parametrize("kind", MAKERS)
def test_stems_of_dsd_have_24_bits_and_sum_to_the_song(
    channels: list[Bits], kind: str, separate: Callable[..., Done], tmp_path: Path
) -> None:
    song = tmp_path / f"song.{kind}"
    song.write_bytes(MAKERS[kind](channels))
    done = separate(song.name)
    assert done.status == 0, done.stderr
    stems = [tmp_path / "song" / f"{stem}.wav" for stem in ("vocals", "instrumental")]
    for stem in stems:
        info = soundfile.info(stem)
        assert (info.subtype, info.samplerate, info.frames) == ("PCM_24", RATE, BITS // 8)
    total = np.sum([read(stem) for stem in stems], axis=0, dtype=np.float64)
    assert np.abs(total - read(song)).max() <= 1.01 * 2**-23  # a step of 24 bits

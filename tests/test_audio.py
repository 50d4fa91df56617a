from pathlib import Path

import numpy as np
import pytest
import soundfile

from splitter.audio import OutputFormat, StemWriter, open_song


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("samples", [0, 1, 65535, 65536, 65537])
def test_a_wav_that_is_read_and_written_is_the_same_bit_for_bit(
    tmp_path: Path, bits: int, samples: int
) -> None:
    values = np.random.default_rng(0).integers(-(2**31), 2**31, (samples, 2), dtype=np.int32)
    song, copy = tmp_path / "song.wav", tmp_path / "copy.wav"
    subtype = {16: "PCM_16", 24: "PCM_24", 32: "FLOAT"}[bits]
    sound = (values / 2**31).astype(np.float32) if bits == 32 else values
    soundfile.write(song, sound, 44100, subtype)
    with open_song(song) as reader:
        assert (reader.rate, reader.channels, reader.bits) == (44100, 2, bits)
        assert (reader.samples or 0) == samples
        with StemWriter(
            copy, reader.rate, reader.channels, OutputFormat(bits=reader.bits)
        ) as writer:
            for block in reader.read_blocks():
                writer.write(block)
    kind = "float32" if bits == 32 else "int32"
    assert np.array_equal(soundfile.read(copy, dtype=kind)[0], soundfile.read(song, dtype=kind)[0])

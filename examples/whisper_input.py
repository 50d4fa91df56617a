"""Write the voice of a song as speech recognition wants it: 16 kHz, mono, 16 bits.

    python examples/whisper_input.py song.mp3 voice.wav

A recogniser makes fewer words up when it hears no band. Neither the song nor its stems are ever in
memory as a whole.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import soundfile
import soxr

import splitter

RATE = 16000  # Hz


def write_voice(song: Path, target: Path, model: str = "unet") -> None:
    """Separate a song, and write its vocals at 16 kHz as one channel."""
    with tempfile.TemporaryDirectory() as folder:
        output = splitter.Output(Path(folder), stems=("vocals",))
        vocals = splitter.separate_file(song, output, model).stems["vocals"]
        with (
            soundfile.SoundFile(vocals) as file,
            soundfile.SoundFile(target, "w", RATE, 1, "PCM_16") as voice,
        ):
            stream = soxr.ResampleStream(file.samplerate, RATE, 1)
            for block in file.blocks(65536, dtype="float32", always_2d=True):
                mono = block.mean(axis=1, keepdims=True)
                voice.write(stream.resample_chunk(mono, last=file.tell() == len(file)))


if __name__ == "__main__":
    write_voice(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])

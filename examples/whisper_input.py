"""Write the voice of a song as speech recognition wants it: 16 kHz, mono, 16 bits.

    python examples/whisper_input.py song.mp3 voice.wav

A recogniser makes fewer words up when it hears no band. The same from a shell: `splitter separate
song.mp3 --stems vocals --rate 16000 --mono --bits 16 -o voice.wav`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import splitter


def write_voice(song: Path, target: Path, model: str = "unet") -> None:
    """Separate a song, and write its vocals at 16 kHz as one channel."""
    speech = splitter.OutputFormat("wav", bits=16, rate=16000, mono=True)
    output = splitter.Output(target.parent, ("vocals",), speech, f"{target.stem}.{{ext}}")
    splitter.separate_file(song, output, model)


if __name__ == "__main__":
    write_voice(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])

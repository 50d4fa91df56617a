"""What can be asked for when a song is read: a part of it, what is left of it, headerless PCM."""

import re
from dataclasses import dataclass

from splitter.errors import AudioError

RAW_ENCODINGS = {  # FFmpeg's names → bits that are given back
    "u8": 16,
    "s16le": 16,
    "s16be": 16,
    "s24le": 24,
    "s24be": 24,
    "s32le": 32,
    "s32be": 32,
    "f32le": 32,
    "f32be": 32,
    "f64le": 32,
    "f64be": 32,
}


@dataclass(frozen=True)
class RawFormat:
    """How the samples of a headerless stream lie."""

    rate: int  # Hz
    channels: int
    encoding: str = "s16le"  # one of RAW_ENCODINGS


def parse_raw(text: str) -> RawFormat:
    """Read `48000:2:s16le`."""
    match = re.fullmatch(r"(\d{1,6}):(\d{1,2}):(\w+)", text)
    if match is None or match[3] not in RAW_ENCODINGS or not int(match[1]) or not int(match[2]):
        known = ", ".join(RAW_ENCODINGS)
        raise AudioError(
            f"{text}: not RATE:CHANNELS:FORMAT as in 48000:2:s16le; formats are {known}"
        )
    return RawFormat(int(match[1]), int(match[2]), match[3])


@dataclass(frozen=True)
class Reading:
    """How to read a song."""

    start: float = 0.0  # seconds from the beginning
    duration: float | None = None  # seconds; None: to the end
    keep_partial: bool = False  # take what can be decoded of a damaged song
    raw: RawFormat | None = None  # headerless PCM; None: look what it is
    track: str | None = None  # number (from 1) or language of a sound track; None: the default one

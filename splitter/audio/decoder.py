"""What a decoder is: the one contract between a song's bytes and its reader."""

from collections.abc import Iterator
from typing import Protocol

from splitter.audio.blocks import Block
from splitter.errors import AudioError

PADDING = 8192  # samples; a decoder leaves at most so many after the end of the song


class UndecodableError(AudioError):
    """There is no sound here that this decoder knows."""


class DamagedError(AudioError):
    """Something in the middle cannot be decoded; the text says what and where."""


class Decoder(Protocol):
    """A song's samples, in the order in which they come."""

    rate: int  # Hz
    channels: int
    samples: int | None  # as the header says
    bits: int  # 16, 24 or 32
    floating: bool
    metadata: dict[str, str]  # FFmpeg's names, in lower case
    cover: bytes | None

    def read_arrays(self, patient: bool) -> Iterator[Block]:
        """Yield (channels, samples); behind damage go on if patient, else raise DamagedError."""

    def find_end(self, decoded: int) -> int:
        """Give the number of samples that belong to the song, of those decoded."""

    def find_fault(self, decoded: int) -> str | None:
        """Say what is missing, when all has been decoded."""

    def close(self) -> None:
        """Free what is held."""


def describe_break(decoded: int, rate: int, stated: int | None = None) -> str:
    """Say where a song breaks off, or that it lacks something before."""
    if stated is None:
        return f"breaks off after {decoded / rate:.2f} s"
    share = f"{decoded / rate:.2f} of {stated / rate:.2f} s"
    return f"breaks off after {share}, or has gaps: {stated - decoded} samples are missing"

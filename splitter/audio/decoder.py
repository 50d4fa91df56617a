"""What a decoder is: the one contract between a song's bytes and its reader."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from splitter.audio.blocks import Block
from splitter.errors import AudioError

PADDING = 8192  # samples; a decoder leaves at most so many after the end of the song
INAUDIBLE = 0.1  # seconds: see `Fault`


class UndecodableError(AudioError):
    """There is no sound here that this decoder knows."""


class DamagedError(AudioError):
    """Something in the middle cannot be decoded; the text says what and where."""


@dataclass(frozen=True)
class Fault:
    """What is missing of a song.

    Nobody hears that a song ends 0.1 s early: after a sound the ear is less sensitive for 0.2 s
    (post-masking: Zwicker and Fastl, Psychoacoustics, 4.4), a song fades or has ended by then, and
    encoders leave as much silence behind it. Three frames of mp3 or four of AAC fit in as well, by
    which headers err. A file that was cut off lacks less than that only by chance. Of a sound so
    short that more is missing than there is, everybody hears it.
    """

    text: str
    inaudible: bool = False  # the song can be used as it is


class Decoder(Protocol):
    """A song's samples, in the order in which they come."""

    rate: int  # Hz
    channels: int
    places: str | None  # the name of their layout (see `layouts`); None if the song states none
    samples: int | None  # as the header says
    sure: bool  # that is no estimate
    most: int | None  # samples that its bytes can hold; None if unknown
    bits: int  # 16, 24 or 32
    floating: bool
    metadata: dict[str, str]  # FFmpeg's names, in lower case
    native: dict[str, list[str]]  # tags that FFmpeg drops (see `native`)
    cover: bytes | memoryview | None  # of any size, not copied yet
    remarks: list[str]  # what its user should know, of what has been read so far

    def read_arrays(self, patient: bool) -> Iterator[Block]:
        """Yield (channels, samples); behind damage go on if patient, else raise DamagedError."""

    def find_end(self, decoded: int) -> int:
        """Give the number of samples that belong to the song, of those decoded."""

    def find_fault(self, decoded: int) -> Fault | None:
        """Say what is missing, when all has been decoded."""

    def close(self) -> None:
        """Free what is held."""


def describe_break(decoded: int, rate: int, stated: int | None = None) -> Fault:
    """Say where a song breaks off, or that it lacks something before.

    An end that comes a little early is heard by nobody, unless it is the larger part of the song.
    """
    if stated is None:
        return Fault(f"breaks off after {decoded / rate:.2f} s")
    missing = stated - decoded
    if missing <= INAUDIBLE * rate and decoded > missing:
        early = max(1000 * missing / rate, 0.01)
        return Fault(f"ends {early:.2f} ms early, which nobody hears", inaudible=True)
    share = f"{decoded / rate:.2f} of {stated / rate:.2f} s"
    return Fault(f"breaks off after {share}, or has gaps")

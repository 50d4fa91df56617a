"""What was cut off at full scale, told once at the end of a run."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

from splitter.cli.messages import count

if TYPE_CHECKING:
    from splitter.songs import Separated

# dB above full scale: what stays below is at most 1.2 % of full scale, in single samples beside
# others at full scale, and nobody hears it. Decoded mp3s reach it all the time.
AUDIBLE = 0.1

log = logging.getLogger(__name__)


class Clipping:
    """What is known of songs so far: how many, and the worst of them."""

    def __init__(self) -> None:
        self._first: Separated | None = None
        self._songs = 0
        self._loud = 0  # songs with samples that were cut off, audibly
        self._worst: tuple[float, Path] = 0.0, Path()  # dB
        self._quieter = 0  # songs that were turned down
        self._most = 0.0  # dB

    def add(self, song: Separated) -> None:
        """Take in what became of a song."""
        self._first = self._first or song
        self._songs += 1
        excess = _find_excess(song)
        if excess >= AUDIBLE:
            self._loud += 1
            self._worst = max(self._worst, (excess, song.song))
        if song.gain != 1:
            self._quieter += 1
            self._most = max(self._most, -20 * math.log10(song.gain))

    def tell(self) -> None:
        """Warn of samples that were cut off, if it can be heard, and say what avoids it."""
        excess, worst = self._worst
        if self._loud:
            if self._songs == 1 and self._first:
                stems = [f"{number} samples of {name}" for name, number in _clipped(self._first)]
                what = f"{worst}: cut off {' and '.join(stems)}, by up to {excess:.1f} dB"
            else:
                of = f"{self._loud} of {count(self._songs, 'song')}"
                what = f"cut off samples of {of}, by up to {excess:.1f} dB ({worst})"
            log.warning("%s; --clip rescale or --clip float avoids it", what)
        if self._quieter:
            what, less = count(self._quieter, "song"), f"{self._most:.1f} dB"
            if self._songs == 1 and self._first:
                log.warning("%s: made the stems quieter by %s, to fit", self._first.song, less)
            else:
                log.warning("made the stems of %s quieter, by up to %s", what, less)


def _clipped(song: Separated) -> list[tuple[str, int]]:
    return [(name, number) for name, number in song.clipped.items() if number]


def _find_excess(song: Separated) -> float:
    """Return by how many dB a song's stems exceed full scale where something was cut off."""
    peaks = [song.peaks[name] for name, _ in _clipped(song)]
    return max((20 * math.log10(peak) for peak in peaks if math.isfinite(peak)), default=0.0)

"""What was cut off at full scale, told once at the end of a run."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from splitter.cli.messages import count

if TYPE_CHECKING:
    from splitter.songs import Separated

# dB above full scale: what stays below is at most 1.2 % of full scale, in single samples beside
# others at full scale, and nobody hears it. Decoded mp3s reach it all the time.
AUDIBLE = 0.1

log = logging.getLogger(__name__)


def tell_clipping(songs: Sequence[Separated]) -> None:
    """Warn of samples that were cut off, if it can be heard, and say what avoids it."""
    loud = {song.song: _find_excess(song) for song in songs}
    loud = {song: excess for song, excess in loud.items() if excess >= AUDIBLE}
    way_out = "--clip rescale or --clip float avoids it"
    if len(songs) == 1:
        for song, excess in loud.items():
            stems = [f"{number} samples of {name}" for name, number in _clipped(songs[0])]
            cut = f"cut off {' and '.join(stems)}, by up to {excess:.1f} dB"
            log.warning("%s: %s; %s", song, cut, way_out)
    elif loud:
        worst = max(loud, key=lambda song: loud[song])
        what = f"{len(loud)} of {count(len(songs), 'song')}"
        log.warning(
            "cut off samples of %s, by up to %.1f dB (%s); %s", what, loud[worst], worst, way_out
        )
    quieter = {song.song: -20 * math.log10(song.gain) for song in songs if song.gain != 1}
    if len(songs) == 1:
        for song, less in quieter.items():
            log.warning("%s: made the stems quieter by %.1f dB, to fit", song, less)
    elif quieter:
        most = max(quieter.values())
        log.warning(
            "made the stems of %s quieter, by up to %.1f dB", count(len(quieter), "song"), most
        )


def _clipped(song: Separated) -> list[tuple[str, int]]:
    return [(name, number) for name, number in song.clipped.items() if number]


def _find_excess(song: Separated) -> float:
    """Return by how many dB a song's stems exceed full scale where something was cut off."""
    peaks = [song.peaks[name] for name, _ in _clipped(song)]
    return max((20 * math.log10(peak) for peak in peaks if math.isfinite(peak)), default=0.0)

"""Pages to listen on: one HTML file per song, which plays the stem files beside it.

    stem files ── sketch ──▶ waveform and spectrogram ── write_page ──▶ listen.html
               ─────────────── a relative URL each ────────┘

A page is whole in itself but for the sound: pictures, style and script are in it, and it asks
nobody for anything else. The browser reads a stem as far as it plays it: songs may be hours long.
This package knows HTML and sound files, and nothing of networks.
"""

from splitter.pages.stems import FoundTake, Take, find_passed_over, find_takes, name_page
from splitter.pages.writing import Curve, Listing, write_index, write_page

__all__ = [
    "Curve",
    "FoundTake",
    "Listing",
    "Take",
    "find_passed_over",
    "find_takes",
    "name_page",
    "write_index",
    "write_page",
]

"""Where the channels of a song stand, and which of these layouts each format can hold.

A layout is named as FFmpeg names it: "5.1(side)", or "3 channels (FL+FR+BL)" if it has no short
name. One without a name is told by its number of channels alone.
"""

from collections.abc import Mapping
from typing import Any

import av

from splitter.audio.formats import OutputFormat, find_container
from splitter.errors import AudioError

_DEFAULTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
# in the order of the bits of a wav's mask (Microsoft, WAVEFORMATEXTENSIBLE), which stems keep
_PLACES = (
    *("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC"),
    *("SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR"),
)
# What lossy formats hold beside the defaults, measured: each channel in its place, and whole unless
# it is a subwoofer. From 3.1 on, FFmpeg reads m4a's channels without the names of their places.
_HELD: Mapping[str, tuple[str, ...]] = {
    "ogg": (),
    "opus": (),
    "m4a": (
        *("2.1", "3.0(back)", "4.0", "3.1", "4.1", "6.0", "hexagonal"),
        *("6.1(back)", "6.1(front)", "7.0", "7.0(front)"),
        *("7.1(wide)", "7.1(wide-side)", "octagonal"),
    ),
}


def name_layout(layout: Any) -> str | None:
    """Name a layout of PyAV's; None if it states no places, or has them in an order of its own."""
    places = [channel.name for channel in layout.channels]
    if not places or places != [place for place in _PLACES if place in places]:
        return None
    return str(layout.name)


def fit_layout(settled: OutputFormat, channels: int, layout: str | None) -> str:
    """Choose the layout of stems of a song with this one (None: unknown).

    It is the song's own if the format holds it, or else one of as many channels that has a
    subwoofer (LFE) only where the song has one: encoders and players take a subwoofer's high tones
    away. Raises AudioError if there is none.
    """
    channels = 1 if settled.mono else channels
    default = _DEFAULTS[channels - 1] if channels <= len(_DEFAULTS) else f"{channels}C"
    if channels <= 2 or layout is None:
        return default
    places = _find_places(layout, channels)
    if not find_container(settled.container).lossy:
        return layout
    held = (default, *_HELD.get(settled.container, ()))
    if layout in held:
        return layout
    for other in held:
        if _is_harmless(_list_places(other), places):
            return other
    lost = _list_places(default).index("LFE")
    raise AudioError(
        f"{settled.container}: would make channel {lost + 1} of {layout} a subwoofer, without its "
        "high tones; choose another --format, such as flac"
    )


def _is_harmless(places: list[str], own: list[str]) -> bool:
    """Tell whether places have a subwoofer only where a song's own have one."""
    if len(places) != len(own):
        return False
    return all(there == "LFE" for here, there in zip(places, own, strict=True) if here == "LFE")


def _find_places(layout: str, channels: int) -> list[str]:
    """List the places of a layout; raise AudioError if it is not one of so many channels."""
    try:
        places = _list_places(layout)
    except ValueError:
        places = []
    if len(places) != channels or name_layout(av.AudioLayout(layout)) is None:
        raise AudioError(f"{layout}: not a layout of {channels} channels; give one of FFmpeg's")
    return places


def _list_places(layout: str) -> list[str]:
    return [channel.name for channel in av.AudioLayout(layout).channels]

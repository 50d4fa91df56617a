"""Which of a file's sound tracks is the song."""

from typing import Any

import av

from splitter.audio.decoder import UndecodableError
from splitter.audio.fields import read_text
from splitter.errors import AudioError

_OUT_OF_STEP = 0.045  # seconds, from which on one notices (ITU-R BT.1359)

NO_SOUND = "has no sound in it"

# codes of one language, in ISO 639-1 and both kinds of 639-2: containers hold any of them
_LANGUAGES = """
ar ara, bg bul, ca cat, cs ces cze, da dan, de deu ger, el ell gre, en eng, es spa, et est,
eu eus baq, fa fas per, fi fin, fr fra fre, he heb, hi hin, hr hrv, hu hun, id ind, is isl ice,
it ita, ja jpn, ko kor, la lat, lt lit, lv lav, ms msa may, nl nld dut, no nor nb nob, pl pol,
pt por, ro ron rum, ru rus, sk slk slo, sl slv, sr srp, sv swe, th tha, tr tur, uk ukr, vi vie,
zh zho chi
"""


def choose_track(container: Any, wanted: str | None) -> tuple[Any, list[str]]:
    """Choose a sound track by its number (from 1) or its language, and give remarks on it.

    Without a wish it is the default one; of several, the one with most channels, since a comment
    has fewer. Raises AudioError for a wish that cannot be met.
    """
    tracks = list(container.streams.audio)
    if not tracks:
        raise UndecodableError(NO_SOUND)
    known = [track for track in tracks if track.codec_context is not None]
    if not known:
        raise UndecodableError("its sound is encrypted or in an unknown codec")
    if wanted:
        chosen = _find(tracks, wanted)
    else:
        defaults = [t for t in known if t.disposition & av.stream.Disposition.default]
        chosen = max(defaults or known, key=_count_channels)
    remarks = _describe_start(container, chosen)
    if len(tracks) > 1 and not wanted:
        others = ", ".join(_name(tracks, track) for track in tracks if track is not chosen)
        taken = f"takes sound track {_name(tracks, chosen)}"
        remarks.append(f"{taken}; choose another with --track: {others}")
    return chosen, remarks


def _find(tracks: list[Any], wanted: str) -> Any:
    alike = (codes.split() for codes in _LANGUAGES.split(","))
    meant = {wanted.lower()}.union(*(codes for codes in alike if wanted.lower() in codes))
    for number, track in enumerate(tracks, 1):
        if meant & {str(number), _language(track)} and track.codec_context:
            return track
    names = ", ".join(_name(tracks, track) for track in tracks)
    raise AudioError(f"has no sound track {wanted!r}; choose {names}")


def _name(tracks: list[Any], track: Any) -> str:
    channels = _count_channels(track)
    known = [_language(track), f"{channels} channel{'s' * (channels != 1)}" if channels else ""]
    return f"{tracks.index(track) + 1} ({', '.join(filter(None, known))})"


def _language(track: Any) -> str:
    return read_text(track.metadata.get("language", "")).lower()


def _count_channels(track: Any) -> int:
    layout = track.codec_context.layout if track.codec_context else None
    return layout.nb_channels if layout else 0


def _describe_start(container: Any, track: Any) -> list[str]:
    """Say that the sound begins later or earlier than the picture beside it."""
    attached = av.stream.Disposition.attached_pic
    pictures = [v for v in container.streams.video if not v.disposition & attached]
    if not pictures or pictures[0].start_time is None or track.start_time is None:
        return []
    late = float(
        track.start_time * track.time_base - pictures[0].start_time * pictures[0].time_base
    )
    if abs(late) < _OUT_OF_STEP:
        return []
    side = "after" if late > 0 else "before"
    return [f"its sound begins {abs(late):.2f} s {side} its picture, and so do the stems"]

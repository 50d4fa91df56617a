"""The texts of a song's tags, by what each format calls them: one table for reading and writing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from mutagen import id3


@dataclass(frozen=True)
class Field:
    """One text, by its names."""

    id3: Callable[..., id3.Frame]
    vorbis: str
    mp4: str
    ape: str
    asf: str
    others: tuple[str, ...] = ()  # that FFmpeg has for it beside ours and these, in lower case
    several: bool = False  # songs may have more than one: FFmpeg gives the first, or joins them


_OWN = "----:com.apple.iTunes:"  # before what Apple has no name for

FIELDS: Mapping[str, Field] = {
    "title": Field(id3.TIT2, "title", "\xa9nam", "Title", "Title"),
    "artist": Field(id3.TPE1, "artist", "\xa9ART", "Artist", "Author", several=True),
    "album": Field(id3.TALB, "album", "\xa9alb", "Album", "WM/AlbumTitle"),
    "album_artist": Field(
        id3.TPE2,
        "albumartist",
        "aART",
        "Album Artist",
        "WM/AlbumArtist",
        ("album artist", "band"),
        several=True,
    ),
    "track": Field(id3.TRCK, "tracknumber", "trkn", "Track", "WM/TrackNumber"),
    "disc": Field(id3.TPOS, "discnumber", "disk", "Disc", "WM/PartOfSet"),
    "date": Field(id3.TDRC, "date", "\xa9day", "Year", "WM/Year", ("tyer", "originaldate")),
    "genre": Field(id3.TCON, "genre", "\xa9gen", "Genre", "WM/Genre", several=True),
    "composer": Field(
        id3.TCOM, "composer", "\xa9wrt", "Composer", "WM/Composer", ("tcom",), several=True
    ),
    "lyrics": Field(
        partial(id3.USLT, lang="und"),
        "lyrics",
        "\xa9lyr",
        "Lyrics",
        "WM/Lyrics",
        ("unsyncedlyrics", "unsynced lyrics"),
    ),
    "bpm": Field(id3.TBPM, "bpm", "tmpo", "BPM", "WM/BeatsPerMinute", ("tbpm", "tempo")),
    "isrc": Field(id3.TSRC, "isrc", f"{_OWN}ISRC", "ISRC", "WM/ISRC", ("tsrc",), several=True),
    "splitter": Field(
        partial(id3.TXXX, desc="splitter"), "splitter", f"{_OWN}splitter", "splitter", "splitter"
    ),
}
# of a number in "track" and "disc": FFmpeg's names, and Vorbis' first
TOTALS: Mapping[str, tuple[str, ...]] = {
    "track": ("tracktotal", "totaltracks"),
    "disc": ("disctotal", "totaldiscs"),
}


def read_text(text: str) -> str:
    """Read what was decoded by "surrogateescape" as Windows-1252 where it is no UTF-8."""
    content = text.encode("utf-8", "surrogateescape")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def join_metadata(container: dict[str, str], track: dict[str, str]) -> dict[str, str]:
    """Join the two places where formats keep their tags; the container's come first."""
    texts = [*track.items(), *container.items()]
    return {read_text(key).lower(): read_text(value) for key, value in texts}

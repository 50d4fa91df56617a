"""Title, artist, cover and the rest, from the song to its stems.

FFmpeg reads them, under the same names for every format; mutagen writes them. Only what is named
here is copied: ReplayGain above all would be wrong for a stem.
"""

import base64
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import mutagen
from mutagen import flac, id3, mp4, oggopus, oggvorbis, wave
from mutagen import mp3 as mpeg

from splitter.audio.marks import Mark
from splitter.errors import AudioError

_PNG = b"\x89PNG"
COVER_BYTES = 8_000_000  # at most; a block of FLAC holds less than 16 MB
TEXT_BYTES = 1_000_000  # of all texts together


@dataclass(frozen=True, kw_only=True)
class Tags:
    """What a song is called; None where it does not say."""

    title: str | None = None
    artist: str | None = None
    album: str | None = None
    album_artist: str | None = None
    track: str | None = None  # "3" or "3/12"
    disc: str | None = None  # "1" or "1/2"
    date: str | None = None
    genre: str | None = None
    cover: bytes | None = None  # JPEG or PNG
    mark: Mark | None = None  # of what splitter made

    def for_stem(self, stem: str) -> "Tags":
        """Give the tags of a stem: the title and the mark say which one it is."""
        title = f"{self.title} ({stem})" if self.title else None
        return replace(self, title=title, mark=self.mark and replace(self.mark, stem=stem))


_TEXTS = [field.name for field in fields(Tags) if field.name not in ("cover", "mark")]
_ID3: dict[str, Callable[..., id3.Frame]] = {
    "splitter": partial(id3.TXXX, desc="splitter"),
    "title": id3.TIT2,
    "artist": id3.TPE1,
    "album": id3.TALB,
    "album_artist": id3.TPE2,
    "track": id3.TRCK,
    "disc": id3.TPOS,
    "date": id3.TDRC,
    "genre": id3.TCON,
}
_VORBIS = {"album_artist": "albumartist", "track": "tracknumber", "disc": "discnumber"}
_MP4 = {
    "title": "\xa9nam",
    "artist": "\xa9ART",
    "album": "\xa9alb",
    "album_artist": "aART",
    "date": "\xa9day",
    "genre": "\xa9gen",
    "splitter": "----:com.apple.iTunes:splitter",
}


def read_tags(metadata: Mapping[str, str], cover: bytes | None, remarks: list[str]) -> Tags:
    """Pick the tags from FFmpeg's metadata; remark what is too large for a stem."""
    texts: dict[str, str] = {}
    room = TEXT_BYTES
    for name in _TEXTS:
        text = metadata.get(name, "").strip()
        size = len(text.encode(errors="replace"))
        if size > room:
            remarks.append(_describe_excess(name.replace("_", " "), size, TEXT_BYTES))
        elif text:
            texts[name] = text
            room -= size
    if cover and len(cover) > COVER_BYTES:
        remarks.append(_describe_excess("cover", len(cover), COVER_BYTES))
        cover = None
    return Tags(cover=cover, **texts)  # type: ignore[arg-type]  # texts have no mark


def _describe_excess(name: str, size: int, most: int) -> str:
    sizes = f"{math.ceil(size / 1e5) / 10} MB, at most {most / 1e6:.0f} MB"
    return f"its {name} is too large for the stems ({sizes}); they go without"


def write_tags(path: Path, container: str, tags: Tags) -> None:
    """Write the tags into a finished file; `container` decides how."""
    write = _WRITERS.get(container)
    if write is None or tags == Tags():
        return
    try:
        write(path, tags)
    except mutagen.MutagenError as error:
        raise AudioError(f"{path}: tags cannot be written ({error})") from error


def _texts(tags: Tags) -> dict[str, str]:
    texts = {name: text for name in _TEXTS if (text := getattr(tags, name))}
    return {"splitter": str(tags.mark), **texts} if tags.mark else texts


def _picture(cover: bytes) -> flac.Picture:
    picture = flac.Picture()
    picture.type = id3.PictureType.COVER_FRONT
    picture.mime = "image/png" if cover.startswith(_PNG) else "image/jpeg"
    picture.data = cover
    return picture


def _write_id3(file: mutagen.FileType, tags: Tags) -> None:
    if file.tags is None:
        file.add_tags()
    for name, text in _texts(tags).items():
        file.tags.add(_ID3[name](encoding=id3.Encoding.UTF8, text=text))
    if tags.cover:
        cover = _picture(tags.cover)
        file.tags.add(id3.APIC(type=cover.type, mime=cover.mime, data=cover.data))
    file.save()


def _write_wave(path: Path, tags: Tags) -> None:
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":  # beyond 4 GB it is RF64, which mutagen does not know
            return
    _write_id3(wave.WAVE(path), tags)


def _write_flac(path: Path, tags: Tags) -> None:
    file = flac.FLAC(path)
    _set_comments(file, tags)
    if tags.cover:
        file.add_picture(_picture(tags.cover))
    file.save()


def _write_ogg(file: mutagen.FileType, tags: Tags) -> None:
    _set_comments(file, tags)
    if tags.cover:
        picture = base64.b64encode(_picture(tags.cover).write())
        file["metadata_block_picture"] = [picture.decode("ascii")]
    file.save()


def _set_comments(file: mutagen.FileType, tags: Tags) -> None:
    for name, text in _texts(tags).items():
        file[_VORBIS.get(name, name)] = [text]


def _write_mp4(path: Path, tags: Tags) -> None:
    file = mp4.MP4(path)
    texts = _texts(tags)
    for name in _MP4.keys() & texts.keys():
        own = _MP4[name].startswith("----")  # a tag that Apple has no name for
        file[_MP4[name]] = [texts[name].encode() if own else texts[name]]
    for atom, text in (("trkn", tags.track), ("disk", tags.disc)):
        number, _, total = (text or "").partition("/")
        if number.isdecimal():
            file[atom] = [(int(number), int(total) if total.isdecimal() else 0)]
    if tags.cover:
        png = tags.cover.startswith(_PNG)
        kind = mp4.MP4Cover.FORMAT_PNG if png else mp4.MP4Cover.FORMAT_JPEG
        file["covr"] = [mp4.MP4Cover(tags.cover, kind)]
    file.save()


_WRITERS: Mapping[str, Callable[[Path, Tags], None]] = {
    "wav": _write_wave,
    "mp3": lambda path, tags: _write_id3(mpeg.MP3(path), tags),
    "flac": _write_flac,
    "ogg": lambda path, tags: _write_ogg(oggvorbis.OggVorbis(path), tags),
    "opus": lambda path, tags: _write_ogg(oggopus.OggOpus(path), tags),
    "m4a": _write_mp4,
}

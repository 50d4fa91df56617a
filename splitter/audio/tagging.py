"""Writing tags into a finished stem, by mutagen."""

import base64
import io
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import mutagen
from mutagen import flac, id3, mp4, oggopus, oggvorbis
from mutagen import mp3 as mpeg

from splitter.audio.covers import find_kind, find_mp4_kind, holds_cover
from splitter.audio.fields import FIELDS, TOTALS
from splitter.audio.tags import Tags
from splitter.errors import AudioError, reason


def fit_tags(tags: Tags, container: str, remarks: list[str]) -> Tags:
    """Leave out what a format cannot hold, with a remark."""
    if not tags.cover or container not in _WRITERS or holds_cover(container, tags.cover):
        return tags
    kind = (find_kind(tags.cover) or "").removeprefix("image/").upper()
    remarks.append(f"{container} holds no cover in {kind}; the stems go without")
    return replace(tags, cover=None)


def write_tags(path: Path, container: str, tags: Tags) -> None:
    """Write the tags into a finished file; `container` decides how."""
    write = _WRITERS.get(container)
    if write is None or tags == Tags():
        return
    try:
        write(path, tags)
    except mutagen.MutagenError as error:
        raise AudioError(f"{path}: tags cannot be written ({reason(error)})") from error


def _picture(cover: bytes) -> flac.Picture:
    picture = flac.Picture()
    picture.type = id3.PictureType.COVER_FRONT
    picture.mime = find_kind(cover)
    picture.data = cover
    return picture


def _fill_id3(frames: id3.ID3, tags: Tags) -> None:
    for name, texts in tags.list_texts().items():
        fitted = [fit_date(texts[0])] if name == "date" else texts
        text = fitted[0] if name == "lyrics" else list(filter(None, fitted))
        if not text:
            continue
        frames.add(FIELDS[name].id3(encoding=id3.Encoding.UTF8, text=text))
    if tags.cover:
        cover = _picture(tags.cover)
        frames.add(id3.APIC(type=cover.type, mime=cover.mime, data=cover.data))


def fit_date(text: str) -> str | None:
    """Give a date as ID3 holds it, 1999-05-01 or a part of that; of others the year, if any."""
    text = re.sub(r"^(\d{4})(\d\d)(\d\d)(?!\d)", r"\1-\2-\3", text)  # 19990501
    whole = re.match(r"\d{4}(-\d\d(-\d\d)?)?(?!\d)", text) or re.search(r"(?<!\d)\d{4}(?!\d)", text)
    return whole[0] if whole else None


def _write_mp3(path: Path, tags: Tags) -> None:
    file = mpeg.MP3(path)
    if file.tags is None:
        file.add_tags()
    _fill_id3(file.tags, tags)
    file.save()


def _write_wave(path: Path, tags: Tags) -> None:
    """Put a chunk of ID3 behind the sound: mutagen would read all chunks, ten times, to do so."""
    frames, content = id3.ID3(), io.BytesIO()
    _fill_id3(frames, tags)
    frames.save(content, padding=lambda _: 0)
    data = content.getvalue() + bytes(len(content.getvalue()) % 2)
    with path.open("r+b") as file:
        riff = file.read(4) == b"RIFF"  # beyond 4 GB it is RF64, whose lengths lie elsewhere
        size = file.seek(0, os.SEEK_END) + 8 + len(data)
        if riff and size - 8 < 1 << 32:
            file.write(b"id3 " + len(data).to_bytes(4, "little") + data)
            file.seek(4)
            file.write((size - 8).to_bytes(4, "little"))


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
    for name, texts in tags.list_texts().items():
        number, _, total = texts[0].partition("/")
        if name in TOTALS and total:
            file[FIELDS[name].vorbis], file[TOTALS[name][0]] = [number], [total]
        else:
            file[FIELDS[name].vorbis] = texts


def _write_mp4(path: Path, tags: Tags) -> None:
    file = mp4.MP4(path)
    for name, texts in tags.list_texts().items():
        atom = FIELDS[name].mp4
        values = _fit_atom(atom, texts)
        if values:
            file[atom] = values
    if tags.cover:
        file["covr"] = [mp4.MP4Cover(tags.cover, find_mp4_kind(tags.cover))]
    file.save()


def _fit_atom(atom: str, texts: list[str]) -> list[object]:
    """Bring texts to what an atom of an m4a holds; nothing if it cannot."""
    if atom.startswith("----"):
        return [text.encode() for text in texts]
    if atom == "tmpo":  # a whole number
        number = re.match(r"\d{1,4}(\.\d+)?\b", texts[0])
        return [round(float(number[0]))] if number else []
    if atom in ("trkn", "disk"):
        number = re.match(r"(\d{1,4})(?:/(\d{1,4}))?\b", texts[0])
        return [(int(number[1]), int(number[2] or 0))] if number else []
    return list(texts)


_WRITERS: Mapping[str, Callable[[Path, Tags], None]] = {
    "wav": _write_wave,
    "mp3": _write_mp3,
    "flac": _write_flac,
    "ogg": lambda path, tags: _write_ogg(oggvorbis.OggVorbis(path), tags),
    "opus": lambda path, tags: _write_ogg(oggopus.OggOpus(path), tags),
    "m4a": _write_mp4,
}

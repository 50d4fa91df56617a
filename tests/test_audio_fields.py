"""Every field of a song's tags goes from every format into every format that can hold it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import av
import mutagen
import numpy as np
import pytest
from mutagen import apev2, flac, id3, mp4

from splitter.audio import OutputFormat, StemWriter, Tags, open_song, write_stems
from splitter.audio.native import read_native
from splitter.audio.sources import open_source
from tests.codecs import RATE, Pipe, chirps, make
from tests.test_audio_tags import TAGS as PLAIN

TAGS = replace(
    PLAIN,
    cover=None,
    composer="Composer",
    lyrics="la; la\nla;la",
    bpm="120",
    isrc="USRC17607839",
    further=(("artist", "Another"), ("genre", "Pop"), ("composer", "Poet")),
)
OUTPUTS = ("wav", "flac", "mp3", "ogg", "opus", "m4a")
PICTURES = {
    "image/jpeg": b"\xff\xd8\xff\xe0" + bytes(500),
    "image/png": b"\x89PNG\r\n\x1a\n" + bytes(500),
    "image/gif": b"GIF89a" + bytes(500),
    "image/bmp": b"BM" + bytes(500),
    "image/webp": b"RIFF\xf8\x01\0\0WEBP" + bytes(500),
}


def tag_vorbis(path: Path) -> None:
    file = mutagen.File(path)
    file.update(
        title=TAGS.title,
        artist=["Somebody; Else", "Another"],
        album="Album",
        albumartist="Various",
        tracknumber="3",
        totaltracks="12",
        discnumber="1",
        disctotal="2",
        date="1999-05-01",
        genre=["Rock", "Pop"],
        composer=["Composer", "Poet"],
        unsyncedlyrics=TAGS.lyrics,
        bpm="120",
        isrc=TAGS.isrc,
    )
    file.save()


def add_frames(tags: id3.ID3) -> None:
    texts: Mapping[type[id3.TextFrame], list[str | None]] = {
        id3.TIT2: [TAGS.title],
        id3.TPE1: ["Somebody; Else", "Another"],
        id3.TALB: ["Album"],
        id3.TPE2: ["Various"],
        id3.TRCK: ["3/12"],
        id3.TPOS: ["1/2"],
        id3.TDRC: ["1999-05-01"],
        id3.TCON: ["Rock", "Pop"],
        id3.TCOM: ["Composer", "Poet"],
        id3.TBPM: ["120"],
        id3.TSRC: [TAGS.isrc],
    }
    for frame, values in texts.items():
        tags.add(frame(encoding=3, text=values))
    tags.add(id3.USLT(encoding=3, lang="deu", desc="", text=TAGS.lyrics))


def tag_id3(path: Path) -> None:
    tags = id3.ID3()
    add_frames(tags)
    tags.save(path)


def tag_chunk(path: Path) -> None:
    file = mutagen.File(path)
    file.add_tags()
    add_frames(file.tags)
    file.save()


def tag_ape(path: Path) -> None:
    tags = apev2.APEv2()
    tags["Title"], tags["Album"], tags["Album Artist"] = TAGS.title, "Album", "Various"
    tags["Artist"], tags["Genre"] = ["Somebody; Else", "Another"], ["Rock", "Pop"]
    tags["Composer"], tags["Lyrics"] = ["Composer", "Poet"], TAGS.lyrics
    tags["Track"], tags["Disc"], tags["Year"] = "3/12", "1/2", "1999-05-01"
    tags["BPM"], tags["ISRC"] = "120", TAGS.isrc
    tags.save(path)


def tag_mp4(path: Path) -> None:
    file = mp4.MP4(path)
    file["\xa9nam"], file["\xa9alb"], file["aART"] = TAGS.title, "Album", "Various"
    file["\xa9ART"], file["\xa9gen"] = ["Somebody; Else", "Another"], ["Rock", "Pop"]
    file["\xa9wrt"], file["\xa9lyr"] = ["Composer", "Poet"], TAGS.lyrics
    file["trkn"], file["disk"], file["\xa9day"] = [(3, 12)], [(1, 2)], "1999-05-01"
    file["tmpo"], file["----:com.apple.iTunes:ISRC"] = [120], str(TAGS.isrc).encode()
    file.save()


def tag_asf(path: Path) -> None:
    file = mutagen.File(path)
    file["Title"], file["WM/AlbumTitle"], file["WM/AlbumArtist"] = TAGS.title, "Album", "Various"
    file["Author"], file["WM/Genre"] = ["Somebody; Else", "Another"], ["Rock", "Pop"]
    file["WM/Composer"], file["WM/Lyrics"] = ["Composer", "Poet"], TAGS.lyrics
    file["WM/TrackNumber"], file["WM/PartOfSet"] = "3/12", "1/2"
    file["WM/Year"], file["WM/BeatsPerMinute"], file["WM/ISRC"] = "1999-05-01", "120", TAGS.isrc
    file.save()


INPUTS: Mapping[str, tuple[str, Callable[[Path], None]]] = {  # suffix, and who writes the tags
    "flac": ("flac", tag_vorbis),
    "ogg": ("ogg", tag_vorbis),
    "opus": ("opus", tag_vorbis),
    "mp3": ("mp3", tag_id3),
    "mp3 with APE": ("mp3", tag_ape),
    "wav": ("wav", tag_chunk),
    "aiff": ("aiff", tag_chunk),
    "m4a": ("m4a", tag_mp4),
    "alac": ("alac.m4a", tag_mp4),
    "wavpack": ("wv", tag_ape),
    "wma": ("wma", tag_asf),
}


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fields")
    made = {}
    for name, (suffix, tag) in INPUTS.items():
        rate = 48000 if suffix == "opus" else RATE
        made[name] = make(folder / name.replace(" ", "-"), suffix, chirps(9000, rate=rate), rate)
        tag(made[name])
    return made


@pytest.mark.parametrize("name", INPUTS)
def test_every_field_survives_from_every_format_to_every_format(
    songs: dict[str, Path], name: str, tmp_path: Path
) -> None:
    with open_song(songs[name]) as song:
        assert song.tags == TAGS
    for output in OUTPUTS:
        stem = tmp_path / f"stem.{output}"
        with StemWriter(stem, RATE, 2, OutputFormat(output), song.tags) as writer:
            writer.write(chirps(5000))
        with open_song(stem) as again:
            assert again.tags == TAGS, output


@pytest.mark.parametrize("name", ["flac", "ogg", "opus", "mp3", "m4a"])
def test_a_pipe_tells_all_fields_that_come_before_the_sound(
    songs: dict[str, Path], name: str
) -> None:
    with open_song(Pipe(songs[name].read_bytes(), step=3000)) as song:
        assert song.tags == TAGS


def test_matroska_keeps_what_ffmpeg_gives(tmp_path: Path) -> None:
    path = tmp_path / "song.mka"
    given = {"title": "T", "artist": "A", "COMPOSER": "C", "LYRICS": "la", "BPM": "90"}
    with av.open(path, "w") as output:
        output.metadata.update(given | {"ISRC": "X", "track": "3/12", "DISC": "1/2"})
        track = cast(Any, output.add_stream("flac", rate=RATE, layout="stereo"))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "stereo")
        frame.sample_rate = RATE
        output.mux([*track.encode(frame), *track.encode(None)])
    with open_song(path) as song:
        wanted = Tags(title="T", artist="A", composer="C", lyrics="la", bpm="90", isrc="X")
        assert song.tags == replace(wanted, track="3/12", disc="1/2")


def test_vorbis_has_numbers_and_totals_apart_and_id3_has_a_frame_for_each(tmp_path: Path) -> None:
    for suffix in ("flac", "mp3"):
        with StemWriter(tmp_path / f"a.{suffix}", RATE, 2, OutputFormat(suffix), TAGS) as writer:
            writer.write(chirps(5000))
    comments = flac.FLAC(tmp_path / "a.flac")
    assert comments["artist"] == ["Somebody; Else", "Another"]
    assert [comments[k] for k in ("tracknumber", "tracktotal", "discnumber", "disctotal")] == [
        ["3"],
        ["12"],
        ["1"],
        ["2"],
    ]
    frames = id3.ID3(tmp_path / "a.mp3")
    assert frames["TPE1"].text == ["Somebody; Else", "Another"]
    assert frames["TRCK"].text == ["3/12"]
    assert frames.getall("USLT")[0].text == TAGS.lyrics


def read_picture(path: Path) -> tuple[str | int, bytes] | None:
    """Read a stem's cover by mutagen, with the kind that the file states."""
    file = mutagen.File(path)
    if isinstance(file, mp4.MP4):
        box = path.read_bytes().partition(b"covr")[2]  # mutagen knows JPEG and PNG alone
        size = int.from_bytes(box[:4], "big")
        return (int.from_bytes(box[8:12], "big"), box[16:size]) if box else None
    if isinstance(file, flac.FLAC):
        return file.pictures[0].mime, file.pictures[0].data
    if path.suffix in (".ogg", ".opus"):
        picture = flac.Picture(base64.b64decode(file["metadata_block_picture"][0]))
        return picture.mime, picture.data
    (picture,) = file.tags.getall("APIC")
    return picture.mime, picture.data


@pytest.mark.parametrize("kind", PICTURES)
def test_covers_of_every_kind_keep_their_kind(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    song = make(tmp_path / "song", "flac", chirps(9000))
    file, picture = flac.FLAC(song), flac.Picture()
    picture.mime, picture.type, picture.data = kind, 3, PICTURES[kind]
    file.add_picture(picture)
    file.save()
    with open_song(song) as reader:
        assert reader.tags.cover == PICTURES[kind]
    for output in OUTPUTS:
        stem = tmp_path / f"stem.{output}"
        with write_stems({"a": stem}, RATE, 2, OutputFormat(output), reader.tags) as writers:
            writers["a"].write(chirps(5000))
        if output == "m4a" and kind in ("image/gif", "image/webp"):
            assert read_picture(stem) is None
            (line,) = caplog.messages
            name = kind.removeprefix("image/").upper()
            assert line == f"{stem}: m4a holds no cover in {name}; the stems go without"
        else:
            stated = {"image/jpeg": 13, "image/png": 14, "image/bmp": 27}.get(kind)
            assert read_picture(stem) == (stated if output == "m4a" else kind, PICTURES[kind])
            with open_song(stem) as again:
                assert again.tags.cover == PICTURES[kind], output


def test_a_cover_that_is_no_picture_is_left_out_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    song = make(tmp_path / "song", "mp3", chirps(9000))
    tags = id3.ID3()
    tags.add(id3.APIC(mime="image/jpeg", type=3, data=b"no picture"))
    tags.save(song)
    with open_song(song) as reader:
        assert reader.tags == Tags()
    assert "its cover is no picture of a known kind; the stems go without" in caplog.text


@pytest.mark.parametrize(
    ("bpm", "held"), [("127.6", "128"), ("fast", None), ("120", "120"), ("99999", None)]
)
def test_an_m4a_holds_whole_beats(tmp_path: Path, bpm: str, held: str | None) -> None:
    stem = tmp_path / "stem.m4a"
    with StemWriter(stem, RATE, 2, OutputFormat("m4a"), Tags(bpm=bpm, track="A1")) as writer:
        writer.write(chirps(5000))
    with open_song(stem) as song:
        assert song.tags == Tags(bpm=held)


class Counting(BytesIO):
    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


@pytest.mark.parametrize("container", ["wav", "aiff", "mov,mp4,m4a,3gp,3g2,mj2"])
def test_a_million_empty_chunks_are_not_all_looked_through_for_tags(container: str) -> None:
    heads = {"wav": b"RIFF\xff\xff\xff\x7fWAVE", "aiff": b"FORM\x7f\xff\xff\xffAIFF"}
    empty = b"free" + (b"\0\0\0\x08" if "mov" in container else bytes(4))
    chunk = empty[4:] + empty[:4] if "mov" in container else empty
    file = Counting(heads.get(container, b"\0\0\0\x0cftypM4A ") + 1_000_000 * chunk)
    assert read_native(open_source(file), container) == {}
    assert file.reads <= 4001


def test_a_million_frames_of_a_tag_are_left_to_ffmpeg() -> None:
    """Mutagen copies the rest of a tag with each frame: it would take minutes."""
    body = b"TIT2\0\0\0\2\0\0\3x" * 1_000_000
    size = bytes(len(body) >> shift & 127 for shift in (21, 14, 7, 0))
    started = time.process_time()
    assert read_native(open_source(BytesIO(b"ID3\4\0\0" + size + body)), "mp3") == {}
    assert time.process_time() - started < 2  # seconds

"""What a song calls itself, its stems say too."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import mutagen
import mutagen.apev2
import mutagen.flac
import mutagen.id3
import mutagen.mp4
import mutagen.wave
import numpy as np
import pytest

from splitter.audio import OutputFormat, StemWriter, Tags, open_song, write_stems
from splitter.audio.excess import COVER_BYTES, TEXT_BYTES
from splitter.errors import AudioError
from tests.codecs import RATE, Pipe, chirps, read

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 20
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
TAGS = Tags(
    title="Törn 🎵",
    artist="Somebody; Else",
    album="Album",
    album_artist="Various",
    track="3/12",
    disc="1/2",
    date="1999-05-01",
    genre="Rock",
    cover=JPEG,
)
CONTAINERS = ("wav", "flac", "mp3", "ogg", "opus", "m4a")


def write(path: Path, container: str, tags: Tags) -> Path:
    with StemWriter(path, RATE, 2, OutputFormat(container), tags) as writer:
        writer.write(chirps(5000))
    return path


@pytest.mark.parametrize("cover", [JPEG, PNG, None])
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_format_carries_the_tags(tmp_path: Path, container: str, cover: bytes | None) -> None:
    tags = replace(TAGS, cover=cover)
    path = write(tmp_path / "stem", container, tags)
    with open_song(path) as song:
        assert song.tags == tags
        assert sum(block.shape[1] for block in song.read_blocks()) >= 5000  # Opus has 48 kHz


@pytest.mark.parametrize("size", [300_000, 2_000_000])
@pytest.mark.parametrize(
    ("container", "codec"),
    [("flac", "flac"), ("tta", "tta"), ("adts", "aac"), ("ac3", "ac3"), ("eac3", "eac3")],
)
def test_sound_of_any_kind_is_found_behind_a_large_tag(
    container: str, codec: str, size: int
) -> None:
    """FFmpeg looks at one megabyte, and takes what has a longer ID3 tag for mp3."""
    file, tag = BytesIO(), BytesIO()
    with av.open(file, "w", format=container) as output:
        track: Any = output.add_stream(codec, rate=RATE, layout="stereo")
        signal = chirps(50_000)
        if not track.format.is_planar:
            signal = np.round(signal * 32767).astype(np.int16).T.reshape(1, -1)
            track.format = "s16"
        frame = av.AudioFrame.from_ndarray(signal, track.format.name, "stereo")
        frame.sample_rate, frame.pts = RATE, 0
        output.mux(track.encode(frame))
        output.mux(track.encode(None))
    id3 = mutagen.id3.ID3()
    id3.add(mutagen.id3.TIT2(text="Song"))
    id3.add(mutagen.id3.APIC(mime="image/jpeg", type=3, data=JPEG + bytes(size)))
    id3.save(tag, padding=lambda _: 0)
    content = tag.getvalue() + file.getvalue()
    for source in (BytesIO(content), Pipe(content)):
        assert 0 <= read(source).shape[1] - 50_000 < 4000  # the padding of streams


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("title", ["odd", "even"])
def test_a_wav_says_how_long_it_and_its_tags_are(tmp_path: Path, samples: int, title: str) -> None:
    """A chunk of odd length has a byte behind it: here one sample of 24 bits, or a title."""
    with StemWriter(tmp_path / "x.wav", RATE, 1, OutputFormat(bits=24), Tags(title=title)) as stem:
        stem.write(np.zeros((1, samples), np.float32))
    content = (tmp_path / "x.wav").read_bytes()
    place, chunks = 12, {}
    while place < len(content):
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        chunks[content[place : place + 4]] = size
        place += 8 + size + size % 2
    assert place == len(content) == int.from_bytes(content[4:8], "little") + 8
    assert [*chunks][-2:] == [b"data", b"id3 "] and chunks[b"data"] == 3 * samples
    assert mutagen.wave.WAVE(tmp_path / "x.wav").tags["TIT2"].text == [title]


@pytest.mark.parametrize("container", CONTAINERS)
def test_tags_go_from_any_format_to_any(tmp_path: Path, container: str) -> None:
    for other in CONTAINERS:
        song = write(tmp_path / f"song.{other}", other, TAGS)
        with open_song(song) as reader:
            tags = reader.tags
        with open_song(write(tmp_path / "stem", container, tags)) as stem:
            assert stem.tags == TAGS


def test_a_pipe_tells_the_tags_that_come_before_the_sound(tmp_path: Path) -> None:
    path = write(tmp_path / "song", "mp3", TAGS)
    with open_song(Pipe(path.read_bytes(), step=500)) as song:
        assert song.tags == TAGS


def test_a_title_says_which_stem_it_is(tmp_path: Path) -> None:
    targets = {name: tmp_path / f"{name}.mp3" for name in ("vocals", "instrumental")}
    with write_stems(targets, RATE, 2, OutputFormat("mp3"), Tags(title="Song")) as writers:
        for writer in writers.values():
            writer.write(chirps(100))
    titles = []
    for path in targets.values():
        with open_song(path) as song:
            titles.append(song.tags.title)
    assert titles == ["Song (vocals)", "Song (instrumental)"]
    assert Tags(artist="Somebody").for_stem("vocals").title is None


def test_replay_gain_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "song.flac", "flac", TAGS)
    file = mutagen.flac.FLAC(path)
    file["REPLAYGAIN_TRACK_GAIN"] = "-7.2 dB"
    file.save()
    with open_song(path) as song:
        stem = write(tmp_path / "stem.flac", "flac", song.tags)
    assert "replaygain_track_gain" not in mutagen.flac.FLAC(stem)
    assert mutagen.flac.FLAC(stem)["title"] == [TAGS.title]


def test_tags_that_are_not_utf8_are_read_as_far_as_possible(tmp_path: Path) -> None:
    path = write(tmp_path / "song.mp3", "mp3", Tags())
    old = b"TAG" + "Törn".encode("latin-1").ljust(30, b"\0") + bytes(95)  # ID3 version 1
    path.write_bytes(path.read_bytes() + old)
    with open_song(path) as song:
        assert sum(block.shape[1] for block in song.read_blocks()) == 5000
        assert (song.tags.title or "").startswith("T")


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_a_wav_names_its_song_in_either_of_two_encodings(tmp_path: Path, encoding: str) -> None:
    """Nothing in LIST/INFO says which; what is no UTF-8 was written by an old program."""
    text = "Björk – Jóga".encode(encoding) + b"\0"
    text += bytes(len(text) % 2)
    info = b"INFOINAM" + len(text).to_bytes(4, "little") + text
    path = write(tmp_path / "song.wav", "wav", Tags())
    content = path.read_bytes() + b"LIST" + len(info).to_bytes(4, "little") + info
    path.write_bytes(content[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:])
    with open_song(path) as song:
        assert song.tags.title == "Björk – Jóga"


def test_a_song_without_tags_gives_stems_without(tmp_path: Path) -> None:
    path = write(tmp_path / "stem.wav", "wav", Tags())
    assert mutagen.wave.WAVE(path).tags is None
    with open_song(path) as song:
        assert song.tags == Tags()


@pytest.mark.parametrize("container", ["flac", "ogg", "opus", "mp3", "m4a"])
def test_a_cover_that_is_too_large_is_left_out_and_told_before_the_work(
    tmp_path: Path, container: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "song", container, replace(TAGS, cover=JPEG + bytes(COVER_BYTES)))
    with open_song(path) as song:
        assert caplog.messages == [
            f"{path}: its cover is too large for the stems (8.1 MB, at most 8 MB); they go without"
        ]
        tags = song.tags
    assert tags == replace(TAGS, cover=None)


def test_a_cover_of_twenty_megabytes_does_not_fail_a_flac(tmp_path: Path) -> None:
    path = write(tmp_path / "song", "m4a", replace(TAGS, cover=JPEG + bytes(20_000_000)))
    with open_song(path) as song:
        stem = write(tmp_path / "stem", "flac", song.tags)
    assert mutagen.flac.FLAC(stem)["title"] == [TAGS.title]


def test_texts_that_are_too_long_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "song", "flac", replace(TAGS, genre="x" * TEXT_BYTES))
    with open_song(path) as song:
        assert song.tags == replace(TAGS, genre=None)
    assert caplog.messages[0].endswith(
        "its genre is too large for the stems (1.0 MB, at most 1 MB); they go without"
    )


def test_a_hundred_thousand_comments_cost_no_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "song.flac", "flac", Tags(title="Song"))
    file = mutagen.flac.FLAC(path)
    file.tags.extend([(f"FIELD{number}", "x") for number in range(100_000)])
    file.save()
    started = time.process_time()
    with open_song(path) as song:
        assert song.tags == Tags(title="Song")
        np.testing.assert_allclose(next(song.read_blocks()), chirps(5000), atol=1e-4)
    assert time.process_time() - started < 2  # seconds; FFmpeg alone needs 6 for a fifth of them
    assert "has more than 1,000 comments" in caplog.text


def test_the_known_fields_of_a_crowded_flac_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "song.flac", "flac", Tags())
    file = mutagen.flac.FLAC(path)
    file.add_tags() if file.tags is None else None
    file.tags.extend([(f"FIELD{number}", "x") for number in range(2000)])
    file.save()
    file = mutagen.flac.FLAC(path)
    for name, text in (("title", "Törn"), ("TRACKNUMBER", "3/12"), ("AlbumArtist", "Various")):
        file[name] = [text]  # behind all others
    file.save()
    with open_song(path) as song:
        assert song.tags == Tags(title="Törn", track="3/12", album_artist="Various")


@pytest.mark.parametrize("container", ["ogg", pytest.param("opus", marks=pytest.mark.slow)])
def test_thousands_of_comments_in_ogg_cost_nothing(
    tmp_path: Path, container: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "song", container, Tags())
    file = mutagen.File(path)
    for number in range(20_000):
        file[f"field{number}"] = ["x"]
    file["title"], file["ARTIST"] = ["Törn"], ["one", "two"]  # behind all others
    file.save()
    started = time.process_time()
    with open_song(path) as song:
        assert sum(block.shape[1] for block in song.read_blocks()) >= 5000  # Opus has 48 kHz
        assert song.tags == Tags(title="Törn", artist="one", further=(("artist", "two"),))
    assert time.process_time() - started < 2  # seconds; FFmpeg alone needs 5
    assert caplog.messages == [
        f"{path}: has more than 1,000 comments; others than title, artist and the like are not read"
    ]


@pytest.mark.parametrize("container", ["mp3", "m4a"])
def test_comments_behind_the_thousandth_cost_nothing(
    tmp_path: Path, container: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "song", container, Tags(title="Song"))
    if container == "mp3":
        tags = mutagen.id3.ID3(path)
        for number in range(50_000):
            tags.add(mutagen.id3.TXXX(encoding=3, desc=f"field {number}", text="x"))
        tags.save(path)
    else:
        file = mutagen.mp4.MP4(path)
        for number in range(20_000):
            file[f"----:com.apple.iTunes:field{number}"] = [b"x"]
        file.save()
    started = time.process_time()
    with open_song(path) as song:
        assert sum(block.shape[1] for block in song.read_blocks()) == 5000
        assert song.tags.title == "Song"
    assert time.process_time() - started < 2  # seconds; FFmpeg alone needs 6 for 20,000
    assert caplog.messages == [
        f"{path}: has more than 1,000 comments; those behind them are not read"
    ]


@pytest.mark.parametrize("container", ["mp3", "m4a", "flac", "wav", "ogg"])
def test_a_large_cover_is_held_at_most_once(tmp_path: Path, container: str) -> None:
    size = 15_000_000  # bytes; wav has its tags at the end, where FFmpeg reads them
    path = write(tmp_path / "song", container, replace(TAGS, cover=JPEG + bytes(size)))
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    with open_song(path) as song:
        assert song.tags.title == TAGS.title
        assert song.tags.cover is None
    most = {"wav": 1.5 * size, "ogg": 6 * size}.get(container, size / 2)
    assert _peak() - before < most


def _peak() -> int:
    """Measure the most memory since it was last asked, in bytes (Linux only)."""
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text("ascii", "replace"))
    return int(found[1]) * 1000 if found else 0


@pytest.mark.parametrize("name", [b"moov", b"meta"])
def test_boxes_within_boxes_without_end_cost_the_tags_alone(tmp_path: Path, name: bytes) -> None:
    path = write(tmp_path / "song.m4a", "m4a", TAGS)
    version = bytes(4) if name == b"meta" else b""
    nest = b""
    for _ in range(3000):
        nest = (len(nest) + 8 + len(version)).to_bytes(4, "big") + name + version + nest
    path.write_bytes(path.read_bytes() + nest)
    with open_song(path) as song:
        assert song.tags.title == TAGS.title
        assert sum(block.shape[1] for block in song.read_blocks()) == 5000


@pytest.mark.parametrize("container", ["mp3", "flac", "ogg", "m4a"])
def test_files_of_a_few_bytes_are_refused_in_a_line(tmp_path: Path, container: str) -> None:
    data = write(tmp_path / "song", container, TAGS).read_bytes()
    for size in range(1, 40):
        with pytest.raises(AudioError):
            open_song(BytesIO(data[:size]))


@pytest.mark.parametrize("container", ["flac", "mp3"])
@pytest.mark.parametrize("kinds", [(3, 4), (4, 3), (1, 3)])
def test_of_several_pictures_the_front_cover_is_the_stems(
    tmp_path: Path, container: str, kinds: tuple[int, int]
) -> None:
    path = write(tmp_path / f"song.{container}", container, Tags(title="x"))
    file = mutagen.File(path)
    for kind in kinds:
        data = JPEG if kind == 3 else PNG
        mime = "image/jpeg" if kind == 3 else "image/png"
        if container == "flac":
            picture = mutagen.flac.Picture()
            picture.type, picture.mime, picture.data = kind, mime, data
            file.add_picture(picture)
        else:
            file.tags.add(mutagen.id3.APIC(type=kind, mime=mime, desc=str(kind), data=data))
    file.save()
    with open_song(path) as song:
        assert song.tags.cover == JPEG


def test_ape_goes_before_the_short_texts_of_id3v1(tmp_path: Path) -> None:
    path, title = write(tmp_path / "song.mp3", "mp3", Tags(title="x" * 40)), "A long title " * 4
    file = mutagen.id3.ID3(path)
    file.save(path, v1=2)
    file.delete(path, delete_v1=False)
    tags = mutagen.apev2.APEv2()
    tags["Title"], tags["Composer"] = title.strip(), "Somebody"
    tags.save(path)
    with open_song(path) as song:
        assert (song.tags.title, song.tags.composer) == (title.strip(), "Somebody")
    tags.delete(path)
    with open_song(path) as song:
        assert song.tags.title == "x" * 30


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("1999-05-01", "1999-05-01"),
        ("1999-05", "1999-05"),
        ("19990501", "1999-05-01"),
        ("03.05.2019", "2019"),
        ("Spring 1998", "1998"),
        ("2019/05/03", "2019"),
        ("unknown", None),
    ],
)
def test_a_date_of_another_form_leaves_its_year_in_id3(
    tmp_path: Path, date: str, expected: str | None
) -> None:
    with open_song(write(tmp_path / "song.flac", "flac", Tags(date=date))) as song:
        assert song.tags.date == date
    with open_song(write(tmp_path / "stem.wav", "wav", Tags(date=date, title="x"))) as stem:
        assert stem.tags.date == expected


def test_a_date_that_id3_should_not_hold_is_read_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "song.mp3", "mp3", Tags(date="1234"))
    data = path.read_bytes()
    frames = mutagen.id3.ID3()
    frames.add(mutagen.id3.TALB(encoding=3, text="03.05.2019"))
    content = BytesIO()
    frames.save(content)
    (tmp_path / "own.mp3").write_bytes(
        content.getvalue().replace(b"TALB", b"TDRC") + data[data.index(b"\xff\xfb") :]
    )
    with open_song(tmp_path / "own.mp3") as song:
        assert song.tags.date == "03.05.2019"


def test_a_total_without_a_number_is_no_number(tmp_path: Path) -> None:
    path = write(tmp_path / "song.m4a", "m4a", Tags(track="3/12"))
    file = mutagen.mp4.MP4(path)
    file["trkn"], file["disk"] = [(0, 12)], [(2, 0)]
    file.save()
    with open_song(path) as song:
        assert (song.tags.track, song.tags.disc) == (None, "2")

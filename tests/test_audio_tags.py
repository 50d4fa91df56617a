"""What a song calls itself, its stems say too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mutagen
import mutagen.flac
import mutagen.id3
import mutagen.wave
import pytest

from splitter.audio import OutputFormat, StemWriter, Tags, open_song, write_stems
from tests.codecs import RATE, Pipe, chirps

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 20
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
TAGS = Tags("Törn 🎵", "Somebody; Else", "Album", "Various", "3/12", "1999-05-01", "Rock", JPEG)
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


def test_a_song_without_tags_gives_stems_without(tmp_path: Path) -> None:
    path = write(tmp_path / "stem.wav", "wav", Tags())
    assert mutagen.wave.WAVE(path).tags is None
    with open_song(path) as song:
        assert song.tags == Tags()

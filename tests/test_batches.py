"""Folders of songs, through the real command."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import library
from splitter.audio.files import PartFile
from splitter.cli.globbed import drop_others
from splitter.jobs import JOURNAL, Journal, Search, find_left_out
from tests import sounds
from tests.commands import Done, call, start

Separate = Callable[..., Done]


@pytest.fixture
def separate(small_model_folder: Path, tmp_path: Path) -> Separate:
    """Run `splitter separate` in tmp_path."""

    def run(*arguments: object) -> Done:
        return call("separate", "--model", small_model_folder, *arguments, folder=tmp_path)

    return run


def make_library(folder: Path, songs: int = 3, seconds: float = 0.3) -> list[Path]:
    return [
        sounds.write(
            folder / "AB"[index % 2] / f"song {index}.wav",
            sounds.noise(round(seconds * 44100) + index, seed=index),
        )
        for index in range(songs)
    ]


def read_tree(folder: Path) -> dict[str, bytes]:
    """Read all files but the journal, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != JOURNAL
    }


def read_journal(folder: Path) -> list[str]:
    """Name the songs in the order in which they ended."""
    lines = (folder / JOURNAL).read_text().split("\n")
    entries = [json.loads(line) for line in lines if line]
    songs = {entry["id"]: entry["song"] for entry in entries if "id" in entry}
    ends = [entry.get("done") or entry.get("failed") for entry in entries]
    return [songs[end] for end in ends if end]


def test_a_folder_is_separated_and_its_tree_mirrored(separate: Separate, tmp_path: Path) -> None:
    make_library(tmp_path / "songs")
    (tmp_path / "songs" / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF")
    done = separate("-r", "songs", "-o", "out")
    assert done.status == 0, done.stderr
    assert "3 songs done" in done.stderr and "cover" not in done.stderr
    assert sorted(read_tree(tmp_path / "out")) == [
        f"{parent}/song {index}/{stem}.wav"
        for parent, index in (("A", 0), ("A", 2), ("B", 1))
        for stem in ("instrumental", "vocals")
    ]


def test_without_r_folders_below_are_left_alone(separate: Separate, tmp_path: Path) -> None:
    make_library(tmp_path / "songs")
    sounds.write(tmp_path / "songs" / "top.wav", sounds.noise(4000))
    done = separate("songs", "-o", "out")
    assert done.status == 0, done.stderr
    assert {name.split("/")[0] for name in read_tree(tmp_path / "out")} == {"top"}
    assert "1 of 1 song is done already" in separate("songs", "-o", "out").stderr


def test_a_second_run_does_only_what_is_new_changed_or_failed(
    separate: Separate, tmp_path: Path
) -> None:
    songs = make_library(tmp_path / "songs", 4)
    songs[3].write_bytes(b"no sound")
    first = separate("-r", "songs", "-o", "out")
    assert first.status == 1 and "3 songs done, 1 failed" in first.stderr
    sounds.write(songs[3], sounds.noise(5000))
    sounds.write(songs[0], sounds.noise(6000, seed=9))
    again = separate("-r", "songs", "-o", "out")
    assert again.status == 0, again.stderr
    assert "2 of 4 songs are done already" in again.stderr and "2 songs done" in again.stderr
    nothing = separate("-r", "songs", "-o", "out")
    assert nothing.status == 0 and nothing.stdout == ""
    assert len(read_journal(tmp_path / "out")) == 6


def test_a_quiet_run_in_which_all_goes_well_says_nothing(
    separate: Separate, tmp_path: Path
) -> None:
    """As cron sends a letter for every line."""
    songs = make_library(tmp_path / "songs", 2)
    for made in (4, 0):
        done = separate("-r", "songs", "-o", "out", "--quiet")
        assert (done.status, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) == made
    done = separate("-r", "songs", "-o", "out", "--quiet", "--skip-existing")
    assert (done.status, done.stderr) == (0, "")
    (tmp_path / "out/splitter.jsonl").unlink()
    done = separate("-r", "songs", "-o", "out", "--quiet", "--skip-existing")
    assert (done.status, done.stderr) == (0, "")
    songs[0].write_bytes(b"no sound")
    assert "not an audio file" in separate("-r", "songs", "-o", "out", "--quiet").stderr


def test_a_file_put_in_a_stems_place_is_not_replaced_by_a_later_run(
    separate: Separate, tmp_path: Path
) -> None:
    make_library(tmp_path / "songs")
    assert separate("-r", "songs", "-o", "out").status == 0
    mine = tmp_path / "out" / "A" / "song 0" / "vocals.wav"
    mine.write_bytes(b"precious")
    again = separate("-r", "songs", "-o", "out", "--bits", "24")
    assert again.status == 1
    assert "vocals.wav: exists already" in again.stderr and "2 songs done" in again.stderr
    assert mine.read_bytes() == b"precious"
    assert separate("-r", "songs", "-o", "out", "--bits", "24", "--overwrite").status == 0
    assert mine.read_bytes() != b"precious"


def test_stems_without_sound_bear_no_mark_and_are_made_anew(
    separate: Separate, tmp_path: Path
) -> None:
    (tmp_path / "songs").mkdir()
    for index in range(2):
        sounds.write(tmp_path / "songs" / f"{index}.wav", sounds.noise(index * 3000))
    assert separate("songs", "-o", "out").status == 0
    again = separate("songs", "-o", "out", "--bits", "24")
    assert again.status == 0 and "2 songs done" in again.stderr, again.stderr


def test_stems_beside_their_songs_are_not_songs(separate: Separate, tmp_path: Path) -> None:
    make_library(tmp_path)
    assert separate("-r", ".").status == 0
    before = read_tree(tmp_path)
    again = separate("-r", ".", "--format", "flac")
    assert again.status == 0, again.stderr
    assert "3 songs done" in again.stderr
    assert len(read_tree(tmp_path)) == len(before) + 6


def test_stems_that_no_journal_knows_are_not_songs(separate: Separate, tmp_path: Path) -> None:
    song = sounds.write(tmp_path / "a.wav", sounds.noise(5000))
    assert separate(song).status == 0  # by itself, without a journal
    done = separate("-r", ".", "-o", "out")
    assert done.status == 0, done.stderr
    assert (
        ": stems of an earlier run; to separate one, name it" in done.stderr
        and "1 song done" in done.stderr
    )


def test_shards_do_all_songs_once_and_one_run_after_them_does_nothing(
    separate: Separate, tmp_path: Path
) -> None:
    make_library(tmp_path / "songs", 6)
    command = ("-r", "songs", "-o", "out")
    told = [separate(*command, "--shard", f"{index}/3") for index in (1, 2, 3)]
    assert all(done.status == 0 for done in told), told
    stems = [line for done in told for line in done.stdout.splitlines()]
    assert len(stems) == len(set(stems)) == 12 == len(read_tree_of_stems(tmp_path / "out"))
    assert "6 of 6 songs are done already" in separate(*command).stderr
    assert separate(*command, "--shard", "4/3").status == 2


def test_shards_see_the_plan_that_a_dry_run_sees(separate: Separate, tmp_path: Path) -> None:
    make_library(tmp_path / "songs", 6)
    sounds.write(tmp_path / "songs/A/SONG 0.wav", sounds.noise(500))  # one name on many disks
    command = ("-r", "songs", "-o", "out", "--template", "{stem}/{name}.{ext}", "--dry-run")
    whole = separate(*command)
    parts = [separate(*command, "--shard", f"{index}/3") for index in (1, 2, 3)]
    assert whole.status == 0 and len(whole.stdout.splitlines()) == 14
    lines = [line for part in parts for line in part.stdout.splitlines()]
    assert sorted(lines) == sorted(whole.stdout.splitlines())
    assert not (tmp_path / "out").exists()


def read_tree_of_stems(folder: Path) -> list[str]:
    return [name for name in read_tree(folder) if name.endswith(".wav")]


def test_failures_are_retried_bounded_and_grouped(separate: Separate, tmp_path: Path) -> None:
    songs = make_library(tmp_path / "songs", 8)
    for song in songs[:5]:
        song.write_bytes(b"no sound")
    command = ("-r", "songs", "-o", "out")
    stopped = separate(*command, "--max-failures", 2)
    assert stopped.status == 1
    assert "2 songs failed, as many as --max-failures allows; stopped" in stopped.stderr
    done = separate(*command, "--failures", "failed")
    assert done.status == 1 and "5 songs failed, such as " in done.stderr
    names = (tmp_path / "failed").read_bytes().split(b"\0")
    assert sorted(filter(None, names)) == sorted(
        os.fsencode(song.relative_to(tmp_path)) for song in songs[:5]
    )
    sounds.write(songs[0], sounds.noise(5000))  # a good copy
    retried = separate(*command, "--retry-failed")
    assert retried.status == 1 and "1 song done, 4 failed" in retried.stderr
    whole = separate(*command)
    assert "0 songs done, 4 failed" in whole.stderr
    assert separate(songs[7], "--retry-failed").status == 2


def test_a_list_of_failures_replaces_no_song(separate: Separate, tmp_path: Path) -> None:
    songs = [sounds.write(tmp_path / f"{name}.wav", sounds.noise(500)) for name in "ab"]
    silence = sounds.write(tmp_path / "silence.wav", 0 * sounds.noise(500))
    (tmp_path / "notes.txt").write_text("mine")
    for path in (songs[0], silence, tmp_path / "notes.txt"):
        before = path.read_bytes()
        done = separate(songs[1].name, "-o", "out", "--failures", path.name)
        assert done.status == 2
        assert f"--failures {path.name}: is there already, and no list of songs" in done.stderr
        assert path.read_bytes() == before
    os.mkfifo(tmp_path / "pipe")
    done = separate(songs[1].name, "-o", "out", "--failures", "pipe")
    assert done.status == 2 and "no list of songs" in done.stderr


def test_a_song_that_a_format_cannot_hold_is_named(separate: Separate, tmp_path: Path) -> None:
    sounds.write(tmp_path / "wide.wav", sounds.noise(5000, channels=5))
    sounds.write(tmp_path / "good.wav", sounds.noise(5000))
    done = separate("wide.wav", "good.wav", "-o", "out", "--format", "mp3")
    assert done.status == 1
    assert "wide.wav: cannot have stems of that format (mp3: holds 2 channels" in done.stderr
    assert (tmp_path / "out/good/vocals.mp3").exists()


@pytest.mark.parametrize("songs", [("bad.mp3",), ("bad.mp3", "good.wav")])
def test_failures_are_written_for_one_song_and_for_many(
    separate: Separate, tmp_path: Path, songs: tuple[str, ...]
) -> None:
    (tmp_path / "bad.mp3").write_bytes(b"no sound")
    sounds.write(tmp_path / "good.wav", sounds.noise(5000))
    assert separate(*songs, "-o", "out", "--failures", "failed").status == 1
    assert (tmp_path / "failed").read_bytes() == b"bad.mp3\0"
    refused = separate("good.wav", "-o", "else", "--failures", "failed", "--device", "cuda:99")
    assert refused.status == 2
    assert (tmp_path / "failed").read_bytes() == b"bad.mp3\0"  # nothing was tried
    assert separate("good.wav", "-o", "else", "--failures", "failed").status == 0
    assert (tmp_path / "failed").read_bytes() == b""  # not those of the run before


def test_a_shard_without_songs_says_so(separate: Separate, tmp_path: Path) -> None:
    sounds.write(tmp_path / "song.wav", sounds.noise(5000))
    said = [separate("song.wav", "-o", f"{i}", "--shard", f"{i}/2").stderr for i in (1, 2)]
    assert sum("none of 1 song is in shard " in text for text in said) == 1


def test_a_second_run_into_a_folder_is_refused_while_the_first_is_alive(
    separate: Separate, tmp_path: Path
) -> None:
    make_library(tmp_path / "songs", 1)
    with Journal(tmp_path / "out", {}):
        done = separate("-r", "songs", "-o", "out")
    assert done.status == 2
    assert "out: another run is writing to this folder; wait until" in done.stderr
    assert not read_tree(tmp_path / "out")
    assert separate("-r", "songs", "-o", "out").status == 0


def test_a_song_that_another_run_is_writing_is_left_to_it(
    separate: Separate, tmp_path: Path
) -> None:
    song = sounds.write(tmp_path / "a.wav", sounds.noise(5000))
    part = PartFile(tmp_path / "a" / "vocals.wav")  # as another process would have it
    done = separate(song, "--overwrite")
    assert done.status == 1 and "a/vocals.wav: another run is writing it; wait" in done.stderr
    part.discard()
    assert not read_tree(tmp_path / "a")
    assert separate(song).status == 0


def test_stems_of_earlier_options_are_not_songs_either(separate: Separate, tmp_path: Path) -> None:
    make_library(tmp_path, 1)
    for more in ((), ("--format", "flac"), ("--format", "flac"), ()):
        done = separate("-r", ".", *more)
        assert done.status == 0, done.stderr
    assert len(read_journal(tmp_path)) == 2
    assert len(read_tree(tmp_path)) == 1 + 2 + 2


@pytest.mark.parametrize("other", ["../songs", "link"])
def test_a_folder_is_the_same_however_it_is_spelled(
    separate: Separate, tmp_path: Path, other: str
) -> None:
    make_library(tmp_path / "songs", 2)
    (tmp_path / "songs" / "link").symlink_to(tmp_path / "songs")
    inside = tmp_path / "songs"
    assert separate("-r", inside, "-o", inside / "out").status == 0
    done = separate("-r", inside / other, "-o", inside / "out")
    assert done.status == 0 and "2 of 2 songs are done already" in done.stderr
    assert len(read_journal(inside / "out")) == 2


def test_what_was_there_before_is_not_replaced(separate: Separate, tmp_path: Path) -> None:
    make_library(tmp_path, 2)  # A/song 0.wav, B/song 1.wav
    precious = sounds.write(tmp_path / "A" / "song 0" / "vocals.wav", sounds.noise(500))
    before = precious.read_bytes()
    for _ in range(2):  # nor by a later run, which knows the name from a failure
        done = separate("-r", ".")
        assert done.status == 1 and "vocals.wav: exists already; --overwrite" in done.stderr
        assert precious.read_bytes() == before
    assert (tmp_path / "B" / "song 1" / "vocals.wav").exists()
    assert separate("-r", ".", "--overwrite").status == 0
    assert precious.read_bytes() != before


def test_a_stem_that_a_killed_run_left_is_replaced(separate: Separate, tmp_path: Path) -> None:
    make_library(tmp_path / "songs", 1)
    assert separate("-r", "songs", "-o", "out").status == 0
    expected = read_tree(tmp_path / "out")
    journal = tmp_path / "out" / JOURNAL
    journal.write_bytes(journal.read_bytes().rpartition(b"\n")[0])  # the song's end is not told
    stems = tmp_path / "out" / "A" / "song 0"
    shutil.copyfile(stems / "instrumental.wav", stems / "vocals.wav")  # a stem of another time
    done = separate("-r", "songs", "-o", "out")
    assert done.status == 0, done.stderr
    assert read_tree(tmp_path / "out") == expected


def test_songs_in_folders_that_nobody_looked_into_are_told(
    separate: Separate, tmp_path: Path
) -> None:
    make_library(tmp_path / "songs", 2)
    (tmp_path / "songs" / "covers").mkdir()
    done = separate("songs", "-o", "out")
    assert done.complaints == [
        "songs: left out folders with songs, such as songs/A; add -r to separate them",
        "splitter: found no songs",
    ]
    make_library(tmp_path / "more", 2)
    sounds.write(tmp_path / "more" / "top.wav", sounds.noise(4000))
    assert "more: left out folders with songs, such as more/A" in separate("more").stderr
    assert separate("-r", "more").status == 0


def test_to_tell_of_songs_that_are_left_out_opens_no_file_and_looks_at_a_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/cover.jpg", "a/notes", "b/deep/x.nfo", "c/song.flac", "d/song.mp3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"fLaC")
    assert find_left_out(tmp_path, Search()) == tmp_path / "c"
    assert find_left_out(tmp_path, Search(exclude=["c/*"])) == tmp_path / "d"
    assert find_left_out(tmp_path, Search(exclude=["c"], include=["*.flac"])) is None
    monkeypatch.setattr("splitter.jobs.finding.is_song", None)
    assert find_left_out(tmp_path, Search()) == tmp_path / "c"
    monkeypatch.setattr("splitter.jobs.finding.LOOKED_AT", 3)
    assert find_left_out(tmp_path, Search()) is None


def test_stems_of_this_folder_are_no_songs_that_were_left_out(
    separate: Separate, tmp_path: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.noise(4000))
    for _ in range(2):
        assert "add -r" not in separate(".").stderr


def test_pictures_and_texts_that_a_glob_brought_are_passed_over(
    separate: Separate, tmp_path: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.noise(4000))
    (tmp_path / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF")
    (tmp_path / "notes.nfo").write_text("dédié à toi " * 90)
    done = separate("song.wav", "cover.jpg", "notes.nfo")
    assert done.status == 0
    assert done.complaints[0] == "left out 2 files without sound: cover.jpg, notes.nfo"
    assert separate("cover.jpg").status == 1  # named alone, it is meant
    (tmp_path / "letter.mp3").write_text("no song")
    assert separate("song.wav", "letter.mp3", "--overwrite").status == 1


def test_songs_among_pictures_are_not_compared_with_each_of_them(tmp_path: Path) -> None:
    """20,000 names of a glob, half of them covers, took three minutes."""

    class Lonely(type(tmp_path)):  # type: ignore[misc]
        __hash__ = None

        def __eq__(self, _: object) -> bool:
            raise AssertionError("compared")

    paths = [Lonely(tmp_path / name) for name in ("a.mp3", "a.jpg", "b.mp3", "b.jpg")]
    for path in paths:
        path.write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF")
    assert [path.name for path in drop_others(paths)] == ["a.mp3", "b.mp3"]


@pytest.mark.skipif(os.name == "nt", reason="there is no nohup")
def test_a_run_outlives_its_terminal_under_nohup(tmp_path: Path, small_model_folder: Path) -> None:
    make_library(tmp_path / "songs", 20, seconds=4)
    run = start(
        *("separate", "-r", "songs", "-o", "out", "--model", small_model_folder),
        folder=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    while run.poll() is None and not list((tmp_path / "out").rglob("vocals.wav")):
        time.sleep(0.02)
    run.send_signal(signal.SIGHUP)
    run.communicate(timeout=120)
    assert run.returncode == 0
    assert len(read_tree(tmp_path / "out")) == 40


def test_names_come_from_a_file_too(separate: Separate, tmp_path: Path) -> None:
    make_library(tmp_path)
    (tmp_path / "names").write_bytes(b"./A/song 0.wav\0B/song 1.wav\0")
    done = separate("--files0-from", "names", "-o", "out")
    assert done.status == 0, done.stderr
    assert {Path(name).parent.as_posix() for name in read_tree(tmp_path / "out")} == {
        "A/song 0",
        "B/song 1",
    }


def test_a_list_chooses_among_songs_that_keep_their_places(
    separate: Separate, tmp_path: Path
) -> None:
    songs = make_library(tmp_path / "M", 4)
    twin = sounds.write(tmp_path / "M/A/song 0.flac", sounds.noise(4000))
    good = songs[0].read_bytes()
    for song in (songs[0], songs[1]):
        song.write_bytes(b"no sound")
    assert separate("-r", "M", "-o", "S", "--failures", "f").status == 1
    songs[0].write_bytes(good)
    songs[1].write_bytes(good)
    done = separate("-r", "M", "-o", "S", "--files0-from", "f")
    assert done.status == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(
        f"S/{song}/{stem}.wav"
        for song in ("A/song 0.wav", "B/song 1")
        for stem in ("vocals", "instrumental")
    )
    assert f"{twin.parent.name}/song 0.flac" in {
        Path(name).parent.as_posix() for name in read_tree(tmp_path / "S")
    }
    assert "5 of 5 songs are done already" in separate("-r", "M", "-o", "S").stderr


def test_listed_songs_that_are_not_found_are_told(separate: Separate, tmp_path: Path) -> None:
    make_library(tmp_path / "M", 2)
    (tmp_path / "f").write_bytes(b"M/A/song 0.wav\0M/gone.wav\0elsewhere.wav\0")
    for more in ((), ("-n",)):
        done = separate("-r", "M", "-o", "S", "--files0-from", "f", *more)
        assert done.status == 1
        assert "2 songs, such as M/gone.wav: are listed, but not among" in done.stderr
    assert {name.split("/")[1] for name in read_tree(tmp_path / "S")} == {"song 0"}
    (tmp_path / "f").write_bytes(b"M/gone.wav\0")
    done = separate("-r", "M", "-o", "S", "--files0-from", "f")
    assert done.status == 1
    assert "none of 2 songs is in the list" in done.stderr
    assert "M/gone.wav: is listed, but not among" in done.stderr


def test_a_retry_that_was_killed_is_retried(separate: Separate, tmp_path: Path) -> None:
    songs = make_library(tmp_path / "M", 2)
    good = [song.read_bytes() for song in songs]
    for song in songs:
        song.write_bytes(b"no sound")
    assert separate("-r", "M", "-o", "S").status == 1
    for song, content in zip(songs, good, strict=True):
        song.write_bytes(content)
    journal = tmp_path / "S" / JOURNAL
    before = journal.read_bytes()
    assert "2 songs done" in separate("-r", "M", "-o", "S", "--retry-failed").stderr
    lines = journal.read_bytes()[len(before) :].split(b"\n")
    begun = [line for line in lines if not line.startswith(b'{"done"')]  # as a kill leaves it
    journal.write_bytes(before + b"\n".join(begun))
    shutil.rmtree(tmp_path / "S" / "A")
    done = separate("-r", "M", "-o", "S", "--retry-failed")
    assert done.status == 0 and "2 songs done" in done.stderr, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="there are no such pipes there")
def test_too_many_failures_end_songs_of_pipes_and_those_that_are_refused(
    separate: Separate, tmp_path: Path
) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.mp3").write_bytes(b"no sound")
    os.mkfifo(tmp_path / "pipe")
    done = separate(*(f"{name}.mp3" for name in "abcd"), "pipe", "--max-failures", 2)
    assert done.status == 1
    assert "2 songs failed, as many as --max-failures allows; stopped" in done.stderr
    assert "b.mp3" in done.stderr and "c.mp3" not in done.stderr
    sounds.write(tmp_path / "lib/a.flac", sounds.noise(3000))
    for name in "bcd":
        sounds.write(tmp_path / f"lib/{name}.wav", sounds.noise(3000))
    names = ("--template", "{name}.{ext}", "--stems", "vocals", "-o", "lib")
    for more in ((), ("-n",)):
        done = separate("lib", *names, "--max-failures", 2, *more)
        assert done.status == 1
        assert "2 songs failed, as many as --max-failures allows; stopped" in done.stderr
        assert "lib/c.wav" in done.stderr and "lib/d.wav" not in done.stderr


def test_two_songs_for_one_file_are_kept_apart_and_told(separate: Separate, tmp_path: Path) -> None:
    make_library(tmp_path / "songs", 1)
    sounds.write(tmp_path / "songs" / "A" / "song 0.flac", sounds.noise(4000))
    done = separate("-r", "songs", "-o", "out")
    assert done.status == 0
    told = "song 0.flac, songs/A/song 0.wav: would all become out/A/song 0/vocals.wav; they become "
    assert told in done.stderr
    assert {Path(name).parent.name for name in read_tree(tmp_path / "out")} == {
        *("song 0.flac", "song 0.wav"),
    }
    again = separate("-r", "songs", "-o", "out")
    assert "2 of 2 songs are done already" in again.stderr
    assert "they become" not in again.stderr  # it has been said: cron sends a letter for each line
    one = separate("-r", "songs", "-o", "x", "--stems", "vocals", "--template", "all.{ext}")
    assert one.status == 0 and (tmp_path / "x" / "A" / "all.flac.wav").exists()


@pytest.mark.parametrize(
    ("shards", "kills", "songs"),
    [(2, 1, 60), pytest.param(8, 2, 400, marks=pytest.mark.slow)],
    ids=["two", "eight"],
)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_shards_that_are_killed_and_started_again_do_all_songs_once(
    shards: int, kills: int, songs: int, tmp_path: Path, small_model_folder: Path
) -> None:
    bad = library.make_library(tmp_path / "songs", songs, broken=0.05)
    runs = library.make_processes(tmp_path, small_model_folder, shards, kills)
    library.run_all(runs, tmp_path / "out", songs)
    assert sum(run.starts for run in runs) == shards + kills
    found = library.check(tmp_path / "songs", tmp_path / "out", bad)
    assert found["failed"] == len(bad) > 0


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kill -9 is not known there")
def test_fifty_kills_change_nothing(tmp_path: Path, small_model_folder: Path) -> None:
    """Kill runs over 30 songs at random moments; only songs in flight are done again."""
    make_library(tmp_path / "songs", 30, seconds=8)
    command = ("separate", "-r", "songs", "-o", "out", "--model", small_model_folder)
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    begun = time.monotonic()
    assert start(*command, folder=tmp_path, **quiet).wait() == 0
    whole = time.monotonic() - begun  # seconds
    expected = read_tree(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    moments, kills, finished = random.Random(1), 0, 0
    while kills < 50 or not finished:
        run = start(*command, folder=tmp_path, **quiet)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(moments.uniform(0.2, 0.9) * whole)
        if run.poll() is None:
            run.kill()
            kills += 1
        if run.wait() == 0:
            assert read_tree(tmp_path / "out") == expected
            songs = read_journal(tmp_path / "out")
            # no song that had been written down was done again
            assert len(set(songs)) == len(songs) == 30
            shutil.rmtree(tmp_path / "out")
            finished += 1
    print(f"{kills} kills, {finished} runs that came to their end, each in {whole:.1f} s alone")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals are others there")
def test_an_interrupted_run_ends_with_130_and_leaves_whole_files_only(
    tmp_path: Path, small_model_folder: Path
) -> None:
    make_library(tmp_path / "songs", 40, seconds=8)
    command = ("separate", "-r", "songs", "-o", "out", "--model", small_model_folder)
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    run = start(*command, folder=tmp_path, **quiet)
    while not list((tmp_path / "out").rglob("vocals.wav")):
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == 130
    stems = read_tree(tmp_path / "out")
    assert 2 <= len(stems) < 80 and all(name.endswith(".wav") for name in stems)
    assert len({len(stem) // 10000 for stem in stems.values()}) == 1  # all are whole
    assert start(*command, folder=tmp_path, **quiet).wait() == 0
    assert len(read_tree(tmp_path / "out")) == 80


def test_songs_of_two_libraries_do_not_replace_each_others_stems(
    separate: Separate, tmp_path: Path
) -> None:
    for folder, samples in (("A", 4000), ("B", 5000)):
        sounds.write(tmp_path / folder / "01 Intro.wav", sounds.noise(samples))
    assert separate("A", "-o", "S").status == 0
    before = read_tree(tmp_path / "S")
    for _ in range(2):
        done = separate("B", "-o", "S")
        assert done.status == 1
        assert "vocals.wav: exists already; --overwrite replaces it" in done.stderr
        assert read_tree(tmp_path / "S") == before
        dry = separate("B", "-o", "S", "--dry-run")
        assert dry.status == 1 and "exists already" in dry.stderr
    assert "1 of 1 song is done already" in separate("A", "-o", "S").stderr
    assert separate("B", "-o", "S", "--overwrite").status == 0
    assert separate("A", "-o", "S").status == 1  # what was made of it is gone, and so it is told
    assert separate("A", "-o", "S", "--overwrite").status == 0
    assert read_tree(tmp_path / "S") == before


def test_a_song_that_its_own_stem_would_replace_costs_no_other(
    separate: Separate, tmp_path: Path
) -> None:
    for name in ("A/x.flac", "B/y.wav", "C/z.flac"):
        sounds.write(tmp_path / "lib" / name, sounds.noise(3000))
    before = (tmp_path / "lib/B/y.wav").read_bytes()
    for more in ((), ("--overwrite",), ("--dry-run", "--overwrite")):
        done = separate(
            "-r", "lib", "-o", "lib", "--template", "{name}.{ext}", "--stems", "vocals", *more
        )
        assert done.status == 1
        assert "lib/B/y.wav: a stem would replace this song" in done.stderr
        assert (tmp_path / "lib/B/y.wav").read_bytes() == before
        assert {path.name for path in (tmp_path / "lib").rglob("*.wav")} == {
            "x.wav",
            "y.wav",
            "z.wav",
        }


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_that_leads_nowhere_is_not_replaced(separate: Separate, tmp_path: Path) -> None:
    sounds.write(tmp_path / "t.wav", sounds.noise(3000))
    link = tmp_path / "o/t/vocals.wav"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "unmounted/vocals.wav")
    done = separate("t.wav", "-o", "o")
    assert done.status == 1 and "vocals.wav: exists already" in done.stderr
    assert link.is_symlink()
    assert separate("t.wav", "-o", "o", "--overwrite").status == 0
    assert not link.is_symlink()


def test_the_folder_of_a_song_has_its_name_however_it_was_reached(
    separate: Separate, tmp_path: Path
) -> None:
    sounds.write(tmp_path / "Album/t.wav", sounds.noise(3000))
    (tmp_path / "Album/sub").mkdir()
    done = separate("Album/sub/../t.wav", "--template", "{parent} {stem}.{ext}")
    assert done.stdout.splitlines() == ["Album vocals.wav", "Album instrumental.wav"]


def test_songs_that_failed_are_tried_again_by_other_options(
    separate: Separate, tmp_path: Path
) -> None:
    ok = sounds.write(tmp_path / "P/ok.wav", sounds.noise(44100))
    (tmp_path / "P/cut.wav").write_bytes(ok.read_bytes()[:100_000])
    assert separate("P", "-o", "S", "--failures", "f.z").status == 1
    listed = (tmp_path / "f.z").read_bytes()
    assert listed == b"P/cut.wav\0"
    made = (tmp_path / "S/ok/vocals.wav").stat().st_mtime_ns
    again = ("P", "-o", "S", "--retry-failed", "--failures", "f.z")
    assert separate(*again, "--stems", "vocals").status == 1  # which does not help
    assert (tmp_path / "f.z").read_bytes() == listed
    done = separate(*again, "--keep-partial")
    assert done.status == 0, done.stderr
    assert "1 song done" in done.stderr
    assert (tmp_path / "S/cut/vocals.wav").exists()
    assert (tmp_path / "f.z").read_bytes() == b""
    assert (tmp_path / "S/ok/vocals.wav").stat().st_mtime_ns == made


def test_a_template_and_a_format_that_differ_are_refused(
    separate: Separate, tmp_path: Path
) -> None:
    sounds.write(tmp_path / "s.wav", sounds.noise(3000))
    done = separate("s.wav", "--template", "{name}.{stem}.mp3")
    assert done.status == 2
    assert "--template {name}.{stem}.mp3: ends in .mp3, but stems are wav" in done.stderr
    assert separate("s.wav", "--template", "{name}.{stem}.flac", "-f", "flac").status == 0


def test_a_list_of_lines_is_refused_with_a_way_out(separate: Separate, tmp_path: Path) -> None:
    sounds.write(tmp_path / "a.wav", sounds.noise(3000))
    (tmp_path / "lines.txt").write_text("a.wav\nb.wav\n")
    done = separate("--files0-from", "lines.txt", "-o", "out")
    assert done.status == 2
    assert r"each name must end in a NUL byte; for lines: tr '\n' '\0'" in done.stderr


def test_a_name_that_looks_like_a_file_of_another_kind_is_told_to_be_a_folder(
    separate: Separate, tmp_path: Path
) -> None:
    sounds.write(tmp_path / "s.wav", sounds.noise(3000))
    done = separate("s.wav", "--stems", "vocals", "-o", "karaoke.xyz")
    assert done.status == 0
    assert "-o karaoke.xyz: is taken for a folder" in done.stderr
    assert "taken for" not in separate("s.wav", "--stems", "vocals", "-o", "a.xyz/").stderr

"""What users of separators trip over, one test each, through the real command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from splitter.audio import Block
from splitter.loading import read_tensors, write_tensors
from tests import sounds
from tests.commands import Done, call, files_below
from tests.sounds import read

STEMS = ("vocals", "instrumental")
LSB = 1 / 32768  # of 16 bits


def check_stems(song: Path, folder: Path | None = None, tolerance: float = LSB) -> list[Block]:
    """The stems have all that the song has, and sum to it."""
    folder = folder or song.parent / song.stem
    stems = [read(folder / f"{stem}.wav") for stem in STEMS]
    for name in STEMS:
        assert soundfile.info(folder / f"{name}.wav").samplerate == soundfile.info(song).samplerate
    assert stems[0].shape == stems[1].shape == read(song).shape
    assert np.abs(sum(stems) - read(song)).max(initial=0) <= tolerance
    return stems


def test_a_silent_song_has_silent_stems(separate: Callable[..., Done], tmp_path: Path) -> None:
    song = sounds.write(tmp_path / "song.wav", np.zeros((2, 50000), np.float32))
    done = separate(song, "--json", "--clip", "rescale")
    assert done.status == 0, done.stderr
    assert not any(stem.any() for stem in check_stems(song))
    assert {stem["peak"] for stem in json.loads(done.stdout)["stems"].values()} == {0.0}


def test_a_stem_may_be_silent(small_model_folder: Path, tmp_path: Path) -> None:
    deaf = shutil.copytree(small_model_folder, tmp_path / "deaf")
    tensors = read_tensors(deaf / "weights.safetensors")
    tensors["unet.head.bias"] = torch.full_like(tensors["unet.head.bias"], -1e4)  # a mask of zeros
    write_tensors(deaf / "weights.safetensors", tensors)
    song = sounds.write(tmp_path / "song.wav", sounds.song(1))
    done = call("separate", "song.wav", "--model", deaf, folder=tmp_path)
    assert done.status == 0, done.stderr
    vocals, instrumental = check_stems(song)
    assert not vocals.any() and np.array_equal(instrumental, read(song))


@pytest.mark.parametrize("samples", [0, 1, 63, 65, 44100 + 7])  # around a hop of 64
def test_a_song_of_any_length_keeps_it(
    separate: Callable[..., Done], tmp_path: Path, samples: int
) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.noise(samples))
    done = separate(song)
    assert done.status == 0, done.stderr
    check_stems(song)


@pytest.mark.parametrize("rate", [8000, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_rate_and_channels_are_given_back(
    separate: Callable[..., Done], tmp_path: Path, rate: int, channels: int
) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.noise(rate // 2, channels), rate)
    done = separate(song)
    assert done.status == 0, done.stderr
    check_stems(song)


@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT"])
def test_depth_is_given_back(separate: Callable[..., Done], tmp_path: Path, subtype: str) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.song(1), subtype=subtype)
    done = separate(song)
    assert done.status == 0, done.stderr
    check_stems(song, tolerance=0 if subtype == "PCM_24" else 1e-7)  # float32 at ±1
    assert {soundfile.info(path).subtype for path in (tmp_path / "song").iterdir()} == {subtype}


def test_a_suffix_in_capitals_or_of_another_format_does_not_matter(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "LOUD.MP3", sounds.song(1).T, 44100, format="MP3")
    soundfile.write(tmp_path / "liar.wav", sounds.song(1).T, 44100, format="OGG")
    done = separate("LOUD.MP3", "liar.wav")
    assert done.status == 0, done.stderr
    assert len(files_below(tmp_path / "LOUD")) == len(files_below(tmp_path / "liar")) == 2


def test_a_cover_among_the_songs_is_told_and_left_out(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(1))
    (tmp_path / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(5000))
    done = separate("cover.jpg", "song.wav")
    assert done.status == 0
    assert [line for line in done.complaints if "cover.jpg" in line] == done.complaints
    check_stems(tmp_path / "song.wav")


def test_a_missing_file_among_good_ones_is_told(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    for name in ("a.wav", "c.wav"):
        sounds.write(tmp_path / name, sounds.song(1))
    done = separate("a.wav", "b.wav", "c.wav")
    assert done.status == 1
    assert done.complaints == ["splitter: b.wav: cannot be opened (No such file or directory)"]
    check_stems(tmp_path / "a.wav")
    check_stems(tmp_path / "c.wav")


def test_two_songs_of_one_name_are_kept_apart(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    for name in ("A/song.wav", "B/song.wav"):
        sounds.write(tmp_path / name, sounds.song(0.5))
    songs = ("A/song.wav", "B/song.wav")
    done = separate(*songs, "-o", "apart", "--stems", "vocals")
    assert done.status == 0
    assert all(song in done.stderr for song in songs)
    written = sorted(done.stdout.splitlines())  # two songs are done at a time
    assert written == [f"apart/song ({name})/vocals.wav" for name in "AB"]
    done = separate(*songs, "-o", "out", "--template", "{parent}/{name} {stem}.{ext}")
    assert done.status == 0, done.stderr
    names = [str(path.relative_to(tmp_path / "out")) for path in files_below(tmp_path / "out")]
    assert names == [
        f"{parent}/song {stem}.wav" for parent in "AB" for stem in ("instrumental", "vocals")
    ]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("disks cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_too_small_is_told_before_computing(
    separate: Callable[..., Done], tmp_path: Path, small_disk: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.noise(44100 * 10))
    done = separate("song.wav", "-o", small_disk)
    assert done.status == 1
    (complaint,) = done.complaints
    assert "too full" in complaint and "choose another folder" in complaint
    assert not files_below(small_disk)


def test_a_disk_that_fills_up_leaves_nothing_half_written(
    separate: Callable[..., Done], tmp_path: Path, small_disk: Path
) -> None:
    # from a pipe, whose length nobody knows beforehand
    samples = np.asarray(32768 * sounds.noise(44100 * 10), np.int16).T
    done = separate("-", "--raw", "44100:2:s16le", "-o", small_disk, stdin=samples.tobytes())
    assert done.status == 1
    (complaint,) = done.complaints
    assert "No space left on device" in complaint
    assert not files_below(small_disk)


def test_a_disk_that_cannot_be_written_is_told(
    separate: Callable[..., Done], tmp_path: Path, small_disk: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(0.5))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = separate("song.wav", "-o", small_disk)
    assert done.status == 1
    (complaint,) = done.complaints
    assert str(small_disk) in complaint


def test_a_file_where_the_folder_should_be_is_no_hindrance(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "song", sounds.song(0.5).T, 44100, format="WAV")
    done = separate("song")
    assert done.status == 0
    assert sorted(path.name for path in (tmp_path / "song stems").iterdir()) == [
        "instrumental.wav",
        "vocals.wav",
    ]
    (tmp_path / "song").rename(tmp_path / "song.wav")
    (tmp_path / "song").touch()
    done = separate("song.wav")
    assert done.status == 0
    assert "song.wav: cannot become song/vocals.wav, as song is a file" in done.stderr
    assert (tmp_path / "song").is_file()
    assert (tmp_path / f"song ({tmp_path.name})" / "vocals.wav").is_file()


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be there")
@pytest.mark.parametrize(
    "name",
    [
        " two  blanks ",
        "new\nline",
        "🎵 é 音",
        "-q",
        "{stem}",
        "%s",
        "a" * 251,
        os.fsdecode(b"latin \xe9"),
        ".hidden",
    ],
)
def test_any_name_is_a_name(separate: Callable[..., Done], tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / "song.wav", sounds.song(0.2).T, 44100)
    song = (tmp_path / "song.wav").rename(tmp_path / f"{name}.wav")
    done = separate("--", song.name)
    assert done.status == 0, done.stderr
    fitted = name.replace("\n", "_")  # a script reads names by lines
    assert files_below(tmp_path / fitted) == [
        tmp_path / fitted / f"{stem}.wav" for stem in sorted(STEMS)
    ]
    assert done.stdout == "".join(f"{fitted}/{stem}.wav\n" for stem in STEMS)


def test_a_song_that_breaks_off_is_an_error_or_kept_on_request(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "whole.mp3", sounds.song(4).T, 44100)
    whole = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "song.mp3").write_bytes(whole[: len(whole) // 2])
    done = separate("song.mp3")
    assert done.status == 1
    (complaint,) = done.complaints
    assert "breaks off after" in complaint and "--keep-partial" in complaint
    assert not (tmp_path / "song" / "vocals.wav").exists()
    done = separate("song.mp3", "--keep-partial", "--json")
    assert done.status == 0, done.stderr
    record = json.loads(done.stdout)
    assert "breaks off" in record["damage"]
    assert 1.5 < record["seconds"] < 2.5
    assert soundfile.info(tmp_path / "song" / "vocals.wav").frames == record["samples"]


def test_a_text_called_song_mp3_is_told(separate: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "song.mp3").write_text("this is a letter\n" * 500)
    done = separate("song.mp3")
    assert done.status == 1
    assert done.complaints == ["splitter: song.mp3: not an audio file, or its format is unknown"]
    assert not (tmp_path / "song").exists()


def test_an_empty_file_is_told(separate: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "song.flac").touch()
    done = separate("song.flac")
    assert done.status == 1
    assert done.complaints == ["splitter: song.flac: is empty, 0 bytes; copy or download it anew"]


def test_samples_that_are_no_numbers_are_told_or_silenced_on_request(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    signal = sounds.song(1)
    signal[1, 1000] = np.nan
    sounds.write(tmp_path / "song.wav", signal, subtype="FLOAT")
    done = separate("song.wav")
    assert done.status == 1
    (complaint,) = done.complaints
    assert "sample 1000 is not a number" in complaint
    assert separate("song.wav", "--keep-partial").status == 0
    signal[1, 1000] = 0
    stems = [read(tmp_path / "song" / f"{stem}.wav") for stem in STEMS]
    assert np.abs(sum(stems) - signal).max() <= 1e-7  # float32 at ±1

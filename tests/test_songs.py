from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from splitter.audio import open_song
from splitter.errors import AudioError
from splitter.loading import Model
from splitter.songs import Output, separate_file
from tests import sounds


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float64", always_2d=True)[0].T


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "opus"])
def test_stems_have_the_songs_length_and_sum_to_it(
    small_model: Model, tmp_path: Path, suffix: str
) -> None:
    rate = 48000 if suffix == "opus" else 44100
    form = {"opus": ("OGG", "OPUS"), "ogg": ("OGG", "VORBIS"), "mp3": ("MP3", None)}
    container, subtype = form.get(suffix, (suffix.upper(), "PCM_16"))
    song = tmp_path / f"song.{suffix}"
    soundfile.write(song, sounds.song(2, rate).T, rate, format=container, subtype=subtype)
    with open_song(song) as reader:
        decoded = np.concatenate(list(reader.read_blocks()), axis=-1)
    done = separate_file(song, Output(tmp_path / "out"), small_model)
    vocals, instrumental = (read(done.stems[name]) for name in ("vocals", "instrumental"))
    assert vocals.shape == instrumental.shape == decoded.shape
    assert np.abs(vocals + instrumental - decoded).max() <= 1 / 32768  # 1 LSB of 16 bits


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_the_songs_own_depth_is_given_back(
    small_model: Model, tmp_path: Path, subtype: str
) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.song(1), subtype=subtype)
    done = separate_file(song, Output(tmp_path / "out"), small_model)
    assert {soundfile.info(path).subtype for path in done.stems.values()} == {subtype}


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_integer_stems_sum_to_an_integer_song_bit_for_bit(
    small_model: Model, tmp_path: Path, subtype: str
) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.song(1, 48000), 48000, subtype)
    done = separate_file(song, Output(tmp_path / "out"), small_model)
    total = read(done.stems["vocals"]) + read(done.stems["instrumental"])
    assert np.array_equal(total, read(song))


def test_only_the_stems_asked_for_are_written(small_model: Model, tmp_path: Path) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.song(1))
    done = separate_file(song, Output(tmp_path / "out", ("instrumental",)), small_model)
    assert files_below(tmp_path / "out") == [done.stems["instrumental"]]


def test_a_song_that_cannot_be_read_leaves_nothing(small_model: Model, tmp_path: Path) -> None:
    song = tmp_path / "song.mp3"
    song.write_text("this is a letter, not a song\n" * 100)
    with pytest.raises(AudioError, match=r"song\.mp3"):
        separate_file(song, Output(tmp_path / "out"), small_model)
    assert not files_below(tmp_path / "out")


def test_a_stem_has_its_name_only_when_it_is_whole(small_model: Model, tmp_path: Path) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.song(2))
    seen = []

    def look(*_: object) -> None:
        seen.append({path.name for path in files_below(tmp_path / "out")})

    done = separate_file(song, Output(tmp_path / "out"), small_model, progress=look)
    names = {path.name for path in done.stems.values()}
    assert seen
    assert not any(names & moment for moment in seen)
    assert {path.name for path in files_below(tmp_path / "out")} == names


def test_an_error_in_the_middle_leaves_nothing(small_model: Model, tmp_path: Path) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.song(2))

    def fail(*_: object) -> None:
        raise RuntimeError("the middle")

    with pytest.raises(RuntimeError, match="the middle"):
        separate_file(song, Output(tmp_path / "out"), small_model, progress=fail)
    assert not files_below(tmp_path / "out")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_killed_run_leaves_no_stem_under_its_name(
    small_model_folder: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.noise(44100 * 600))
    command = [sys.executable, "-m", "splitter", "separate", "song.wav", "-o", "out"]
    command += ["--model", str(small_model_folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a shell starts what it sends into the background deaf to Ctrl-C; the tests may run there
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while process.poll() is None and not files_below(tmp_path / "out"):
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert not output
    left = files_below(tmp_path / "out")
    assert all(path.name.startswith(".") for path in left)
    assert number == signal.SIGKILL or not left

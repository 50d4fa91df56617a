"""What is no song, or fails while it is read, is one clear complaint."""

from __future__ import annotations

import errno
import gzip
import io
import tracemalloc
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from splitter.audio import Reading, open_song, sources
from splitter.errors import AudioError
from tests.codecs import (
    RATE,
    Pipe,
    chirps,
    make,
    read,
)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"These are the lines of a song, la la la.\n" * 200,
        b"\x89PNG\r\n\x1a\n" + bytes(1000),
        b"ID3\x04\x00\x00\x00\x00\x00\x00" + b"text" * 500,
        b"RIFF\x24\x00\x00\x00WAVE",
        b"OggS" + bytes(200),
        b"fLaC" + bytes(100),
        bytes(100_000),
    ],
)
def test_what_is_no_song_is_told_in_one_line(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"song\.mp3: .*") as raised:
        read(path)
    assert "\n" not in str(raised.value)
    with pytest.raises(AudioError):
        read(Pipe(content))
    assert capfd.readouterr() == ("", "")  # no library talks to the terminal


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="No such file"):
        open_song(tmp_path / "nothing.wav")
    with pytest.raises(AudioError, match="cannot be opened"):
        open_song(tmp_path)


def test_a_playlist_opens_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    song = make(tmp_path / "song", "wav", chirps())
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "playlist.mp3"
    for playlist in (
        f"ffconcat version 1.0\nfile {song.name}\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{song.name}\n#EXT-X-ENDLIST\n",
    ):
        path.write_text(playlist)
        with pytest.raises(AudioError):
            read(path)


@pytest.mark.parametrize(("rate", "channels"), [(44100, 255), (4_000_000, 2), (2**32 - 1, 2)])
def test_absurd_announcements_allocate_nothing(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "song.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(bytes(2 * channels * 100))
    data = bytearray(path.read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    data[40:44] = (0xFFFF_0000).to_bytes(4, "little")  # four gigabytes stated
    file = io.BytesIO(bytes(data))
    tracemalloc.start()
    with pytest.raises(AudioError):
        read(file)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 50_000_000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_told_or_silenced(tmp_path: Path, value: float) -> None:
    signal = chirps()
    signal[1, 77_777] = value
    path = tmp_path / "song.wav"
    soundfile.write(path, signal.T, RATE, "FLOAT")
    with pytest.raises(AudioError, match="sample 77777 is not a number"):
        read(path)
    with open_song(path, Reading(keep_partial=True)) as song:
        decoded = np.concatenate(list(song.read_blocks()), axis=1)
    assert song.damage is not None
    assert decoded[1, 77_777] == 0
    assert np.array_equal(np.delete(decoded, 77_777, 1), np.delete(signal, 77_777, 1))


class Failing(Pipe):
    """A pipe that fails when half has come."""

    def __init__(self, data: bytes, error: BaseException) -> None:
        super().__init__(data, step=4096)
        self._half = len(data) // 2
        self._failure = error

    def read(self, size: int = -1) -> bytes:
        if self.taken > self._half:
            raise self._failure
        return super().read(size)


@pytest.mark.parametrize("suffix", ["wav", "mp3", "flac", "ogg"])
def test_ctrl_c_within_a_read_is_not_lost(tmp_path: Path, suffix: str) -> None:
    song = make(tmp_path / "song", suffix, chirps())
    with pytest.raises(KeyboardInterrupt):
        read(Failing(song.read_bytes(), KeyboardInterrupt()))


@pytest.mark.parametrize("suffix", ["wav", "mp3", "flac", "ogg"])
def test_an_input_that_fails_is_told(tmp_path: Path, suffix: str) -> None:
    song = make(tmp_path / "song", suffix, chirps())
    failing = Failing(song.read_bytes(), OSError(errno.EIO, "Input/output error"))
    with pytest.raises(AudioError, match="stream: cannot be read"):
        read(failing)


def test_a_song_is_not_taken_for_empty_because_its_header_says_so(tmp_path: Path) -> None:
    path = tmp_path / "song.au"
    soundfile.write(path, chirps(20_000).T, RATE)
    data = bytearray(path.read_bytes())
    data[8:12] = (-16_724_296).to_bytes(4, "big", signed=True)  # the size of the sound
    path.write_bytes(data)
    with pytest.raises(AudioError, match="says that it is empty, but it is not"):
        read(path)


@pytest.mark.parametrize("samples", [0, 3000, 50_000])
@pytest.mark.parametrize("suffix", ["au", "rf64"])
def test_a_size_of_zero_that_was_never_filled_in_is_read_to_the_end(
    tmp_path: Path, suffix: str, samples: int
) -> None:
    path = tmp_path / "song"
    signal = chirps(samples)
    container = {"au": "AU", "rf64": "RF64"}[suffix]
    soundfile.write(path, signal.T, RATE, "PCM_16", format=container)
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
    data = bytearray(path.read_bytes())
    sizes = slice(8, 12) if suffix == "au" else slice(20, 44)
    data[sizes] = bytes(sizes.stop - sizes.start)
    path.write_bytes(data)
    np.testing.assert_array_equal(read(path), expected.T)


@pytest.mark.parametrize("rate", [1, 8])
def test_a_rate_of_a_few_hertz_is_refused(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "song.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, rate, 0, "NONE", ""))
        file.writeframes(bytes(260_000))
    with pytest.raises(AudioError, match=f"states {rate} Hz and 2 channels; songs have 8000 to"):
        read(path)


@pytest.mark.parametrize("form", ["RF64", "FLAC", "AIFF"])
def test_a_header_that_promises_more_than_the_file_holds_is_told_before_the_disk_is_asked(
    tmp_path: Path, form: str
) -> None:
    path = tmp_path / "song"
    soundfile.write(path, chirps(20_000).T, RATE, "PCM_16", format=form)
    data = bytearray(path.read_bytes())
    if form == "RF64":
        data[28:36] = (1 << 45).to_bytes(8, "little")
    elif form == "AIFF":
        place = data.index(b"COMM") + 10
        data[place : place + 4] = (2**31 - 1).to_bytes(4, "big")
    else:
        data[21] |= 0x0F  # 36 bits of samples
        data[22] = 0xFF
    path.write_bytes(data)
    with pytest.raises(AudioError, match=r"song: its header promises [\d.]+ hours of sound, more"):
        read(path)
    first = Reading(duration=0.1)
    assert read(path, first).shape[1] == RATE // 10


def test_a_promise_of_seconds_is_told_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, np.zeros(12 * RATE), RATE)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(AudioError, match=r"its header promises 12\.0 s of sound, more"):
        read(path)


class Counting(io.BytesIO):
    """Counts how often it is read."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


EMPTY_PARTS = {
    "wav": b"RIFF\xff\xff\xff\x7fWAVE" + b"junk\0\0\0\0" * 500_000,
    "aiff": b"FORM\x7f\xff\xff\xffAIFF" + b"ANNO\0\0\0\0" * 500_000,
    "mp4": b"\0\0\0\x0cftypM4A " + b"\0\0\0\x08free" * 500_000,
    "index of an mp4": b"\0\x3d\x09\x08moov" + b"\0\0\0\x08free" * 500_000,
    "flac": b"fLaC\0\0\0\x22" + bytes(34) + b"\1\0\0\0" * 500_000,
}


@pytest.mark.parametrize("kind", EMPTY_PARTS)
def test_the_search_for_sound_among_empty_parts_is_bounded(kind: str) -> None:
    file = Counting(EMPTY_PARTS[kind])
    with pytest.raises(AudioError, match="has thousands of empty parts before its sound"):
        read(file)
    assert file.reads < 10_100


class Endless(Pipe):
    """Empty parts for ever, and more of them than are asked for."""

    given = 0  # bytes

    def read(self, size: int = -1) -> bytes:
        data = super().read(size) or b"\0\0\0\x08free" * 8192
        self.given += len(data)
        return data


@pytest.mark.parametrize("kind", EMPTY_PARTS)
def test_a_pipe_is_not_searched_for_ever(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_REMEMBERED", 1 << 21)
    pipe = Endless(EMPTY_PARTS[kind][:4096])
    with pytest.raises(AudioError):
        read(pipe)
    assert pipe.given < 3 << 20


def test_a_pipe_that_promises_days_is_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "song"
    soundfile.write(path, chirps(20_000).T, RATE, "PCM_16", format="FLAC")
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([data[21] | 0x0F, *(255,) * 4])  # 36 bits of samples
    with open_song(Pipe(bytes(data))) as song:
        assert song.samples is None  # so that the disk is not asked for room
        assert sum(block.shape[1] for block in song.read_blocks()) == 20_000
    assert "was cut from a longer song: 0.45 of 1558" in caplog.text


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("song.wav", bytes(1000))
    return file.getvalue()


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xef\xbb\xbf#EXTM3U\n#EXTINF:3,Song\nsong.mp3\n", "list of songs"),
        (b"[playlist]\nFile1=song.mp3\nNumberOfEntries=1\n", "list of songs"),
        (b'REM DATE 1999\r\nFILE "song.flac" WAVE\r\n  TRACK 01 AUDIO\r\n', "cue sheet"),
        (b"\n<!DOCTYPE HTML>\n<html><title>404</title></html>\n", "web page"),
        (zipped(), "archive"),
        (gzip.compress(bytes(1000)), "archive"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0", "notes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
    ],
)
def test_what_is_given_for_a_song_is_called_what_it_is(
    content: bytes, told: str, piped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=told):
        read(Pipe(content) if piped else path)

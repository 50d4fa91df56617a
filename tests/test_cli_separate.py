"""The options of `splitter separate`, through the real command."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import mutagen
import numpy as np
import pytest
import soundfile

from splitter.audio import Block, OutputFormat, open_song, resample_signal
from splitter.cli.clipping import AUDIBLE, Clipping
from splitter.cli.parameters import parse_bitrate
from splitter.cli.records import _EMPTY
from splitter.songs import Separated
from tests import sounds
from tests.commands import ENVIRONMENT, Done, call, files_below, start
from tests.sounds import noise, read

STEMS = ("vocals", "instrumental")
LSB = 1 / 32768  # of 16 bits


def read_stems(folder: Path) -> list[Block]:
    return [read(folder / f"{stem}.wav") for stem in STEMS]


def write_loud(path: Path) -> Block:
    """Write a song whose stems cannot but clip: floats beyond full scale."""
    signal = np.asarray(4 * sounds.song(2), np.float32)  # peaks at +6 dB
    sounds.write(path, signal, subtype="FLOAT")
    return signal


def test_a_part_of_a_song_is_cut_to_the_sample(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.song(3))
    done = separate(song.name, "--start", "0:01", "--duration", "1.5")
    assert done.status == 0, done.stderr
    assert np.array_equal(sum(read_stems(tmp_path / "song")), read(song)[:, 44100:110250])


def test_only_the_stem_asked_for_is_written(separate: Callable[..., Done], tmp_path: Path) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(1))
    done = separate("song.wav", "--stems", "instrumental", "--template", "{name} {stem}.{ext}")
    assert done.status == 0, done.stderr
    assert done.stdout == "song instrumental.wav\n"
    assert not (tmp_path / "song vocals.wav").exists()


def test_what_would_clip_is_cut_off_and_told_with_its_peak(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    write_loud(tmp_path / "song.wav")
    done = separate("song.wav", "--bits", 16, "--json")
    assert done.status == 0
    stems = json.loads(done.stdout)["stems"]
    loud = {name: stem for name, stem in stems.items() if stem["clipped"]}
    assert loud and all(stem["peak"] > 1 for stem in loud.values())
    for name, stem in loud.items():
        assert f"{stem['clipped']} samples of {name}" in done.stderr
    excess = 20 * math.log10(max(stem["peak"] for stem in stems.values()))
    assert f"by up to {excess:.1f} dB; --clip rescale or --clip float avoids it" in done.stderr


def test_rescaling_keeps_the_proportions_of_the_stems(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    signal = write_loud(tmp_path / "song.wav")
    done = separate("song.wav", "--bits", 16, "--clip", "rescale", "--json", "--no-dither")
    record = json.loads(done.stdout)
    assert 0 < record["gain"] < 1 and not any(s["clipped"] for s in record["stems"].values())
    error = sum(read_stems(tmp_path / "song")) - record["gain"] * signal
    assert np.abs(error).max() <= 1.01 * LSB  # each stem is rounded, by half a step


def test_floats_are_written_where_integers_would_clip(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    signal = write_loud(tmp_path / "song.wav")
    done = separate("song.wav", "--bits", 16, "--clip", "float", "--json")
    assert json.loads(done.stdout)["bits"] == 32
    assert np.abs(sum(read_stems(tmp_path / "song")) - signal).max() <= 5e-7  # float32 at ±2


def test_noise_is_added_only_where_bits_are_reduced(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    song = sounds.write(tmp_path / "song.wav", 0.1 * sounds.song(1), subtype="PCM_24")
    for folder, more in (("with", ()), ("without", ("--no-dither",))):
        assert separate(song.name, "-o", folder, "--bits", 16, *more).status == 0
        error = sum(read_stems(tmp_path / folder / "song")) - read(song)
        assert np.abs(error).max() <= 1.01 * LSB  # the noise of one stem is the other's negated
    with_noise, without = (read_stems(tmp_path / name / "song")[0] for name in ("with", "without"))
    assert 0.3 * LSB < np.std(with_noise - without) < LSB  # of TPDF noise: 0.41 steps, and rounding


def test_files_that_are_there_are_kept_skipped_or_replaced(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(0.5))
    vocals = tmp_path / "song" / "vocals.wav"
    vocals.parent.mkdir()
    vocals.write_text("precious")
    done = separate("song.wav")
    assert done.status == 1
    assert "vocals.wav: exists already; --overwrite replaces it" in done.stderr
    assert vocals.read_text() == "precious" and len(files_below(vocals.parent)) == 1
    done = separate("song.wav", "--skip-existing")  # one is missing, and the other is not ours
    assert done.status == 1 and vocals.read_text() == "precious"
    (vocals.parent / "instrumental.wav").write_text("precious, too")
    done = separate("song.wav", "--skip-existing", "--json")
    assert done.status == 0 and json.loads(done.stdout)["skipped"]
    assert vocals.read_text() == "precious"
    assert separate("song.wav", "--overwrite").status == 0
    assert soundfile.info(vocals).frames == 22050


def test_a_song_is_never_replaced_by_its_stem(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.song(0.5))
    before = song.read_bytes()
    more = ("--overwrite", "--stems", "vocals", "--template", "{name}.{ext}")
    assert separate("song.wav", *more).status == 2
    (tmp_path / "link.wav").symlink_to(song)
    assert separate("link.wav", "--stems", "vocals", "--template", "song.{ext}").status == 1
    assert song.read_bytes() == before


def test_a_template_may_use_what_the_song_calls_itself(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    sounds.write(tmp_path / "x.flac", sounds.song(0.5))
    tags = mutagen.File(tmp_path / "x.flac")
    tags.update({"artist": "AC/DC", "title": "..", "replaygain_track_gain": "-9 dB"})
    tags.save()
    template = "{artist}/{title} [{model}] {stem}.{ext}"
    done = separate("x.flac", "--template", template, "--format", "flac")
    assert done.status == 0, done.stderr
    vocals = tmp_path / "AC_DC" / "__ [small] vocals.flac"
    assert vocals in files_below(tmp_path)
    tags = dict(mutagen.File(vocals).tags)
    assert tags.pop("splitter")
    assert tags == {"title": [".. (vocals)"], "artist": ["AC/DC"]}
    assert separate("x.flac", "--format", "flac", "--no-tags").status == 0
    assert dict(mutagen.File(tmp_path / "x" / "vocals.flac").tags).keys() == {"splitter"}


def test_every_song_has_one_json_object_with_the_same_keys(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(1))
    done = separate("song.wav", "gone.wav", "--json", "--progress", "json")
    records = {json.loads(line)["song"]: json.loads(line) for line in done.stdout.splitlines()}
    good, bad = records["song.wav"], records["gone.wav"]
    assert done.status == 1
    assert good.keys() == bad.keys() == _EMPTY.keys()
    assert good["schema"] == bad["schema"] == 1
    assert good["error"] is None and "gone.wav" in bad["error"]
    assert (good["rate"], good["channels"], good["samples"], good["bits"]) == (44100, 2, 44100, 16)
    assert good["stems"]["vocals"]["path"] == str(Path("song", "vocals.wav"))
    assert len(good["model"]["hash"]) == 16
    progress = [line for line in done.complaints if line.startswith("{")]
    assert json.loads(progress[-1]) == {"song": "song.wav", "done": 1.0, "total": 1.0}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("song.wav", "--format", "mp3", "--bits", "24"), "mp3: has no bit depth"),
        (("song.wav", "--bitrate", "192k"), "wav: has no bitrate"),
        (("song.wav", "--format", "mp3", "--bitrate", "loud"), "not a bitrate"),
        (("song.wav", "--format", "flac", "--clip", "float"), "flac: cannot hold floats"),
        (("song.wav", "--raw", "44100"), "not RATE:CHANNELS:FORMAT"),
        (("song.wav", "--template", "{name}.{ext}"), "gives all stems one name; add {stem}"),
        (("song.wav", "--template", "{song}/{stem}"), "there is no field {song}"),
        (("song.wav", "--template", "{stem!r}"), "write a field as {stem}"),
        (("song.wav", "--template", "{stem"), "is not a template"),
        (("song.wav", "--start", "soon"), "not a time"),
        (("song.wav", "--duration", "0"), "leaves nothing"),
        (("song.wav", "-o", "-"), "writes one stem; add --stems vocals"),
        (("song.wav", "b.wav", "-o", "-", "--stems", "vocals"), "takes one song"),
        (("song.wav", "-o", "-", "--stems", "vocals", "--json"), "both write to standard output"),
        (
            ("song.wav", "-o", "-", "--stems", "vocals", "--skip-existing"),
            "no files to skip",
        ),
        (("song.wav", "-o", "-", "--stems", "vocals", "--engine", "ray"), "a song on this machine"),
        ((".", "-o", "-", "--stems", "vocals"), "takes one song"),
        (("--files0-from", "song.wav", "-o", "-", "--stems", "vocals"), "takes one song"),
        (("song.wav", "-"), "reads one song"),
        (("song.wav", "--overwrite", "--skip-existing"), "exclude each other"),
        (("song.wav", "-o", "x.wav"), "one file cannot hold 2 stems; add --stems vocals"),
        (
            ("song.wav", "-o", "x.wav", "--stems", "vocals", "--template", "{name}.{ext}"),
            "leave out --template",
        ),
        (("song.wav", "b.wav", "-o", "x.wav", "--stems", "vocals"), "the stems of many songs"),
        ((".", "-o", "x.wav", "--stems", "vocals"), "or write x.wav/ for a folder"),
        (("song.wav", "-o", "x.wma", "--stems", "vocals"), "cannot write wma; choose from wav"),
        (("song.wav", "-o", "x.mp4", "--stems", "vocals"), "cannot write mp4; choose from wav"),
        (("song.wav", "-o", "x.wav", "--stems", "vocals", "-f", "mp3"), "write -o x.mp3"),
        (("song.wav", "--template", "../{stem}.{ext}"), "leads out of the output folder"),
        (
            ("https://example.org/a.mp3",),
            "curl -sL https://example.org/a.mp3 | splitter separate -",
        ),
        (("ftp://example.org/a.mp3",), "cannot be opened; download it"),
        (("zip://a.mp3::x.zip",), "cannot be opened; download it"),
        (("reference://x",), "cannot be opened; download it"),
        ((".", "-"), "reads one song"),
        (("-", "-o", "memory://stems"), "on this machine"),
        (("song.wav", "--address", "localhost:6379"), "add --engine ray"),
        (
            ("song.wav", "-o", "-", "--stems", "vocals", "--clip", "rescale"),
            "must know the whole",
        ),
    ],
)
def test_what_contradicts_itself_is_a_usage_error(
    separate: Callable[..., Done], tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(0.1))
    done = separate(*arguments)
    assert done.status == 2
    assert complaint in done.stderr
    assert not done.sound and len(files_below(tmp_path)) == 1


@pytest.mark.parametrize(
    ("stems", "understood"),
    [
        ("vocals, Instrumental", ["vocals", "instrumental"]),
        ("accompaniment", ["instrumental"]),
        ("karaoke,no_vocals", ["instrumental"]),
        ("Acapella", ["vocals"]),
        ("vocal", ["vocals"]),
        ("instrumental,vocals", ["instrumental", "vocals"]),
    ],
)
def test_stems_are_understood_by_other_names(
    separate: Callable[..., Done], tmp_path: Path, stems: str, understood: list[str]
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(0.1))
    done = separate("song.wav", "--stems", stems, "-n", "--json")
    assert list(json.loads(done.stdout)["stems"]) == understood


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ("other", "this model has no stem 'other'; did you mean instrumental?"),
        ("vocls", "did you mean vocals?"),
        ("drums", "this model has no stem 'drums'; it has vocals, instrumental"),
    ],
)
def test_stems_that_are_not_there_are_answered_with_those_that_are(
    separate: Callable[..., Done], tmp_path: Path, given: str, answer: str
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(0.1))
    done = separate("song.wav", "--stems", given)
    assert done.status == 2
    assert answer in done.stderr


@pytest.mark.parametrize(
    ("more", "fact", "value"),
    [
        (("--format", "FLAC"), "format", "flac"),
        (("-f", "Mp3", "--bitrate", "192"), "format", "mp3"),
        (("-f", "ogg", "--bitrate", "192K"), "format", "ogg"),
        (("--bits", "32f"), "bits", 32),
        (("--bits", "24bit"), "bits", 24),
    ],
)
def test_values_are_taken_as_people_write_them(
    separate: Callable[..., Done], tmp_path: Path, more: tuple[str, ...], fact: str, value: object
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(0.1))
    done = separate("song.wav", "--json", *more)
    assert done.status == 0, done.stderr
    assert json.loads(done.stdout)[fact] == value


@pytest.mark.parametrize(
    ("written", "rate"),
    [("192", 192_000), ("192k", 192_000), ("96 kbps", 96_000), ("128000", 128_000)],
)
def test_a_bitrate_is_in_thousands_or_not(
    separate: Callable[..., Done], tmp_path: Path, written: str, rate: int
) -> None:
    assert parse_bitrate(written) == rate
    sounds.write(tmp_path / "song.wav", noise(88200))
    assert separate("song.wav", "-f", "mp3", "--bitrate", written).status == 0
    size = (tmp_path / "song/vocals.mp3").stat().st_size
    assert 0.9 < size / (2 * rate / 8) < 1.3


def test_stems_are_of_the_rate_and_the_channels_asked_for(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.song(1))
    done = separate(song.name, "--rate", 16000, "--mono", "--bits", "32f")
    assert done.status == 0, done.stderr
    for stem in STEMS:
        known = soundfile.info(tmp_path / f"song/{stem}.wav")
        assert (known.samplerate, known.channels, known.frames) == (16000, 1, 16000)
    mean = read(song).mean(axis=0)
    stems = [read(path)[0] for path in sorted((tmp_path / "song").iterdir())]
    expected = resample_signal(mean[None], 44100, 16000)[0]
    error = sum(stems)[100:-100] - expected[100:-100]
    assert np.linalg.norm(error) < 1e-3 * np.linalg.norm(expected)


def test_excerpts_of_a_folder_are_not_taken_for_its_songs(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        sounds.write(tmp_path / f"songs/{name}.wav", sounds.song(2))
    for more, samples in ((("--duration", 1), 44100), ((), 88200), (("--start", 1.5), 22050)):
        done = separate("songs", "-o", "stems", *more)
        assert done.status == 0, done.stderr
        for name in ("a", "b"):
            assert soundfile.info(tmp_path / f"stems/{name}/vocals.wav").frames == samples
        assert "2 songs" in separate("songs", "-o", "stems", *more).stderr  # done already


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("--overlap", "0.25"), ("--overlap", "0.5")),
        (("--rate", "16000"), ("--rate", "8000")),
    ],
)
def test_a_folder_is_separated_anew_by_other_settings(
    separate: Callable[..., Done], tmp_path: Path, first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    sounds.write(tmp_path / "songs/a.wav", sounds.song(0.5))
    stem, made = tmp_path / "stems/a/vocals.wav", []
    for options in (first, first, second):
        assert separate("songs", "-o", "stems", *options).status == 0
        made.append(stem.stat().st_mtime_ns)
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize("name", ["my vocals.wav", "below/{x}.FLAC", "v.mp3"])
def test_one_stem_of_one_song_may_go_to_a_file(
    separate: Callable[..., Done], tmp_path: Path, name: str
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(0.1))
    done = separate("song.wav", "--stems", "vocals", "-o", name)
    assert done.status == 0, done.stderr
    assert done.stdout == f"{name}\n"
    assert soundfile.info(tmp_path / name).format == {".wav": "WAV", ".mp3": "MP3"}.get(
        Path(name).suffix, "FLAC"
    )


def test_a_folder_may_be_called_like_a_file(separate: Callable[..., Done], tmp_path: Path) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(0.1))
    assert separate("song.wav", "-o", "stems.wav/").stdout.startswith("stems.wav/song/vocals.wav")
    assert separate("song.wav", "-o", "stems.wav", "--overwrite").status == 0


def test_a_dry_run_says_what_would_be_written(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(0.1))
    done = separate("song.wav", "--dry-run")
    assert (done.status, done.complaints) == (0, [])
    assert done.stdout.splitlines() == ["song/vocals.wav", "song/instrumental.wav"]
    assert len(files_below(tmp_path)) == 1
    assert separate("song.wav").stdout == done.stdout
    again = separate("song.wav", "-n")
    assert again.status == 1 and "song/vocals.wav: " in again.stderr and not again.sound
    assert separate("song.wav", "-n", "--skip-existing").stdout == ""


@pytest.mark.parametrize("before", [True, False])
def test_v_says_what_is_decided(small_model_folder: Path, tmp_path: Path, before: bool) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(0.1))
    command = ("separate", "song.wav", "-m", small_model_folder)
    done = call(*(("-v", *command) if before else (*command, "-v")), folder=tmp_path)
    assert done.status == 0
    (line,) = [line for line in done.complaints if line.startswith("song.wav: read by FFmpeg")]
    assert "44100 Hz, 2 channels; model small (" in line
    assert ") on cpu, tiles of " in line or ") on the processor, as a stream; " in line
    assert line.endswith("wav, 16 bits: song/vocals.wav, song/instrumental.wav")


def test_paths_are_printed_as_they_are_and_end_in_nul_on_request(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    sounds.write(tmp_path / "a.wav", sounds.song(0.1)).rename(tmp_path / "a\n\x1b[2J.wav")
    done = separate("a\n\x1b[2J.wav", "--stems", "vocals", "-0")
    assert done.sound == b"a__[2J/vocals.wav\0"  # what a stem is called is seen
    assert separate("a\n\x1b[2J.wav", "--null", "--json").status == 2
    folder = tmp_path / "o\nut"
    done = separate("a\n\x1b[2J.wav", "--stems", "vocals", "-0", "-o", folder)
    assert done.sound.decode() == f"{folder}/a__[2J/vocals.wav\0"
    again = separate("a\n\x1b[2J.wav", "--stems", "vocals", "-o", folder)
    assert again.status == 1 and "o\\nut/a__[2J/vocals.wav: exists already" in again.stderr
    assert "\x1b" not in again.stderr and len(again.complaints) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode there")
def test_json_is_strict_under_a_c_locale(small_model_folder: Path, tmp_path: Path) -> None:
    for name in (b"caf\xc3\xa9.wav", b"\xff.wav"):
        sounds.write(tmp_path / "x.wav", sounds.song(0.1))
        (tmp_path / "x.wav").rename(tmp_path / os.fsdecode(name))
    environment = {**ENVIRONMENT, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = ("separate", ".", "--json", "-m", small_model_folder)
    process = start(*command, folder=tmp_path, env=environment)
    output, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints
    songs = [json.loads(line)["song"] for line in output.decode("ascii").splitlines()]
    assert sorted(songs) == ["café.wav", "\ufffd.wav"]
    assert all(song.encode() for song in songs)  # no lone surrogates


def test_clipping_that_nobody_hears_is_not_told(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    signal = sounds.song(1)
    song = np.asarray(signal / np.abs(signal).max(), np.float32)
    plain = separate(sounds.write(tmp_path / "a.wav", song, subtype="FLOAT").name, "--json")
    peak = max(stem["peak"] for stem in json.loads(plain.stdout)["stems"].values())
    (tmp_path / "a/vocals.wav").unlink(), (tmp_path / "a/instrumental.wav").unlink()
    for name, gain in (("a", 1.003 / peak), ("b", 2.0), ("c", 3.0)):
        sounds.write(tmp_path / f"{name}.wav", np.asarray(gain * song, np.float32), subtype="FLOAT")
    done = separate("a.wav", "b.wav", "c.wav", "--bits", 16, "--json")
    peaks = {}
    for record in map(json.loads, done.stdout.splitlines()):
        stems = [stem["peak"] for stem in record["stems"].values() if stem["clipped"]]
        peaks[record["song"]] = 20 * math.log10(max(stems, default=1.0))
    loud = {song for song, peak in peaks.items() if peak >= AUDIBLE}
    assert 0 < peaks["a.wav"] < AUDIBLE
    assert "c.wav" in loud
    (line,) = [line for line in done.complaints if "cut off" in line]
    told = f"cut off samples of {len(loud)} of 3 songs, by up to {peaks['c.wav']:.1f} dB (c.wav)"
    assert told in line


def test_a_peak_just_over_full_scale_is_left_to_the_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def done(peak: float) -> Separated:
        peaks, clipped = {"vocals": peak, "instrumental": 0.5}, {"vocals": 3, "instrumental": 0}
        return Separated(
            *(Path("a.mp3"), {}, 44100, 2, 100, OutputFormat(), peaks, clipped),
            *(1.0, None, "unet", "0", 1.0),
        )

    def tell(songs: list[Separated]) -> None:
        clipping = Clipping()
        for song in songs:
            clipping.add(song)
        clipping.tell()

    tell([done(1.00009)])
    tell([done(1.00009)] * 3)
    assert caplog.text == ""
    tell([done(10 ** (0.3 / 20))])
    assert "a.mp3: cut off 3 samples of vocals, by up to 0.3 dB" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["separate", "--help"], 0),
        (["separate", "song.wav", "--stems", "drums"], 2),
        (["separate", "song.wav", "--template", "../{stem}"], 2),
        (["separate", "a/song.wav", "b/song.wav", "--dry-run"], 0),
        (["separate", "missing.wav"], 1),
        (["separate", "letter.mp3"], 1),
        (["separate", "song.wav", "-o", "letter.mp3/x"], 1),
        (["models"], 0),
    ],
)
def test_what_needs_no_network_needs_no_torch(
    tmp_path: Path, arguments: list[str], status: int
) -> None:
    for name in ("song.wav", "a/song.wav", "b/song.wav"):
        sounds.write(tmp_path / name, sounds.song(0.1))
    (tmp_path / "letter.mp3").write_text("no song")
    code = (
        "import sys, atexit; sys.argv[0] = 'splitter'; from splitter.cli import main\n"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, env=ENVIRONMENT, capture_output=True
    )
    assert done.returncode == status, done.stderr
    assert done.stderr.splitlines()[-1] == b"False"


@pytest.mark.parametrize(
    ("source", "container"),
    [
        *(("flac", container) for container in ("wav", "raw", "flac", "ogg", "opus")),
        *((source, "wav") for source in ("wav", "mp3", "ogg", "raw")),
    ],
)
def test_a_pipe_in_and_a_pipe_out_give_what_files_give(
    separate: Callable[..., Done], tmp_path: Path, source: str, container: str
) -> None:
    # PyTorch's sums do not depend on how much is computed at a time: not a bit differs
    more: tuple[object, ...] = ("--stems", "vocals", "--format", container, "--runtime", "torch")
    if source == "raw":
        (tmp_path / "song.raw").write_bytes(sounds.song(1).T.astype("<f4").tobytes())
        more += ("--raw", "44100:2:f32le")
    else:
        form = {"ogg": "OGG", "mp3": "MP3"}.get(source)
        soundfile.write(tmp_path / f"song.{source}", sounds.song(1).T, 44100, format=form)
    piped = separate("-", "-o", "-", *more, stdin=(tmp_path / f"song.{source}").read_bytes())
    assert piped.status == 0, piped.stderr
    assert separate(f"song.{source}", "-o", "out", *more).status == 0
    written = (tmp_path / "out" / "song" / f"vocals.{container}").read_bytes()
    if container == "raw":
        assert piped.sound == written
        return
    (tmp_path / "piped").write_bytes(piped.sound)
    (tmp_path / "file").write_bytes(written)
    sound, expected = (_decode(tmp_path / name) for name in ("piped", "file"))
    assert sound.shape == expected.shape
    assert np.array_equal(sound, expected)


def test_one_song_may_have_several_devices(separate: Callable[..., Done], tmp_path: Path) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.song(2))
    for folder, devices in (("one", "cpu"), ("two", "cpu,cpu")):
        done = separate("song.wav", "-o", folder, "--device", devices, "--runtime", "torch")
        assert done.status == 0, done.stderr
    one, two = (read_stems(tmp_path / name / "song") for name in ("one", "two"))
    assert np.array_equal(one, two)
    more = ("--stems", "vocals", "--format", "raw", "--device", "cpu,cpu")
    piped = separate("-", "-o", "-", *more, stdin=song.read_bytes())
    assert piped.status == 0, piped.stderr
    assert len(piped.sound) == 2 * 44100 * 4
    refused = separate("song.wav", "-o", "three", "--device", "cpu,nosuch")
    assert refused.status == 2 and "nosuch" in refused.stderr


def _decode(path: Path) -> Block:
    with open_song(path) as reader:
        return np.concatenate(list(reader.read_blocks()), axis=1)


@pytest.mark.timeout(180)
def test_sound_comes_out_before_the_song_has_come_in(
    small_model_folder: Path, tmp_path: Path
) -> None:
    song = io.BytesIO()
    soundfile.write(song, sounds.noise(44100 * 60).T, 44100, format="WAV", subtype="PCM_16")
    content, heard = song.getvalue(), threading.Event()
    more = ("-q", "--stems", "vocals", "--format", "raw", "--model", small_model_folder)
    process = start("separate", "-", "-o", "-", *more, folder=tmp_path, stderr=None)

    def feed() -> None:
        with process.stdin as pipe:  # type: ignore[union-attr]
            pipe.write(content[: len(content) // 2])
            pipe.flush()
            if heard.wait(60):
                pipe.write(content[len(content) // 2 :])

    feeder = threading.Thread(target=feed)
    feeder.start()
    with process, process.stdout as pipe:  # type: ignore[union-attr]
        early = pipe.read(20 * 44100 * 4)  # 20 of the 30 s that are known
        heard.set()
        rest = pipe.read()
    feeder.join()
    assert process.returncode == 0
    assert len(early) == 20 * 44100 * 4
    assert len(early + rest) == 60 * 44100 * 4


@pytest.mark.timeout(180)
def test_a_reader_who_leaves_ends_the_work_quietly(
    small_model_folder: Path, tmp_path: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.noise(44100 * 120))
    more = ("-o", "-", "--stems", "vocals", "--model", small_model_folder)
    process = start("separate", "song.wav", *more, folder=tmp_path)
    assert process.stdout
    process.stdout.read(1000)
    process.stdout.close()
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 141
    assert not complaints


@pytest.mark.timeout(180)
@pytest.mark.parametrize("held", [b"", b"before"])
def test_what_a_file_holds_already_is_not_written_over(
    held: bytes, small_model_folder: Path, tmp_path: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(0.2))
    more = ("-o", "-", "--stems", "vocals", "--model", small_model_folder)
    with (tmp_path / "both").open("wb") as both:
        both.write(held)
        both.flush()
        process = start("separate", "song.wav", *more, folder=tmp_path, stdout=both)
        process.communicate(timeout=120)
    content = (tmp_path / "both").read_bytes()
    assert content.startswith(held + b"RIFF")
    assert soundfile.read(io.BytesIO(content[len(held) :]))[0].shape == (8820, 2)


def test_the_library_is_imported_when_it_is_used(small_model_folder: Path, tmp_path: Path) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(0.2))
    code = (
        "import sys, splitter, numpy\n"
        "assert 'torch' not in sys.modules and splitter.__version__\n"
        f"model = splitter.load_model({str(small_model_folder)!r})\n"
        "stems = splitter.separate(numpy.zeros((2, 100), 'float32'), 44100, model)\n"
        "print(sorted(stems), *splitter.separate_file('song.wav', model=model).stems.values())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.stdout == "['instrumental', 'vocals'] song/vocals.wav song/instrumental.wav\n"
    import splitter

    with pytest.raises(AttributeError, match="nothing"):
        _ = splitter.nothing


@pytest.mark.timeout(180)
def test_the_first_sample_of_a_short_song_is_soon_there(tmp_path: Path) -> None:
    """Beside what importing torch takes, three seconds of song take little, with the real model."""
    sounds.write(tmp_path / "song.wav", sounds.song(3))
    before = time.monotonic()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    torch_alone = time.monotonic() - before
    process = start("separate", "song.wav", "-o", "-", "--stems", "vocals", folder=tmp_path)
    before = time.monotonic()
    assert process.stdout
    process.stdout.read(1)
    waited = time.monotonic() - before
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert waited < 2 * torch_alone + 3  # seconds; a wide margin, for machines that are busy


FULL = Path("/dev/full")


def run_with(folder: Path, model: Path, shell: str) -> subprocess.CompletedProcess[str]:
    """Run splitter on two songs, its streams as a shell has redirected them."""
    for index in range(2):
        sounds.write(folder / "songs" / f"{index}.wav", sounds.noise(4000))
    command = f"{sys.executable} -m splitter separate songs -o out --model {model} {shell}"
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True
    )


@pytest.mark.skipif(not FULL.exists(), reason="there is no full device")
@pytest.mark.parametrize(
    ("shell", "status", "words"),
    [
        ("2>/dev/full", 0, ""),
        ("2>&- <&-", 0, ""),
        (">/dev/full", 1, "standard output cannot be written (No space left on device)"),
        (">&-", 0, "2 songs done"),
        (">&- 2>&- <&-", 0, ""),
        ("| true; exit ${PIPESTATUS[0]}", 141, "2 songs done"),
    ],
)
def test_what_cannot_be_said_does_not_stop_what_is_done(
    small_model_folder: Path, tmp_path: Path, shell: str, status: int, words: str
) -> None:
    done = run_with(tmp_path, small_model_folder, shell)
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    stems = sorted(path for path in (tmp_path / "out").rglob("*") if path.suffix == ".wav")
    assert len(stems) == 4
    assert {len(sounds.read(stem)[0]) for stem in stems} == {4000}


def test_a_stem_that_is_missing_is_made_beside_the_other(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.noise(22050))
    assert separate("song.wav", "--stems", "vocals").status == 0
    done = separate("song.wav", "--skip-existing")
    assert done.status == 0, done.stderr
    assert done.complaints == ["song.wav: its stems are there, but one is missing"]
    names = [path.name for path in files_below(tmp_path / "song")]
    assert names == ["instrumental.wav", "vocals.wav"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_where_a_stem_should_be_is_not_waited_for(
    small_model_folder: Path, tmp_path: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.noise(4000))
    (tmp_path / "song").mkdir()
    os.mkfifo(tmp_path / "song/vocals.wav")
    options = ("song.wav", "--skip-existing", "--stems", "vocals", "-m", small_model_folder)
    process = start("separate", *options, folder=tmp_path)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert b"song/vocals.wav: exists already" in err


def test_raw_samples_in_a_folder_are_to_be_named(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs/a.raw").write_bytes(bytes(4000))
    done = separate("songs", "-o", "out", "--raw", "44100:2:s16le")
    assert done.status == 0
    assert "found no songs; a folder does not tell which files hold raw" in done.stderr


@pytest.mark.parametrize("suffix", ["aac", "mkv"])
def test_a_length_that_is_only_estimated_makes_no_stem_anew(
    separate: Callable[..., Done], tmp_path: Path, suffix: str
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.noise(44100 * 3))
    with av.open(tmp_path / "song.wav") as song, av.open(tmp_path / f"song.{suffix}", "w") as file:
        track = file.add_stream("aac", rate=44100)
        for frame in song.decode(audio=0):
            file.mux(track.encode(frame))
        file.mux(track.encode(None))
    assert separate(f"song.{suffix}").status == 0
    with open_song(tmp_path / f"song.{suffix}") as reader:
        assert not reader.sure
    done = separate(f"song.{suffix}", "--skip-existing")
    assert done.status == 0
    assert "skipped; it is not known how long they are" in done.stderr


def test_a_song_that_has_the_name_of_a_folder_of_stems_harms_none(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    for name in ("a.wav", "a.flac", "b.wav.flac", "b.wav", "c.wav"):
        sounds.write(tmp_path / name, sounds.noise(2000))
    (tmp_path / "c").write_bytes((tmp_path / "c.wav").read_bytes())
    wanted = separate(".", "-n").stdout.splitlines()
    done = separate(".")
    assert done.status == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(wanted)
    assert len(wanted) == 12 and all((tmp_path / path).is_file() for path in wanted)
    assert f"a.flac ({tmp_path.name})/vocals.wav" in wanted
    assert "c.wav: cannot become c/vocals.wav, as c is a file" in done.stderr


def test_a_dry_run_misses_what_the_run_would_miss(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.noise(2000))
    done = separate("song.wav", "--dry-run", "--device", "cpu,warp")
    assert (done.status, done.stdout) == (2, "")
    assert "no device is called 'warp'" in done.stderr


def test_a_song_that_is_not_there_fails_in_a_dry_run_too(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    sounds.write(tmp_path / "b.wav", sounds.noise(2000))
    done = separate("-n", "nosuch.mp3", "b.wav")
    assert done.status == 1
    assert "nosuch.mp3: cannot be opened (No such file or directory)" in done.stderr
    assert done.stdout.splitlines() == ["b/vocals.wav", "b/instrumental.wav"]


def test_globs_choose_among_songs_that_are_named(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    for name in ("live a.wav", "b.wav"):
        sounds.write(tmp_path / name, sounds.noise(2000))
    (tmp_path / "names").write_bytes(b"live a.wav\0b.wav\0")
    for songs in (("live a.wav", "b.wav"), ("--files0-from", "names")):
        done = separate(*songs, "-n", "--exclude", "live*")
        assert done.status == 0, done.stderr
        assert done.stdout.splitlines() == ["b/vocals.wav", "b/instrumental.wav"]


def test_a_name_that_no_disk_can_hold_costs_that_song_only(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    sounds.write(tmp_path / "good.wav", sounds.noise(2000))
    done = separate("good.wav", "x" * 300 + ".dat")
    assert done.status == 1 and len(done.complaints) < 4
    assert (tmp_path / "good/vocals.wav").exists()


def test_stems_of_a_part_or_of_another_model_are_not_those_that_are_asked_for(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.noise(44100))
    vocals = tmp_path / "song" / "vocals.wav"
    assert separate("song.wav", "--duration", 0.5).status == 0
    done = separate("song.wav", "--skip-existing")
    assert done.status == 0, done.stderr
    assert "vocals.wav lasts 0.50 s instead of 1.00 s" in done.stderr
    assert read(vocals).shape[1] == 44100
    before = vocals.stat()
    done = separate("song.wav", "--skip-existing")
    assert done.status == 0 and vocals.stat() == before
    assert done.complaints == ["song.wav: its stems are there already, skipped"]
    done = separate("song.wav", "--skip-existing", "--start", 0, "--duration", 1)
    assert "skipped; it is not known which part of the song they are" in done.stderr
    for options, told in (
        (("--rate", 16000), "has 44100 Hz instead of 16000"),
        (("--rate", 16000, "--mono"), "has 2 channels instead of 1"),
        (("--rate", 16000, "--mono", "--bits", 24), "has 16 bits instead of 24"),
        ((), "has 16000 Hz instead of 44100"),
    ):
        done = separate("song.wav", "--skip-existing", *options)
        assert done.status == 0 and f"vocals.wav {told}" in done.stderr
    done = separate("song.wav", "--skip-existing", "--wiener", 1)  # a model by another hash
    assert done.status == 0 and "there, but made by another model" in done.stderr
    assert vocals.stat() != before
    sounds.write(vocals, sounds.noise(44100))  # by somebody else
    done = separate("song.wav", "--skip-existing", "--wiener", 1)
    assert "skipped; it is not known which model made them" in done.stderr
    sounds.write(vocals, sounds.noise(22050))
    done = separate("song.wav", "--skip-existing", "--wiener", 1)
    assert done.status == 1 and "vocals.wav: exists already; --overwrite" in done.stderr
    assert read(vocals).shape[1] == 22050


@pytest.mark.skipif(os.name == "nt", reason="there are no named pipes")
def test_a_pipe_that_has_a_name_is_read_once(small_model_folder: Path, tmp_path: Path) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.song(3))
    (tmp_path / "63").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for template in ("{title} {stem}.{ext}", "63/{stem}.{ext}"):  # the second time one is there
        feeder = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(song.read_bytes()))
        feeder.start()
        more = ("--stems", "vocals", "--template", template, "--overwrite")
        process = start("separate", "pipe", "-m", small_model_folder, *more, folder=tmp_path)
        out, err = process.communicate(timeout=120)
        feeder.join(20)
        assert process.returncode == 0, err
        assert soundfile.info(tmp_path / out.decode().strip()).frames == 3 * 44100


@pytest.mark.skipif(os.name == "nt", reason="shells differ")
@pytest.mark.parametrize("container", ["wav", "m4a", "mp3"])
def test_a_stem_may_be_appended_to_a_file(
    small_model_folder: Path, tmp_path: Path, container: str
) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.song(2))
    with (tmp_path / "new").open("ab") as file:
        process = start(
            *("separate", song.name, "-m", small_model_folder, "--stems", "vocals"),
            *("-o", "-", "-f", container),
            folder=tmp_path,
            stdout=file,
        )
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    with open_song(tmp_path / "new") as reader:
        samples = sum(block.shape[1] for block in reader.read_blocks())
    assert abs(samples - 88200) <= (0 if container == "wav" else 2500)


@pytest.mark.skipif(os.name == "nt", reason="a file that is read cannot be replaced there")
def test_the_song_on_standard_input_is_not_replaced(
    small_model_folder: Path, tmp_path: Path
) -> None:
    song = sounds.write(tmp_path / "my.wav", sounds.song(1))
    before = song.read_bytes()
    more = ("--stems", "vocals", "-o", "my.wav", "--overwrite")
    with song.open("rb") as file:
        process = start(
            "separate", "-", "-m", small_model_folder, *more, folder=tmp_path, stdin=file
        )
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"my.wav: a stem would replace this song" in err
    assert song.read_bytes() == before


# root may look everywhere, unless it gives that up
AS_ANYBODY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") * (os.name != "nt")


@pytest.mark.skipif(
    os.name == "nt" or (os.geteuid() == 0 and not shutil.which("setpriv")),
    reason="there all folders can be read",
)
def test_a_folder_that_cannot_be_read_is_told_and_the_others_are_searched(
    small_model_folder: Path, tmp_path: Path
) -> None:
    sounds.write(tmp_path / "music/bob/song.wav", sounds.song(0.5))
    (tmp_path / "music/adam").mkdir(mode=0)

    def run(*arguments: object) -> Done:
        command = (*AS_ANYBODY * (os.geteuid() == 0), sys.executable, "-m", "splitter", "separate")
        model = ("-m", small_model_folder)
        done = subprocess.run(
            [*map(str, (*command, *model, *arguments))],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            timeout=120,
        )
        return Done(done.returncode, done.stdout, done.stderr.decode())

    done = run("-r", "music", "-o", "out")
    assert done.status == 1
    assert "adam: cannot be read (Permission denied); --exclude 'adam'" in done.complaints[0]
    assert (tmp_path / "out/bob/song/vocals.wav").exists()
    assert run("-r", "music", "-o", "out", "--exclude", "adam").status == 0
    alone = run("music/adam")
    assert alone.status == 1
    assert alone.complaints == ["splitter: music/adam: cannot be read (Permission denied)"]

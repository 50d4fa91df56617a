"""Songs that break off or are damaged are errors, or kept on request; nothing crashes or hangs."""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import re
import struct
import subprocess
import sys
import time
from collections import Counter
from io import BytesIO
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
import soundfile

from splitter.audio import Reading, open_song
from splitter.audio.mpeg import ADTS, Frame, walk
from splitter.errors import AudioError
from tests.codecs import FORMATS, RATE, SAMPLES, Pipe, Sink, chirps, make, read

TRUNCATED = [suffix for suffix in FORMATS if suffix != "wv"]  # its last byte is no sound
DAMAGED = ("mp3", "lavf.mp3", "wav", "flac", "ogg", "opus", "m4a", "coarse.m4a", "fragmented.mp4")
PATIENCE = 2.0  # seconds for a file


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("songs")
    return {suffix: make(folder / "song", suffix, chirps()).read_bytes() for suffix in FORMATS}


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("suffix", TRUNCATED)
def test_a_song_that_breaks_off_is_an_error(
    songs: dict[str, bytes], tmp_path: Path, suffix: str, share: float
) -> None:
    data = songs[suffix][: int(len(songs[suffix]) * share)]
    path = tmp_path / f"song.{suffix}"
    path.write_bytes(data)
    for source in (path, Pipe(data)):
        with pytest.raises(AudioError) as raised:
            read(source)
        assert "\n" not in str(raised.value)


def test_an_rf64_that_breaks_off_says_by_its_long_size_where(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, chirps(40_000).T, 44100, format="RF64")
    assert read(path).shape == (2, 40_000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 20_000 * 4])
    for source in (path, Pipe(path.read_bytes())):
        with pytest.raises(AudioError, match=r"breaks off after 0\.45 of 0\.91 s"):
            read(source)


@pytest.mark.parametrize("suffix", ["mp3", "lavf.mp3", "wav", "flac", "ogg", "opus", "m4a", "webm"])
def test_what_was_decoded_can_be_kept(
    songs: dict[str, bytes], suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole, data = read(Pipe(songs[suffix])), songs[suffix]
    # a Vorbis page holds seconds of this simple sound
    with open_song(Pipe(data[: len(data) * 3 // 4]), Reading(keep_partial=True)) as song:
        kept = np.concatenate(list(song.read_blocks()), axis=1)
    assert 0.2 * SAMPLES < kept.shape[1] < 0.85 * SAMPLES
    start = kept.shape[1] - 4096  # the last frame lacks its neighbour
    assert np.abs(kept - whole[:, : kept.shape[1]])[:, :start].max() < 1e-6
    assert song.damage is not None
    assert "breaks off" in song.damage
    assert "breaks off" in caplog.text


@pytest.mark.parametrize("missing", [1, 1000])
@pytest.mark.parametrize("suffix", [suffix for suffix in TRUNCATED if "mp4" not in suffix])
def test_bytes_missing_at_the_end_are_told_and_refused_only_if_they_can_be_heard(
    songs: dict[str, bytes], suffix: str, missing: int, caplog: pytest.LogCaptureFixture
) -> None:
    if (suffix, missing) == ("coarse.m4a", 1):
        pytest.skip("its last byte is no sound")
    with open_song(Pipe(songs[suffix][:-missing])) as song:
        try:
            kept = sum(block.shape[1] for block in song.read_blocks())
        except AudioError:  # a page of Ogg is long, and nobody knows how long
            assert suffix in ("ogg", "opus") or missing > 1
            return
        assert 0 <= SAMPLES - kept <= 0.1 * song.rate
        assert song.damage is not None
    found = re.fullmatch(r"ends (\d+\.\d\d) ms early, which nobody hears", song.damage)
    assert found, song.damage
    assert song.damage in caplog.text
    if suffix == "wav":
        assert float(found[1]) == pytest.approx((missing + 3) // 4 / 44.1, abs=0.01)


def test_an_mp3_without_a_tag_that_breaks_off_within_a_frame_is_an_error(
    songs: dict[str, bytes],
) -> None:
    data = songs["lavf.mp3"]
    first = data.index(b"\xff\xfb")
    bare = data[data.index(data[first : first + 2], first + 100) :]  # without the frame of the tag
    assert read(Pipe(bare)).shape[1] >= SAMPLES
    with pytest.raises(AudioError, match="breaks off"):
        read(Pipe(bare[:-10]))


def test_mpeg_audio_that_breaks_off_within_the_head_of_a_frame_is_an_error() -> None:
    data = mux("mp2", "mp2")
    frames = [piece.data for piece in walk(BytesIO(data).read) if isinstance(piece, Frame)]
    whole = b"".join(frames[:90])
    for junk in (b"", b"\xff", bytes(3)):
        assert read(BytesIO(whole + junk)).shape[1] == 90 * 1152
    for torn in (2, 3, 4, 400):
        with pytest.raises(AudioError, match=r"breaks off after 2\.35 s"):
            read(BytesIO(whole + frames[90][:torn]))


def test_bytes_between_frames_of_aac_are_damage_and_tags_are_none() -> None:
    """FFmpeg looks for the next frame, and says nothing."""
    data = mux("adts", "aac")
    frames = [piece.data for piece in walk(BytesIO(data).read, ADTS) if isinstance(piece, Frame)]
    assert b"".join(frames) == data
    first, second = b"".join(frames[:100]), b"".join(frames[108:])
    tag = b"ID3\4\0\0\0\0\0\x14" + bytes(20)
    for joined in (first + second, first + tag + second, tag + first, bytes(700) + first):
        read(BytesIO(joined))
    with pytest.raises(AudioError, match="damaged"):
        read(BytesIO(first + bytes(3000) + second))


def test_a_caf_that_breaks_off_is_an_error_unless_its_size_is_open(tmp_path: Path) -> None:
    path = tmp_path / "song.caf"
    soundfile.write(path, chirps().T, RATE, "PCM_24")
    data = path.read_bytes()
    assert read(BytesIO(data)).shape[1] == SAMPLES
    with pytest.raises(AudioError, match=r"breaks off after 1\.\d\d of 2\.2\d s"):
        read(BytesIO(data[: len(data) * 2 // 3]))
    place = data.index(b"data") + 4
    streamed = data[:place] + b"\xff" * 8 + data[place + 8 :]
    assert read(BytesIO(streamed[: len(data) * 2 // 3])).shape[1] > SAMPLES // 2


def test_tags_and_junk_behind_the_sound_are_no_damage(songs: dict[str, bytes]) -> None:
    for junk in (b"TAG" + bytes(125), bytes(3000), random.Random(0).randbytes(3000)):
        assert read(Pipe(songs["mp3"] + junk)).shape == (2, SAMPLES)


def test_damage_in_the_middle_is_an_error_or_skipped(songs: dict[str, bytes]) -> None:
    data = bytearray(songs["flac"])
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    with pytest.raises(AudioError, match=r"damaged|gaps"):
        read(Pipe(bytes(data)))
    with open_song(Pipe(bytes(data)), Reading(keep_partial=True)) as song:
        kept = sum(block.shape[1] for block in song.read_blocks())
    assert SAMPLES / 2 < kept < SAMPLES  # what comes behind is there, too
    assert song.damage is not None


def mux(container: str, codec: str) -> bytes:
    """Write a song into a stream, where no muxer can go back to its head."""
    sink = Sink()
    with av.open(sink, "w", format=container) as output:
        track = cast(Any, output.add_stream(codec, rate=RATE, layout="stereo"))
        track.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(chirps(4 * SAMPLES), "fltp", "stereo")
        frame.sample_rate, frame.pts = RATE, 0
        output.mux(track.encode(frame))
        output.mux(track.encode(None))
    return bytes(sink.data)


def test_a_stream_says_by_its_parts_that_it_breaks_off() -> None:
    """FFmpeg alone ends as if that were the end."""
    data = mux("matroska", "aac")
    assert read(BytesIO(data)).shape[1] >= 4 * SAMPLES
    assert read(BytesIO(data + bytes(100))).shape[1] >= 4 * SAMPLES
    with pytest.raises(AudioError, match="breaks off"):
        read(BytesIO(data[: len(data) * 3 // 4]))


def put_ape(cover: bytes) -> bytes:
    """Make an APE tag with a head and a foot (wiki.hydrogenaud.io/?title=APE_key)."""
    item = struct.pack("<II", len(cover), 2) + b"Cover Art (Front)\0" + cover
    ends = [
        struct.pack("<8s4I8x", b"APETAGEX", 2000, len(item) + 32, 1, flags << 29)
        for flags in (5, 4)
    ]
    return ends[0] + item + ends[1]


ID3V1 = b"TAG" + bytes(125)


@pytest.mark.parametrize(
    "tag",
    [b"", ID3V1, put_ape(b"small"), put_ape(bytes(200_000)), put_ape(bytes(200_000)) + ID3V1],
    ids=("none", "ID3v1", "APE", "a large APE", "both"),
)
def test_tags_behind_a_wavpack_of_unknown_length_are_its_end(tag: bytes) -> None:
    data = mux("wv", "wavpack")
    data = data[: data.index(b"APETAGEX")]  # which names the encoder
    for source in (BytesIO(data + tag), Pipe(data + tag), Pipe(data + bytes(400))):
        assert read(source).shape[1] == 4 * SAMPLES
    for broken in (data[: len(data) // 2], data[: len(data) // 2] + tag, data + b"?" * 400):
        with pytest.raises(AudioError, match="breaks off"):
            read(Pipe(broken))


def remux(content: bytes, path: Path) -> None:
    """Copy the packets of a song into another container."""
    with av.open(BytesIO(content)) as song, av.open(path, "w") as output:
        track = output.add_stream_from_template(song.streams.audio[0])
        for packet in song.demux(audio=0):
            if packet.size:
                packet.stream = track
                output.mux(packet)


def test_a_matroska_file_whose_cluster_is_damaged_does_not_end_there(tmp_path: Path) -> None:
    """FFmpeg alone finds no other cluster, and gives the first half of the song without a word."""
    path = tmp_path / "song.mka"
    remux(mux("adts", "aac"), path)
    data = bytearray(path.read_bytes())
    assert read(BytesIO(data)).shape[1] >= 4 * SAMPLES
    middle = len(data) // 2
    data[middle : middle + 2000] = random.Random(3).randbytes(2000)
    with pytest.raises(AudioError, match=r"breaks off|damaged|gaps"):
        read(BytesIO(data))


def test_an_avi_says_by_its_size_that_it_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "song.avi"
    remux(mux("mp3", "libmp3lame"), path)
    data = path.read_bytes()
    assert read(BytesIO(data)).shape[1] >= 4 * SAMPLES
    with pytest.raises(AudioError, match="breaks off"):
        read(BytesIO(data[: len(data) // 2]))


def test_a_wrong_rate_in_the_head_of_a_flac_takes_no_samples(tmp_path: Path) -> None:
    path = make(tmp_path / "song", "flac", chirps())
    content = bytearray(path.read_bytes())
    content[18:21] = bytes([0xFB, 0xC3, 0x40 | content[20] & 15])  # 1,031,220 Hz
    path.write_bytes(content)
    with open_song(path) as song:
        assert song.rate == RATE  # as the frames say
        assert song.samples == sum(block.shape[1] for block in song.read_blocks()) == SAMPLES


@pytest.mark.parametrize("container", ["flac", "asf"])
def test_a_gap_shows_by_the_places_of_what_follows(container: str) -> None:
    """FFmpeg passes over what is no frame, and states no length for a stream."""
    data = bytearray(mux(container, "flac" if container == "flac" else "wmav2"))
    assert read(BytesIO(data)).shape[1] > 3.99 * SAMPLES
    middle = len(data) // 2
    data[middle : middle + 9000] = random.Random(0).randbytes(9000)
    with pytest.raises(
        AudioError, match=r"has gaps: 0\.\d\d s of its sound are missing|damaged near"
    ):
        read(BytesIO(data))
    with open_song(BytesIO(data), Reading(keep_partial=True)) as song:
        assert sum(block.shape[1] for block in song.read_blocks()) > 3 * SAMPLES
        assert song.damage


def mux_with_a_pause(path: Path, container: str, options: dict[str, str]) -> bytes:
    """Write a song with a pause of two seconds in its timestamps, as a recorder leaves it."""
    with av.open(path, "w", format=container, options=options) as output:
        track = cast(Any, output.add_stream("aac", rate=RATE, layout="stereo"))
        frame = av.AudioFrame.from_ndarray(chirps(4 * RATE), "fltp", "stereo")
        frame.sample_rate, frame.pts = RATE, 0
        for packet in [*track.encode(frame), *track.encode(None)]:
            if packet.pts * packet.time_base >= 2:
                packet.pts += round(2 / packet.time_base)
                packet.dts += round(2 / packet.time_base)
            output.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("container", "options"),
    [
        ("mp4", {"movflags": "+faststart"}),
        ("ipod", {"movflags": "+frag_keyframe+empty_moov+delay_moov"}),
        ("mov", {"movflags": "+faststart"}),
        ("mpegts", {}),
    ],
)
def test_a_recorder_that_paused_is_a_remark(
    container: str, options: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = mux_with_a_pause(tmp_path / "song", container, options)
    for source in (BytesIO(data), Pipe(data)):
        caplog.clear()
        assert 0 <= read(source).shape[1] - 4 * RATE < 3000  # with the padding of a stream
        assert "has gaps: 2.00 s of its sound are missing" in caplog.text
    if "faststart" in str(options):
        with pytest.raises(AudioError, match=r"breaks off|has gaps"):
            read(BytesIO(data[: len(data) * 9 // 10]))


@pytest.mark.parametrize("suffix", ["flac", "flac.mka", "wv"])
def test_a_single_bit_that_is_wrong_is_found_by_its_checksum(
    songs: dict[str, bytes], suffix: str
) -> None:
    for place in np.linspace(0.3, 0.7, 10):
        data = bytearray(songs[suffix])
        data[int(len(data) * place)] ^= 1
        with pytest.raises(AudioError):
            read(Pipe(bytes(data)))


def test_damage_is_told_before_the_rest_is_computed(tmp_path: Path) -> None:
    data = bytearray(make(tmp_path / "song", "aac", chirps(20 * 44100)).read_bytes())
    place = len(data) // 10
    data[place : place + 2000] = bytes(2000)
    pipe = Pipe(bytes(data), step=4096)
    with pytest.raises(AudioError, match=r"damaged near \d\.\d+ s"):
        read(pipe)
    assert pipe.taken < len(data) // 3


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Cut, flip, overwrite, repeat or drop a piece."""
    mutant = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        place = generator.randrange(len(mutant) + 1)
        if generator.random() < 0.3:
            place = min(place, generator.randrange(200))  # the heads hold the numbers
        size = generator.choice((1, 2, 4, 16, 400, 5000))
        kind = generator.randrange(5)
        if kind == 0:
            del mutant[place:]
        elif kind == 1:
            mutant[place : place + size] = generator.randbytes(size)
        elif kind == 2:
            mutant[place : place + size] = generator.choice((b"\0", b"\xff")) * size
        elif kind == 3:
            mutant[place:place] = mutant[place : place + size]
        else:
            del mutant[place : place + size]
    return bytes(mutant)


def try_mutant(data: bytes, seed: int) -> str:
    """Read a mutant, from a file or a pipe; say what became of it."""
    generator = random.Random(seed)
    mutant = mutate(data, generator)
    patient = generator.random() < 0.5
    source: Any = Pipe(mutant) if generator.random() < 0.5 else io.BytesIO(mutant)
    started = time.monotonic()
    try:
        with open_song(source, Reading(keep_partial=patient)) as song:
            for block in song.read_blocks():
                assert np.isfinite(block).all()
    except AudioError as error:
        assert "\n" not in str(error)
        return "told"
    finally:
        assert time.monotonic() - started < PATIENCE
    return "kept" if song.damage else "read"


@pytest.mark.parametrize("suffix", DAMAGED)
def test_damaged_songs_neither_crash_nor_hang(songs: dict[str, bytes], suffix: str) -> None:
    results = Counter(try_mutant(songs[suffix], seed) for seed in range(40))
    assert results["told"] > 0


def _work(data: dict[str, bytes], seeds: range, results: Queue[tuple[int, str]]) -> None:
    for seed in seeds:
        suffix = DAMAGED[seed % len(DAMAGED)]
        results.put((seed, ""))
        results.put((seed, try_mutant(data[suffix], seed)))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_twenty_thousand_damaged_songs_neither_crash_nor_hang(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = chirps(30_000)
    data = {suffix: make(tmp_path / "song", suffix, short).read_bytes() for suffix in DAMAGED}
    seeds = range(1000, 1000 + int(os.environ.get("FUZZED_SONGS", "20700")))
    context = multiprocessing.get_context("spawn")
    results: Queue[tuple[int, str]] = context.Queue()
    worker = context.Process(target=_work, args=(data, seeds, results))
    worker.start()
    counts: Counter[str] = Counter()
    seed, outcome = 0, ""
    while sum(counts.values()) < len(seeds):
        seed, outcome = results.get(timeout=30)  # after a crash or a hang nothing comes any more
        if outcome:
            counts[outcome] += 1
    worker.join()
    assert worker.exitcode == 0, f"crashed at {seed}"
    with capsys.disabled():
        print(f"\n{sum(counts.values())} damaged songs: {dict(counts)}")


_READ_EACH = """
import io
import sys
from pathlib import Path
from splitter.audio import open_song
from splitter.errors import AudioError
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        with open_song(io.BytesIO(path.read_bytes()) if sys.argv[2:] else path) as song:
            sum(block.shape[1] for block in song.read_blocks())
    except AudioError:
        pass
"""


@pytest.mark.parametrize("kind", [(), ("object",)], ids=["file", "object"])
def test_headers_with_wrong_sizes_print_no_traceback_of_a_library(
    tmp_path: Path, kind: tuple[str, ...]
) -> None:
    dice = np.random.default_rng(27)
    for form in ("CAF", "W64", "AIFF"):
        whole = io.BytesIO()
        soundfile.write(whole, chirps(3000).T, RATE, "PCM_16", format=form)
        for number in range(60):
            data = bytearray(whole.getvalue())
            for place in dice.integers(4, 120, 4):
                data[place] = dice.choice([0, 0x7F, 0x80, 0xFF, int(dice.integers(256))])
            (tmp_path / f"{form}{number:02}").write_bytes(data)
    command = [sys.executable, "-c", _READ_EACH, str(tmp_path), *kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for trace in ("Traceback", "exception being dropped", "Exception ignored"):
        assert trace not in done.stderr


def test_pcm_is_as_long_as_its_bytes_whatever_else_its_head_counts(tmp_path: Path) -> None:
    signal = np.zeros((2, 9000), np.float32)
    wave, ieee, long = (tmp_path / f"song.{name}" for name in ("wav", "aiff", "w64"))
    for path in (wave, ieee, long):
        soundfile.write(path, signal.T, RATE)
    data = bytearray(wave.read_bytes())
    data[4:8] = (30_000).to_bytes(4, "little")  # of RIFF, whose chunk of sound is longer
    wave.write_bytes(data)
    data = bytearray(ieee.read_bytes())
    place = data.index(b"COMM") + 10
    data[place : place + 4] = (8000).to_bytes(4, "big")  # samples
    ieee.write_bytes(data)
    data = bytearray(long.read_bytes())
    place = data.index(b"fmt ") + 24 + 4
    data[place : place + 4] = (RATE * 3 // 4).to_bytes(4, "little")  # but no other number of bytes
    long.write_bytes(data)
    for path in (wave, ieee, long):
        assert read(path).shape == signal.shape, path


def test_a_wav_whose_head_says_another_codec_is_no_short_song(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, np.zeros((40_000, 2)), RATE)
    data = bytearray(path.read_bytes())
    data[21] ^= 4  # 0x0401 is Intel's Music Coder
    with pytest.raises(AudioError, match=r"breaks off after 0\.21 of 0\.91 s"):
        read(BytesIO(data))


def test_of_a_sound_of_a_moment_the_larger_part_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, np.sin(np.arange(2560) / 20) / 4, RATE)
    cut_off = path.read_bytes()[:2000]
    of_another_codec = bytearray(path.read_bytes())
    of_another_codec[21] ^= 4
    for data in (cut_off, of_another_codec):
        with pytest.raises(AudioError, match=r"breaks off after 0\.0\d of 0\.06 s"):
            read(BytesIO(data))


@pytest.mark.parametrize("suffix", ["mp3", "lavf.mp3", "m4a", "flac", "ogg"])
def test_a_moment_is_not_cut_to_less_than_half_without_a_word(suffix: str, tmp_path: Path) -> None:
    sound = chirps()[:, : int(0.06 * RATE)]
    whole = make(tmp_path / "song", suffix, sound).read_bytes()
    for size in range(len(whole) // 8, len(whole), 37):
        try:
            kept = read(BytesIO(whole[:size])).shape[1]
        except AudioError:
            continue
        assert kept > sound.shape[1] / 2


def test_a_song_of_which_nothing_can_be_decoded_is_no_empty_song(tmp_path: Path) -> None:
    data = bytearray(make(tmp_path / "song", "wma", chirps()).read_bytes())
    place = data.index(bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")) + 50  # the sound
    data[place + 24 :] = bytes(len(data) - place - 24)
    with pytest.raises(AudioError, match="not an audio file"):
        read(BytesIO(data))


def test_frames_that_are_lost_at_the_beginning_of_a_stream_are_told(
    songs: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    stream = BytesIO()
    with av.open(stream, "w", format="ac3") as output:
        track = cast(Any, output.add_stream("ac3", rate=RATE, layout="stereo"))
        frame = av.AudioFrame.from_ndarray(chirps(), "fltp", "stereo")
        frame.sample_rate, frame.pts = RATE, 0
        output.mux(track.encode(frame))
        output.mux(track.encode(None))
    data = bytearray(stream.getvalue())
    assert read(BytesIO(data)).shape[1] > SAMPLES - 2000
    assert not caplog.messages
    size = data.index(data[:2], 2)
    for number in range(3):
        data[number * size + 100] ^= 1
    assert read(BytesIO(data)).shape[1] > SAMPLES - 7000
    assert "its first 3 frames cannot be decoded; it begins behind them" in caplog.text
    caplog.clear()
    frames = [p.data for p in walk(BytesIO(songs["lavf.mp3"]).read) if isinstance(p, Frame)]
    read(BytesIO(bytes(3400) + b"".join(frames)))  # as where two frames were cut
    assert not caplog.messages
    read(BytesIO(bytes(4000) + b"".join(frames)))
    assert "4000 bytes before or behind its sound are not audio" in caplog.text


def test_integers_of_eight_bytes_are_read(tmp_path: Path) -> None:
    path, signal = tmp_path / "song.wav", chirps(1000)
    soundfile.write(path, signal.T, RATE, subtype="DOUBLE")
    data = bytearray(path.read_bytes())
    data[20:22] = (1).to_bytes(2, "little")  # integers
    place = data.index(b"data") + 8
    data[place : place + 16_000] = (signal.T.astype(float) * 2**63).astype("<i8").tobytes()
    np.testing.assert_allclose(read(BytesIO(data)), signal, atol=1e-6)


@pytest.mark.parametrize("codec", ["libmp3lame", "ac3", "aac"])
def test_matroska_from_a_pipe_whose_length_ffmpeg_can_only_guess_is_whole(
    tmp_path: Path, codec: str
) -> None:
    """Nobody went back to write its size and its duration."""
    (tmp_path / "song.mka").write_bytes(mux("matroska", codec))
    assert read(tmp_path / "song.mka").shape[1] == pytest.approx(4 * SAMPLES, abs=3000)


def test_a_program_stream_that_begins_within_a_frame_is_no_damage(tmp_path: Path) -> None:
    data = mux("vob", "ac3")
    pack = data.index(b"\0\0\1\xba", len(data) // 3)
    (tmp_path / "cut.vob").write_bytes(data[pack:])
    assert 2 * SAMPLES < read(tmp_path / "cut.vob").shape[1] < 3 * SAMPLES


def test_a_bw64_that_breaks_off_is_told(tmp_path: Path) -> None:
    sound = chirps()[:, :RATE]
    soundfile.write(tmp_path / "song.rf64", sound.T, 44100, "PCM_16", format="RF64")
    data = b"BW64" + (tmp_path / "song.rf64").read_bytes()[4:]
    (tmp_path / "whole.wav").write_bytes(data)
    np.testing.assert_allclose(read(tmp_path / "whole.wav"), sound, atol=1e-4)
    (tmp_path / "half.wav").write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError, match=r"breaks off after 0\.5. of 1\.00 s"):
        read(tmp_path / "half.wav")

"""Songs come in whole and at the right place, in every format."""

from __future__ import annotations

import io
import shutil
import subprocess
import tracemalloc
import wave
from pathlib import Path

import av
import mutagen.mp4
import mutagen.oggvorbis
import numpy as np
import pytest
import soundfile

from splitter.audio import Reading, open_song, parse_raw
from splitter.audio.sources import FileSource, ObjectSource
from splitter.errors import AudioError
from tests.codecs import (
    FORMATS,
    INEXACT,
    RATE,
    SAMPLES,
    Pipe,
    chirps,
    find_lag,
    make,
    rate_of,
    read,
)

LOSSLESS = ("wav", "flac", "aiff", "alac.m4a", "flac.mka", "wv")
SHARED = Path(__file__).parents[2] / "shared" / "songs"


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("songs")
    return {suffix: make(folder / "song", suffix, chirps()) for suffix in {**FORMATS, **INEXACT}}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_has_the_samples_of_the_song_in_their_place(
    songs: dict[str, Path], suffix: str
) -> None:
    decoded = read(songs[suffix])
    assert decoded.shape == (2, SAMPLES)
    assert [find_lag(a, b) for a, b in zip(chirps(), decoded, strict=True)] == [0, 0]
    if suffix in LOSSLESS:
        assert np.abs(decoded - chirps()).max() < 1 / 32768  # 16 bits


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_pipe_gives_what_the_file_gives(songs: dict[str, Path], suffix: str) -> None:
    piped = read(Pipe(songs[suffix].read_bytes(), step=1000))
    assert np.array_equal(piped, read(songs[suffix]))


@pytest.mark.parametrize("suffix", INEXACT)
def test_formats_that_do_not_state_their_length_are_read_whole(
    songs: dict[str, Path], suffix: str
) -> None:
    decoded = read(songs[suffix])
    assert abs(decoded.shape[1] - SAMPLES) < 4096  # two frames of WMA
    # AAC's first frame is encoder delay; WMA's decoder skips what other encoders put there
    assert -2048 <= find_lag(chirps()[0], decoded[0]) <= 1024


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_length_in_the_header_is_the_length(songs: dict[str, Path], suffix: str) -> None:
    with open_song(songs[suffix]) as song:
        assert song.rate == rate_of(suffix)
        assert song.samples is not None
        # a Matroska file and a coarse edit list count in milliseconds, fragments count the priming
        loose = suffix in ("webm", "flac.mka", "coarse.m4a", "fragmented.mp4")
        assert abs(song.samples - SAMPLES) <= (1100 if loose else 0)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "m4a"])
@pytest.mark.parametrize("samples", [0, 1, 2, 127, 575, 1023, 1024, 1025, 1152, 1153, 8192, 44103])
def test_short_songs_have_their_length(tmp_path: Path, suffix: str, samples: int) -> None:
    if samples == 0 and suffix in ("flac", "mp3", "m4a"):
        pytest.skip("libsndfile and FFmpeg write no more than a broken head")
    song = make(tmp_path / "song", suffix, chirps(samples))
    assert read(song).shape == (2, samples)


@pytest.mark.parametrize("kind", ["tone", "noise", "bursts"])
@pytest.mark.parametrize("samples", [1, 129, 4097, 44103, 200_001])
def test_vorbis_is_what_libvorbis_decodes(tmp_path: Path, samples: int, kind: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, samples)
    tone = 0.3 * np.sin(np.arange(samples) * 0.05)
    gate = np.arange(samples) % 8000 > 4000
    sound = {"tone": tone, "noise": noise, "bursts": tone * gate}[kind]
    path = tmp_path / "song.ogg"
    soundfile.write(path, sound, 44100)
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0].T
    for source in (path, Pipe(path.read_bytes())):
        decoded = read(source)
        assert decoded.shape == expected.shape
        assert np.abs(decoded - expected).max() < 1e-6  # two implementations' float rounding


@pytest.mark.parametrize("song", sorted(SHARED.glob("*.*")) if SHARED.exists() else [])
def test_real_songs_are_what_libsndfile_decodes(song: Path) -> None:
    if song.suffix not in (".mp3", ".ogg"):
        pytest.skip("no song")
    expected = soundfile.read(song, dtype="float32", always_2d=True)[0].T
    decoded = read(song)
    assert decoded.shape == expected.shape
    assert np.abs(decoded - expected).max() < 1e-5


@pytest.mark.parametrize("edit_list", ["0", "1"])
def test_the_length_that_itunes_states_is_kept(tmp_path: Path, edit_list: str) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="ipod", options={"use_editlist": edit_list}) as output:
        track = output.add_stream("aac", rate=RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray(chirps(), "fltp", "stereo")
        frame.sample_rate, frame.pts = RATE, 0
        output.mux(track.encode(frame))
        output.mux(track.encode(None))
    file = mutagen.mp4.MP4(path)
    numbers = f" 00000000 {1024:08X} {349:08X} {SAMPLES:016X} 00000000"
    file["----:com.apple.iTunes:iTunSMPB"] = [mutagen.mp4.MP4FreeForm(numbers.encode())]
    file.save()
    decoded = read(path)
    assert decoded.shape == (2, SAMPLES)
    assert find_lag(chirps()[0], decoded[0]) == 0


def test_what_itunes_noted_of_another_file_counts_for_nothing(tmp_path: Path) -> None:
    """FFmpeg copies all tags into any container, also to a part of a song."""
    path = tmp_path / "clip.ogg"
    soundfile.write(path, chirps().T, RATE)
    file = mutagen.oggvorbis.OggVorbis(path)
    file["iTunSMPB"] = f" 00000000 {1024:08X} {349:08X} {10 * SAMPLES:016X} 00000000"
    file.save()
    assert read(path).shape == (2, SAMPLES)


def test_the_sound_of_a_video_is_a_song(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg4", rate=25, width=64, height=64)
        audio = output.add_stream("aac", rate=RATE, layout="stereo")
        for index in range(100):  # longer than the sound
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            picture.pts = index
            output.mux(video.encode(picture))
        frame = av.AudioFrame.from_ndarray(chirps(), "fltp", "stereo")
        frame.sample_rate, frame.pts = RATE, 0
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
        output.mux(video.encode(None))
    assert read(path).shape == (2, SAMPLES)


@pytest.mark.parametrize(
    ("subtype", "bits", "floating"),
    [
        ("PCM_U8", 16, False),
        ("PCM_16", 16, False),
        ("PCM_24", 24, False),
        ("PCM_32", 32, False),
        ("FLOAT", 32, True),
        ("DOUBLE", 32, True),
        ("ALAW", 16, False),
    ],
)
def test_the_depth_to_give_back_is_the_songs(
    tmp_path: Path, subtype: str, bits: int, floating: bool
) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, chirps(1000).T, RATE, subtype)
    with open_song(path) as song:
        assert (song.bits, song.floating) == (bits, floating)
        decoded = next(song.read_blocks())
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0].T
    assert np.array_equal(decoded, expected)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="PyAV has no encoder of DTS")
@pytest.mark.parametrize(("suffix", "codec", "bits"), [("dts", "dca", 16), ("wv", "wavpack", 32)])
def test_floats_are_given_back_only_of_what_lost_nothing(
    tmp_path: Path, suffix: str, codec: str, bits: int
) -> None:
    """Both codecs may lose something or nothing; DTS without loss has integers."""
    soundfile.write(tmp_path / "song.wav", chirps().T, RATE, "FLOAT")
    path = tmp_path / f"song.{suffix}"
    command = ("ffmpeg", "-v", "error", "-i", tmp_path / "song.wav", "-c:a", codec, "-strict", "-2")
    subprocess.run((*command, path), check=True)
    with open_song(path) as song:
        assert (song.bits, song.floating) == (bits, bits == 32)


@pytest.mark.parametrize("rate", [8000, 48000, 96000, 384000])
@pytest.mark.parametrize("channels", [1, 2, 6, 7, 8])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_channels_keep_their_order_at_any_rate(
    tmp_path: Path, rate: int, channels: int, suffix: str
) -> None:
    signal = chirps(5000, channels, rate)
    path = tmp_path / f"song.{suffix}"
    soundfile.write(path, signal.T, rate)
    with open_song(path) as song:
        assert (song.rate, song.channels) == (rate, channels)
    assert np.abs(read(path) - signal).max() < 1 / 32768


@pytest.mark.parametrize("size", [1, 1023, 1024, 65536, 10**6])
def test_blocks_have_the_size_that_was_asked_for(songs: dict[str, Path], size: int) -> None:
    source = songs["flac"]
    duration = 3000 / RATE if size == 1 else None
    with open_song(source, Reading(duration=duration)) as song:
        lengths = [block.shape[1] for block in song.read_blocks(size)]
    assert set(lengths[:-1]) <= {size}
    assert 0 < lengths[-1] <= size
    assert sum(lengths) == (3000 if size == 1 else SAMPLES)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "m4a", "opus"])
def test_a_part_is_cut_out_to_the_sample(songs: dict[str, Path], suffix: str) -> None:
    whole, rate = read(songs[suffix]), rate_of(suffix)
    for start, duration in ((0.0, 0.25), (0.5, 0.25), (1.0, None), (1.9, 99.0), (1.0, 0.0)):
        with open_song(songs[suffix], Reading(start, duration)) as song:
            parts = [np.zeros((2, 0), np.float32), *song.read_blocks()]
        first = round(start * rate)
        last = SAMPLES if duration is None else min(first + round(duration * rate), SAMPLES)
        assert np.array_equal(np.concatenate(parts, axis=1), whole[:, first:last])
        assert song.samples == last - first


def test_a_start_behind_the_end_is_told(songs: dict[str, Path]) -> None:
    with pytest.raises(AudioError, match=r"song\.mp3: ends before 10 s"):
        read(songs["mp3"], Reading(start=10))


def test_a_pipe_is_read_no_further_than_needed(songs: dict[str, Path]) -> None:
    pipe = Pipe(songs["wav"].read_bytes(), step=4096)
    with open_song(pipe) as song:
        next(song.read_blocks(1000))
    assert pipe.taken < 80_000  # of 400 kB; what FFmpeg looks at first, and 9000 samples


@pytest.mark.parametrize(
    "encoding", ["u8", "s16le", "s16be", "s24le", "s24be", "s32le", "f32le", "f32be", "f64le"]
)
def test_headerless_sound_is_read_as_told(tmp_path: Path, encoding: str) -> None:
    subtype = {"u8": "PCM_U8", "f32": "FLOAT", "f64": "DOUBLE"}.get(
        encoding[:3].rstrip("l"), f"PCM_{encoding[1:3]}"
    )
    path = tmp_path / "song.raw"
    endian = "BIG" if encoding.endswith("be") else "LITTLE"
    soundfile.write(path, chirps(5000).T, RATE, "PCM_U8" if encoding == "u8" else subtype, endian)
    expected = soundfile.read(
        path,
        dtype="float32",
        samplerate=RATE,
        channels=2,
        subtype="PCM_U8" if encoding == "u8" else subtype,
        endian=endian,
    )[0].T
    decoded = read(Pipe(path.read_bytes()), Reading(raw=parse_raw(f"{RATE}:2:{encoding}")))
    assert np.array_equal(decoded, expected)


@pytest.mark.parametrize("text", ["", "44100", "44100:2", "0:2:s16le", "44100:0:s16le", "1:1:mp3"])
def test_a_raw_format_that_is_none_is_told(text: str) -> None:
    with pytest.raises(AudioError, match="RATE:CHANNELS:FORMAT"):
        parse_raw(text)


@pytest.mark.parametrize("name", ["song.flac.mp3", "song", "song.wav", "song.raw", "song.txt"])
def test_the_content_decides_and_not_the_name(songs: dict[str, Path], name: str) -> None:
    renamed = songs["flac"].with_name(name)
    renamed.write_bytes(songs["flac"].read_bytes())
    assert read(renamed).shape == (2, SAMPLES)


def test_memory_does_not_grow_with_the_song() -> None:
    silence = bytes(4 * 1_000_000)
    peaks = []
    for megabytes in (40, 160):
        head = soundfile_head(megabytes * 1_000_000)
        pipe = Endless(head, silence, megabytes * 1_000_000)
        tracemalloc.start()
        with open_song(pipe) as song:
            for _ in song.read_blocks():
                pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.1


def soundfile_head(size: int) -> bytes:
    """The head of a wav of `size` bytes of sound."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes(bytes(4))
    head = bytearray(file.getvalue()[:44])
    head[40:44] = size.to_bytes(4, "little")
    return bytes(head)


class Endless(Pipe):
    """A head and then one content over and over, which takes no memory of its own."""

    def __init__(self, head: bytes, content: bytes, size: int) -> None:
        super().__init__(head)
        self._content = content
        self._left = size

    def read(self, size: int = -1) -> bytes:
        if head := super().read(size):
            return head
        taken = min(size, self._left, len(self._content))
        self._left -= taken
        return self._content[:taken]


def test_at_a_place_that_cannot_be_there_are_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "song").write_bytes(b"RIFF")
    with (tmp_path / "song").open("rb") as file:
        for source in (FileSource(file), ObjectSource(io.BytesIO(b"RIFF"))):
            assert source.read_at(0, 9) == b"RIFF"
            assert source.read_at(-1, 4) == source.read_at(1 << 70, 4) == b""

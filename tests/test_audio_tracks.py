"""Of several sound tracks, the one that is meant is taken, and named."""

import io
import itertools
import re
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from splitter.audio import Reading, open_song
from splitter.errors import AudioError
from tests import codecs

MONO, STEREO = 0.25, 0.5  # the level of each track says which one it is


def make_video(path: Path, default: int | None = None) -> Path:
    """Write a mkv with a mono track in German and a stereo one in English."""
    with av.open(str(path), "w", format="matroska") as file:
        tracks = []
        for number, (layout, language) in enumerate([("mono", "ger"), ("stereo", "eng")]):
            track = file.add_stream("pcm_s16le", rate=44100, layout=layout)
            track.metadata["language"] = language
            track.disposition = Disposition.default if number == default else Disposition(0)
            tracks.append(track)
        for track, channels, level in zip(tracks, (1, 2), (MONO, STEREO), strict=True):
            samples = np.full((1, channels * 4410), level * 32768, np.int16)
            frame = av.AudioFrame.from_ndarray(samples, "s16", track.layout.name)
            frame.sample_rate, frame.pts = 44100, 0
            file.mux(track.encode(frame))
            file.mux(track.encode(None))
    return path


def level_of(path: Path, track: str | None = None) -> float:
    with open_song(path, Reading(track=track)) as song:
        return float(next(song.read_blocks())[0, 0])


@pytest.mark.parametrize(("default", "level"), [(0, MONO), (1, STEREO), (None, STEREO)])
def test_the_default_track_is_taken_or_else_the_one_with_most_channels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, default: int | None, level: float
) -> None:
    path = make_video(tmp_path / "video.mkv", default)
    assert level_of(path) == level
    names = ["1 (ger, 1 channel)", "2 (eng, 2 channels)"]
    taken = names.pop(0 if level == MONO else 1)
    line = f"{path}: takes sound track {taken}; choose another with --track: {names[0]}"
    assert caplog.messages == [line]


@pytest.mark.parametrize(
    ("track", "level"),
    [("1", MONO), ("2", STEREO), ("GER", MONO), ("de", MONO), ("deu", MONO), ("en", STEREO)],
)
def test_a_track_is_chosen_by_its_number_or_its_language(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, track: str, level: float
) -> None:
    assert level_of(make_video(tmp_path / "video.mkv", default=1), track) == level
    assert caplog.messages == []


def test_a_track_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mkv")
    with pytest.raises(AudioError, match=r"has no sound track '3'; choose 1 \(ger, 1 channel\)"):
        level_of(path, "3")


@pytest.mark.parametrize("container", ["matroska", "mp4", "mov", "mpegts"])
@pytest.mark.parametrize(("late", "told"), [(2.0, "after"), (0.0, None), (-2.0, "before")])
def test_sound_that_begins_later_or_earlier_than_its_picture_is_told(
    tmp_path: Path, container: str, late: float, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "video"
    with av.open(str(path), "w", format=container) as file:
        picture = file.add_stream("mpeg4", rate=25)
        picture.width = picture.height = 64
        sound = file.add_stream("aac", rate=44100, layout="mono")
        packets = []
        for number in range(100):
            image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
            image.pts = number + round(25 * max(-late, 0))
            packets += picture.encode(image)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
        samples.sample_rate, samples.pts = 44100, round(44100 * max(late, 0))
        packets += [*picture.encode(None), *sound.encode(samples), *sound.encode(None)]
        for packet in sorted(packets, key=lambda p: float(p.dts * p.time_base)):
            file.mux(packet)
    with open_song(path) as song:
        assert sum(block.shape[1] for block in song.read_blocks()) == pytest.approx(44100, abs=2100)
    lines = [line for line in caplog.messages if "its picture" in line]
    assert len(lines) == (told is not None)
    if told:
        found = re.search(
            r"its sound begins (.*) s (.*) its picture, and so do the stems", lines[0]
        )
        assert found
        assert float(found[1]) == pytest.approx(2, abs=0.03)  # a frame of AAC comes before
        assert found[2] == told


def make_pages(content: bytes) -> list[bytes]:
    places = [found.start() for found in re.finditer(b"OggS\0", content)]
    return [content[a:b] for a, b in itertools.pairwise([*places, len(content)])]


@pytest.mark.parametrize("frames", [100, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["ogg", "opus"])
def test_the_length_of_an_ogg_video_is_that_of_its_sound(
    tmp_path: Path, kind: str, frames: int
) -> None:
    """Its last page belongs to the picture, which goes on; maybe so long that no sound is near."""
    video = io.BytesIO()
    random = np.random.default_rng(0)
    with av.open(video, "w", format="ogg") as output:
        track = output.add_stream("libvpx", rate=10, width=64, height=64, pix_fmt="yuv420p")
        for _ in range(frames):
            picture = random.integers(0, 256, (96, 64), np.uint8)
            output.mux(track.encode(av.VideoFrame.from_ndarray(picture, "yuv420p")))
        output.mux(track.encode(None))
    sound = codecs.make(tmp_path / "song", kind, codecs.chirps())
    pictures, sounds = make_pages(video.getvalue()), make_pages(sound.read_bytes())
    path = tmp_path / "song.ogv"
    path.write_bytes(b"".join([pictures[0], *sounds, *pictures[1:]]))
    with open_song(path) as song:
        assert (song.samples, song.sure) == (codecs.SAMPLES, True)
    assert codecs.read(path).shape[1] == codecs.SAMPLES
    with path.open("rb") as file:
        assert codecs.SAMPLES <= codecs.read(codecs.Pipe(file.read())).shape[1] < 102_000


def test_a_video_without_sound_is_said_to_have_none(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as file:
        picture = file.add_stream("mpeg4", rate=25)
        picture.width = picture.height = 64
        image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
        file.mux([*picture.encode(image), *picture.encode(None)])
    with pytest.raises(AudioError, match=r"has no sound in it$"):
        open_song(path)

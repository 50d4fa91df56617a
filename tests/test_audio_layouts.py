"""The places of channels: stems have those of the song, and no channel loses its high tones.

Songs are made, a tone of its own in each channel, and stems are read back by FFmpeg alone.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
import pytest

from splitter.audio import (
    Block,
    OutputFormat,
    StemWriter,
    Tags,
    fit_layout,
    open_song,
    write_stems,
)
from splitter.audio.layouts import name_layout
from splitter.errors import AudioError
from splitter.outputs import Output, plan_stems
from tests import sounds
from tests.codecs import Pipe, Sink, read
from tests.commands import ENVIRONMENT, Done

RATE = 48000  # Hz
LAYOUTS = (
    *("2.1", "3.0", "3.0(back)", "3 channels (FL+FR+BL)"),
    *("3.1", "4.0", "quad", "quad(side)"),
    *("4.1", "5.0", "5.0(side)"),
    *("5.1", "5.1(side)", "6.0", "6.0(front)", "hexagonal", "3.1.2"),
    *("6.1", "6.1(back)", "6.1(front)", "7.0", "7.0(front)"),
    *("7.1", "7.1(wide)", "7.1(wide-side)", "octagonal", "cube", "5.1.2"),
)
# of those, the ones that have no subwoofer where Vorbis' and Opus' only layout has theirs
REFUSED = (
    *("6.0", "6.0(front)", "hexagonal", "6.1(front)", "7.0", "7.0(front)", "octagonal", "cube"),
)
M4A_NAMES = ("2.1", "3.0", "3.0(back)", "4.0", "quad", "5.0", "5.1", "7.1")
TAGS = Tags(title="Song", artist="Singer")


def list_places(layout: str) -> list[str]:
    return [channel.name for channel in av.AudioLayout(layout).channels]


def list_tones(layout: str) -> list[int]:
    """A tone for each channel, in Hz; the subwoofer's is one that a subwoofer has."""
    places = list_places(layout)
    return [40 if place == "LFE" else 1000 + 50 * at for at, place in enumerate(places)]


def make_sound(layout: str) -> Block:
    """A second of the tones."""
    time = np.arange(RATE) / RATE
    tones = [0.3 * np.sin(2 * np.pi * hertz * time) for hertz in list_tones(layout)]
    return np.asarray(tones, np.float32)


def make_song(path: Path, layout: str, codec: str = "pcm_s16le") -> Path:
    """Write them by FFmpeg, as wav or flac."""
    numbers = np.round(make_sound(layout).T * 2**15).astype(np.int16).reshape(1, -1)
    with av.open(str(path), "w", format=path.suffix[1:]) as output:
        track = cast(Any, output.add_stream(codec, rate=RATE, layout=layout))
        frame = av.AudioFrame.from_ndarray(numbers, "s16", layout)
        frame.sample_rate, frame.pts = RATE, 0
        output.mux(track.encode(frame))
        output.mux(track.encode(None))
    return path


def write_stem(song: Path, container: str, **options: Any) -> Path:
    """Write the song as its own stem, by the way that separation takes."""
    stem = song.with_name(f"stem.{container}")
    with open_song(song) as reader:
        plan = plan_stems(reader, {"a": stem}, Output(format=OutputFormat(container, **options)))
        shape = reader.rate, reader.channels
        with write_stems(plan.targets, *shape, plan.format, TAGS, reader.layout) as writers:
            for block in reader.read_blocks():
                writers["a"].write(block)
    return stem


def find_layout(file: Path | io.BytesIO) -> str:
    """What FFmpeg says of a file."""
    with av.open(file if isinstance(file, io.BytesIO) else str(file)) as container:
        return str(next(container.decode(audio=0)).layout.name)


def assert_whole(stem: Path, layout: str) -> None:
    """Each channel has its own tone, as loud as it was."""
    found = read(stem)[:, :RATE]
    tones = list_tones(layout)
    assert np.argmax(np.abs(np.fft.rfft(found, axis=1)), axis=1).tolist() == tones  # bins of 1 Hz
    loudness = np.sqrt(np.mean(found**2, axis=1))
    assert loudness.min() > 0.19  # of 0.212: lossy encoders leave a tone within 1 dB


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_song_says_where_its_channels_stand(tmp_path: Path, suffix: str, layout: str) -> None:
    codec = "flac" if suffix == "flac" else "pcm_s16le"
    with open_song(make_song(tmp_path / f"song.{suffix}", layout, codec)) as song:
        assert song.layout == layout


def test_a_pipe_of_ogg_says_where_its_channels_stand(tmp_path: Path) -> None:
    stem = write_stem(make_song(tmp_path / "song.wav", "5.0"), "ogg")
    with open_song(cast(BinaryIO, Pipe(stem.read_bytes()))) as song:
        assert song.layout == "5.0"


@pytest.mark.parametrize(
    ("container", "layout"),
    [*product(("wav", "flac"), LAYOUTS), ("wav", "7.1.4")],  # of more channels than flac holds
)
def test_stems_without_loss_have_the_layout_of_the_song(
    tmp_path: Path, container: str, layout: str
) -> None:
    song = make_song(tmp_path / "song.wav", layout)
    stem = write_stem(song, container)
    assert find_layout(stem) == layout
    assert np.array_equal(read(stem), read(song))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("container", ["m4a", "ogg", "opus"])
def test_lossy_stems_keep_each_channel_whole_or_are_refused(
    tmp_path: Path, container: str, layout: str
) -> None:
    song = make_song(tmp_path / "song.wav", layout)
    if container != "m4a" and layout in REFUSED:
        told = rf"song\.wav: .*{container}: .* subwoofer.* choose another --format, such as flac"
        with pytest.raises(AudioError, match=told):
            write_stem(song, container)
        assert list(tmp_path.iterdir()) == [song]
        return
    stem = write_stem(song, container)
    assert_whole(stem, layout)
    if container == "m4a" and layout in M4A_NAMES:
        assert find_layout(stem) == layout


def test_m4a_takes_the_layout_itself_but_for_a_few() -> None:
    wanted = OutputFormat("m4a")
    taken = {layout: fit_layout(wanted, len(list_places(layout)), layout) for layout in LAYOUTS}
    others = {layout: other for layout, other in taken.items() if other != layout}
    sides = {"quad(side)": "quad", "5.0(side)": "5.0", "5.1(side)": "5.1"}
    permuted = {"6.0(front)": "6.0"}  # by FFmpeg's encoder
    unknown = {"3 channels (FL+FR+BL)": "3.0", "3.1.2": "5.1", "cube": "octagonal", "5.1.2": "7.1"}
    assert others == sides | permuted | unknown


@pytest.mark.parametrize("container", ["ogg", "opus", "m4a"])
@pytest.mark.parametrize(
    ("layout", "nearest"), [("5.1(side)", "5.1"), ("5.0(side)", "5.0"), ("quad(side)", "quad")]
)
def test_speakers_at_the_sides_are_those_behind_where_there_are_no_others(
    tmp_path: Path, container: str, layout: str, nearest: str
) -> None:
    stem = write_stem(make_song(tmp_path / "song.wav", layout), container)
    assert find_layout(stem) == nearest


@pytest.mark.parametrize("channels", [3, 4, 5, 6, 7, 8])
def test_a_song_that_states_no_places_has_the_usual_ones(tmp_path: Path, channels: int) -> None:
    usual = ("3.0", "quad", "5.0", "5.1", "6.1", "7.1")[channels - 3]
    song = sounds.write(tmp_path / "song.wav", sounds.noise(5000, channels), RATE)
    with open_song(song) as reader:
        assert reader.layout is None
    for container in ("wav", "flac", "ogg", "opus", "m4a"):
        stem = write_stem(song, container)
        known = container != "m4a" or usual in M4A_NAMES
        assert find_layout(stem) == (usual if known else f"{channels} channels")


@pytest.mark.parametrize("order", [None, "3 channels (LFE+FL+FR)"])
def test_a_layout_without_places_in_order_has_no_name(order: str | None) -> None:
    assert name_layout(av.AudioLayout(order or "3C")) is None


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="PyAV cannot write such an order")
def test_channels_in_an_order_of_their_own_are_read_without_their_places(tmp_path: Path) -> None:
    song, movie = make_song(tmp_path / "song.wav", "5.1"), tmp_path / "song.mov"
    order = "channelmap=map=0|1|2|4|5|3:channel_layout=FL+FR+FC+BL+BR+LFE"
    make = ("ffmpeg", "-v", "error", "-i", song, "-af", order, "-c:a", "pcm_s16le", movie)
    subprocess.run(make, check=True)
    code = (
        "import sys; from pathlib import Path; from tests.codecs import *;"
        "sounds = [read(Path(sys.argv[1])) for _ in range(9)];"
        "print(open_song(Path(sys.argv[1])).layout, *sounds[0].shape)"
    )
    command = (sys.executable, "-c", code, movie)  # in a process of its own: PyAV would end it
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert (done.returncode, done.stdout) == (0, f"None 6 {RATE}\n")


@pytest.mark.parametrize("container", ["wav", "flac", "m4a", "mp3"])
@pytest.mark.parametrize(("channels", "layout"), [(1, "mono"), (2, "stereo"), (2, "downmix")])
def test_one_or_two_channels_are_written_the_same_with_any_layout(
    tmp_path: Path, container: str, channels: int, layout: str
) -> None:
    contents = set()
    for given in (None, layout):
        path = tmp_path / "stem"
        with StemWriter(path, RATE, channels, OutputFormat(container), Tags(), given) as writer:
            writer.write(sounds.noise(5000, channels))
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_stems_that_wait_for_the_loudest_sample_keep_the_layout(tmp_path: Path) -> None:
    stem = write_stem(make_song(tmp_path / "song.wav", "hexagonal"), "wav", clip="rescale")
    assert find_layout(stem) == "hexagonal"


@pytest.mark.parametrize(("container", "layout"), [("wav", "3.1"), ("flac", "6.0"), ("m4a", "4.0")])
def test_a_pipe_gets_the_layout(container: str, layout: str) -> None:
    sound, sink = make_sound(layout), Sink()
    wanted = OutputFormat(container)
    with StemWriter(sink, RATE, len(sound), wanted, Tags(), layout) as writer:  # type: ignore[arg-type]
        writer.write(sound)
    assert find_layout(io.BytesIO(bytes(sink.data))) == layout


def test_a_song_that_is_mixed_to_one_channel_is_never_refused(tmp_path: Path) -> None:
    stem = write_stem(make_song(tmp_path / "song.wav", "6.0"), "ogg", mono=True)
    assert find_layout(stem) == "mono"


@pytest.mark.parametrize("layout", ["5.1", "nonsense", "4 channels (LFE+FL+FR+FC)", "4C"])
def test_a_layout_that_does_not_fit_is_told(layout: str) -> None:
    with pytest.raises(AudioError, match="not a layout of 4 channels"):
        fit_layout(OutputFormat(bits=16), 4, layout)


def test_separation_keeps_the_layout_or_says_at_once_that_it_cannot(
    separate: Callable[..., Done], tmp_path: Path
) -> None:
    make_song(tmp_path / "song.wav", "6.0")
    assert separate("song.wav", "-o", "out").status == 0
    assert {find_layout(stem) for stem in (tmp_path / "out").rglob("*.wav")} == {"6.0"}
    done = separate("song.wav", "-o", "lossy", "--format", "ogg")
    assert done.status == 1
    (complaint,) = done.complaints
    assert complaint.endswith("choose another --format, such as flac)")
    assert not (tmp_path / "lossy").exists()

"""Songs that were cut, joined, tagged or recorded are whole, whatever lies between their frames."""

from __future__ import annotations

import itertools
import random
import re
import time
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import pytest
from mutagen import id3

from splitter.audio import Block, Reading, open_song, resampled_length
from splitter.audio.fitting import Fitter
from splitter.audio.mpeg import Frame, Gap, Start, Torn, walk
from splitter.errors import AudioError
from tests.codecs import RATE, SAMPLES, Pipe, chirps, find_lag, make, read

COVER = b"\xff\xd8" + random.Random(1).randbytes(30_000)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same tones in all shapes that are joined."""
    folder = tmp_path_factory.mktemp("parts")
    made = {
        "stereo": make(folder / "stereo", "mp3", chirps()),
        "lavf": make(folder / "lavf", "lavf.mp3", chirps()),
        "mono": make(folder / "mono", "mp3", chirps(channels=1)),
        "slow": make(folder / "slow", "mp3", chirps(rate=22050), 22050),
        "aac": make(folder / "stereo", "aac", chirps()),
        "mono.aac": make(folder / "mono", "aac", chirps(channels=1)),
        "ogg": make(folder / "stereo", "ogg", chirps()),
        "mono.ogg": make(folder / "mono", "ogg", chirps(channels=1)),
        "slow.ogg": make(folder / "slow", "ogg", chirps(rate=22050), 22050),
        "opus": make(folder / "stereo", "opus", chirps(rate=48000), 48000),
        "long.ogg": make(folder / "long", "ogg", chirps(4 * SAMPLES)),
        "long.opus": make(folder / "long", "opus", chirps(4 * SAMPLES, rate=48000), 48000),
        "mono.opus": make(folder / "mono", "opus", chirps(channels=1, rate=48000), 48000),
        "slow.aac": make(folder / "slow", "aac", chirps(rate=22050), 22050),
    }
    return {name: path.read_bytes() for name, path in made.items()}


def frames(data: bytes) -> list[bytes]:
    return [piece.data for piece in walk(BytesIO(data).read) if isinstance(piece, Frame)]


def tag(cover: bytes = COVER, version: int = 4) -> bytes:
    tags = id3.ID3()
    tags.add(id3.TIT2(text="Title"))
    tags.add(id3.APIC(mime="image/jpeg", type=3, data=cover))
    file = BytesIO()
    tags.save(file, v2_version=version)
    return file.getvalue()


def sound(data: bytes) -> Block:
    """Read what must be sound, from a file and from a pipe."""
    with open_song(BytesIO(data)) as song:
        decoded = np.concatenate(list(song.read_blocks()), axis=1)
        assert song.damage is None
    assert np.array_equal(read(Pipe(data, step=1000)), decoded)
    return decoded


def ape_tag() -> bytes:
    item = (4).to_bytes(4, "little") + bytes(4) + b"Album\0Name"
    sizes = (2000).to_bytes(4, "little") + (32 + len(item)).to_bytes(4, "little")
    head = b"APETAGEX" + sizes + (1).to_bytes(4, "little")
    flags = (0xA0000000).to_bytes(4, "little"), (0x80000000).to_bytes(4, "little")
    return head + flags[0] + bytes(8) + item + head + flags[1] + bytes(8)


HEADS = {
    "junk": random.Random(0).randbytes(65_000),
    "zeros": bytes(65_000),
    "two tags": tag() + tag(version=3),
    "a tag and zeros": tag() + bytes(5000),
}
TAILS = {
    "ID3v1": b"TAG" + bytes(125),
    "ID3v1 and more": b"TAG+" + bytes(223) + b"TAG" + bytes(125),
    "APEv2": ape_tag(),
    "APEv2 and ID3v1": ape_tag() + b"TAG" + bytes(125),
    "ID3v2": tag(),
    "Lyrics3": b"LYRICSBEGININD0000210000018LYRICS200TAG" + bytes(125),
    "zeros": bytes(65_000),
    "junk": random.Random(2).randbytes(65_000),
}


@pytest.mark.parametrize("head", HEADS)
def test_what_lies_before_the_first_frame_is_no_damage(parts: dict[str, bytes], head: str) -> None:
    assert np.array_equal(sound(HEADS[head] + parts["stereo"]), read(BytesIO(parts["stereo"])))


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("name", ["stereo", "lavf"])
def test_what_lies_behind_the_last_frame_is_no_damage(
    parts: dict[str, bytes], name: str, tail: str
) -> None:
    whole = read(BytesIO(parts[name]))
    assert np.array_equal(sound(parts[name] + TAILS[tail]), whole)
    bare = b"".join(frames(parts[name]))  # without a length
    assert np.array_equal(sound(bare + TAILS[tail]), sound(bare))


@pytest.mark.parametrize(
    ("first", "second", "between"),
    [
        ("stereo", "stereo", ""),
        ("stereo", "mono", "ID3v2"),
        ("stereo", "slow", "junk"),
        ("mono", "stereo", ""),
        ("mono", "mono", "APEv2"),
        ("mono", "slow", "zeros"),
        ("slow", "stereo", "ID3v1"),
        ("slow", "mono", ""),
        ("slow", "slow", "ID3v2"),
    ],
)
def test_joined_mp3s_are_whole_whatever_their_shapes(
    parts: dict[str, bytes], first: str, second: str, between: str
) -> None:
    joined = sound(parts[first] + TAILS.get(between, b"") + parts[second])
    with open_song(BytesIO(parts[first])) as song:
        rate, channels = song.rate, song.channels
    rates = {"stereo": RATE, "mono": RATE, "slow": 22050}
    lengths = [SAMPLES * rate / rates[name] for name in (first, second)]
    assert len(joined) == channels
    # a joint keeps the delay and the padding of encoders
    assert 0 <= joined.shape[1] - sum(lengths) < 4 * 1152
    # the second part is there, as loud as it was
    tone = chirps(int(lengths[1]), channels if second != "mono" else 1, rate)
    if channels == 1 and second != "mono":
        tone = chirps(int(lengths[1]), 2, rate).mean(axis=0, keepdims=True)
    place = joined[:, -round(lengths[1]) - 4000 :]
    start = -find_lag(place[0], tone[0])
    assert abs(start - 4000) < 3  # the encoder's padding at the end is gone
    found = place[:, start : start + tone.shape[1]]
    assert (
        np.abs(found - tone[:, : found.shape[1]])[:, 3000:-3000].max() < 0.12
    )  # half a sample at another rate


@pytest.mark.parametrize("many", ["5.1", "7.1", "22.2"])
def test_a_song_that_goes_on_in_other_channels_keeps_its_own(many: str) -> None:
    told: list[str] = []
    stereo, surround = av.AudioLayout("stereo"), av.AudioLayout(many)
    for first, second in ((stereo, surround), (surround, stereo)):
        fitter = Fitter(RATE, first, told.append)
        blocks = []
        for layout in (first, second):
            block = np.zeros((layout.nb_channels, 4096), np.float32)
            block[:2] = chirps(4096)  # left and right come first
            blocks += fitter.feed(block, RATE, layout)
        blocks.append(fitter.finish())
        joined = np.concatenate(blocks, axis=1)
        assert joined.shape == (first.nb_channels, 8192)
        assert np.corrcoef(joined[0, 4096:], chirps(4096)[0])[0, 1] > 0.99
    assert len(told) == 2


def encode_mp2(rate: int, frames: int) -> bytes:
    """Make so many frames of 1152 samples."""
    file = BytesIO()
    with av.open(file, "w", format="mp2") as output:
        track = output.add_stream("mp2", rate=rate, layout="stereo", options={"b": "160k"})
        signal = np.ascontiguousarray(chirps(1152 * frames, rate=rate) * 32767).astype("<i2")
        frame = av.AudioFrame.from_ndarray(signal.T.reshape(1, -1), "s16", "stereo")
        frame.sample_rate, frame.pts = rate, 0
        output.mux(track.encode(frame))
        output.mux(track.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(("first", "second"), [(44100, 22050), (22050, 44100), (48000, 44100)])
def test_the_first_frame_of_another_rate_is_as_long_as_the_others(first: int, second: int) -> None:
    joined = sound(encode_mp2(first, 30) + encode_mp2(second, 30))
    assert joined.shape[1] == pytest.approx(1152 * 30 * (1 + first / second), abs=2)


def test_a_change_of_shape_is_told_once(
    parts: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    read(BytesIO(parts["mono"] + parts["stereo"] + parts["mono"] + parts["stereo"]))
    (line,) = caplog.messages
    assert line.startswith("stream: changes from 44100 Hz mono to 44100 Hz stereo after 2.")


@pytest.mark.parametrize("other", ["mono.aac", "slow.aac"])
def test_joined_aac_streams_are_whole(parts: dict[str, bytes], other: str) -> None:
    for first, second in itertools.permutations(("aac", other)):
        joined = read(BytesIO(parts[first] + parts[second]))
        with open_song(BytesIO(parts[second])) as song:
            whole = sum(block.shape[1] for block in song.read_blocks()) / song.rate
        with open_song(BytesIO(parts[first])) as song:
            whole += sum(block.shape[1] for block in song.read_blocks()) / song.rate
            assert abs(joined.shape[1] - whole * song.rate) < 2100


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ogg", "ogg"),
        ("ogg", "mono.ogg"),
        ("slow.ogg", "ogg"),
        ("mono.opus", "opus"),
        ("opus", "slow.ogg"),
    ],
)
def test_chained_ogg_is_whole_to_the_sample(
    parts: dict[str, bytes], first: str, second: str
) -> None:
    joined = sound(parts[first] + parts[second])
    alone = read(BytesIO(parts[first]))
    assert np.array_equal(joined[:, :SAMPLES], alone)
    rates = {"slow.ogg": 22050, "opus": 48000, "mono.opus": 48000}
    rate, other = rates.get(first, RATE), rates.get(second, RATE)
    tone = chirps(resampled_length(SAMPLES, other, rate), 1 + (second in ("ogg", "opus")), rate)
    if len(alone) < len(tone):
        tone = tone.mean(axis=0, keepdims=True)
    found = joined[:, SAMPLES:]
    assert found.shape[1] == tone.shape[1]
    if second != "slow.ogg":  # its treble is another
        assert np.abs(found - tone[:1])[0, 3000:-3000].max() < 0.05


def test_a_link_that_breaks_off_is_damage(parts: dict[str, bytes]) -> None:
    data = parts["ogg"]
    data = data[: data.rindex(b"OggS") + 500] + parts["mono.ogg"]
    with pytest.raises(AudioError, match="damaged near"):
        read(BytesIO(data))
    with open_song(Pipe(data), Reading(keep_partial=True)) as song:
        assert sum(block.shape[1] for block in song.read_blocks()) > SAMPLES
        assert song.damage


@pytest.mark.parametrize("kind", [BytesIO, Pipe])
@pytest.mark.parametrize("kept", [slice(0, -1), slice(1, None), slice(1, -1)])
@pytest.mark.parametrize("behind", ["", "mono.ogg"])
def test_an_ogg_of_whole_pages_is_whole_wherever_it_was_cut(
    parts: dict[str, bytes],
    kind: type[BinaryIO],
    kept: slice,
    behind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A radio sends the headers first, whenever one tunes in; its listeners leave at any time."""
    pages = make_pages(parts["long.opus"])
    late = b"".join(pages[:2] + pages[2:][kept]) + parts.get(behind, b"")
    with open_song(kind(late)) as song:
        decoded = sum(block.shape[1] for block in song.read_blocks())
        assert song.damage is None
    assert decoded > 2 * SAMPLES + (resampled_length(SAMPLES, RATE, 48000) if behind else 0)
    told = any("is a recording without an end" in line for line in caplog.messages)
    assert told == (kept.stop == -1)


@pytest.mark.parametrize("kind", [BytesIO, Pipe])
@pytest.mark.parametrize("name", ["ogg", "opus"])
@pytest.mark.parametrize("behind", ["", "mono.ogg"])
@pytest.mark.parametrize("harm", ["a bit", "a page", "its number", "junk"])
def test_pages_that_are_broken_or_missing_are_damage(
    parts: dict[str, bytes], name: str, kind: type[BinaryIO], behind: str, harm: str
) -> None:
    """FFmpeg passes over them, and gives the rest without a word."""
    pages = [bytearray(page) for page in make_pages(parts[f"long.{name}"])]
    if harm == "a bit":
        pages[-2][len(pages[-2]) // 2] ^= 1
    elif harm == "a page":
        del pages[-2]
    elif harm == "its number":
        pages[-2][18] ^= 64
    else:
        pages[-1][:0] = b"junk"
    with pytest.raises(AudioError, match=r"damaged|gaps"):
        read(kind(b"".join(pages) + parts.get(behind, b"")))


def make_pages(data: bytes) -> list[bytes]:
    places = [found.start() for found in re.finditer(b"OggS\0", data)]
    return [data[a:b] for a, b in itertools.pairwise([*places, len(data)])]


def test_a_cut_without_encoding_is_whole(parts: dict[str, bytes]) -> None:
    """As `ffmpeg -ss … -c copy` does it: the tag of the new file has no delay and no padding."""
    target = BytesIO()
    with av.open(BytesIO(parts["stereo"])) as song, av.open(target, "w", format="mp3") as output:
        track = output.add_stream_from_template(song.streams.audio[0])
        for packet in itertools.islice(song.demux(audio=0), 20, 60):
            packet.stream = track
            output.mux(packet)
    cut = sound(target.getvalue())
    assert cut.shape == (2, 40 * 1152 - 529)  # a decoder keeps the last 529 samples
    assert np.abs(cut).max() > 0.2


@pytest.mark.parametrize("error", range(-3, 4))
def test_a_header_may_err_by_three_frames(parts: dict[str, bytes], error: int) -> None:
    data = bytearray(parts["lavf"])
    place = data.index(b"Info") + 8
    count = int.from_bytes(data[place : place + 4], "big")
    data[place : place + 4] = (count + error).to_bytes(4, "big")
    assert abs(sound(bytes(data)).shape[1] - SAMPLES) <= 1152


def test_a_recording_may_begin_and_end_within_a_frame(parts: dict[str, bytes]) -> None:
    stream = b"".join(frames(parts["stereo"]))[100:-100]
    with open_song(BytesIO(stream)) as song:
        decoded = sum(block.shape[1] for block in song.read_blocks())
        assert song.damage == "ends 26.12 ms early, which nobody hears"
    assert decoded == (len(frames(parts["stereo"])) - 2) * 1152


@pytest.mark.parametrize("bare", [True, False])
def test_frames_lost_in_the_middle_are_damage(parts: dict[str, bytes], bare: bool) -> None:
    pieces = frames(parts["lavf"])
    head = b"" if bare else parts["lavf"][: parts["lavf"].index(pieces[0])]
    middle = len(pieces) // 2
    for hole in (bytes(2000), random.Random(0).randbytes(2000), b"\xff" * 2000):
        data = head + b"".join(pieces[:middle]) + hole + b"".join(pieces[middle + 5 :])
        with pytest.raises(AudioError, match=r"damaged near 1\.\d\d s"):
            read(BytesIO(data))
        with open_song(BytesIO(data), Reading(keep_partial=True)) as song:
            kept = sum(block.shape[1] for block in song.read_blocks())
        assert kept == pytest.approx(SAMPLES - 5 * 1152, abs=1152 + 1105)


def test_a_part_that_breaks_off_before_another_is_damage(parts: dict[str, bytes]) -> None:
    half = b"".join([*frames(parts["lavf"])[:40]])
    head = parts["lavf"][: parts["lavf"].index(half[:200])]
    with pytest.raises(AudioError, match=r"damaged near 1\.\d\d s"):
        read(BytesIO(head + half + parts["stereo"]))


def test_a_file_filled_with_zeros_is_not_taken_for_a_short_song(parts: dict[str, bytes]) -> None:
    """As a download leaves it that was given its size beforehand."""
    half = b"".join(frames(parts["lavf"])[:40])
    with pytest.raises(AudioError, match=r"200000 bytes .* are not audio"):
        read(BytesIO(half + bytes(200_000)))


def test_a_walk_tells_what_lies_between_frames(parts: dict[str, bytes]) -> None:
    pieces = frames(parts["lavf"])
    one, two = b"".join(pieces[:10]), b"".join(pieces[10:20])
    found = list(walk(BytesIO(b"x" * 9 + one + b"y" * 7 + two + b"z" * 5).read))
    others = [piece for piece in found if not isinstance(piece, Frame)]
    assert others == [Gap(9, "head"), Start(None), Gap(7, "middle"), Gap(5, "end")]
    assert [p.data for p in found if isinstance(p, Frame)] == pieces[:20]
    for tail in ("ID3v1", "ID3v1 and more", "APEv2", "ID3v2", "Lyrics3"):
        tagged = walk(BytesIO(one + TAILS[tail] + two).read)
        assert not any(isinstance(piece, Gap) for piece in tagged), tail
    torn = list(walk(BytesIO(one + two[:-1]).read))
    assert isinstance(torn[-1], Torn)
    assert sum(isinstance(piece, Frame) for piece in torn) == 19
    # a frame that was cut, and another recording behind it
    cut = [p for p in walk(BytesIO(one[:-50] + two).read) if not isinstance(p, Start)]
    assert [p.size for p in cut if isinstance(p, Gap)] == [len(pieces[9]) - 50]
    assert [p.data for p in cut if isinstance(p, Frame)] == pieces[:9] + pieces[10:20]


@pytest.mark.parametrize(
    "filling", [b"\xff", b"\xff\xfb\x90\x00", b"TAG", b"LYRICSBEGIN", b"ID3\4"]
)
def test_bytes_that_look_like_frames_or_tags_cost_no_time(filling: bytes) -> None:
    """Twice as many cost about twice as much; all against all would cost four times as much."""
    took = []
    for size in (200_000, 400_000):
        data = filling * (size // len(filling))
        started = time.process_time()
        assert sum(isinstance(piece, Frame) for piece in walk(BytesIO(data).read)) <= 1
        took.append(time.process_time() - started)
    assert took[1] < 3 * took[0] + 0.1


def test_a_pipe_of_several_tags_can_be_started_again(
    parts: dict[str, bytes], tmp_path: Path
) -> None:
    data = tag(cover=b"\xff\xd8" + bytes(3_000_000)) + parts["stereo"]
    with open_song(Pipe(data)) as song:
        assert song.tags.title == "Title"
        assert len(song.tags.cover or b"") == 3_000_002
        assert sum(block.shape[1] for block in song.read_blocks()) == SAMPLES


@pytest.mark.parametrize("start", [0, 9])
def test_a_flac_that_was_cut_without_encoding_keeps_its_old_length(
    tmp_path: Path, start: int, caplog: pytest.LogCaptureFixture
) -> None:
    song, cut = make(tmp_path / "song", "flac", chirps()), tmp_path / "cut.flac"
    with av.open(song) as whole:
        places = [p.pos for p in whole.demux(audio=0) if p.pos is not None]
    data = song.read_bytes()
    cut.write_bytes(data[: places[0]] + data[places[start] : places[start + 10]])
    with open_song(cut) as reader:
        decoded = np.concatenate(list(reader.read_blocks()), axis=1)
        assert reader.damage is None
    assert "was cut from a longer song" in caplog.text
    size = decoded.shape[1]
    assert np.abs(decoded - chirps()[:, start * 4096 : start * 4096 + size]).max() < 1e-4
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(AudioError, match="breaks off"):
        read(cut)

"""Mp3s that few programs make: in free format, with a VBRI tag."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from splitter.audio import Reading, open_song
from splitter.audio.mpeg import Frame, walk
from splitter.errors import AudioError
from tests.codecs import RATE, SAMPLES, Pipe, chirps, find_lag, make, read

FRAME = 1152  # samples


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The frames of an mp3 of constant bitrate, without a tag."""
    return frames_of(make(tmp_path_factory.mktemp("mp3") / "song", "lavf.mp3", chirps()))


def frames_of(path: Path) -> list[bytes]:
    pieces = walk(BytesIO(path.read_bytes()).read)
    found = [piece.data for piece in pieces if isinstance(piece, Frame)]
    assert len({len(frame) - (frame[2] >> 1 & 1) for frame in found}) == 1
    return found


def free(frames: list[bytes]) -> bytes:
    """Make an mp3 in free format of one of constant bitrate: its heads state none."""
    return b"".join(frame[:2] + bytes([frame[2] & 0x0F]) + frame[3:] for frame in frames)


@pytest.mark.parametrize("tail", [b"", b"TAG" + bytes(125), bytes(100)], ids=len)
@pytest.mark.parametrize("head", [b"", b"ID3\4\0\0\0\0\1\0" + bytes(128)], ids=len)
def test_free_format_is_what_it_would_be_with_a_bitrate(
    pieces: list[bytes], head: bytes, tail: bytes
) -> None:
    with open_song(BytesIO(head + free(pieces) + tail)) as song:
        decoded = np.concatenate(list(song.read_blocks()), axis=1)
        assert song.damage is None
    stated = read(BytesIO(b"".join(pieces)))
    size = min(decoded.shape[1], stated.shape[1])
    assert size >= SAMPLES
    assert stated.shape[1] - size < FRAME  # decoders keep their own delay or not
    late = find_lag(stated[0], decoded[0])
    assert abs(late) <= 529
    aligned = decoded[:, max(late, 0) :], stated[:, max(-late, 0) :]
    length = min(signal.shape[1] for signal in aligned) - FRAME
    assert np.abs(aligned[0][:, FRAME:length] - aligned[1][:, FRAME:length]).max() < 1e-4


@pytest.mark.parametrize("rate", [32000, 48000])
def test_free_format_is_read_at_any_rate(tmp_path: Path, rate: int) -> None:
    frames = frames_of(make(tmp_path / "song", "lavf.mp3", chirps(), rate))
    with open_song(BytesIO(free(frames))) as song:
        assert song.rate == rate
        assert sum(block.shape[1] for block in song.read_blocks()) >= SAMPLES


def test_free_format_that_has_fewer_frames_than_it_claims_breaks_off(pieces: list[bytes]) -> None:
    tag = pieces[0][:4] + bytes(32) + b"Info" + (1).to_bytes(4, "big")
    tag += len(pieces).to_bytes(4, "big")
    first = tag.ljust(len(pieces[0]), b"\0")
    assert read(BytesIO(free([first, *pieces]))).shape[1] >= SAMPLES
    with pytest.raises(AudioError, match=r"breaks off after 1\.\d\d of 2\.\d\d s"):
        read(BytesIO(free([first, *pieces[:40]])))


@pytest.mark.parametrize("harm", ["torn", "torn head", "hole", "lost"])
def test_damage_of_free_format_is_told(pieces: list[bytes], harm: str) -> None:
    half, rest = free(pieces[:40]), free(pieces[40:])
    data = {
        "torn": half[:-50],
        "torn head": half + rest[:3],
        "hole": half + bytes(2000) + rest,
        "lost": half[:-50] + rest,
    }[harm]
    with pytest.raises(AudioError, match=r"breaks off|damaged near"):
        read(BytesIO(data))
    with open_song(BytesIO(data), Reading(keep_partial=True)) as song:
        assert sum(block.shape[1] for block in song.read_blocks()) > 30 * FRAME
        assert song.damage


def test_free_format_through_a_pipe_is_refused_with_the_remedy(pieces: list[bytes]) -> None:
    with pytest.raises(AudioError, match="can only be read as a file"):
        read(Pipe(free(pieces)))


def vbri(frames: int, like: bytes) -> bytes:
    """Make the first frame of Fraunhofer's encoder (codeproject.com/Articles/8295)."""
    tag = b"VBRI" + (1).to_bytes(2, "big") + bytes(2) + (75).to_bytes(2, "big")
    tag += (frames * len(like)).to_bytes(4, "big") + frames.to_bytes(4, "big")
    tag += bytes([0, 0, 0, 1, 0, 2, 0, 1])
    return (like[:4] + bytes(32) + tag).ljust(len(like), b"\0")


@pytest.mark.parametrize("error", [-3, 0, 3])
def test_a_vbri_tag_is_no_sound_and_states_the_length(pieces: list[bytes], error: int) -> None:
    data = vbri(len(pieces) + error, pieces[0]) + b"".join(pieces)
    for source in (BytesIO(data), Pipe(data)):
        with open_song(source) as song:
            decoded = np.concatenate(list(song.read_blocks()), axis=1)
            assert song.damage is None
        assert np.array_equal(decoded, read(BytesIO(b"".join(pieces))))


def test_a_vbri_tag_tells_what_broke_off(pieces: list[bytes]) -> None:
    """Between two frames, where nothing else shows it."""
    data = vbri(len(pieces), pieces[0]) + b"".join(pieces[:40])
    with pytest.raises(AudioError, match=r"breaks off after 1\.0\d of 2\.\d\d s"):
        read(BytesIO(data))
    assert RATE == 44100  # which the seconds above mean

"""Edit lists of m4a: what a player leaves out, or begins later, without a new encoding."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest

from splitter.audio import Block, open_song
from splitter.errors import AudioError
from tests.codecs import SAMPLES, Pipe, chirps, make, read

PRIMING = 1024  # samples, of AAC
EMPTY = -1  # of an edit: nothing is played
HALF = 22050  # samples, half a second


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An m4a whose edit list counts in samples, before its sound."""
    return make(tmp_path_factory.mktemp("edits") / "song", "m4a", chirps()).read_bytes()


def edit(song: bytes, *edits: tuple[int, int]) -> bytes:
    """Replace the edit list: (duration, place in the media) of each (ISO 14496-12, 8.6.6)."""
    data = bytearray(song)
    place = data.index(b"elst") - 4
    box = b"elst" + bytes(4) + len(edits).to_bytes(4, "big")
    for duration, media in edits:
        box += duration.to_bytes(4, "big") + media.to_bytes(4, "big", signed=True) + b"\0\1\0\0"
    grown = 4 + len(box) - int.from_bytes(data[place : place + 4], "big")
    data[place : place + 4 + len(box) - grown] = (4 + len(box)).to_bytes(4, "big") + box

    def add(offset: int, more: int) -> None:
        value = int.from_bytes(data[offset : offset + 4], "big") + more
        data[offset : offset + 4] = value.to_bytes(4, "big")

    for name in (b"edts", b"trak", b"moov"):
        add(data.index(name) - 4, grown)
    total = sum(duration for duration, _ in edits)
    for name, offset in ((b"mvhd", 20), (b"tkhd", 24)):  # durations
        add(data.index(name) + offset, total - SAMPLES)
    chunks = data.index(b"stco") + 12
    for number in range(int.from_bytes(data[chunks - 4 : chunks], "big")):
        add(chunks + 4 * number, grown)
    return bytes(data)


@pytest.mark.parametrize(
    ("edits", "start", "stop"),
    [
        ([(SAMPLES, PRIMING)], 0, SAMPLES),
        ([(SAMPLES - HALF, PRIMING + HALF)], HALF, SAMPLES),
        ([(SAMPLES - HALF, PRIMING)], 0, SAMPLES - HALF),
        ([(HALF, EMPTY), (SAMPLES, PRIMING)], 0, SAMPLES),
        ([(HALF, EMPTY), (SAMPLES - HALF, PRIMING + HALF)], HALF, SAMPLES),
    ],
    ids=["whole", "start trimmed", "end trimmed", "empty edit", "empty and trimmed"],
)
@pytest.mark.parametrize("kind", [BytesIO, Pipe])
def test_an_edit_list_says_which_samples_are_the_song(
    song: bytes, edits: list[tuple[int, int]], start: int, stop: int, kind: type[BytesIO]
) -> None:
    whole: Block = read(BytesIO(song))
    with open_song(kind(edit(song, *edits))) as reader:
        decoded = np.concatenate(list(reader.read_blocks()), axis=1)
        assert reader.damage is None
    assert np.array_equal(decoded, whole[:, start:stop])


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("first", [[], [(HALF, EMPTY)]], ids=["whole", "empty edit"])
def test_what_breaks_off_behind_an_edit_list_is_told(
    song: bytes, first: list[tuple[int, int]], share: float
) -> None:
    data = edit(song, *first, (SAMPLES, PRIMING))
    with pytest.raises(AudioError, match="breaks off"):
        read(BytesIO(data[: round(share * len(data))]))


def test_a_late_start_of_sound_alone_is_no_remark(
    song: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no picture that it could be out of step with."""
    read(BytesIO(edit(song, (HALF, EMPTY), (SAMPLES, PRIMING))))
    assert caplog.messages == []

"""Mp3 in free format: frames of a size that their headers do not state.

FFmpeg knows no such frames; libsndfile does, but fills what is missing with silence. All frames but
the last have one size, so whether they are all there is found by hopping from head to head.
"""

from collections.abc import Iterator

from splitter.audio.blocks import Block
from splitter.audio.decoder import Fault, describe_break
from splitter.audio.mpeg import parse_frame, read_claim
from splitter.audio.native import read_native
from splitter.audio.parts import Peek
from splitter.audio.sndfile import SndfileDecoder
from splitter.audio.sources import Source

_LONGEST = 6000  # bytes of a frame: 1152 samples at 8 kHz and 320 kbit/s, or 640 at 16
_SLACK = 4  # frames by which a header may err, or that are delay and padding


def find_free_format(peek: Peek) -> tuple[int, int] | None:
    """Give where the first frame begins, and the size of all; None if it is no such mp3."""
    offset = 0
    if (head := peek(0, 10))[:3] == b"ID3" and len(head) == 10:  # id3.org/id3v2.4.0
        offset = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
    data = peek(offset, 2 * _LONGEST)
    if not _is_free(data[:4]):
        return None
    place = 4
    while 0 < (place := data.find(data[:2], place + 1)) <= _LONGEST:
        size = place - _padding(data)
        if _follows(data, data[place:]):
            third = place + size + _padding(data[place:])
            if _follows(data, data[third:]):
                return offset, size
    return None


def _state(frame: bytes) -> bytes:
    """Give a frame the lowest bitrate, so that the rest of its head can be read."""
    return frame[:2] + bytes([frame[2] | 0x10]) + frame[3:]


def _is_free(head: bytes) -> bool:
    return len(head) == 4 and head[2] >> 4 == 0 and parse_frame(_state(head)) is not None


def _follows(first: bytes, head: bytes) -> bool:
    """Tell whether this is the head of a frame of the same kind."""
    return _is_free(head[:4]) and head[1] == first[1] and head[2] >> 2 == first[2] >> 2


def _padding(head: bytes) -> int:
    return (head[2] >> 1 & 1) * (4 if head[1] >> 1 & 3 == 3 else 1)


class FreeFormatDecoder(SndfileDecoder):
    """A file of such frames."""

    sure = False

    def __init__(self, source: Source, begin: int, size: int) -> None:
        super().__init__(source)
        self._begin, self._size = begin, size
        self.native = read_native(source, "mp3")

    def read_arrays(self, patient: bool) -> Iterator[Block]:
        """Yield (channels, samples); what libsndfile does not like `find_fault` judges."""
        yield from super().read_arrays(patient=True)

    def find_fault(self, decoded: int) -> Fault | None:
        """Look whether frame follows frame, to a tag or to the end, and as many as it claims."""
        places = [self._begin, *self._hop()]
        size, first = self._source.measure(), self._source.read_at(self._begin, self._size)
        rest = self._source.read_at(places[-1], size - places[-1])
        begun = 0 < len(rest) < 4 and first.startswith(rest[:2])
        if places[-1] > size or begun:
            return describe_break(decoded, self.rate)
        while (place := rest.find(first[:2])) >= 0:
            rest = rest[place:]
            if _follows(first, rest) and _follows(first, rest[self._size + _padding(rest) :]):
                return Fault(f"damaged near {places[-1] / size * decoded / self.rate:.2f} s")
            rest = rest[1:]
        stated = _state(first)
        header, claim = parse_frame(stated[:4]), read_claim(stated)
        samples = header.samples if header else 0
        wanted = samples * max(len(places) - 1, claim.frames if claim else 0)
        if decoded + _SLACK * samples < wanted:
            return describe_break(decoded, self.rate, wanted)
        return None

    def _hop(self) -> Iterator[int]:
        """Yield the place behind each frame."""
        place, first = self._begin, self._source.read_at(self._begin, 4)
        while _follows(first, head := self._source.read_at(place, 4)):
            place += self._size + _padding(head)
            yield place

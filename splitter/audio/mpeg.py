"""MPEG audio (mp3, mp2, AAC) as what it is: a chain of frames, with anything between and around.

A player finds the next frame and goes on, so people join, cut, tag and record such files at will.
`walk` does the same, and says what lay between the frames: that tells junk from damage, which no
decoder can, since to a decoder both are bytes without a frame.

    junk ── [ID3] ── frame ── frame ── [APE] ── [ID3] ── frame … ── torn frame
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

_KBITS = {  # (MPEG 1, layer) → kbit/s by index (ISO 11172-3, 13818-3)
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)  # Hz, of MPEG 1
_HALVINGS = {3: 0, 2: 1, 0: 2}  # of the rate, by the version's bits: MPEG 1, 2, 2.5
_ADTS_RATES = (
    *(96000, 88200, 64000, 48000, 44100, 32000, 24000),
    *(22050, 16000, 12000, 11025, 8000, 7350),
)  # Hz, by index
_DECODER_DELAY = 529  # samples that every decoder adds (gabriel.mp3-tech.org/mp3infotag.html)
_CHAIN = 3  # frames in a row that make a beginning: random bytes look like one frame in 10,000
_READ = 65536  # bytes
_LYRICS = 1 << 13  # bytes at most, of Lyrics3 tags


@dataclass(frozen=True)
class FrameHeader:
    """What the four bytes at the head of a frame say."""

    size: int  # bytes
    samples: int
    rate: int  # Hz
    channels: int
    kind: tuple[int, int, int]  # version, layer, rate: the same in all frames of a recording


@dataclass(frozen=True)
class Claim:
    """What the tag in a recording's first frame (Xing, Info, VBRI) says of its length."""

    frames: int
    skipped: int = 0  # samples before the first of the song, with the decoder's own delay
    padding: int = 0  # samples behind the last one; a decoder keeps 529 for itself
    samples: int | None = None  # of the song; None: not told to the sample


@dataclass(frozen=True)
class Frame:
    """A whole frame of sound."""

    data: bytes
    header: FrameHeader


@dataclass(frozen=True)
class Start:
    """A recording begins here, as its own first frame says."""

    claim: Claim | None


@dataclass(frozen=True)
class Gap:
    """Bytes that are in no frame and no tag."""

    size: int
    place: str  # head, middle, joint (behind it another recording begins) or end


@dataclass(frozen=True)
class Torn:
    """The file ends within a frame."""

    header: FrameHeader


Piece = Frame | Start | Gap | Torn


@lru_cache(maxsize=1024)
def parse_frame(head: bytes) -> FrameHeader | None:
    """Read the first four bytes of a frame; None if they begin none, or one in free format."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    first = version == 3
    hertz = _RATES[rate] >> _HALVINGS[version]
    samples = {1: 384, 2: 1152, 3: 1152 if first else 576}[layer]
    unit = 4 if layer == 1 else 1  # bytes
    bits = _KBITS[first, layer][bitrate] * 1000
    size = (samples // 8 // unit * bits // hertz + (head[2] >> 1 & 1)) * unit
    channels = 1 if head[3] >> 6 == 3 else 2
    return FrameHeader(size, samples, hertz, channels, (version, layer, hertz))


def _make_pattern() -> bytes:
    """Make the pattern of a frame's first three bytes, so that junk is passed over in C."""
    kinds = [b for b in range(256) if parse_frame(bytes((255, b, 0x10, 0)))]
    rates = [c for c in range(256) if parse_frame(bytes((255, kinds[-1], c, 0)))]
    columns = (kinds, rates)  # what one says does not depend on the other
    return rb"\xff" + b"".join(b"[" + re.escape(bytes(column)) + b"]" for column in columns)


@dataclass(frozen=True)
class Syntax:
    """How frames of a kind begin."""

    parse: Callable[[bytes], FrameHeader | None]  # the first bytes of a frame
    size: int  # bytes that it needs
    head: re.Pattern[bytes]  # finds where a frame may begin

    @cached_property
    def head_or_tag(self) -> re.Pattern[bytes]:
        """Find where a frame or a tag may begin."""
        return re.compile(rb"ID3|TAG|APETAGEX|LYRICSBEGIN|" + self.head.pattern, re.DOTALL)


@lru_cache(maxsize=1024)
def parse_adts(head: bytes) -> FrameHeader | None:
    """Read the first seven bytes of a frame of AAC (ISO 13818-7, 6.2); None if they begin none."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    rate, size = head[2] >> 2 & 15, (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    channels = (head[2] & 1) << 2 | head[3] >> 6
    if rate >= len(_ADTS_RATES) or size < 7:
        return None
    return FrameHeader(size, 1024, _ADTS_RATES[rate], channels, (head[1], head[2], head[3] >> 6))


MPEG = Syntax(parse_frame, 4, re.compile(_make_pattern(), re.DOTALL))
ADTS = Syntax(parse_adts, 7, re.compile(rb"\xff[\xf0\xf1\xf8\xf9].", re.DOTALL))


def read_claim(frame: bytes) -> Claim | None:
    """Read the tag that stands in a recording's first frame in place of sound; None without."""
    header = parse_frame(frame[:4])
    if header is None:
        return None
    first = header.kind[0] == 3
    place = 4 + (32, 17, 17, 9)[2 * (not first) + (header.channels == 1)]  # behind side information
    if frame[place : place + 4] in (b"Xing", b"Info"):
        return _read_xing(frame, place, header.samples)
    if frame[36:40] == b"VBRI":
        return Claim(int.from_bytes(frame[50:54], "big"))
    return None


def _read_xing(frame: bytes, place: int, samples_per_frame: int) -> Claim:
    """Read the Xing tag and the LAME tag behind it (gabriel.mp3-tech.org/mp3infotag.html)."""
    flags = frame[place + 7]
    frames = int.from_bytes(frame[place + 8 : place + 12], "big") if flags & 1 else 0
    # behind frames, bytes, seek table and quality, where there are any
    lame = place + 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1)
    lame += 4 * (flags >> 3 & 1)
    if frame[lame : lame + 4] not in (b"LAME", b"Lavf", b"Lavc"):
        return Claim(frames)
    packed = int.from_bytes(frame[lame + 21 : lame + 24], "big")
    skipped, padding = (packed >> 12) + _DECODER_DELAY, max((packed & 0xFFF) - _DECODER_DELAY, 0)
    samples = frames * samples_per_frame - skipped - padding
    return Claim(frames, skipped, padding, samples if samples > 0 else None)


class _Window:
    """The bytes ahead."""

    def __init__(self, read: Callable[[int], bytes], syntax: Syntax) -> None:
        self.data = bytearray()
        self.syntax = syntax
        self._read = read

    def fill(self, size: int) -> bool:
        """See to it that so many bytes are here; False at the end of the file."""
        while len(self.data) < size:
            more = self._read(max(_READ, size - len(self.data)))
            if not more:
                return False
            self.data += more
        return True

    def drop(self, size: int) -> None:
        """Pass over bytes, those of a large tag without keeping them."""
        while size > len(self.data):
            size -= len(self.data)
            self.data = bytearray(self._read(_READ))
            if not self.data:
                return
        del self.data[:size]

    def header(self, place: int) -> FrameHeader | None:
        """Read the header of a frame at this place."""
        end = place + self.syntax.size
        return self.syntax.parse(bytes(self.data[place:end])) if self.fill(end) else None


def has_gap(read: Callable[[int], bytes], syntax: Syntax) -> bool:
    """Tell whether something other than frames and tags lies between two frames."""
    return any(isinstance(piece, Gap) and piece.place == "middle" for piece in walk(read, syntax))


def walk(read: Callable[[int], bytes], syntax: Syntax = MPEG) -> Iterator[Piece]:
    """Yield the frames of MPEG audio, and what else there is; tags are passed over.

    `read` gives at most so many bytes, none at the end.
    """
    window = _Window(read, syntax)
    last: FrameHeader | None = None
    beginning = b""  # of the last frame
    kind: object = None  # of the last frame
    gap, tagged = 0, True  # bytes, and whether a tag came: a recording may begin
    while window.fill(1):
        header = window.header(0)
        known = header is not None and header.kind == kind and not gap
        if header is None or not (known or _begins(window, 0)):
            rest = window.data[: syntax.size]
            if last and not gap and len(rest) < syntax.size and beginning == rest[:2]:
                yield Torn(last)  # within its head
                return
            size = _measure_tag(window)
            tagged |= size > 0
            skipped = size or _find_head(window, 1)
            gap += 0 if size else skipped
            window.drop(skipped)
            continue
        if not window.fill(header.size):
            yield Torn(header)
            return
        torn = _find_inner(window, header)
        if torn:
            gap += torn
            window.drop(torn)
            continue
        frame = bytes(window.data[: header.size])
        window.drop(header.size)
        claim, joint = read_claim(frame), tagged or kind != header.kind
        if gap:
            yield Gap(gap, "head" if kind is None else "joint" if claim or joint else "middle")
        if claim or kind is None:
            yield Start(claim)
        if not claim:
            yield Frame(frame, header)
        kind, gap, tagged = header.kind, 0, False
        last, beginning = header, frame[:2]
    if gap:
        yield Gap(gap, "end")


def _begins(window: _Window, place: int) -> bool:
    """Tell whether frames of one kind follow each other from here on, to a tag or to the end."""
    kind: object = None
    for length in range(_CHAIN):
        if kind and not window.fill(place):
            return length > 1
        if kind and (not window.fill(place + 1) or _measure_tag(window, place)):
            return True
        header = window.header(place)
        if header is None or kind not in (None, header.kind):
            return False
        kind, place = header.kind, place + header.size
    return True


def _find_head(window: _Window, place: int) -> int:
    """Give the place where a frame or a tag may begin, or the end of the bytes at hand."""
    window.fill(place + 11)
    found = window.syntax.head_or_tag.search(window.data, place)
    return found.start() if found else max(len(window.data) - 10, 1)  # a tag's name may be cut


def _find_inner(window: _Window, header: FrameHeader) -> int:
    """Give the place within the frame where another chain of frames begins: it was cut there."""
    follower = window.header(header.size)
    if follower and follower.kind == header.kind:
        return 0
    if not window.fill(header.size + 1) or _measure_tag(window, header.size):
        return 0
    for head in window.syntax.head.finditer(window.data, 4, header.size + 2):
        if _begins(window, head.start()):
            return head.start()
    return 0


def measure_id3(head: bytes) -> int:
    """Give the size of the ID3v2 tag that begins so, in bytes; 0 for none (id3.org/id3v2.4.0)."""
    if head[:3] != b"ID3" or len(head) < 10 or max(head[6:10]) > 127:
        return 0
    footer = 10 * (head[5] >> 4 & 1)
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) + footer


def measure_tag(head: bytes) -> int:
    """Give the bytes of the tag that begins with these 32: ID3v2 and v1, or APE; 0 for none."""
    if size := measure_id3(head):
        return size
    if head[:3] == b"TAG":
        return 227 if head[3:4] == b"+" else 128
    if head[:8] == b"APETAGEX" and len(head) == 32:  # header or footer; the size is of the rest
        is_header = head[23] >> 5 & 1
        return 32 + (int.from_bytes(head[12:16], "little") if is_header else 0)
    return 0


def _measure_tag(window: _Window, place: int = 0) -> int:
    """Give the bytes of the tag that begins here, also of Lyrics3; 0 for none."""
    window.fill(place + 32)
    head = bytes(window.data[place : place + 32])
    if size := measure_tag(head):
        return size
    if head[:11] == b"LYRICSBEGIN":
        window.fill(place + _LYRICS)
        end = re.compile(b"LYRICS200|LYRICSEND").search(window.data, place + 11)
        return end.end() - place if end else 0
    return 0

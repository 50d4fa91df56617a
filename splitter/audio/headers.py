"""What a song file says of its own length, read from its first and last bytes.

Decoders are content with what there is. To tell a whole song from one that breaks off, and to drop
the padding that some decoders leave at the end, the container itself is asked: sizes in the head of
wav, mp3 (Xing and LAME), Matroska and ASF, and the last page of Ogg.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

Peek = Callable[[int, int], bytes]  # (offset, size) → bytes, fewer where they are not known

_LAYER3_KBITS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5
}
_LAYER3_RATES = (44100, 48000, 32000)  # Hz, of MPEG 1
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_WAVE_CODES = (1, 3, 0xFFFE)  # integers, floats, extensible: all of one size per sample


@dataclass(frozen=True)
class Header:
    """A song's length as its own head has it; None where it does not say."""

    samples: int | None = None
    end: int | None = None  # bytes that the file must have


def read_header(peek: Peek) -> Header:
    """Recognise the container and read the lengths in its head."""
    magic = peek(0, 16)
    if magic[:4] in (b"RIFF", b"RF64") and magic[8:12] == b"WAVE":
        return _read_wave(peek)
    if magic[:4] == b"\x1a\x45\xdf\xa3":
        return _read_matroska(peek)
    if magic[:4] == b"\x30\x26\xb2\x75":
        return _read_asf(peek)
    if magic[:3] == b"ID3" or _is_layer3(magic):
        return _read_mp3(peek)
    return Header()


def _read_wave(peek: Peek) -> Header:
    offset, align, long_size = 12, 0, 0
    while len(head := peek(offset, 8)) == 8:
        name, size = struct.unpack("<4sI", head)
        body = offset + 8
        if name == b"fmt " and len(fmt := peek(body, 14)) == 14:
            code, align = struct.unpack("<H10xH", fmt)
            align *= code in _WAVE_CODES
        elif name == b"ds64" and len(sizes := peek(body, 16)) == 16:
            long_size = struct.unpack("<8xQ", sizes)[0]
        elif name == b"data":
            size = long_size if size == 0xFFFFFFFF else size
            if _is_open_ended(size):
                return Header()
            return Header(size // align if align else None, body + size)
        offset = body + size + size % 2
    return Header()


def _is_open_ended(size: int) -> bool:
    """Tell the sizes that programs write when they stream and cannot know."""
    return size == 0 or 0x7FFFF000 <= size <= 0x7FFFFFFF or 0xFFFFF000 <= size <= 0xFFFFFFFF


def _is_layer3(head: bytes) -> bool:
    return len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2


def measure_mp3_frame(head: bytes) -> int:
    """Give the bytes of the mp3 frame with this header; 0 where it does not say."""
    if not _is_layer3(head):
        return 0
    version = head[1] >> 3 & 3  # 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    first, bitrate, rate = version == 3, head[2] >> 4, head[2] >> 2 & 3
    if bitrate == 15 or rate == 3 or version == 1 or not bitrate:
        return 0
    hertz = _LAYER3_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bits = _LAYER3_KBITS[first][bitrate] * 1000 * (144 if first else 72)
    return bits // hertz + (head[2] >> 1 & 1)


def _read_mp3(peek: Peek) -> Header:
    start = 0
    while (head := peek(start, 10))[:3] == b"ID3" and len(head) == 10:
        start += 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
    frame = peek(start, 400)
    if not _is_layer3(frame):
        return Header()
    first, mono = frame[1] >> 3 & 3 == 3, frame[3] >> 6 == 3
    tag = 4 + (32, 17, 17, 9)[2 * (not first) + mono]  # the side information that comes before
    if frame[tag : tag + 4] not in (b"Xing", b"Info") or len(frame) < 400:
        return Header()
    return _read_xing(frame, tag, 1152 if first else 576)


def _read_xing(frame: bytes, tag: int, samples_per_frame: int) -> Header:
    """Read the Xing tag and the LAME tag behind it (gabriel.mp3-tech.org/mp3infotag.html)."""
    flags = frame[tag + 7]
    if not flags & 1:
        return Header()
    frames = int.from_bytes(frame[tag + 8 : tag + 12], "big")
    # behind bytes, seek table and quality, where there are any
    lame = tag + 12 + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    delay_and_padding = 0
    if frame[lame : lame + 4] in (b"LAME", b"Lavf", b"Lavc"):
        packed = int.from_bytes(frame[lame + 21 : lame + 24], "big")
        delay_and_padding = (packed >> 12) + (packed & 0xFFF)
    samples = frames * samples_per_frame - delay_and_padding
    return Header(samples if samples > 0 else None)


def _read_matroska(peek: Peek) -> Header:
    """Give the end of the segment, which holds all but a short head (RFC 8794)."""
    head_size, offset = _read_vint(peek, 4)
    if head_size is None or peek(offset + head_size, 4) != b"\x18\x53\x80\x67":
        return Header()
    size, offset = _read_vint(peek, offset + head_size + 4)
    return Header(end=None if size is None else offset + size)


def _read_vint(peek: Peek, offset: int) -> tuple[int | None, int]:
    """Read a number of variable length; None stands for unknown. Also give the offset behind it."""
    first = peek(offset, 1)
    if not first or not first[0]:
        return None, offset
    length = 9 - first[0].bit_length()
    value = int.from_bytes(peek(offset, length), "big") & ((1 << 7 * length) - 1)
    unknown = value == (1 << 7 * length) - 1
    return (None if unknown else value), offset + length


def _read_asf(peek: Peek) -> Header:
    opening = peek(0, 65536)
    place = opening.find(_ASF_FILE_PROPERTIES)
    size = int.from_bytes(opening[place + 40 : place + 48], "little")
    return Header(end=size if place >= 0 and size else None)


@dataclass(frozen=True)
class OggEnding:
    """The last page of an Ogg file."""

    whole: bool  # the page is all there and says that it is the last
    granule: int  # the number of the last sample, for Vorbis


def read_ogg_ending(ending: bytes) -> OggEnding:
    """Find the last page (RFC 3533) in the last bytes of a file."""
    place = ending.rfind(b"OggS")
    page = ending[place:] if place >= 0 else b""
    if len(page) < 27 or len(page) < 27 + page[26]:
        return OggEnding(False, 0)
    body = sum(page[27 : 27 + page[26]])
    whole = len(page) >= 27 + page[26] + body and bool(page[5] & 4)
    return OggEnding(whole, int.from_bytes(page[6:14], "little", signed=True))

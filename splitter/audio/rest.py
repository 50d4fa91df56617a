"""What lies behind the sound that was read: tags, chunks and padding, or what nobody reads.

    sound ── [chunk] ── [tag] ── zeros ── the rest

People join files of formats that hold one song each, and players read the first one alone. A rest
that is none of a format's own parts is told, so that no sound is lost without a word.
"""

import re
import struct
from dataclasses import dataclass

from splitter.audio.mpeg import measure_tag
from splitter.audio.parts import MOST_PARTS, Peek
from splitter.audio.sources import Source

JUNK = 1 << 16  # bytes that nobody misses
_READ = 1 << 16  # bytes
_MOST_ZEROS = 1 << 24  # bytes
_HEAD = 64  # bytes of a part, by which it is known
_CHUNKS = {"wav": "<4sI", "aiff": ">4sI", "caf": ">4sQ"}
_OBJECTS = {"w64": 8, "asf": 1}  # of a GUID and a size; bytes to which they are aligned
MOV = "mov,mp4,m4a,3gp,3g2,mj2"  # FFmpeg's name of MP4 and its kin
_BY_PACKETS = ("wv", "tta", "dsf", "ogg")  # what lies behind their last packet is no sound
_SONG = re.compile(
    rb"(RIF[FX]|RF64|BW64)....WAVE|FORM....AIF[FC]|fLaC\0|wvpk|TTA[12]|OggS\0|caff\0|\.snd\0"
    rb"|....ftyp|\x30\x26\xb2\x75\x8e\x66\xcf\x11|riff\x2e\x91\xcf\x11|\x1aE\xdf\xa3|MAC ",
    re.DOTALL,
)


@dataclass(frozen=True)
class Rest:
    """The bytes of a file that are neither read nor a known part of its format."""

    size: int = 0
    song: bool = False  # they begin like another one
    known: bool = True  # a pipe has not forgotten them

    def describe(self) -> str | None:
        """Say what is not read; None if nobody misses it."""
        if not self.known or (self.size <= JUNK and not self.song):
            return None
        size = f"{self.size / 1e6:.1f} MB" if self.size >= 100_000 else f"{self.size} bytes"
        return f"{size} behind its sound are not read" + (
            "; they begin like another song" if self.song else ""
        )


def has_rest(container: str) -> bool:
    """Tell whether what a format may have behind its sound is known here, by FFmpeg's name."""
    return container in (*_CHUNKS, *_OBJECTS, MOV, "au", *_BY_PACKETS)


def is_counted_by_packets(container: str) -> bool:
    """Tell whether a format's sound ends where its last packet does, whatever its head says."""
    return container in _BY_PACKETS


def find_rest(source: Source, container: str, place: int, heard: int = 0) -> Rest:
    """Pass over the parts of a format, tags and zeros from `place` on, and give what is left.

    What begins before `heard` has been read, so that it is no other song. Call it at the end.
    """
    source.keep(place)
    total, peek = source.measure(), source.read_at
    start = place
    for _ in range(MOST_PARTS):
        head = peek(place, _HEAD)
        if begins_song(head) and place >= heard:
            return Rest(total - place, song=True)
        size = measure_part(head, container) or count_zeros(peek, place)
        if not size:
            break
        if not any(head) and size >= _MOST_ZEROS:
            return Rest(0)  # a file that was made as large as it might become
        start, place = place, place + size
    if not head and place <= total + JUNK:
        return Rest(max(total - place, 0), known=False)  # if it is not the end
    return Rest(max(total - max(place if head else start, heard), 0))


def begins_song(head: bytes) -> bool:
    """Tell whether a file of a known format begins with these bytes."""
    return bool(_SONG.match(head)) and not _is_empty_block(head)


def _is_empty_block(head: bytes) -> bool:
    """Tell a block of WavPack that has no samples, such as a checksum (WavPack 5, 2.0)."""
    return head[:4] == b"wvpk" and not any(head[20:24])


def measure_part(head: bytes, container: str) -> int:
    """Give the bytes of the tag, chunk, object or box that begins so, unpadded; 0 for none."""
    is_chunk = head[:4].lower() == b"id3 "  # which holds a tag
    if not is_chunk and (size := measure_tag(head[:32])):
        return size
    if _is_empty_block(head):
        return 8 + int.from_bytes(head[4:8], "little")
    if container in _OBJECTS:
        size, step = int.from_bytes(head[16:24], "little"), _OBJECTS[container]
        return -(-size // step) * step if 24 <= size < 1 << 62 else 0
    if container == MOV:
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        return size if size >= 8 and head[4:8].isascii() and head[4:8].decode().isprintable() else 0
    form = _CHUNKS.get(container)
    if not form or len(head) < struct.calcsize(form) or not head[:4].isascii():
        return 0
    name, size = struct.unpack_from(form, head)
    return struct.calcsize(form) + size if name.decode().isprintable() else 0


def count_zeros(peek: Peek, place: int) -> int:
    """Count the bytes from `place` on that are 0, up to some 16 MB: disks may hold gigabytes."""
    start = place
    while place < start + _MOST_ZEROS and (data := peek(place, _READ)):
        zeros = len(data) - len(data.lstrip(b"\0"))
        place += zeros
        if zeros < len(data):
            break
    return place - start


def measure_tags(ending: bytes) -> int:
    """Give the bytes of the tags that a file ends with: ID3v1, and APE with its head or without."""
    size = 128 if ending[-128:].startswith(b"TAG") else 0
    foot = ending[len(ending) - size - 32 : len(ending) - size]
    if foot[:8] == b"APETAGEX":
        size += int.from_bytes(foot[12:16], "little") + 32 * (foot[23] >> 7)
    return size

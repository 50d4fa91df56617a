"""Tags that are too large for anyone: found before a decoder reads them, and hidden from it.

FFmpeg keeps covers of any size, and takes 13 s for 40,000 comments. So where a tag exceeds the
bounds, decoders of a file are shown a few other bytes in its place, and pass over it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from splitter.audio.fields import FIELDS, TOTALS
from splitter.audio.ogg import read_comments
from splitter.audio.parts import Part, Peek, walk_blocks, walk_boxes

COVER_BYTES = 8_000_000  # at most; a block of FLAC holds less than 16 MB
TEXT_BYTES = 1_000_000  # of all texts together
COMMENTS = 1000
_ID3_BYTES = 16_000_000  # of a whole tag that cannot be walked over
# bytes before the comments of an Ogg stream, by how it begins
_OGG = {b"\x01vorbis": 7, b"OpusHead": 8, b"\x7fFLAC": 4, b"Speex   ": 0, b"\x80theora": 7}
_PICTURES = (b"metadata_block_picture", b"coverart")  # in base64
_BOXES = 64  # that are looked at on one level
_KNOWN = {name for field in FIELDS.values() for name in (field.vorbis, *field.others)}
_KNOWN |= FIELDS.keys() | {name for names in TOTALS.values() for name in names}


@dataclass
class Excess:
    """What decoders are shown in place of a file's bytes, and what its user is told."""

    patches: dict[int, bytes] = field(default_factory=dict)  # by offset
    remarks: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)  # known fields of what is hidden

    def hide_cover(self, size: int, offset: int, patch: bytes) -> None:
        """Note a cover that is too large."""
        self.patches[offset] = patch
        self.remarks.append(describe_excess("cover", size, COVER_BYTES))

    def hide_comments(self, offset: int, patch: bytes) -> None:
        """Note comments that are too many."""
        self.patches[offset] = patch
        self.remarks.append(f"has more than {COMMENTS:,} comments; those behind them are not read")

    def keep_known(self, block: bytes | memoryview) -> None:
        """Note the known fields of a block of Vorbis comments that are too many."""
        self.remarks.append(
            f"has more than {COMMENTS:,} comments; others than title, artist and the like are not"
            " read"
        )
        self.texts |= _read_comments(block)


def describe_excess(name: str, size: int, most: int) -> str:
    """Say what the stems go without."""
    sizes = f"{math.ceil(size / 1e5) / 10} MB, at most {most / 1e6:.0f} MB"
    return f"its {name} is too large for the stems ({sizes}); they go without"


def find_excess(peek: Peek) -> Excess:
    """Look through the tags of a FLAC, an Ogg or MP4 file, or one that begins with ID3."""
    found, head = Excess(), peek(0, 8)
    if head[:4] == b"fLaC":
        _look_into_flac(peek, found)
    elif head[:4] == b"OggS":
        _look_into_ogg(peek, found)
    elif head[4:] == b"ftyp":
        _look_into_boxes(peek, 0, 1 << 62, found)
    elif head[:3] == b"ID3":
        _look_into_id3(peek, found)
    return found


def _look_into_flac(peek: Peek, found: Excess) -> None:
    """Make padding of blocks (RFC 9639, 8.1): pictures, and comments whose known fields stay."""
    for block in walk_blocks(peek):
        flag, kind = block.name[0] & 0x80, block.name[0] & 0x7F
        padding = bytes([flag | 1])
        if kind == 6 and block.size > COVER_BYTES:
            found.hide_cover(block.size, block.place, padding)
        elif kind == 4:
            vendor = int.from_bytes(peek(block.body, 4), "little")
            if int.from_bytes(peek(block.body + 4 + vendor, 4), "little") > COMMENTS:
                found.patches[block.place] = padding
                found.keep_known(peek(block.body, block.size))


def _look_into_ogg(peek: Peek, found: Excess) -> None:
    """Let a stream say that it has no comments, where they are too many, or a cover too large."""
    for comments in read_comments(peek):
        start = next((n for name, n in _OGG.items() if comments.opening.startswith(name)), None)
        if start is None:
            continue
        block = memoryview(comments.packet)[start:]
        place = 4 + int.from_bytes(block[:4], "little")  # behind the vendor
        cover = max((size * 3 // 4 for size in _measure_pictures(block)), default=0)
        if int.from_bytes(block[place : place + 4], "little") > COMMENTS:
            found.keep_known(block)
        elif cover > COVER_BYTES:
            found.remarks.append(describe_excess("cover", cover, COVER_BYTES))
            found.texts |= _read_comments(block)
        else:
            continue
        found.patches |= comments.change(peek, start + place, bytes(4))


def _measure_pictures(block: bytes | memoryview) -> Iterator[int]:
    """Yield the sizes of pictures among Vorbis comments, as text."""
    for name, start, end in _walk_comments(block):
        if name in _PICTURES:
            yield end - start


def _read_comments(block: bytes | memoryview) -> dict[str, str]:
    """Read the known fields of a block of Vorbis comments; several are joined as FFmpeg does."""
    texts: dict[str, list[str]] = {}
    for name, start, end in _walk_comments(block):
        key = name.decode("ascii", "replace")
        if key in _KNOWN and len(texts.setdefault(key, [])) < COMMENTS:
            texts[key].append(bytes(block[start:end]).decode("utf-8", "replace"))
    return {key: ";".join(several) for key, several in texts.items()}


def _walk_comments(block: bytes | memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Yield the names of Vorbis comments, in lower case, and where their texts begin and end."""
    place = 8 + int.from_bytes(block[:4], "little")  # behind the vendor and the count
    while place + 4 <= len(block):
        end = place + 4 + int.from_bytes(block[place : place + 4], "little")
        name, equals, _ = bytes(block[place + 4 : min(end, place + 64)]).partition(b"=")
        if equals:
            yield name.lower(), place + 5 + len(name), end
        place = end


def _look_into_boxes(peek: Peek, place: int, end: int, found: Excess, depth: int = 4) -> None:
    """Walk down to the list of tags of an MP4 file, in moov, udta and meta."""
    for box in islice(walk_boxes(peek, place, end), _BOXES if depth else 0):
        if box.name in (b"moov", b"udta"):
            _look_into_boxes(peek, box.body, min(box.end, end), found, depth - 1)
        elif box.name == b"meta":  # has a version before its boxes
            _look_into_boxes(peek, box.body + 4, min(box.end, end), found, depth - 1)
        elif box.name == b"ilst":
            _look_into_list(peek, box, found)


def _look_into_list(peek: Peek, tags: Part, found: Excess) -> None:
    """Make free space of covers, and of all that is behind the last comment allowed."""
    for number, box in enumerate(walk_boxes(peek, tags.body, tags.end)):
        if number == COMMENTS:
            rest = min(tags.end - box.place, 0xFFFFFFFF).to_bytes(4, "big") + b"free"
            found.hide_comments(box.place, rest)
            return
        if box.name == b"covr" and box.size > COVER_BYTES:
            found.hide_cover(box.size, box.place + 4, b"free")


def _look_into_id3(peek: Peek, found: Excess) -> None:
    """Rename covers, and end the tag (id3v2.4.0-structure, 3 and 4) behind the last comment."""
    if len(head := peek(0, 10)) < 10:
        return
    size, width = read_synchsafe(head[6:10]), 3 if head[3] == 2 else 4
    if head[5] & 0xC0:  # its frames cannot be told apart
        if size > _ID3_BYTES:
            found.patches[10] = b"\0"
            found.remarks.append(describe_excess("ID3 tag", size, _ID3_BYTES))
        return
    for number, (place, name, length) in enumerate(_walk_frames(peek, size, head[3], width)):
        if number == COMMENTS:
            found.hide_comments(place, b"\0")
            return
        if name in (b"APIC", b"PIC") and length > COVER_BYTES:
            found.hide_cover(length, place, b"X")


def _walk_frames(
    peek: Peek, size: int, version: int, width: int
) -> Iterator[tuple[int, bytes, int]]:
    place, head_size = 10, 6 if width == 3 else 10
    while place < 10 + size:
        head = peek(place, head_size)
        if len(head) < head_size or not head[0]:
            return
        sizes = head[width : 2 * width]
        length = read_synchsafe(sizes) if version == 4 else int.from_bytes(sizes, "big")
        yield place, head[:width], length
        place += head_size + length


def read_synchsafe(data: bytes) -> int:
    """Read a number of seven bits a byte."""
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(data)))

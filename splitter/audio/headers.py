"""What a song file says of its own length, read from its first and last bytes.

Decoders are content with what there is. To tell a whole song from one that breaks off, and to drop
the padding that some decoders leave at the end, the container itself is asked: sizes in the head of
wav, W64, AIFF, AU, AVI, CAF, MP4, Matroska and ASF. (Of mp3, see `mpeg`; of Ogg, see `ogg`.)
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile

from splitter.audio.mpeg import measure_tag
from splitter.audio.parts import MOST_PARTS, Peek, walk_blocks, walk_boxes, walk_chunks
from splitter.audio.rest import begins_song, count_zeros, measure_part

_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MATROSKA_INFO, _MATROSKA_DURATION = b"\x15\x49\xa9\x66", b"\x44\x89"
_AU_ENCODINGS = {
    1: "mulaw",
    2: "s8",
    3: "s16be",
    4: "s24be",
    5: "s32be",
    6: "f32be",
    7: "f64be",
    27: "alaw",
}
_AU_HEAD = 1 << 20  # bytes; the text in it is a remark
RIFFS = (b"RIFF", b"RF64", b"BW64")  # BW64: ITU-R BS.2088, with RF64's long sizes
_BOXES = (b"ftyp", b"free", b"skip", b"wide", b"moov", b"mdat")
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_FOREIGN = (  # what people and programs append, and chunks that are broken
    *(b"id3 ", b"ID3 ", b"LIST", b"bext", b"iXML", b"_PMX", b"fact", b"cue ", b"smpl", b"JUNK"),
    *(b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"PK\3\4", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b\x08"),
    *(b"%PDF", b"<!DO", b"<htm", b"<?xm", b"-----BEGIN", b"\xff" * 16),
)
_MORE = 1 << 14  # bytes: 0.1 s of sound (see `decoder.Fault`)
_WAVE_CODES = (1, 3, 0xFFFE)  # integers, floats, extensible: all of one size per sample


@dataclass(frozen=True)
class Header:
    """A song's length as its own head has it; None where it does not say."""

    samples: int | None = None
    end: int | None = None  # bytes that the file must have
    skipped: int = 0  # samples that the decoder gives before the song begins
    slack: int = 0  # samples by which `samples` may be too many
    timed: bool = True  # it may state a duration, in seconds
    sound: int | None = None  # the offset of sound whose size nobody knew when the head was written
    stop: int | None = None  # the offset behind the part that holds the sound, by its size
    cut: int | None = None  # samples, behind which decoders go on with what is no sound
    remark: str | None = None


def read_header(peek: Peek, whole: bool = False) -> Header:
    """Recognise the container and read the lengths in its head; a `whole` file has no more bytes.

    What goes on behind the end that a WAV states is sound (see `_goes_on`).
    """
    magic = peek(0, 16)
    if magic[:4] in RIFFS and magic[8:12] == b"WAVE":
        header = _read_wave(peek)
        return _reopen(peek, header) if whole and _goes_on(peek, header.stop) else header
    if magic[:4] == b"RIFF" and magic[8:12] == b"AVI ":
        size = int.from_bytes(magic[4:8], "little")
        return Header(end=None if _is_open_ended(size) else size + 8)
    if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
        return _read_aiff(peek)
    if magic[:4] == b"\x1a\x45\xdf\xa3":
        return _read_matroska(peek)
    if magic[:4] == b"\x30\x26\xb2\x75":
        return _read_asf(peek)
    if magic[:4] == b"caff":
        return _read_caf(peek)
    if magic == _W64:
        return _read_w64(peek)
    if magic[:4] == b".snd":
        return _read_au(peek)
    if magic[4:8] in _BOXES:
        return _read_boxes(peek)
    return Header()


def _read_wave(peek: Peek) -> Header:
    align, long_size = 0, 0
    (riff_size,) = struct.unpack("<I", peek(4, 4))
    for part in walk_chunks(peek, 12, "<4sI"):
        body, size = part.body, part.size
        if part.name == b"fmt " and len(fmt := peek(body, 16)) == 16:
            # as decoders do, whatever the head says of a block's size
            code, channels, bits = struct.unpack("<HH10xH", fmt)
            align = channels * -(-bits // 8) if code in _WAVE_CODES else 0
        elif part.name == b"ds64" and len(sizes := peek(body, 16)) == 16:
            long_size = struct.unpack("<8xQ", sizes)[0]
        elif part.name == b"data":
            size = long_size if size == 0xFFFFFFFF else size
            if _is_open_ended(size):
                return Header(sound=body)
            # the two contradict, and the file holds no more
            if body < riff_size + 8 < body + size and not peek(riff_size + 8, 1):
                size = riff_size + 8 - body
            return Header(size // align if align else None, body + size, stop=body + size)
    return Header()


def _goes_on(peek: Peek, stop: int | None) -> bool:
    """Tell whether sound goes on where its size ends, and neither a chunk nor anything known is.

    A recorder that crashes leaves an old size, and one of more than 4 GB begins at 0 again.
    """
    if stop is None:
        return False
    riff_size = int.from_bytes(peek(4, 4), "little")
    if peek(0, 4) == b"RIFF" and not _is_open_ended(riff_size) and riff_size + 8 > stop + 1:
        return False  # it states that chunks follow, however broken they are
    place = stop + count_zeros(peek, stop)
    head = peek(place, 64)
    if measure_tag(head[:32]) or head.startswith((*_FOREIGN, b"\0")):  # more zeros, or no sound
        return False
    size = measure_part(head, "wav")
    is_part = size > 0 and bool(peek(place + size - 1, 1))
    return not (is_part or begins_song(head)) and bool(peek(place + _MORE, 1))


def _reopen(peek: Peek, header: Header) -> Header:
    """Let sound go on to the end of the file."""
    place = next(part.body for part in walk_chunks(peek, 12, "<4sI") if part.name == b"data")
    text = f"its header ends its sound after {_name_size((header.stop or 0) - place)}"
    return Header(sound=place, remark=f"{text}, but it goes on; all up to the file's end is read")


def _read_aiff(peek: Peek) -> Header:
    """Tell the sizes that sox writes into a pipe; of others FFmpeg knows."""
    for part in walk_chunks(peek, 12, ">4sI"):
        if part.name == b"SSND":
            is_open = part.size == 0xFFFFFFFF or abs(part.size - 0x7F000000) <= 0x1000
            return Header(sound=part.body + 8) if is_open else Header(stop=part.end)
    return Header()


def _read_w64(peek: Peek) -> Header:
    """Read Sony Wave64: chunks named by a GUID, whose sizes count their heads, in steps of 8."""
    align, place = 0, 40
    for _ in range(MOST_PARTS):
        head = peek(place, 40)
        size = int.from_bytes(head[16:24], "little")
        if len(head) < 40 or size < 24:
            return Header()
        if head[:16] == b"fmt " + _W64_TAIL:
            code, channels, bits = struct.unpack_from("<HH10xH", head, 24)
            align = channels * -(-bits // 8) if code in _WAVE_CODES else 0
        elif head[:16] == b"data" + _W64_TAIL:
            end = place + size
            return Header((size - 24) // align if align else None, end, stop=end)
        place += -(-size // 8) * 8
    return Header()


def _read_au(peek: Peek) -> Header:
    """Read the size of the sound, which decoders do not look at; all ones are an open one."""
    head = peek(0, 24)
    if len(head) < 24:
        return Header()
    offset, size, code, _, channels = struct.unpack(">5I", head[4:])
    known = code in _AU_ENCODINGS and 0 < channels <= 64 and 0 < size < 0xFFFFFFFF
    if not known:
        return Header()
    bits = int("".join(filter(str.isdigit, _AU_ENCODINGS[code])) or 8)
    samples = size // (bits // 8 * channels)
    return Header(samples, stop=offset + size, cut=samples)


def _read_boxes(peek: Peek) -> Header:
    """Find the end of the sound of an MP4, and whether its index tells of its first part alone."""
    timed = b"mvex" not in _list_boxes(peek)
    sound = next((box for box in walk_boxes(peek) if box.name == b"mdat"), None)
    return Header(stop=sound.end if sound and sound.end > sound.place else None, timed=timed)


def find_narrow_samples(peek: Peek) -> dict[int, bytes]:
    """Return what decoders are to be shown of a WAVE whose samples do not fill their bytes.

    FFmpeg takes the bits that are valid (WAVE_FORMAT_EXTENSIBLE) for the size of a sample.
    """
    if peek(0, 4) not in RIFFS:
        return {}
    for part in walk_chunks(peek, 12, "<4sI"):
        if part.name == b"fmt ":
            fmt = peek(part.body, 40)
            is_pcm = len(fmt) == 40 and (fmt[:2], fmt[24:26]) == (b"\xfe\xff", b"\x01\0")
            bits, valid = (int.from_bytes(fmt[place : place + 2], "little") for place in (14, 18))
            return {part.body + 18: fmt[14:16]} if is_pcm and 0 < valid < bits else {}
    return {}


def is_open_wave(peek: Peek, whole: bool) -> bool:
    """Tell a WAV whose sizes were never filled in, or not to the end (EBU Tech 3306 for RF64)."""
    return peek(0, 4) in RIFFS and read_header(peek, whole).sound is not None


def read_open_au(peek: Peek) -> tuple[str, int, int, int] | None:
    """Read an AU that states a size of 0, as one that was never finished does.

    Gives FFmpeg's name of the encoding, the offset of the sound, its rate and its channels.
    """
    head = peek(0, 24)
    if len(head) < 24 or head[:4] != b".snd":
        return None
    offset, size, code, rate, channels = struct.unpack(">5I", head[4:])
    known = code in _AU_ENCODINGS and 24 <= offset < _AU_HEAD and 0 < channels <= 64
    if size or not known or not 0 < rate < 2**31:
        return None
    return _AU_ENCODINGS[code], offset, rate, channels


def has_too_many_parts(peek: Peek) -> bool:
    """Tell whether so many chunks come before the sound that decoders are busy for long."""
    magic = peek(0, 8)
    parts: Iterable[object] = ()
    if magic[:4] in (*RIFFS, b"FORM"):
        walk = walk_chunks(peek, 12, ">4sI" if magic[:4] == b"FORM" else "<4sI")
        names = (part.name for part in walk)
        parts = takewhile(lambda name: name not in (b"data", b"SSND", b"LIST"), names)
    elif magic[:4] == b"fLaC":
        parts = walk_blocks(peek)
    elif magic[4:] in _BOXES:
        parts = _list_boxes(peek)
    return sum(1 for _ in parts) >= MOST_PARTS


def _list_boxes(peek: Peek) -> Iterator[bytes]:
    """Yield the names of the boxes of an MP4 down to and in its index."""
    for box in walk_boxes(peek):
        yield box.name
        if box.name == b"moov":
            yield from (inner.name for inner in walk_boxes(peek, box.body, box.end))
            return


def _is_open_ended(size: int) -> bool:
    """Tell the sizes that programs write when they stream and cannot know."""
    return size == 0 or abs(size - 0x80000000) <= 0x10000 or 0xFFFF0000 <= size <= 0xFFFFFFFF


def _read_caf(peek: Peek) -> Header:
    """Read the packet table, which counts what belongs to the song (Apple's CAF specification).

    Some programs count the last packet as a full one. A size of -1 is open.
    """
    packet, size_of_packet, samples, end = 1, 0, None, None  # samples, bytes, samples, bytes
    for part in walk_chunks(peek, 8, ">4sQ"):
        if part.name == b"desc" and len(description := peek(part.body, 24)) == 24:
            size_of_packet, packet = struct.unpack(">16xII", description)
        if part.name == b"pakt" and len(table := peek(part.body, 24)) == 24:
            _, count, priming, _ = struct.unpack(">QQII", table)
            slack = max(packet - 1, 0)
            return Header(count or None, end, skipped=priming, slack=slack, stop=end)
        if part.name == b"data" and end is None and part.size < 1 << 63:
            end = part.end
            if size_of_packet:  # the same for all
                samples = max(part.size - 4, 0) // size_of_packet * packet
    return Header(samples, end, stop=end)


def _read_matroska(peek: Peek) -> Header:
    """Give the end of the segment, which holds all but a short head (RFC 8794).

    If that was never filled in, give the end of its last element, unless that was not either.
    """
    head_size, offset = _read_vint(peek, 4)
    if head_size is None or peek(offset + head_size, 4) != b"\x18\x53\x80\x67":
        return Header()
    size, offset = _read_vint(peek, offset + head_size + 4)
    timed = size is not None
    for _ in range(MOST_PARTS):
        if size is None and peek(offset, 1):
            length = 9 - peek(offset, 1)[0].bit_length()  # of the element's name
            element, body = _read_vint(peek, offset + length)
            if peek(offset, length) == _MATROSKA_INFO:
                timed |= _MATROSKA_DURATION in peek(body, min(element or 0, _AU_HEAD))
            if element is None:
                break
            offset = body + element
        else:
            return Header(end=offset + (size or 0), timed=timed)
    return Header(timed=timed)


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
    data = measure_part(opening[:24], "asf")
    inner = measure_part(peek(data, 24), "asf")
    return Header(
        end=size if place >= 0 and size else None, stop=data + inner if inner > 50 else None
    )


def _name_size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size} bytes"

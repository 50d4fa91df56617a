"""Ogg as what it is: a chain of pages (RFC 3533), each with its number and a checksum.

FFmpeg passes over pages that are broken or missing without a word; `Links` notes them. A stream may
have several links, as a radio begins another one with every title.

    page ── page ── last page │ first page ── page …
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import takewhile

from splitter.audio.parts import Peek

_HEAD = 27  # bytes of a page before its table of segments
_READ = 4096  # bytes
_LONGEST = 65_307  # bytes of a page
_STEP = 1 << 17  # bytes
_FIRST, _LAST = 2, 4  # flags of pages
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def is_intact(page: bytes | bytearray) -> bool:
    """Tell whether a page's checksum fits."""
    return _sum(page) == page[22:26]


def _sum(page: bytes | bytearray) -> bytes:
    """Give a page's checksum: that of zlib, with each byte's bits the other way."""
    bare = page[:22] + bytes(4) + page[26:]
    checksum = zlib.crc32(bare.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return checksum.to_bytes(4, "big").translate(_MIRRORED)


def _measure(page: bytes | bytearray) -> int:
    """Give the length of a page of which at least the table of segments is here."""
    return _HEAD + page[26] + sum(page[_HEAD : _HEAD + page[26]])


class Links:
    """A stream of pages that stops before each link.

    `broken` tells whether a page was damaged or is missing, up to here; `lost` counts the bytes
    since the last page that are neither a page nor 0.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._ahead = b""
        self._left = 0  # bytes of this page
        self._beginning = True  # only first pages came so far: a link may begin several streams
        self._numbers: dict[bytes, int] = {}  # of the last page of each stream, behind its headers
        self._junk = 0  # bytes since the last page
        self.broken = False
        self.lost = 0

    def go_on(self) -> bool:
        """Go on to the next link; False if there is none."""
        while self.read(_READ):  # what FFmpeg has left of this one
            pass
        self._beginning, self._left = True, 0
        return bool(self._look(1))

    def read(self, size: int) -> bytes:
        """Give at most so many bytes; none at the end of the link."""
        if not self._left and not self._begin_page():
            return b""
        data = self._ahead[: min(size, self._left)]
        self._ahead = self._ahead[len(data) :]
        self._left -= len(data)
        return data

    def _begin_page(self) -> bool:
        """Find how long the next page is, and drop junk before it; False at the link's end."""
        while head := self._look(_HEAD):
            if head[:4] != b"OggS":
                self._drop_junk()
            elif len(head) < _HEAD:
                self._left = len(head)  # torn
                return True
            else:
                return self._measure_page(head)
        return False

    def _drop_junk(self) -> None:
        place = self._ahead.find(b"OggS", 1)
        size = place if place > 0 else max(len(self._ahead) - 3, 1)
        self._junk += size
        self.lost += len(self._ahead[:size].replace(b"\0", b""))
        self._ahead = self._ahead[size:]

    def _measure_page(self, head: bytes) -> bool:
        first = bool(head[5] & _FIRST)
        if first and not self._beginning:
            return False
        self._beginning = first
        page = self._look(_measure(self._look(_HEAD + head[26])))
        self._left = self._check(page[: _measure(page)])
        return self._left > 0

    def _check(self, page: bytes) -> int:
        """Note a page that is damaged, or missing before it; give the bytes up to the next one."""
        if len(page) < _measure(page):
            return len(page)  # torn at the end: see `read_ending`
        if not is_intact(page):
            self.broken = True
            place = page.find(b"OggS", 1)
            return place if place > 0 else len(page)
        stream, number = page[14:18], int.from_bytes(page[18:22], "little")
        known = self._numbers.get(stream)
        self.broken |= known is not None and (self._junk > 0 or number > known + 1)
        if page[5] & _FIRST or not int.from_bytes(page[6:14], "little"):
            self._numbers.pop(stream, None)  # behind the headers a recording goes on anywhere
        else:
            self._numbers[stream] = number
        self._junk = self.lost = 0
        return len(page)

    def _look(self, size: int) -> bytes:
        while len(self._ahead) < size and (more := self._read(max(_READ, size))):
            self._ahead += more
        return self._ahead


def has_broken_pages(read: Callable[[int], bytes]) -> bool:
    """Tell whether a page of a whole stream is damaged or missing."""
    links = Links(read)
    while links.go_on() and not links.broken:
        pass
    return links.broken


def _hop(peek: Peek) -> Iterator[tuple[int, bytes]]:
    """Yield the offsets and the heads of all pages, and read little else."""
    offset = known = 0
    while len(head := peek(offset, _HEAD + 255)) >= _HEAD:
        if head[:4] == b"OggS":
            yield offset, head
            known, offset = offset, offset + _measure(head)
        else:  # the last page was torn, or there is junk
            place = peek(known + 1, _LONGEST).find(b"OggS")
            known += 1 + place if place >= 0 else _LONGEST - 3
            offset = known


def is_chained(peek: Peek) -> bool:
    """Tell whether a file has more than one link."""
    beginning = True
    for _, head in _hop(peek):
        first = bool(head[5] & _FIRST)
        if first and not beginning:
            return True
        beginning = first
    return False


def is_one_page(peek: Peek, stream: bytes) -> bool:
    """Tell whether all sound is on one page, the first that has a place and the last."""
    for _, head in _hop(peek):
        if _read_granule(head) > 0 and head[14:18] == stream:
            return bool(head[5] & _LAST)
    return False


def list_streams(peek: Peek) -> list[bytes]:
    """List the serial numbers of the streams that the first link begins with."""
    heads = takewhile(lambda head: head[5] & _FIRST, (head for _, head in _hop(peek)))
    return [head[14:18] for head in heads]


def find_last_granule(peek: Peek, stream: bytes) -> int | None:
    """Give the place that the last page of one stream of a file states; None if none does."""
    heads = (head for _, head in _hop(peek) if head[14:18] == stream)
    last = max(map(_read_granule, heads), default=-1)
    return last if last >= 0 else None


def _read_granule(head: bytes) -> int:
    return int.from_bytes(head[6:14], "little", signed=True)


@dataclass
class Comments:
    """The second packet of a stream, where its comments are, and the pages that it lies on."""

    opening: bytes  # of the stream, which say what it is
    packet: bytearray = field(default_factory=bytearray)
    pages: list[tuple[int, int]] = field(default_factory=list)  # offsets, in the file and in it
    whole: bool = False

    def add_page(self, offset: int, page: bytes) -> None:
        """Take in the next page of the stream."""
        table = page[_HEAD : _HEAD + page[26]]
        sizes = table[: next((n for n, size in enumerate(table, 1) if size < 255), 255)]
        self.whole = bool(sizes) and sizes[-1] < 255
        self.pages.append((offset, len(self.packet)))
        self.packet += page[_HEAD + len(table) :][: sum(sizes)]

    def change(self, peek: Peek, place: int, patch: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the pages, by offset, as they are when other bytes stand in a place."""
        ends = [start for _, start in self.pages[1:]] + [len(self.packet)]
        for (offset, start), end in zip(self.pages, ends, strict=True):
            places = range(max(start, place), min(end, place + len(patch)))
            if places:
                page = bytearray(peek(offset, _LONGEST))
                del page[_measure(page) :]
                for at in places:
                    page[_HEAD + page[26] + at - start] = patch[at - place]
                page[22:26] = _sum(page)
                yield offset, bytes(page)


def read_comments(peek: Peek) -> Iterator[Comments]:
    """Yield the comments of all streams of the first link, undecoded."""
    found: dict[bytes, Comments] = {}
    for offset, head in _hop(peek):
        stream = head[14:18]
        if head[5] & _FIRST and stream not in found:
            found[stream] = Comments(peek(offset + _HEAD + head[26], 8))
        elif stream in found and not found[stream].whole:
            found[stream].add_page(offset, peek(offset, _measure(head)))
        elif all(comments.whole for comments in found.values()):
            break
    yield from found.values()


@dataclass(frozen=True)
class Ending:
    """The last page of an Ogg file."""

    whole: bool  # it is all there, and its last packet, too
    last: bool  # it says that it is the last
    granule: int  # the number of the last sample, for Vorbis; below 0 if it states none
    end: int | None = None  # the offset behind it; None if there is no page


def read_ending(ending: bytes, stream: bytes = b"") -> Ending:
    """Find the last page in the last bytes of a file, of one stream or of any."""
    place = ending.rfind(b"OggS")
    while place >= 0 and stream and ending[place + 14 : place + 18] != stream:
        place = ending.rfind(b"OggS", 0, place)
    page = ending[place:] if place >= 0 else b""
    if len(page) < _HEAD or len(page) < _HEAD + page[26]:
        return Ending(False, False, -1, len(ending) if place >= 0 else None)
    goes_on = page[26] > 0 and page[_HEAD + page[26] - 1] == 255  # on a page that is missing
    last = bool(page[5] & _LAST)
    whole = len(page) >= _measure(page) and (last or not goes_on)
    return Ending(whole, last, _read_granule(page), place + _measure(page))


def find_ending(peek: Peek, size: int, stream: bytes = b"") -> Ending:
    """Find the last page of a file of so many bytes, whatever lies behind it."""
    found, start = Ending(False, False, -1), size
    while start > 0 and found.end is None:
        start = max(start - _STEP, 0)
        found = read_ending(peek(start, _STEP + _LONGEST), stream)
    return found if found.end is None else replace(found, end=start + found.end)

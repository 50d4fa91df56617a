"""Chained Ogg: several songs in one stream, each with a beginning and an end of its own.

A radio's stream begins another link with every title, of whatever rate. FFmpeg reads one link at a
time, so the pages are handed to it link by link (RFC 3533).
"""

from collections.abc import Callable, Iterator

from splitter.audio.blocks import Block
from splitter.audio.decoder import DamagedError, Fault, UndecodableError
from splitter.audio.ffmpeg import FFmpegDecoder, open_container
from splitter.audio.fitting import Fitter
from splitter.audio.padding import drop_padding
from splitter.audio.sources import PipeSource, Source

_HEAD = 27  # bytes of a page before its table of segments
_READ = 4096  # bytes


class Links:
    """A stream of pages that stops before each link."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._ahead = b""
        self._left = 0  # bytes of this page
        self._beginning = True  # only first pages came so far: a link may begin several streams

    def go_on(self) -> bool:
        """Go on to the next link; False if there is none."""
        while self.read(_READ):  # what FFmpeg has left of this one
            pass
        self._beginning, self._left = True, 0
        return bool(self._look(1))

    def read(self, size: int) -> bytes:
        """Give at most so many bytes; none at the end of the link."""
        if not self._left and not self._measure_page():
            return b""
        if not self._ahead:
            self._look(1)
        data = self._ahead[: min(size, self._left)]
        self._ahead = self._ahead[len(data) :]
        self._left -= len(data)
        return data

    def _measure_page(self) -> bool:
        """Find how long the next page is; False at the end of the link."""
        head = self._look(_HEAD)
        if head[:4] == b"OggS" and len(head) >= _HEAD:
            first = bool(head[5] & 2)
            if first and not self._beginning:
                return False
            self._beginning = first
            table = self._look(_HEAD + head[26])[_HEAD : _HEAD + head[26]]
            self._left = _HEAD + head[26] + sum(table)
        else:  # junk, up to the next page
            place = self._ahead.find(b"OggS", 1)
            self._left = place if place > 0 else len(self._ahead)
        return self._left > 0

    def _look(self, size: int) -> bytes:
        while len(self._ahead) < size and (more := self._read(_READ)):
            self._ahead += more
        return self._ahead


def is_chained(peek: Callable[[int, int], bytes]) -> bool:
    """Tell whether a file has more than one link; its pages are hopped over."""
    offset, beginning = 0, True
    while len(head := peek(offset, _HEAD + 255)) >= _HEAD and head[:4] == b"OggS":
        first = bool(head[5] & 2)
        if first and not beginning:
            return True
        beginning = first
        offset += _HEAD + head[26] + sum(head[_HEAD : _HEAD + head[26]])
    return False


class ChainDecoder:
    """The links of a chain, one after the other, all in the shape of the first."""

    _fault: Fault | None = None  # of the link that was read last

    def __init__(self, source: Source, track: str | None) -> None:
        self._links = Links(source.restart())
        self._source = source
        self._wanted = track
        self._first = self._decoder = self._open_link()
        self.rate, self.channels = self._first.rate, self._first.channels
        self.samples = self._first.samples
        self.most: int | None = None
        self.bits, self.floating = self._first.bits, self._first.floating
        self.metadata, self.cover = self._first.metadata, self._first.cover
        self.remarks = self._first.remarks
        self._damage: str | None = None

    def _open_link(self) -> FFmpegDecoder:
        source = PipeSource(self._links)
        container = open_container(source, None)
        try:
            decoder = FFmpegDecoder(source, container, None, self._wanted)
        except BaseException:
            container.close()
            raise
        source.forget()
        return decoder

    def read_arrays(self, patient: bool) -> Iterator[Block]:
        """Yield the blocks of all links."""
        fitter, decoded = Fitter(self.rate, self._first.layout, self.remarks.append), 0
        while True:
            link, own = self._decoder, 0
            for array in drop_padding(link.read_arrays(patient), link.find_end):
                own += array.shape[1]
                for block in fitter.feed(array, link.rate, link.layout):
                    decoded += block.shape[1]
                    yield block
            self._fault = link.find_fault(own)
            self._source.check()
            if not self._links.go_on():
                break
            place = f"damaged near {decoded / self.rate:.2f} s"
            if self._fault and not self._fault.inaudible:
                self._note_damage(place, patient)
            try:
                following = self._open_link()
            except UndecodableError:
                self._note_damage(place, patient)
                break
            if link is not self._first:
                link.close()
            self._decoder = following
        yield fitter.finish()

    def _note_damage(self, text: str, patient: bool) -> None:
        if not patient:
            raise DamagedError(text)
        self._damage = self._damage or text

    def find_end(self, decoded: int) -> int:
        """Keep all: each link's padding is gone."""
        return decoded

    def find_fault(self, _: int) -> Fault | None:
        """Say what is missing in the middle or at the end of the last link."""
        return Fault(self._damage) if self._damage else self._fault

    def close(self) -> None:
        """Free what FFmpeg holds."""
        self._decoder.close()
        self._first.close()

"""Chained Ogg: several songs in one stream, each with a beginning and an end of its own.

A radio's stream begins another link with every title, of whatever rate. FFmpeg reads one link at a
time, so the pages are handed to it link by link (RFC 3533).
"""

from collections.abc import Iterator

from splitter.audio.blocks import Block
from splitter.audio.containers import open_container
from splitter.audio.decoder import DamagedError, Fault, UndecodableError
from splitter.audio.ffmpeg import FFmpegDecoder
from splitter.audio.fitting import Fitter
from splitter.audio.ogg import Links
from splitter.audio.padding import drop_padding
from splitter.audio.rest import Rest
from splitter.audio.sources import PipeSource, Source


class ChainDecoder:
    """The links of a chain, one after the other, all in the shape of the first."""

    _fault: Fault | None = None  # of the link that was read last

    def __init__(self, source: Source, track: str | None) -> None:
        self._links = Links(source.restart())
        self._source = source
        self._wanted = track
        self._first = self._decoder = self._open_link()
        self.rate, self.channels = self._first.rate, self._first.channels
        self.places = self._first.places
        self.samples = self._first.samples
        self.sure = False  # of the whole chain
        self.most: int | None = None
        self.bits, self.floating = self._first.bits, self._first.floating
        self.metadata, self.native = self._first.metadata, self._first.native
        self.cover: bytes | memoryview | None = self._first.cover
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
                self._check_pages(decoded, patient)
            self._fault = link.find_fault(own)
            self._source.check()
            if not self._links.go_on():
                break
            if self._fault and not self._fault.inaudible:
                self._note_damage(decoded, patient)
            try:
                following = self._open_link()
            except UndecodableError:
                self._note_damage(decoded, patient)
                break
            if link is not self._first:
                link.close()
            self._decoder = following
        self._check_pages(decoded, patient)
        yield fitter.finish()

    def _check_pages(self, decoded: int, patient: bool) -> None:
        if self._links.broken:
            self._note_damage(decoded, patient)

    def _note_damage(self, decoded: int, patient: bool) -> None:
        self._damage = self._damage or f"damaged near {decoded / self.rate:.2f} s"
        if not patient:
            raise DamagedError(self._damage)

    def find_end(self, decoded: int) -> int:
        """Keep all: each link's padding is gone."""
        return decoded

    def find_fault(self, _: int) -> Fault | None:
        """Say what is missing in the middle or at the end of the last link, and what is left."""
        if rest := Rest(self._links.lost).describe():
            self.remarks.append(rest)
        return Fault(self._damage) if self._damage else self._fault

    def close(self) -> None:
        """Free what FFmpeg holds."""
        self._decoder.close()
        self._first.close()

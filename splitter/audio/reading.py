"""A song as blocks of sound, from a file or a pipe, whatever its format.

    bytes ── decoder ──▶ arrays ── drop_padding ──▶ ── cut_out ──▶ ── _regroup ──▶ blocks

What a song is, is decided by its content. A song that breaks off or is damaged raises AudioError
when that shows, unless the reader is told to keep what there is.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from splitter.audio.blocks import Block
from splitter.audio.decoder import DamagedError, Fault
from splitter.audio.decoding import open_decoder
from splitter.audio.options import Reading
from splitter.audio.padding import cut_out, drop_padding
from splitter.audio.tags import read_tags
from splitter.errors import AudioError, reason

logger = logging.getLogger(__name__)

_WAY_OUT = "take what there is with --keep-partial"  # of `splitter separate`
_RATES = 8_000, 384_000  # Hz, lowest and highest
_MAX_CHANNELS = 64
_LONGEST = 24 * 3600  # seconds that are believed of a pipe, before all of it has come


class SongReader:
    """A song that is being read, from first to last sample; made by `open_song`.

    `samples` is the length that the header states, for a progress bar: exact for wav, flac, aiff,
    alac, ogg, opus, and mp3 and m4a with gapless information; FFmpeg's estimate for others; None
    if unknown. `sure` tells whether it is exact.
    `damage` says after reading what was missing, when that was allowed or cannot be heard.
    """

    def __init__(
        self, name: str, file: BinaryIO, reading: Reading, owned: bool, way_out: str
    ) -> None:
        self.source = name
        self._way_out = way_out
        self.damage: str | None = None
        self._file = file if owned else None
        self._reading = reading
        try:
            self._decoder = open_decoder(file, reading.raw, reading.track)
        except AudioError as error:
            raise AudioError(f"{name}: {error}") from error
        except OSError as error:
            raise AudioError(f"{name}: cannot be read ({reason(error)})") from error
        decoder = self._decoder
        self.rate = decoder.rate  # Hz
        self.channels = self._decoder.channels
        # where the channels stand, as FFmpeg names it: "5.1(side)"; None if the song does not say
        self.layout = decoder.places
        self.bits = self._decoder.bits  # 16, 24 or 32: the depth to give back; 16 for lossy formats
        self.floating = self._decoder.floating  # the samples are floats, and may exceed full scale
        self._check_shape()
        # title, artist, cover and so on, as the song has them
        self.tags = read_tags(decoder.metadata, decoder.native, decoder.cover, decoder.remarks)
        self._tell()
        self._start = round(reading.start * self.rate)  # samples
        self._stop: int | None = None
        if reading.duration is not None:
            self._stop = self._start + round(reading.duration * self.rate)
        self.samples = self._count_samples()
        self.sure = decoder.sure

    def _check_shape(self) -> None:
        lowest, highest = _RATES
        if not lowest <= self.rate <= highest or not 0 < self.channels <= _MAX_CHANNELS:
            self._decoder.close()
            shape = f"{self.rate} Hz and {self.channels} channels"
            known = f"{lowest} to {highest} Hz and up to {_MAX_CHANNELS} channels"
            raise AudioError(f"{self.source}: states {shape}; songs have {known}")

    def _tell(self) -> None:
        """Log what the decoder has remarked since the last time."""
        while self._decoder.remarks:
            logger.warning("%s: %s", self.source, self._decoder.remarks.pop(0))

    def _count_samples(self) -> int | None:
        total = self._decoder.samples
        if total is None:
            return None
        stop = total if self._stop is None else min(self._stop, total)
        if self._decoder.most is None and stop > _LONGEST * self.rate:
            return None
        if self._decoder.most is not None and stop > self._decoder.most:
            if self._reading.keep_partial or not self._decoder.sure:
                return None
            self._decoder.close()
            seconds = total / self.rate
            long = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds:.1f} s"
            raise AudioError(
                f"{self.source}: its header promises {long} of sound, more than the file holds; "
                f"{self._way_out}"
            )
        return max(stop - self._start, 0)

    @property
    def decoder(self) -> str:
        """The name of what decodes the song."""
        return type(self._decoder).__name__.removesuffix("Decoder")

    def read_blocks(self, size: int = 65536) -> Iterator[Block]:
        """Yield the song in blocks of `size` samples; the last one may be shorter. Reads once."""
        read = 0
        for block in _regroup(cut_out(self._read_whole(), self._start, self._stop), size):
            yield self._check_numbers(block, self._start + read)
            read += block.shape[1]
        if self._start and not read and self._stop != self._start:
            start = self._start / self.rate
            raise AudioError(f"{self.source}: ends before {start:g} s; give an earlier --start")

    def _read_whole(self) -> Iterator[Block]:
        """Yield what is decoded without the padding at the end, then see whether it is all."""
        decoded = 0

        def find_end(count: int) -> int:
            nonlocal decoded
            decoded = count
            return self._decoder.find_end(count)

        yield from drop_padding(self._decode(), find_end)
        fault = self._decoder.find_fault(decoded)
        self._tell()
        if fault:
            self._report(fault)

    def _decode(self) -> Iterator[Block]:
        try:
            yield from self._decoder.read_arrays(self._reading.keep_partial)
        except DamagedError as error:
            raise AudioError(f"{self.source}: {error}; {self._way_out}") from error
        except OSError as error:
            raise AudioError(f"{self.source}: cannot be read ({reason(error)})") from error

    def _report(self, fault: Fault) -> None:
        if not self._reading.keep_partial and not fault.inaudible:
            raise AudioError(f"{self.source}: {fault.text}; {self._way_out}")
        if self.damage is None:
            logger.warning("%s: %s", self.source, fault.text)
        self.damage = self.damage or fault.text

    def _check_numbers(self, block: Block, position: int) -> Block:
        finite = np.isfinite(block)
        if finite.all():
            return block
        first = position + int(np.argmin(finite.all(axis=0)))
        self._report(Fault(f"sample {first} is not a number (NaN or infinite)"))
        return np.where(finite, block, np.float32(0))

    def close(self) -> None:
        """Free what is held; a stream that was handed in stays open."""
        self._decoder.close()
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> "SongReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _regroup(arrays: Iterable[Block], size: int) -> Iterator[Block]:
    """Join and cut arrays of any length into blocks of `size` samples and a rest."""
    waiting: list[Block] = []
    total = 0
    for array in arrays:
        waiting.append(array)
        total += array.shape[1]
        if total < size:
            continue
        joined = np.concatenate(waiting, axis=1)
        for start in range(0, total - size + 1, size):
            yield np.ascontiguousarray(joined[:, start : start + size])
        total %= size
        waiting = [joined[:, joined.shape[1] - total :]]
    if total:
        yield np.concatenate(waiting, axis=1)


def open_song(
    source: Path | BinaryIO, reading: Reading = Reading(), way_out: str = _WAY_OUT
) -> SongReader:
    """Open a song for reading: a file, or a stream such as stdin, which need not seek.

    Raises AudioError when it is no song; `way_out` is what an error about a damaged one ends with.
    """
    if not isinstance(source, Path):
        name = str(getattr(source, "name", "stream"))
        return SongReader(name, source, reading, owned=False, way_out=way_out)
    try:
        file = source.open("rb")
    except OSError as error:
        raise AudioError(f"{source}: cannot be opened ({reason(error)})") from error
    try:
        return SongReader(str(source), file, reading, owned=True, way_out=way_out)
    except BaseException:
        file.close()
        raise

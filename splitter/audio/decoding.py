"""From bytes to a decoder, by content alone.

FFmpeg is asked first, for files as for pipes: it reads nearly everything, does so as fast as
libsndfile, skips encoder delays and edit lists, and says when data is missing. (libsndfile fills an
mp3 that breaks off with silence, and takes a wav that breaks off for a shorter one.)
"""

from types import SimpleNamespace
from typing import BinaryIO

from splitter.audio.chain import ChainDecoder
from splitter.audio.containers import BEHIND_TAGS, MOST_OF_PIPE, open_container
from splitter.audio.decoder import Decoder, UndecodableError
from splitter.audio.excess import Excess, find_excess
from splitter.audio.ffmpeg import FFmpegDecoder
from splitter.audio.freeformat import FreeFormatDecoder, find_free_format
from splitter.audio.headers import find_narrow_samples, has_too_many_parts
from splitter.audio.mp3 import MpegDecoder
from splitter.audio.mpeg import measure_id3
from splitter.audio.native import read_native
from splitter.audio.ogg import is_chained
from splitter.audio.options import RawFormat
from splitter.audio.others import HEAD, name_other
from splitter.audio.rest import begins_song
from splitter.audio.sndfile import SndfileDecoder
from splitter.audio.sources import ObjectSource, Patched, PipeSource, Shifted, Source, open_source
from splitter.audio.tracks import NO_SOUND

_TAGS = 16  # ID3 tags in front of a song, one behind the other


def open_decoder(file: BinaryIO, raw: RawFormat | None = None, track: str | None = None) -> Decoder:
    """Find the decoder of a file or a stream; raise UndecodableError if there is none."""
    source = open_source(file)
    try:
        if size := 0 if raw else _measure_front_tag(source):
            return _open_behind_tag(source, file, size, track)
        return _open(source, file, raw, track)
    except UndecodableError as error:
        if other := None if raw else name_other(source.read_at(0, HEAD)):
            raise UndecodableError(other) from error
        raise


def _open(
    source: Source, file: BinaryIO | Shifted, raw: RawFormat | None, track: str | None
) -> Decoder:
    if not raw and not source.read_at(0, 1):
        source.check()
        raise UndecodableError("is empty, 0 bytes; copy or download it anew")
    if has_too_many_parts(source.read_at):
        raise UndecodableError("has thousands of empty parts before its sound; write it anew")
    if free := None if raw else find_free_format(source.read_at):
        return FreeFormatDecoder(source, *free)
    swapped = not raw and source.read_at(0, 4) == b"RIFX"  # which FFmpeg swaps
    narrow = {} if raw else find_narrow_samples(source.read_at)
    if (swapped or narrow) and not source.seekable:
        raise UndecodableError("is a WAV of a rare kind, which can only be read as a file")
    if swapped:
        return SndfileDecoder(source)
    excess = find_excess(source.read_at) if source.seekable and not raw else Excess()
    excess.patches |= narrow
    if excess.patches:
        source = ObjectSource(Patched(file, excess.patches))
    try:
        decoder = _open_ffmpeg(source, raw, track)
    except UndecodableError as error:
        if source.seekable and not raw and not _may_be_mp3(source.read_at(0, 3)):
            return _open_sndfile(source, error)
        if source.read_at(4, 4) == b"ftyp":
            reason = "its index lies at its end, so it can only be read as a file"
            raise UndecodableError(reason) from error
        raise
    source.forget()
    decoder.remarks[:0] = excess.remarks
    decoder.metadata |= excess.texts
    return decoder


def _measure_front_tag(source: Source) -> int:
    """Measure the ID3 tags before a file of a kind that FFmpeg does not look for behind them."""
    size = 0
    for _ in range(_TAGS):
        if not (more := measure_id3(source.read_ahead(size, 10))):
            break
        size += more
        if size > MOST_OF_PIPE and not source.seekable:
            return 0
    head = source.read_ahead(size, 64) if size else b""
    return size if begins_song(head) and not head.startswith(tuple(BEHIND_TAGS)) else 0


def _open_behind_tag(whole: Source, file: BinaryIO, size: int, track: str | None) -> Decoder:
    """Show decoders what is behind a tag, and read the tag itself."""
    texts = read_native(whole, "mp3")
    if whole.seekable:
        shifted = Shifted(file, size)
        decoder = _open(ObjectSource(shifted), shifted, None, track)
    else:
        read = whole.restart()
        while size and (passed := read(size)):
            size -= len(passed)
        whole.forget()
        decoder = _open(PipeSource(SimpleNamespace(read=read)), file, None, track)
    decoder.native = texts | decoder.native
    return decoder


def _open_sndfile(source: Source, error: UndecodableError) -> Decoder:
    """Let libsndfile try what FFmpeg could not; a file without sound in it has none for either."""
    try:
        return SndfileDecoder(source)
    except UndecodableError:
        if str(error) == NO_SOUND:
            raise error from None
        raise


def _open_ffmpeg(source: Source, raw: RawFormat | None, track: str | None) -> Decoder:
    container = open_container(source, raw)
    if container.format.name == "ogg" and (not source.seekable or is_chained(source.read_at)):
        container.close()
        return ChainDecoder(source, track)
    kind = MpegDecoder if container.format.name == "mp3" else FFmpegDecoder
    try:
        return kind(source, container, raw, track)
    except BaseException:
        container.close()
        raise


def _may_be_mp3(head: bytes) -> bool:
    return head == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")

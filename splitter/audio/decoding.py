"""From bytes to a decoder, by content alone.

FFmpeg is asked first, for files as for pipes: it reads nearly everything, does so as fast as
libsndfile, skips encoder delays and edit lists, and says when data is missing. (libsndfile fills an
mp3 that breaks off with silence, and takes a wav that breaks off for a shorter one.)
"""

from typing import BinaryIO

from splitter.audio.decoder import Decoder, UndecodableError
from splitter.audio.ffmpeg import FFmpegDecoder
from splitter.audio.options import RawFormat
from splitter.audio.sndfile import SndfileDecoder
from splitter.audio.sources import open_source


def open_decoder(file: BinaryIO, raw: RawFormat | None = None) -> Decoder:
    """Find the decoder of a file or a stream; raise UndecodableError if there is none."""
    source = open_source(file)
    try:
        return FFmpegDecoder(source, raw)
    except UndecodableError as error:
        if source.seekable and not raw and not _may_be_mp3(source.read_at(0, 3)):
            return SndfileDecoder(source)
        if source.read_at(4, 4) == b"ftyp":
            reason = "its index lies at its end, so it can only be read as a file"
            raise UndecodableError(reason) from error
        raise


def _may_be_mp3(head: bytes) -> bool:
    return head == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")

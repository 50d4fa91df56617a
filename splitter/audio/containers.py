"""Letting FFmpeg find out what a file is, with what it does not know by itself."""

from typing import Any

import av

from splitter.audio.decoder import UndecodableError
from splitter.audio.headers import RIFFS, is_open_wave, read_open_au
from splitter.audio.layouts import name_layout
from splitter.audio.mpeg import measure_id3, parse_adts
from splitter.audio.options import RawFormat
from splitter.audio.sources import Source

_PCM_MAGIC = (*RIFFS, b"FORM")
MOST_OF_PIPE = 1 << 25  # bytes of a tag that are kept of a pipe, to look behind it
_PROBED = 1 << 19  # bytes of an ID3 tag, behind which FFmpeg finds everything
BEHIND_TAGS = {
    b"fLaC": "flac",
    b"TTA1": "tta",
    b"MAC ": "ape",
    b"MPCK": "mpc8",
    b"MP+": "mpc",
}


def open_container(source: Source, raw: RawFormat | None) -> Any:
    """Let FFmpeg look what it is; raise UndecodableError if it does not know."""
    stream, options = source.for_ffmpeg()  # a playlist must not open other files
    if not source.seekable and source.read_at(0, 4) in _PCM_MAGIC:
        options["probesize"] = "65536"  # bytes; FFmpeg would look for other codecs for 5 seconds
    encoding = raw.encoding if raw else _find_behind_tag(source)
    if raw:
        options |= {"sample_rate": str(raw.rate), "ch_layout": f"{raw.channels}C"}
    elif is_open_wave(source.read_at, source.seekable):
        options["ignore_length"] = "1"  # FFmpeg would believe the size that it states
    elif found := read_open_au(source.read_at):  # FFmpeg would refuse it
        encoding, offset, rate, channels = found
        options |= {"sample_rate": str(rate), "ch_layout": f"{channels}C"}
        options["skip_initial_bytes"] = str(offset)
    try:
        container = av.open(
            stream,
            format=encoding,
            options=options,
            metadata_errors="surrogateescape",  # see `read_text`
        )
    except av.FFmpegError as error:
        source.check()
        raise UndecodableError("not an audio file, or its format is unknown") from error
    _forget_orders(container)
    return container


def _forget_orders(container: Any) -> None:
    """Take the places from channels in an order of their own, as QuickTime allows.

    FFmpeg lists such an order in memory that PyAV (18) would free once for each layout it shows.
    """
    for context in filter(None, (track.codec_context for track in container.streams.audio)):
        layout = context.layout  # to be shown once only
        if layout.nb_channels and name_layout(layout) is None:
            context.layout = f"{layout.nb_channels}C"


def _find_behind_tag(source: Source) -> str | None:
    """Name the format behind an ID3 tag that is longer than FFmpeg looks; None leaves it to it."""
    size = measure_id3(source.read_at(0, 10))
    if size < _PROBED or (size > MOST_OF_PIPE and not source.seekable):
        return None
    head = source.read_ahead(size, 8)
    if parse_adts(head):
        return "aac"
    if head[:2] == b"\x0b\x77":
        return "eac3" if len(head) > 5 and head[5] >> 3 > 10 else "ac3"
    return next((name for magic, name in BEHIND_TAGS.items() if head.startswith(magic)), None)

"""Matroska files joined end to end: FFmpeg goes on with the second one's packets.

It keeps the first one's decoder, which is right for the same encoding alone: Vorbis with another
codebook becomes noise above full scale, and PCM of another rate another pitch.
"""

import io
import re
from typing import Any

import av

_HEAD = re.compile(rb"\x1aE\xdf\xa3.{1,64}(matroska|webm)", re.DOTALL)
# each packet says itself what it is
_SELF_DESCRIBING = ("opus", "mp3", "mp3float", "mp2", "ac3", "eac3", "dca")
MOST = 1 << 24  # bytes between two packets that are looked through


def begins_unlike(context: Any, between: bytes) -> bool:
    """Tell whether a segment that needs another decoder begins between two packets."""
    found = _HEAD.search(between)
    if not found or context.name in _SELF_DESCRIBING:
        return False
    try:
        with av.open(io.BytesIO(between[found.start() :]), format="matroska") as following:
            others = [track.codec_context for track in following.streams.audio]
    except av.FFmpegError:
        return True
    return not any(other and _fits(context, other) for other in others)


def _fits(context: Any, other: Any) -> bool:
    """Tell whether a decoder can go on with the packets of another."""
    if context.name != other.name:
        return False
    data, following = context.extradata or b"", other.extradata or b""
    if context.name == "flac":  # blocks are no longer, and samples have as many bits
        return bool(following[2:4] <= data[2:4] and _find_depth(following) == _find_depth(data))
    if context.name == "vorbis":
        data, following = _leave_out_comments(data), _leave_out_comments(following)
    shape = context.sample_rate, context.layout.nb_channels
    return data == following and shape == (other.sample_rate, other.layout.nb_channels)


def _find_depth(stream_info: bytes) -> int:
    """Give the bits of a FLAC's samples, less one (RFC 9639, 8.2)."""
    return int.from_bytes(stream_info[12:14], "big") >> 4 & 31


def _leave_out_comments(heads: bytes) -> bytes:
    """Give the first and the last of Vorbis' three headers."""
    return heads[heads.find(b"\x01vorbis") :][:30] + heads[heads.rfind(b"\x05vorbis") :]

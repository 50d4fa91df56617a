"""What kind of picture a cover is, by its first bytes, and which formats can hold it."""

from mutagen import mp4

_KINDS = {  # MIME type → how its bytes begin
    "image/jpeg": b"\xff\xd8",
    "image/png": b"\x89PNG",
    "image/gif": b"GIF8",
    "image/bmp": b"BM",
    "image/webp": b"RIFF",
    "image/tiff": b"II*\0",
}
_MP4 = {  # Apple's numbers (QuickTime File Format, well-known types)
    "image/jpeg": mp4.MP4Cover.FORMAT_JPEG,
    "image/png": mp4.MP4Cover.FORMAT_PNG,
    "image/bmp": 27,
}


def find_kind(cover: bytes) -> str | None:
    """Give the MIME type of a picture; None if it is none that is known."""
    if cover[:4] == b"MM\0*":
        return "image/tiff"
    kind = next((kind for kind, head in _KINDS.items() if cover.startswith(head)), None)
    return None if kind == "image/webp" and cover[8:12] != b"WEBP" else kind


def find_mp4_kind(cover: bytes) -> int | None:
    """Give the number that an m4a has for a picture; None if it holds no such pictures."""
    return _MP4.get(find_kind(cover) or "")


def holds_cover(container: str, cover: bytes) -> bool:
    """Tell whether a format has a place for such a picture."""
    return container != "m4a" or find_mp4_kind(cover) is not None

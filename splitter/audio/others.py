"""What people give for a song by mistake, by how it begins."""

HEAD = 400  # bytes

_LIST = "is a list of songs; give the songs themselves"
_ARCHIVE = "is an archive; unpack it, and give the songs in it"
_PAGE = "is a web page, not the song that was to be downloaded; download it anew"
_BEGINNINGS = {
    b"#extm3u": _LIST,
    b"[playlist]": _LIST,
    b"<asx": _LIST,
    b"<!doctype html": _PAGE,
    b"<html": _PAGE,
    b"pk\3\4": _ARCHIVE,
    b"rar!\x1a\7": _ARCHIVE,
    b"7z\xbc\xaf\x27\x1c": _ARCHIVE,
    b"\x1f\x8b\x08": _ARCHIVE,
    b"mthd": "holds notes (MIDI), no sound; have a synthesizer play it into a sound file",
    b"%pdf-": "is a PDF, no song",
    b"version https://git-lfs.": "is Git LFS's note of a file that is elsewhere; run git lfs pull",
}


def name_other(head: bytes) -> str | None:
    """Say what a file is that is no song, and what to do; None where only that is known."""
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()  # a byte order mark
    for beginning, words in _BEGINNINGS.items():
        if head.startswith(beginning):
            return words
    # a cue sheet may begin with any of its commands
    if b'\nfile "' in b"\n" + head:
        return "is a cue sheet; give the song that it names"
    return None

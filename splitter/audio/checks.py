"""What can be known to fail before anything has been computed."""

import math
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import av
import soundfile

from splitter.audio.files import report_errors
from splitter.audio.formats import OutputFormat, find_container, find_shape
from splitter.errors import AudioError
from splitter.paths import FILE_BYTES

_HEAD = 65536  # bytes for headers and tags


def check_outputs(
    targets: Iterable[Path], settled: OutputFormat, rate: int, channels: int, samples: int | None
) -> None:
    """Raise AudioError if stems of this size (None: unknown) cannot be written to these files."""
    _check_encoder(settled)
    needed = estimate_bytes(settled, rate, channels, samples or 0)
    by_folder: dict[Path, int] = {}
    for target in targets:
        with report_errors(target):
            _check_name(target)
            folder = _find_existing(target.parent)
        by_folder[folder] = by_folder.get(folder, 0) + needed
    for folder, size in by_folder.items():
        _check_folder(folder, size)


def estimate_bytes(settled: OutputFormat, rate: int, channels: int, samples: int) -> int:
    """Give the disk space that one stem takes at most while it is written."""
    container = find_container(settled.container)
    written_rate, written = find_shape(settled, rate, channels)
    seconds = samples / rate
    if container.lossy:
        size = (settled.bitrate or 0) / 8 * seconds
    else:
        size = written_rate * written * (settled.bits or 16) / 8 * seconds
    waiting = 4 * channels * samples if settled.clip != "clamp" else 0
    return int(size) + waiting + _HEAD


def _check_encoder(settled: OutputFormat) -> None:
    container, codec = find_container(settled.container), settled.container
    known = {"ogg": "OGG", "mp3": "MP3"}.get(codec)
    if known:
        missing = known not in soundfile.available_formats()
    else:
        codec = container.codecs[0 if container.lossy else settled.bits or 16]
        missing = codec not in av.codecs_available
    if missing:
        raise AudioError(f"{settled.container}: there is no encoder for it here; choose wav")


def _check_name(target: Path) -> None:
    if len(os.fsencode(target.name)) > FILE_BYTES:
        raise AudioError(f"{target}: the name is too long; choose a shorter one")
    if target.is_dir():
        raise AudioError(f"{target}: is a folder; choose another name")


def _find_existing(folder: Path) -> Path:
    """Give the folder, or the nearest above it that is there already."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _check_folder(folder: Path, needed: int) -> None:
    if not folder.is_dir():
        raise AudioError(f"{folder}: is not a folder; choose another one")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise AudioError(f"{folder}: no permission to write here; choose another folder")
    free = shutil.disk_usage(folder).free
    if free < needed:
        # rounded up and down, so that the two never read the same
        megabytes = f"{math.ceil(needed / 1e5) / 10} MB are needed, {free // 1e5 / 10} MB are free"
        raise AudioError(f"{folder}: is too full ({megabytes}); choose another folder")

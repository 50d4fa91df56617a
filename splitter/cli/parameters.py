"""Options that commands share, and values that click has no kind for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click

from splitter.errors import SplitterError
from splitter.paths import open_path


def refining(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that make more of a model: see ModelChoice."""
    tta = click.option(
        "--tta",
        is_flag=True,
        help="Average over swapped channels and a shift in time; 4 × the network.",
    )
    wiener = click.option(
        "--wiener",
        type=click.IntRange(0),
        default=0,
        metavar="N",
        help="Refine by N iterations of a multichannel Wiener filter.  [default: 0]",
    )
    return tta(wiener(command))


def parse_seconds(value: object) -> float:
    """Read a time: 90, 1:30 or 0:01:30.5."""
    text = str(value)
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", text):
        raise click.BadParameter(f"{text!r} is no time; write seconds, or 1:30")
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def parse_bitrate(value: object) -> int:
    """Read a bitrate in bit/s: 192k or 192000."""
    match = re.fullmatch(r"(\d{1,7})(k?)", str(value))
    bitrate = int(match[1]) * (1000 if match[2] else 1) if match else 0
    if not 6000 <= bitrate <= 2_000_000:
        raise click.BadParameter(f"{value!r} is no bitrate; write 192k, say")
    return bitrate


def parse_place(value: object) -> Path:
    """Read a path, or a URL such as s3://bucket/songs."""
    try:
        return open_path(str(value))
    except SplitterError as error:
        raise click.BadParameter(str(error)) from error

"""Options that commands share, and values that click has no kind for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

import click

from splitter.cli.command import option
from splitter.errors import SplitterError
from splitter.paths import open_path

STDIN = Path("/dev/stdin")  # what stands for it among the songs, on any system


def refining(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that make more of a model: see ModelChoice."""
    group = "Quality and speed"
    tta = option(
        "--tta",
        is_flag=True,
        group=group,
        help="Average several passes over the song; takes four times as long.",
    )
    wiener = option(
        "--wiener",
        type=click.IntRange(0),
        default=0,
        metavar="N",
        group=group,
        help="Refine by N rounds of a multichannel Wiener filter.  [default: 0]",
    )
    return cast(Callable[..., None], tta(wiener(command)))


def parse_seconds(value: object) -> float:
    """Read a time: 90, 1:30 or 0:01:30.5."""
    text = str(value)
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", text):
        raise click.BadParameter(f"{text!r} is not a time; write seconds or 1:30")
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def parse_shard(value: object) -> object:
    """Read a shard: 3/8."""
    from splitter.jobs import Shard

    try:
        return Shard.parse(str(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def parse_bitrate(value: object) -> int:
    """Read a bitrate in bit/s: 192k, 192 or 192000."""
    match = re.fullmatch(r"(\d{1,7})\s*(k?)(?:bps|bits?/s)?", str(value).strip(), re.IGNORECASE)
    number = int(match[1]) if match else 0
    bitrate = number * 1000 if match and (match[2] or number <= 2000) else number
    if not 6000 <= bitrate <= 2_000_000:
        raise click.BadParameter(f"{value!r} is not a bitrate; write one such as 192k")
    return bitrate


def parse_bits(value: object) -> int:
    """Read a bit depth: 16, 24, 32, or 32f."""
    match = re.fullmatch(r"(16|24|32)\s*(?:-?bits?)?|32\s*-?f(?:loat)?", str(value).strip().lower())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a bit depth; write 16, 24 or 32 (float)")
    return int(match[1] or 32)


def parse_place(value: object) -> Path:
    """Read a path, or a URL such as s3://bucket/songs."""
    try:
        return open_path(str(value))
    except SplitterError as error:
        raise click.BadParameter(str(error)) from error


def parse_song(value: object) -> Path:
    """Read the place of a song; "-" is standard input, "./-" a file of that name."""
    if not value:
        raise click.BadParameter("a name is empty; write . for the current folder")
    return STDIN if str(value) == "-" else parse_place(value)

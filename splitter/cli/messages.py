"""What a person reads: made printable, in one line each."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


def complain(message: object) -> None:
    """Say what is wrong."""
    log.error("%s", message)


def printable(text: str) -> str:
    """Escape what would break the line, command the terminal, or is no Unicode."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def format_time(seconds: float) -> str:
    """Write a time as people do: 0:05, 12:30, 3:12:05."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def format_duration(seconds: float) -> str:
    """Write how long something lasts with its unit: 2.5 s, 48 s, 12 min, 3.4 h."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 5970:
        return f"{seconds / 60:.1f} min" if seconds < 597 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def format_speed(seconds: float, taken: float) -> str:
    """Write how many seconds of sound a second of work gives: 0.4, 8.3, 120."""
    speed = seconds / max(taken, 1e-3)
    return f"{speed:.0f}" if speed >= 9.95 else f"{speed:.1f}"


def count(number: int, thing: str) -> str:
    """Count things: 1 song, 2 songs."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"

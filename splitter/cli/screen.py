"""Standard error: messages that stay, and below them one line that says what is being done.

    a terminal      the line is drawn again in place, never wider than the terminal
    a file, a pipe  a line every LINE_EVERY seconds, and no bars
    json            what is shown as JSON is written by `say`, a line each; nothing else is shown

All that a command says to people goes through here: logging hands its records to the screen, which
takes the line away, writes the message and draws the line again. What cannot be written, because a
disk is full or nobody reads, is dropped: it must not stop the work.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from splitter.cli.messages import printable

DRAW_EVERY = 0.1  # seconds between two drawings of the line
LINE_EVERY = 30.0  # seconds between two lines where there is no terminal
LEAST_NAME = 24  # columns that what is being done is cut to, at least, before it is left out
LEAST_BAR = 6  # columns
WIDEST_BAR = 40
PLAIN = str.maketrans({"█": "#", "×": "x", "…": "~"})  # for a terminal that cannot write these


@dataclass(frozen=True)
class State:
    """What is being done and how far it is."""

    doing: str  # as in "loading unet"
    fraction: float | None = None  # that is done; None: unknown
    facts: Sequence[tuple[str, str]] = ()  # each in long and short; the last ones matter most


class Screen(logging.Handler):
    """What a person sees of a command; from any thread."""

    def __init__(self, kind: str = "bar") -> None:
        super().__init__()
        self.kind = kind  # bar, json or none
        self._state: State | None = None
        self._shown = ""  # the line that is on the terminal
        self._drawn = 0.0  # when; of a file or pipe: when a line was last written
        self._started = time.monotonic()

    def show(self, state: State) -> None:
        """Show what is being done from now on, at once if it is another thing than before."""
        if self.kind != "bar":
            return
        with self._alone():
            new = self._state is None or self._state.doing != state.doing
            self._state = state
            now = time.monotonic()
            if not _is_terminal():
                if now - max(self._drawn, self._started) >= LINE_EVERY:
                    self._drawn = now
                    _write(f"{compose(state)}\n")
            elif new or state.fraction == 1 or now - self._drawn >= DRAW_EVERY:
                self._draw()

    def clear(self) -> None:
        """Take the line away: it is over."""
        with self._alone():
            self._erase()
            self._state = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the line away while something else is written, to stdout say."""
        with self._alone():
            self._erase()
            try:
                yield
            finally:
                if self._state is not None and _is_terminal():
                    self._draw()

    def say(self, text: str) -> None:
        """Write a line that stays."""
        with self.aside():
            _write(f"{text}\n")

    def keep(self, state: State) -> None:
        """Leave a line in place of the one that changed, on a terminal only."""
        self.clear()
        if self.kind == "bar" and _is_terminal():
            self.say(compose(state, _count_columns() - 1))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record of the log; warnings and errors say who speaks."""
        text = self.format(record)
        lines = [printable(line) for line in (text.splitlines() if record.exc_info else [text])]
        prefix = "splitter: " if record.levelno >= logging.WARNING else ""
        self.say(prefix + "\n".join(lines))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _draw(self) -> None:
        if self._state is None:
            return
        line = compose(self._state, _count_columns() - 1)  # a full line would wrap
        blank = " " * max(_measure(self._shown) - _measure(line), 0)
        _write(f"\r{line}{blank}")
        self._shown, self._drawn = line, time.monotonic()

    def _erase(self) -> None:
        if self._shown:
            _write(f"\r{' ' * _measure(self._shown)}\r")
            self._shown = ""


def compose(state: State, columns: int | None = None) -> str:
    """Write a state as one line of no more than `columns`; None: as long as it is, without a bar.

    What does not fit is written shorter, then left out: first the name, then the facts in order.
    """
    doing = printable(state.doing)
    percent = [] if state.fraction is None else [f"{int(100 * min(state.fraction, 1))}%"]
    long, short = ([fact[index] for fact in state.facts] for index in (0, 1))
    if columns is None:
        return ": ".join(filter(None, [doing, ", ".join([*percent, *long])]))
    if not percent and not long:
        return _cut(doing, columns)
    least = min(_measure(doing), LEAST_NAME) + 2  # with a colon and a blank
    for facts in (long, short):
        room = columns - _measure(", ".join([*percent, *facts]))
        if room >= least:
            return _fill(_cut(doing, room - 2), percent, facts, columns)
    for first in range(len(short)):
        line = ", ".join([*percent, *short[first:]])
        if _measure(line) <= columns:
            return line
    return _cut("".join(percent) or short[-1], columns)


def _fill(doing: str, percent: Sequence[str], facts: Sequence[str], columns: int) -> str:
    """Join the parts of a line, with a bar if there is room for one."""
    line = f"{doing}: {', '.join([*percent, *facts])}"
    before = f"{doing}: {''.join(percent)} |"
    behind = " ".join(["|", *([", ".join(facts)] if facts else [])])
    room = min(columns - _measure(before + behind), WIDEST_BAR)
    if not percent or room < LEAST_BAR:
        return line
    done = int(room * int(percent[0][:-1]) / 100)
    return f"{before}{'█' * done}{' ' * (room - done)}{behind}"


def _cut(text: str, columns: int) -> str:
    """Cut a text to so many columns, with an ellipsis where something is missing."""
    if _measure(text) <= columns:
        return text
    while text and _measure(text) >= columns:
        text = text[:-1]
    return f"{text}…" if columns > 0 else ""


def _measure(text: str) -> int:
    """Count the columns that a text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def _is_terminal() -> bool:
    with suppress(OSError, ValueError, AttributeError):  # closed, or none
        return sys.stderr.isatty()
    return False


def _count_columns() -> int:
    with suppress(OSError, ValueError, AttributeError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    return 80


def _write(text: str) -> None:
    with suppress(OSError, ValueError, AttributeError):
        try:
            text.encode(sys.stderr.encoding)
        except UnicodeEncodeError:
            text = text.translate(PLAIN)
        sys.stderr.write(text)
        sys.stderr.flush()

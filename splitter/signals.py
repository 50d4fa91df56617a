"""Signals that end a run: Ctrl-C, a shutdown, a terminal that is closed.

A handler that raises may do so anywhere: in a library that drops what it cannot pass on, in the
middle of an import, or of the clean-up after the last exception. So there are three kinds:

    end_at_once   as long as nothing is open, the process ends on the spot
    Waiting       while files are written, the signal waits until somebody asks, between two blocks
    Raising       for what waits for others, a pipe or a cluster: an exception wakes it up

Whoever sends a second signal does not want to wait: it ends the process, whatever is left behind.
Two at once are one: timeout(1) signals its child and then its group, and a terminal that is closed
hangs up on all that run in it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

Handler = Callable[[int, FrameType | None], None]
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
AT_ONCE = 0.5  # seconds in which signals are one


class Stopped(BaseException):
    """A signal has asked for the end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def status(self) -> int:
        """Return the exit status that says so."""
        return 128 + self.number


def end_at_once(number: int, _: FrameType | None = None) -> NoReturn:
    """End the process, and say so, if it was a person who asked."""
    if number == signal.SIGINT:
        with suppress(OSError):
            erase = b"\r\x1b[K" if os.isatty(2) else b""
            os.write(2, erase + b"splitter: interrupted\n")
    os._exit(128 + number)


class Waiting:
    """A handler that remembers the signal until `check` is called."""

    number = 0
    _came = 0.0  # when

    def __call__(self, number: int, _: FrameType | None = None) -> None:
        """Remember a signal; a second one ends the process."""
        now = time.monotonic()
        if not self.number:
            self._came, self.number = now, number
        elif now - self._came > AT_ONCE:
            end_at_once(number)

    def check(self) -> None:
        """Raise Stopped if there was a signal; from any thread."""
        if self.number:
            raise Stopped(self.number)


class Raising(Waiting):
    """A handler that raises Stopped, and remembers it in case a library swallows it."""

    def __call__(self, number: int, _: FrameType | None = None) -> None:
        """Raise Stopped, but once: it must not interrupt the clean-up."""
        first = not self.number
        super().__call__(number)
        if first:
            self.check()


def handle(handler: Handler) -> None:
    """Have a handler called for all signals but those that are ignored, as nohup has it."""
    for name in NAMES:
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


@contextmanager
def handling(handler: Handler) -> Iterator[None]:
    """Have a handler called in a with-block."""
    before = [
        (number, signal.getsignal(number))
        for name in NAMES
        if (number := getattr(signal, name, None))
    ]
    handle(handler)
    try:
        yield
    finally:
        if not getattr(handler, "number", 0):  # else the next signal ends the process
            for number, old in before:
                signal.signal(number, old)

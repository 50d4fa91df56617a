"""What can go wrong, said in one line each.

Every message names what failed, the file, and a way out. The command line turns a `SplitterError`
into one line on stderr and an exit status; nothing else does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

DISTRIBUTION = "songsplitter"  # what the package index calls splitter

# PyTorch's class for CUDA's shortage, by its name, and what MPS, cuBLAS, cuDNN, the processor
# and OpenVINO say by a mere RuntimeError
_SHORTAGES = (
    "OutOfMemoryError", "out of memory", "ALLOC_FAILED",
    "can't alloc", "not enough memory", "bad_alloc",
)  # fmt: skip
# what OpenVINO says before a reason: where in its code that was found
_PLACE = re.compile(r"Exception from .*:$|Check '.*' failed at .*:$")


class SplitterError(Exception):
    """Base of all errors that splitter raises on purpose."""

    status = 1  # of a command that it ends: something failed; 2: it was asked wrongly


class AudioError(SplitterError):
    """A sound file cannot be read or written."""


class CommandError(SplitterError):
    """What a command names is not there or does not fit: no fault of any song."""

    status = 2


class ModelError(CommandError):
    """A model folder is missing, incomplete or does not fit its network."""


class DeviceError(CommandError):
    """PyTorch cannot compute where it was told to."""


class PageError(SplitterError):
    """A page cannot be written; what it is about is done."""


class DataError(SplitterError):
    """A data set for training or evaluation is missing or malformed."""

    status = 2


class JournalError(DataError):
    """A journal cannot be read or written."""

    status = 1


class StoppedError(SplitterError):
    """The work was stopped from outside."""


class MissingExtra(CommandError):  # noqa: N818 - reads as the advice that it is
    """An optional package is not installed."""

    def __init__(self, extra: str) -> None:
        super().__init__(f"an optional package is missing; pip install '{DISTRIBUTION}[{extra}]'")
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str]]:
        """Say what another process makes it from: not the message, as by default."""
        return type(self), (self.extra,)


def reason(error: Exception) -> str:
    """Say in a line why something failed: in the system's words, or in the library's."""
    lines = str(getattr(error, "strerror", None) or error).splitlines()
    words = [line for line in lines if line.strip() and not _PLACE.match(line)]
    return words[0] if words else type(error).__name__


def is_shortage(error: BaseException) -> bool:
    """Tell whether an error says that memory is short, a device's or the system's."""
    if isinstance(error, RuntimeError):
        said = f"{type(error).__name__}: {error}"
        return any(words in said for words in _SHORTAGES)
    return isinstance(error, MemoryError)


@contextmanager
def saying_shortage(
    what: str,
    kind: type[SplitterError] = SplitterError,
    way_out: str = "end what else uses it, or use another --device",
) -> Iterator[None]:
    """Make of an error about memory one that says for `what` it was, and what can be done."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        raise kind(f"{what}: there is not enough memory; {way_out}") from error

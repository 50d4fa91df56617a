"""What can go wrong, said in one line each.

Every message names what failed, the file, and a way out. The command line turns a `SplitterError`
into one line on stderr and an exit status; nothing else does.
"""


class SplitterError(Exception):
    """Base of all errors that splitter raises on purpose."""


class AudioError(SplitterError):
    """A sound file cannot be read or written."""


class CommandError(SplitterError):
    """What a command names is not there or does not fit: no fault of any song."""


class ModelError(CommandError):
    """A model folder is missing, incomplete or does not fit its network."""


class DeviceError(CommandError):
    """PyTorch cannot compute where it was told to."""


class DataError(SplitterError):
    """A data set for training or evaluation is missing or malformed."""


class MissingExtra(SplitterError):  # noqa: N818 - reads as the advice that it is
    """An optional package is not installed."""

    def __init__(self, install: str) -> None:
        super().__init__(f"this needs an optional package: {install}")

"""Stem files: written beside their target under a hidden name, and renamed when whole."""

import os
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile

from splitter.audio.blocks import Block, full_scale, to_integers
from splitter.errors import AudioError

_SUBTYPES = {16: "PCM_16", 24: "PCM_24", 32: "FLOAT"}


class StemWriter:
    """A stem on its way into a file.

    The file has its name only when the with-block ended well; otherwise nothing is left.
    `peak` is the largest magnitude so far, `clipped` the number of samples cut off at full scale,
    `samples` the number of samples written.
    """

    def __init__(
        self, target: Path, rate: int, channels: int, container: str = "wav", bits: int = 16
    ) -> None:
        self.target = target
        self.bits = bits
        self.peak = 0.0
        self.clipped = 0
        self.samples = 0
        self._temporary = target.with_name(
            f".splitter-{os.getpid()}-{hash(target.name) & 0xFFFF:x}"
        )
        try:
            self._sound = soundfile.SoundFile(
                self._temporary, "w", rate, channels, _SUBTYPES[bits], format=container.upper()
            )
        except (soundfile.LibsndfileError, OSError) as error:
            raise AudioError(f"{target}: cannot be written ({error})") from error

    def write(self, block: Block) -> None:
        """Add a block (channels, samples)."""
        if not block.size:
            return
        self.samples += block.shape[1]
        self.peak = max(self.peak, float(np.abs(block).max()))
        if self.bits == 32:
            self._sound.write(block.T)
            return
        self.clipped += int(np.count_nonzero(np.abs(block) > 1))
        integers = to_integers(block, self.bits)
        # libsndfile takes the upper bits of an int32
        self._sound.write((integers * (full_scale(32) // full_scale(self.bits))).T)

    def __enter__(self) -> "StemWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sound.close()
        if kind is None:
            self._temporary.replace(self.target)
        else:
            self._temporary.unlink(missing_ok=True)

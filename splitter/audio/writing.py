"""Stem files: written beside their target under a hidden name, and renamed when whole."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from splitter.audio.blocks import Block, find_peak
from splitter.audio.encoding import (
    Converter,
    DirectEncoder,
    StemEncoder,
    WaitingEncoder,
    must_wait,
)
from splitter.audio.files import PartFile, report_errors
from splitter.audio.formats import OutputFormat, fit_format, fit_pipe
from splitter.audio.tagging import fit_tags, write_tags
from splitter.audio.tags import Tags

logger = logging.getLogger(__name__)


class StemWriter:
    """A stem on its way into a file or a pipe.

    A file has its name only when the with-block ended well; otherwise nothing is left. A pipe gets
    its blocks at once, and stays open. `layout` says where the channels stand, as FFmpeg names it:
    "5.1(side)"; AudioError is raised if the format cannot hold it. `samples` counts those that came
    in. When all is written, `peak` is the largest magnitude of what was written, before any gain
    and before `clipped` samples were cut off at full scale, `gain` is what they were multiplied by,
    and `format` says what the file is.
    """

    def __init__(
        self,
        target: Path | BinaryIO,
        rate: int,
        channels: int,
        wanted: OutputFormat = OutputFormat(),
        tags: Tags = Tags(),
        layout: str | None = None,
    ) -> None:
        self.target = target
        self.samples = 0
        self.peak = 0.0
        self._name = str(target if isinstance(target, Path) else getattr(target, "name", "stream"))
        self._tags = _fit(tags, wanted, self._name)
        self._part: PartFile | None = None
        settled = wanted if wanted.bits else fit_format(wanted, rate, channels, 16)
        self._converter = Converter(settled, rate, channels)
        self._ended = False
        shape = self._converter.rate, self._converter.channels
        with report_errors(self._name), ExitStack() as undo:
            if isinstance(target, Path):
                self._part = PartFile(target)
                undo.callback(self._part.discard)
                self._encoder = _open_encoder(self._part, settled, shape, layout)
            else:
                self._encoder = DirectEncoder(target, fit_pipe(settled), shape, layout)
            undo.pop_all()

    @property
    def format(self) -> OutputFormat:
        """What the file is; with `clip="float"` this is known at the end."""
        return self._encoder.format

    @property
    def clipped(self) -> int:
        """The number of samples cut off at full scale."""
        return self._encoder.clipped

    @property
    def gain(self) -> float:
        """What `clip="rescale"` multiplied the samples by."""
        return self._encoder.gain

    def write(self, block: Block) -> None:
        """Add a block (channels, samples)."""
        if not block.size:
            return
        self.samples += block.shape[1]
        self._encode(self._converter.feed(block))

    def end(self) -> None:
        """Say that no block comes any more: now `peak` is that of the whole stem."""
        if not self._ended:
            self._ended = True
            self._encode(self._converter.finish())

    def _encode(self, blocks: Iterable[Block]) -> None:
        with report_errors(self._name):
            for block in blocks:
                if not block.size:
                    continue
                peak = find_peak(block)
                if not math.isfinite(peak):
                    raise FloatingPointError("some samples are not numbers")
                self.peak = max(self.peak, peak)
                self._encoder.write(block)
            self._flush()

    def finish(self, peak: float | None = None) -> None:
        """Write what is left; `peak` is the largest of all stems that shall keep one level."""
        self.end()
        with report_errors(self._name):
            self._encoder.close(self.peak if peak is None else peak)
            self._flush()
            if self._part:
                self._part.check()
                if self.samples:  # behind a wav's empty sound, players would take them for it
                    write_tags(self._part.path, self.format.container, self._tags)

    def _flush(self) -> None:
        file = self._part.file if self._part else self.target
        file.flush()  # type: ignore[union-attr]

    def commit(self) -> None:
        """Give the file its name."""
        if self._part:
            self._part.commit()

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        if self._part:
            self._part.abandon()
        self._encoder.discard()
        if self._part:
            self._part.discard()

    def __enter__(self) -> "StemWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with ExitStack() as cleanup:
            cleanup.callback(self.discard)
            if kind is None:
                self.finish()
                self.commit()


def _open_encoder(
    part: PartFile, settled: OutputFormat, shape: tuple[int, int], layout: str | None
) -> StemEncoder:
    if must_wait(settled):
        return WaitingEncoder(part.file, settled, shape, part.target, layout)
    return DirectEncoder(part.file, settled, shape, layout)


def _fit(tags: Tags, wanted: OutputFormat, name: str) -> Tags:
    """Leave out of the tags what the format cannot hold, and log it."""
    remarks: list[str] = []
    tags = fit_tags(tags, wanted.container, remarks)
    for remark in remarks:
        logger.warning("%s: %s", name, remark)
    return tags


@contextmanager
def write_stems(
    targets: Mapping[str, Path | BinaryIO],
    rate: int,
    channels: int,
    wanted: OutputFormat = OutputFormat(),
    tags: Tags = Tags(),
    layout: str | None = None,
) -> Iterator[dict[str, StemWriter]]:
    """Open a writer for each stem of a song: all files get their names in the end, or none.

    The stems keep their proportions: rescaling takes one gain for all, and the dither of every
    second stem is the first one's negated, so that two stems sum to the song.
    """
    with ExitStack() as cleanup:
        writers: dict[str, StemWriter] = {}
        tags = _fit(tags, wanted, ", ".join(map(str, targets.values())))
        for stem, target in targets.items():
            sign = -1 if len(writers) % 2 else 1
            turned = replace(wanted, dither=wanted.dither * sign)
            writers[stem] = StemWriter(target, rate, channels, turned, tags.for_stem(stem), layout)
            cleanup.callback(writers[stem].discard)
        yield writers
        for writer in writers.values():
            writer.end()
        peak = max((writer.peak for writer in writers.values()), default=0.0)
        for writer in writers.values():
            writer.finish(peak)
        with ExitStack() as undo:
            for writer in writers.values():
                target = writer.target
                new = isinstance(target, Path) and not target.exists()
                writer.commit()
                if new and isinstance(target, Path):  # what was there before is gone already
                    undo.callback(target.unlink, missing_ok=True)
            undo.pop_all()

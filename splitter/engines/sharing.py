"""One network at work for many songs at once.

    song 1 ── tiles ──▶ ┐            ┌ lane 1: network ┐            ┌ ──▶ pieces of song 1
    song 2 ── tiles ──▶ ├─ waiting ─▶┤                 ├─▶ answers ─┤ ──▶ pieces of song 2
    song 3 ── tiles ──▶ ┘            └ lane 2: network ┘            └ ──▶ pieces of song 3

Each song has a thread, which reads, hands over tiles, and writes what comes back. Each lane has a
thread, which takes as many waiting tiles as fit in a batch, whosever they are. So decoding, the
network and encoding overlap, and what fails in one song is raised in that song's thread alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch

from splitter.errors import SplitterError
from splitter.separation import Piece
from splitter.tiling import Tile, stack_signals

Signals = npt.NDArray[np.float32]  # (batch, channels, samples)
# tiles, and how many samples of context each has at both ends, to (batch, stems, channels, core)
Lane = Callable[[Signals, int], Signals]


class StoppedError(SplitterError):
    """The work was stopped from outside."""


@dataclass(frozen=True)
class _Waiting:
    """A tile that waits for its answer."""

    tile: Tile
    answer: Future[Piece] = field(default_factory=Future)


class SharedNetwork:
    """Lanes that answer tiles from any thread; use it in a with-block.

    `batch` is the most tiles that go through a lane at once. It is halved, for good, when that does
    not fit into memory, and the tiles are tried again.
    """

    def __init__(self, lanes: Sequence[Lane], batch: int = 1) -> None:
        self.batch = batch
        self._waiting: deque[_Waiting] = deque()
        self._lock = Lock()
        self._stopped = False
        self._lanes = len(lanes)
        self._songs = 0  # under way
        self._idle = deque(lanes)
        self._threads = ThreadPoolExecutor(len(lanes), "splitter-lane")

    def run(self, tiles: Iterable[Tile]) -> Iterator[Piece]:
        """Yield the piece of each tile, in order, and keep all lanes busy as long as there are.

        All songs together are as many tiles ahead as one song alone: memory does not grow with
        their number.
        """
        sent: deque[_Waiting] = deque()
        self._count_songs(1)
        try:
            for tile in tiles:
                sent.append(self._send(tile))
                if len(sent) > -(-max(self._lanes, self.batch) // self._songs):
                    yield sent.popleft().answer.result()
            while sent:
                yield sent.popleft().answer.result()
        finally:
            self._count_songs(-1)

    def stop(self) -> None:
        """Answer nothing any more: whoever waits, or comes, gets a StoppedError."""
        with self._lock:
            self._stopped = True
            waiting, self._waiting = self._waiting, deque()
        for item in waiting:
            item.answer.set_exception(StoppedError("stopped"))

    def __enter__(self) -> SharedNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._threads.shutdown()

    def _count_songs(self, more: int) -> None:
        with self._lock:
            self._songs += more

    def _send(self, tile: Tile) -> _Waiting:
        item = _Waiting(tile)
        with self._lock:
            if self._stopped:
                raise StoppedError("stopped")
            self._waiting.append(item)
            self._threads.submit(self._answer_some)
        return item

    def _answer_some(self) -> None:
        """Take a lane and a batch, if another call has left one, and answer it."""
        with self._lock:
            if not self._waiting:
                return
            batch = self._take()
            lane = self._idle.popleft()
        try:
            signals = stack_signals([item.tile for item in batch])
            outputs = lane(signals, batch[0].tile.context)
        except torch.cuda.OutOfMemoryError as error:
            self._retry(batch, error)
        except BaseException as error:  # not swallowed: it is raised where the answer is wanted
            _fail(batch, error)
        else:
            for item, output in zip(batch, outputs, strict=True):
                item.answer.set_result(item.tile.keep(output))
        finally:
            with self._lock:
                self._idle.append(lane)

    def _take(self) -> list[_Waiting]:
        """Remove the tiles of the next batch: the first that waits, and others of its shape."""
        shapes = [item.tile.signal.shape for item in self._waiting]
        alike = [index for index, shape in enumerate(shapes) if shape == shapes[0]][: self.batch]
        batch = [self._waiting[index] for index in alike]
        for index in reversed(alike):
            del self._waiting[index]
        return batch

    def _retry(self, batch: list[_Waiting], error: BaseException) -> None:
        """Send a batch that did not fit into memory again, in two halves."""
        torch.cuda.empty_cache()
        if len(batch) == 1:
            advice = "one tile does not fit into the device's memory; use --device cpu"
            failure = SplitterError(advice)
            failure.__cause__ = error
            _fail(batch, failure)
            return
        with self._lock:
            self.batch = max(1, min(self.batch, len(batch) // 2))
            if not self._stopped:
                self._waiting.extendleft(reversed(batch))
                for _ in batch:
                    self._threads.submit(self._answer_some)
                return
        _fail(batch, StoppedError("stopped"))


def _fail(batch: Iterable[_Waiting], error: BaseException) -> None:
    for item in batch:
        item.answer.set_exception(error)

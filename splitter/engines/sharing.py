"""One network at work for many songs at once.

    song 1 ── tiles ──▶ ┐            ┌ lane 1: network ┐            ┌ ──▶ pieces of song 1
    song 2 ── tiles ──▶ ├─ waiting ─▶┤                 ├─▶ answers ─┤ ──▶ pieces of song 2
    song 3 ── tiles ──▶ ┘            └ lane 2: network ┘            └ ──▶ pieces of song 3

Each song has a thread, which reads, hands over tiles, and writes what comes back. Each lane has a
thread, which takes as many waiting tiles as fit in a batch, whosever they are. So decoding, the
network and encoding overlap, and what fails in one song is raised in that song's thread alone.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from splitter.errors import SplitterError, StoppedError, is_shortage
from splitter.runtime.computing import Piece
from splitter.tiling import Tile, stack_signals

log = logging.getLogger(__name__)

Signals = npt.NDArray[np.float32]  # (batch, channels, samples)


class Lane(Protocol):
    """A way through the network, for one batch at a time."""

    batch: int  # most tiles at once; halved, for good, when so many do not fit into memory
    alone: bool  # the tile that comes is all there is: the lane may use what others would
    part: int  # of models that are averaged: whose tiles come

    def __call__(self, signals: Signals, context: int) -> Signals:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples of core)."""


@dataclass(frozen=True)
class _Waiting:
    """A tile that waits for its answer."""

    tile: Tile
    alone: bool  # there is no other, and will be none before it is answered
    answer: Future[Piece] = field(default_factory=Future)


class SharedNetwork:
    """Lanes that answer tiles from any thread; use it in a with-block.

    A batch that does not fit into memory is tried again as two. A lane that has no room for one
    tile beside the other lanes leaves the work to them; the last one has all the memory. With one
    song at a time, which has one tile, the lane is told: that does not depend on what other songs
    do meanwhile, so neither does how sums are rounded.
    """

    def __init__(self, lanes: Sequence[Lane], one_song: bool = False) -> None:
        self._one_song = one_song  # at a time
        self._waiting: deque[_Waiting] = deque()
        self._lock = Lock()
        self._stopped = False
        self._lanes = list(lanes)  # those that have not left
        self._idle = deque(lanes)
        self._songs = 0  # under way
        self._process = os.getpid()
        self._threads = ThreadPoolExecutor(len(lanes), "splitter-lane")

    def run(self, tiles: Iterable[Tile]) -> Iterator[Piece]:
        """Yield the piece of each tile, in order, and keep all lanes busy as long as there are.

        All songs together are as many tiles ahead as one song alone: memory does not grow with
        their number.
        """
        if os.getpid() != self._process:  # which took no threads along
            raise SplitterError("a network was shared before a fork; share it in the child")
        sent: deque[Future[Piece]] = deque()  # answers alone: tiles are large
        self._count_songs(1)
        try:
            for number, tile in enumerate(tiles):
                sent.append(self._send(tile, self._one_song and tile.last and not number))
                if len(sent) > self._count_ahead():
                    yield sent.popleft().result()
            while sent:
                yield sent.popleft().result()
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
        self.close()

    def close(self) -> None:
        """Stop, and wait until all lanes have."""
        self.stop()
        self._threads.shutdown()

    def _count_songs(self, more: int) -> None:
        with self._lock:
            self._songs += more

    def _count_ahead(self) -> int:
        """Return how many tiles each song may be ahead: all together, what fills all lanes."""
        with self._lock:
            return -(-sum(lane.batch for lane in self._lanes) // self._songs)

    def _send(self, tile: Tile, alone: bool) -> Future[Piece]:
        item = _Waiting(tile, alone)
        with self._lock:
            if self._stopped:
                raise StoppedError("stopped")
            self._waiting.append(item)
            if self._idle:  # a busy lane looks itself what waits when it is done
                self._threads.submit(self._work)
        return item.answer

    def _work(self) -> None:
        """Answer one batch after the other, as long as tiles wait and a lane is idle."""
        while (taken := self._take()) is not None:
            lane, batch, alone = taken
            shortage = _answer(lane, batch)
            if shortage is not None:
                torch.cuda.empty_cache()
                self._make_room(lane, batch, alone, shortage)
            with self._lock:
                if lane in self._lanes:
                    self._idle.append(lane)

    def _take(self) -> tuple[Lane, list[_Waiting], bool] | None:
        """Take a lane and its next batch: the first tile that waits, and others of its shape.

        Also tell whether the lane has the memory for itself.
        """
        with self._lock:
            if not self._waiting or not self._idle:
                return None
            lane = self._idle.popleft()
            kinds = [item.tile.kind for item in self._waiting]
            alike = [index for index, kind in enumerate(kinds) if kind == kinds[0]]
            batch = [self._waiting[index] for index in alike[: lane.batch]]
            for index in reversed(alike[: lane.batch]):
                del self._waiting[index]
            lane.alone, lane.part = batch[0].alone, batch[0].tile.part
            return lane, batch, len(self._lanes) == 1

    def _make_room(
        self, lane: Lane, batch: list[_Waiting], alone: bool, shortage: BaseException
    ) -> None:
        """Have a batch that did not fit into memory tried again, if there is a way."""
        with self._lock:
            if len(batch) > 1:
                lane.batch = len(batch) // 2
            elif alone:
                _fail(batch, shortage)
                return
            elif len(self._lanes) > 1:
                self._lanes.remove(lane)
                log.warning(
                    "not enough memory for so many tiles at once; going on with %d",
                    len(self._lanes),
                )
            if self._stopped:
                _fail(batch, StoppedError("stopped"))
                return
            self._waiting.extendleft(reversed(batch))
            self._threads.submit(self._work)  # for what this thread then leaves


def _answer(lane: Lane, batch: Sequence[_Waiting]) -> BaseException | None:
    """Answer a batch; return the error if it did not fit into memory.

    That error has no traceback: its frames would keep what the lane had in memory.
    """
    try:
        outputs = lane(stack_signals([item.tile for item in batch]), batch[0].tile.context)
        pieces = [item.tile.keep(output) for item, output in zip(batch, outputs, strict=True)]
    except BaseException as error:  # not swallowed: it is raised where the answer is wanted
        if is_shortage(error):
            return error.with_traceback(None)
        _fail(batch, error)
        return None
    for item, piece in zip(batch, pieces, strict=True):
        item.answer.set_result(piece)
    return None


def _fail(batch: Iterable[_Waiting], error: BaseException) -> None:
    for item in batch:
        item.answer.set_exception(error)

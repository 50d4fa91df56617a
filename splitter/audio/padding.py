"""The padding that encoders leave at the end, held back until it is known."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from splitter.audio.blocks import Block
from splitter.audio.decoder import PADDING


def drop_padding(arrays: Iterable[Block], find_end: Callable[[int], int]) -> Iterator[Block]:
    """Yield arrays up to the place that `find_end` gives, when it knows how many samples came."""
    decoded, held = 0, _Held()
    for array in arrays:
        decoded += array.shape[1]
        yield from held.exchange(array)
    yield from cut_out(held.arrays, 0, held.samples - (decoded - find_end(decoded)))


class _Held:
    """The last arrays, held back until it is known whether they are padding."""

    def __init__(self) -> None:
        self.arrays: deque[Block] = deque()
        self.samples = 0

    def exchange(self, array: Block) -> Iterator[Block]:
        """Take an array in, and yield those that lie far enough before the end."""
        self.arrays.append(array)
        self.samples += array.shape[1]
        while self.samples - self.arrays[0].shape[1] >= PADDING:
            self.samples -= self.arrays[0].shape[1]
            yield self.arrays.popleft()


def cut_out(arrays: Iterable[Block], start: int, stop: int | None) -> Iterator[Block]:
    """Yield what lies from `start` to before `stop`, and read no further."""
    position = 0
    for array in arrays:
        if stop is not None and position >= stop:
            return
        kept = array[:, max(start - position, 0) : None if stop is None else stop - position]
        position += array.shape[1]
        if kept.size:
            yield kept

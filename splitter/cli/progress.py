"""How far a command is, in the words of its line on the screen."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from splitter.cli.messages import count, format_duration, format_speed, format_time
from splitter.cli.screen import Screen, State
from splitter.signals import Waiting

if TYPE_CHECKING:
    from splitter.audio import SongReader
    from splitter.engines import Outcome
    from splitter.jobs import Extent, Job
    from splitter.separation import Stems
    from splitter.songs import Watch

Fact: TypeAlias = tuple[str, str]  # in long and short
# The first seconds go into starting up, and a tile is done at once: they tell little of the rest.
LEAST_SHARE = 0.03
LEAST_TIME = 5.0  # seconds
LONG = 120.0  # seconds; after these a smaller share will do, as of many thousand songs
PROGRESS = ("bar", "json", "none")
Item = TypeVar("Item")


AT_ONCE = 0.05  # seconds between items that are only looked up


class Pace:
    """How long something has taken, and how long the rest will take at the average so far."""

    def __init__(self, begun: float = 0.0) -> None:
        self.begun = begun  # fraction that was done before
        self._started = time.monotonic()

    @property
    def taken(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._started

    def left(self, fraction: float) -> list[Fact]:
        """Say how much time is left, once that can be told."""
        done = fraction - self.begun
        seen = done >= LEAST_SHARE and self.taken >= LEAST_TIME
        if done <= 0 or not (seen or self.taken >= LONG or fraction >= 1):
            return []
        left = f"{format_time(self.taken * max(1 - fraction, 0) / done)} left"
        return [(left, left)]

    def speed(self, seconds: float) -> Fact:
        """Say how many times real time it went, on average."""
        speed = format_speed(seconds, self.taken)
        return f"{speed} × real time", f"{speed} ×"


def watch_song(screen: Screen) -> Watch:
    """Return what shows the progress of one song."""
    shows = {"bar": _watch_on_line, "json": _watch_as_json}
    return partial(shows[screen.kind], screen) if screen.kind in shows else _unwatched


def watch_signals(waiting: Waiting, watch: Watch) -> Watch:
    """Have a song's stems end by Stopped when there was a signal."""

    def watch_both(song: SongReader, stems: Iterator[Stems]) -> Iterator[Stems]:
        for block in watch(song, stems):
            waiting.check()
            yield block
        waiting.check()

    return watch_both


def _unwatched(_: SongReader, stems: Iterator[Stems]) -> Iterator[Stems]:
    return stems


def _watch_on_line(screen: Screen, song: SongReader, stems: Iterator[Stems]) -> Iterator[Stems]:
    """Show how many seconds of the song are done, how fast that goes, and how long it takes."""
    name, done, pace = _name(song), 0, Pace()
    screen.show(State(f"separating {name}", None if song.samples is None else 0.0))
    for block in stems:
        yield block
        done += _count_samples(block)
        screen.show(_describe_song(song, done, pace))
    screen.keep(State(name, None, _summarise(done / song.rate, pace)))


def _describe_song(song: SongReader, done: int, pace: Pace) -> State:
    """Describe a song of which so many samples are done."""
    doing, seconds = f"separating {_name(song)}", f"{done / song.rate:.0f}"
    speed = pace.speed(done / song.rate)
    if not song.samples:
        return State(doing, None, [(f"{seconds} s", f"{seconds} s"), speed])
    fraction = min(done / song.samples, 1.0)
    total = f"{song.samples / song.rate:.0f} s"
    far = f"{seconds} of {total}", f"{seconds}/{total}"
    return State(doing, fraction, [far, speed, *pace.left(fraction)])


def _summarise(seconds: float, pace: Pace) -> list[Fact]:
    """Say how much sound took how long."""
    taken = format_duration(pace.taken)
    return [(f"{format_duration(seconds)} of sound in {taken}", taken), pace.speed(seconds)]


def _watch_as_json(screen: Screen, song: SongReader, stems: Iterator[Stems]) -> Iterator[Stems]:
    """Write a JSON object for each block: song, seconds done, seconds in all (null: unknown)."""
    from splitter.cli.records import to_json

    done, total = 0, None if song.samples is None else song.samples / song.rate
    for block in stems:
        yield block
        done += _count_samples(block)
        state = {"song": song.source, "done": done / song.rate, "total": total}
        screen.say(to_json(state))


def _name(song: SongReader) -> str:
    return PurePath(song.source).name


def _count_samples(block: Stems) -> int:
    return int(next(iter(block.values())).shape[-1])


@dataclass
class BatchProgress:
    """How far a run over many songs is.

    Songs are counted by their bytes, so that nothing need be opened to know how much is left.
    """

    screen: Screen
    extent: Extent
    done: int = 0
    failed: int = 0
    audio: float = 0.0  # seconds separated
    pace: Pace = field(default_factory=Pace)  # from the first sound or else the first song on
    _bytes: float = 0.0  # of songs that have come to their end
    _sizes: dict[str, int] = field(default_factory=dict)  # of songs under way
    _current: dict[str, tuple[float, float]] = field(default_factory=dict)  # seconds done, bytes
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._whole = self.pace

    def begin(self, job: Job) -> None:
        """Note a song that is handed out."""
        with self._lock:
            self._sizes[str(job.song)] = job.size

    def watch(self, song: SongReader, stems: Iterator[Stems]) -> Iterator[Stems]:
        """Pass a song's stems on and show how far all songs are."""
        done = 0
        with self._lock:
            if self.pace is self._whole:
                self.pace = Pace()
        try:
            for block in stems:
                yield block
                done += _count_samples(block)
                share = min(done / song.samples, 1.0) if song.samples else 0.0
                with self._lock:
                    size = self._sizes.get(song.source, 0)
                    self._current[song.source] = done / song.rate, share * size
                self.show()
        finally:
            with self._lock:
                self._current.pop(song.source, None)

    def count(self, outcome: Outcome) -> None:
        """Count a song that has come to its end."""
        with self._lock:
            self._sizes.pop(str(outcome.job.song), None)
            self._bytes += outcome.job.size
            if outcome.separated:
                self.done += 1
                self.audio += outcome.separated.samples / outcome.separated.rate
            else:
                self.failed += 1
        self.show()

    def show(self) -> None:
        """Show songs done of all, speed and time left; names the song that is on the longest."""
        with self._lock:
            seconds = self.audio + sum(done for done, _ in self._current.values())
            size = self._bytes + sum(share for _, share in self._current.values())
            song = PurePath(next(iter(self._current), "")).name
        ended, known = self.done + self.failed, self.extent.estimate()
        doing, failed = (
            f"separating {song or 'songs'}",
            f", {self.failed} failed" * bool(self.failed),
        )
        if known is None:
            songs = f"{count(ended, 'song')}{failed}", count(ended, "song")
            self.screen.show(State(doing, None, [songs, self.pace.speed(seconds)]))
            return
        all_songs, total = known
        fraction = min(size / total, 1.0) if total else 0.0
        if self.pace is self._whole and ended:  # on a cluster, where workers had to start
            self.pace = Pace(fraction)
        pace = self._whole if self.pace.begun else self.pace
        songs = f"{ended} of {all_songs} songs{failed}", f"{ended}/{all_songs} songs"
        facts = [songs, pace.speed(seconds), *self.pace.left(fraction)]
        self.screen.show(State(doing, fraction, facts))

    @property
    def summary(self) -> State:
        """Say what was done."""
        failed = f", {self.failed} failed" if self.failed else ""
        doing = f"{count(self.done, 'song')} done{failed}"
        return State(doing, None, _summarise(self.audio, self._whole) if self.done else [])


def watch_items(
    screen: Screen, items: Iterable[Item], doing: str, total: int, thing: str
) -> Iterator[Item]:
    """Pass items on and show how many of all have come; `total` 0 is unknown.

    Those that come at once at the beginning were there before, and tell nothing of the others.
    """
    pace = Pace()
    there = True
    screen.show(State(doing))
    for number, item in enumerate(items, 1):
        there = there and pace.taken < AT_ONCE
        pace = Pace(number / total if total else 0.0) if there else pace
        yield item
        if total:
            fraction = number / total
            facts = [(f"{number} of {total} {thing}", f"{number}/{total}"), *pace.left(fraction)]
            screen.show(State(doing, fraction, facts))
        else:
            screen.show(State(doing, None, [(f"{number} {thing}", f"{number}")]))

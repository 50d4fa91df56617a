"""Which files songs become."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, groupby, islice
from pathlib import Path

from splitter.collisions import identify, keep_apart, tell_replaced
from splitter.jobs.finding import Found, LeftOut
from splitter.jobs.table import Table
from splitter.objects import Listing
from splitter.paths import is_local, is_there, locate, look_at

GROUP = 4096  # songs of a folder that are settled together
NameStems = Callable[[Path, Path, str], Mapping[str, Path]]  # song, folder, mark: see keep_apart


@dataclass(frozen=True)
class Job:
    """A song to be separated, and the files that its stems become."""

    song: Path
    stems: Mapping[str, Path]  # name → file
    size: int = 0  # bytes
    mtime: float = 0.0  # seconds since 1970
    claimed: frozenset[Path] = frozenset()  # stems that were free, or are the journal's own
    wrong: str = field(default="", compare=False)  # why it cannot be done
    # stems that a listing showed; None: nobody listed them
    there: frozenset[Path] | None = field(default=None, compare=False)

    def sees(self, stem: Path) -> bool:
        """Tell whether a stem is there, or was as the job was planned."""
        return is_there(stem) if self.there is None else stem in self.there

    @property
    def is_made(self) -> bool:
        """Tell whether all stems are there, and hold something: a power cut may leave the name."""
        return all(map(self._is_whole, self.stems.values()))

    def _is_whole(self, stem: Path) -> bool:
        if self.there is not None or not is_local(stem):
            return self.sees(stem)
        return look_at(stem).size > 0


def plan_jobs(songs: Iterable[Found], output: Path, name_stems: NameStems) -> Iterator[Job]:
    """Say which files the stems of songs become, as the songs are found; see keep_apart.

    The songs of a folder are settled together, whatever their order, and kept apart from all that
    came before them. A file that comes again, be it by another name or link, is left out, and so
    are stems of other songs: output may lie among the songs. Of a song that a stem would replace
    the job says what is wrong.
    """
    plan = _Plan(output, name_stems)
    for _, folder in groupby(songs, lambda one: one.parent):
        while group := list(islice(folder, GROUP)):
            yield from plan.settle(group)
    plan.again.tell()


class _Plan:
    """What must be known of all songs that came before, as hashes."""

    def __init__(self, output: Path, name_stems: NameStems) -> None:
        self.again = LeftOut("the same file as another song of this run")
        self._output = output
        self._name_stems = name_stems
        self._seen = Table()  # identities of songs
        self._taken = Table()  # where stems and songs are located
        self._names = Table()  # the same, as disks compare names
        self._listing = None if is_local(output) else Listing(output)

    def settle(self, group: Iterable[Found]) -> Iterator[Job]:
        """Plan the songs of a folder."""
        songs, facts = [], []
        for one in group:
            looked = one.look()
            key = looked.identity or str(locate(one.path))
            if self._seen[key]:
                self.again.count(one.path)
                continue
            self._seen[key] = 1
            songs.append(one)
            facts.append(looked)

        # by its parts: of a store, "." would be a name, and its paths are none others can join
        folder = self._output.joinpath(*(songs[0].parent.parts if songs else ()))

        def name(index: int, mark: str) -> Mapping[str, Path]:
            return self._name_stems(songs[index].path, folder, mark)

        named = keep_apart([one.path for one in songs], name, self._names)
        located = [set(map(locate, stems.values())) for stems in named]
        for path in chain.from_iterable(located):
            self._take(path)
        there = self._list(located)
        for one, stems, places, known in zip(songs, named, located, facts, strict=True):
            place = locate(one.path)
            if not self._taken[place] or place in places:
                self._take(place)
                seen = None if there is None else there.intersection(places)
                job = Job(one.path, stems, known.size, known.mtime, there=seen)
                yield replace(job, wrong=tell_replaced(one.path)) if place in places else job

    def _take(self, place: Path) -> None:
        """Note that a file is a stem's or a song's."""
        self._taken[place] = 1
        self._names[identify(place)] = 1

    def _list(self, located: Iterable[set[Path]]) -> frozenset[Path] | None:
        """List which stems are there already, where a look at each would be a request."""
        if self._listing is None:
            return None
        start = len(str(self._output).rstrip("/")) + 1
        keys = {str(path)[start:]: path for path in chain.from_iterable(located)}
        keys = {key: path for key, path in keys.items() if _is_unicode(key)}  # as all of a store's
        return frozenset(keys[key] for key in self._listing.among(keys.keys()))


def _is_unicode(text: str) -> bool:
    with suppress(UnicodeEncodeError):
        text.encode("utf-8")
        return True
    return False


def claim(job: Job, ours: Container[Path] = (), foreign: Container[Path] = ()) -> Job:
    """Return a job with the stems that it may write: those that are free now, or `ours` (located).

    Those that are ours no more are `foreign`.

    It may be done again, by another worker say, and then finds some of them written.
    """
    free = (
        path
        for path in job.stems.values()
        if (locate(path) in ours and locate(path) not in foreign) or not job.sees(path)
    )
    return replace(job, claimed=job.claimed.union(free))

"""The journal of an output folder: what became of each song, and which files were made of it.

    {"settings":{…},"at":1764444444.5}                      once a run; seconds since 1970
    {"id":"5b1f…","song":"/music/A/x.mp3","files":["A/x/vocals.wav",…]}      begun
    {"done":"5b1f…"}
    {"failed":"5b1f…","error":"…"}

The id is a hash of all that the stems depend on: the song's path, size and time, the stems' names
and the settings. A file of lines serves a library better than a database: it only ever grows, by
whole lines, so that a kill at any byte costs one song; nobody but its own run writes to it, so that
shards on many machines need no locks but its own; and `grep` reads it. What is kept of it in memory
are hashes, 32 bytes a song. Lines that are damaged, or of another kind, are passed over.

A run that was killed goes on where it stopped; a song that changed, or failed, is done again. What
was there before, under a name that the journal does not know, is not replaced.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

from splitter.audio import may_lack_mark, read_mark, remove_parts
from splitter.errors import CommandError, DataError, JournalError, reason
from splitter.jobs.lines import (
    identify,
    parse,
    pick_texts,
    read_lines,
    stays_inside,
    write_whole,
)
from splitter.jobs.made import Files
from splitter.jobs.planning import Job, claim
from splitter.jobs.shards import Shard
from splitter.jobs.table import Table
from splitter.locks import try_lock
from splitter.objects import patiently
from splitter.paths import is_file, is_local, is_there, locate, locate_folder, open_plain

JOURNAL = "splitter.jsonl"
UNFINISHED = "not finished"  # the error of a line of the first schema about a song under way
FAILED = 1  # the bit of a song's number that says so
_SHARD = re.compile(r"splitter(\.\d+-of-\d+)?\.jsonl$")


_Piece = tuple[float, Path, int, int | None]  # seconds since 1970, file, first byte, end


class Journal:
    """What became of each song, and which files were made of it.

    `settings` is all that the stems depend on beside the song, as JSON: the model's hash, options.
    Open it in a with-block to write to it: nobody else can, then.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], shard: Shard | None = None
    ) -> None:
        self.path = folder / (
            f"splitter.{shard.index}-of-{shard.count}.jsonl" if shard else JOURNAL
        )
        self.settings = dict(settings)
        self._folder = locate_folder(folder)
        self.made = Files(self._folder)
        self._songs = Table()  # → the id with which each was done, or failed
        self._begun: dict[str, tuple[str, list[str]]] = {}  # id → song, files
        self._fresh: dict[str, str] = {}  # song → id; done if its stems are there
        self._file: IO[bytes] | None = None
        self._other: IO[bytes] | None = None  # a shard's hold on the journal of whole runs
        self._sizes: dict[Path, int] = {}  # bytes read
        self._times: dict[Path, float] = {}  # of the runs that wrote last
        self._told = False  # the settings
        self._read()

    def has(self, job: Job) -> bool:
        """Tell whether these stems of this song, as it is now, are there."""
        known = self._identify(job)
        song = self._name(job)
        stems = [locate(path) for path in job.stems.values()]
        done = self._songs[song] == hash(known) & ~FAILED or self._fresh.get(song) == known
        done = done and not any(self.made.is_of_another(path, song) for path in stems)
        # other commands may have made other stems of it since, beside these
        done = done or all(self.made.is_of(path, song, known) for path in stems)
        return done and job.is_made

    def failed(self, job: Job) -> bool:
        """Tell whether a song has failed when it was tried last, by whatever options."""
        return self._songs[self._name(job)] & FAILED != 0

    def claim(self, job: Job) -> Job:
        """Return a job with the stems that it may write.

        These are files that are not there yet, and those that were made here of the same song and
        bear the mark of that still, if runs like this one mark what they make.
        """
        song = self._name(job)
        foreign = (
            path
            for path in map(locate, job.stems.values())
            if self.made.is_of_another(path, song) or self._is_foreign(path)
        )
        return claim(job, self.made, set(foreign))

    def begin(self, job: Job, overwrite: bool = False) -> Job:
        """Write down that a job is under way; return it with the stems that it may write.

        By `overwrite` it may write all of them.
        """
        job = replace(job, claimed=frozenset(job.stems.values())) if overwrite else job
        job = self.claim(job)
        files = [
            self.made.relate(locate(path)) for path in job.stems.values() if path in job.claimed
        ]
        if not self._told:
            self._write({"settings": self.settings, "at": time.time()})
            self._told = True
        entry = {"id": self._identify(job), "song": self._name(job), "files": files}
        self._add(entry if self.settings.get("tags") else {**entry, "bare": True})
        return job

    def _is_foreign(self, stem: Path) -> bool:
        """Tell whether a file that was made here has been replaced by somebody else's."""
        if not (self.settings.get("tags") and is_local(stem) and is_file(stem)):
            return False
        if self.made.is_bare(stem) or read_mark(stem) is not None:
            return False
        try:
            return not may_lack_mark(stem)
        except OSError:  # nobody may look into it
            return True

    def begin_all(self, jobs: Iterable[Job], overwrite: bool = False) -> Iterator[Job]:
        """Begin each job as it is asked for."""
        for job in jobs:
            yield self.begin(job, overwrite)

    def add(self, job: Job, error: str | None = None) -> None:
        """Write down that a job, which was begun, is done, or what was wrong."""
        known = self._identify(job)
        if known not in self._begun:
            self.begin(job)
        if error is None:
            self._add({"done": known})
            return
        _, files = self._begun[known]
        kept = [name for name in files if _is_left(self._folder / name)]
        self._add({"failed": known, "error": error, **({"kept": kept} if kept else {})})

    def __enter__(self) -> Journal:
        """Take the journal for this run alone; raise CommandError if another run has it.

        Shards share the folder, each with a journal of its own.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._lock(self.path)
            if self.path.name != JOURNAL:
                self._other = self._lock(self.path.parent / JOURNAL, shared=True)
            else:
                for path in self._find_files():
                    if path != self.path:
                        self._lock(path).close()
        except OSError as error:
            raise self._complain("written", error) from error
        except CommandError:
            self._close()
            raise
        self._read()  # what another run has added since
        self._clear_parts()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _lock(self, path: Path, shared: bool = False) -> IO[bytes]:
        file = open_plain(path, "ab")
        if try_lock(file, shared) is False:
            file.close()
            raise CommandError(
                f"{self.path.parent}: another run is writing to this folder; "
                "wait until it has finished, or choose another folder"
            )
        return file

    def _close(self) -> None:
        for file in (self._file, self._other):
            if file:
                file.close()
        self._file = self._other = None

    def _clear_parts(self) -> None:
        """Remove what killed runs have left of songs that they had begun."""
        for _, files in self._begun.values():
            for name in filter(stays_inside, files):
                remove_parts(self._folder / name)

    def _name(self, job: Job) -> str:
        return self.made.relate(locate(job.song))

    def _identify(self, job: Job) -> str:
        stems = {name: self.made.relate(locate(path)) for name, path in job.stems.items()}
        return identify(self._name(job), job.size, job.mtime, stems, self.settings)

    def _add(self, entry: dict[str, Any]) -> None:
        self._write(entry)
        self._take(entry)

    def _write(self, entry: dict[str, Any]) -> None:
        try:
            line = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
            self._append(line.encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise self._complain("written", error) from error

    def _append(self, line: bytes) -> None:
        # one write of a whole line; the newline comes first, so that a line that a kill cut off
        # does not swallow this one
        if self._file:
            write_whole(self._file, b"\n" + line)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open_plain(self.path, "ab") as file:
            write_whole(file, b"\n" + line)

    def _find_files(self) -> list[Path]:
        """Find the journals of whole runs and of shards; the first have been changed first."""
        files = [
            path for path in self.path.parent.glob("splitter*.jsonl") if _SHARD.match(path.name)
        ]
        return sorted(files, key=lambda path: (path.lstat().st_mtime, path.name))

    def _read(self) -> None:
        """Take in what the files have had added since they were read, in the order of the runs."""
        try:
            files = self._find_files()
            pieces = [piece for path in files for piece in self._find_runs(path, len(files) > 1)]
            for path, start, end in _join(sorted(pieces, key=itemgetter(0))):
                with open_plain(path, "rb") as file:
                    size = file.seek(start)
                    for line in read_lines(file):
                        size += len(line)
                        self._take(parse(line))
                        if end is not None and size >= end:
                            break
                    self._sizes[path] = size
            for _, names in self._begun.values():  # of a run that was killed
                for name in names:
                    self.made.give_back(name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._complain("read", error) from error

    def _find_runs(self, path: Path, several: bool) -> Iterator[_Piece]:
        """Yield what each run has added to a file since it was read: time, file, start, end.

        Of a journal that is alone all is read at once, in its own order. In a file the order is
        that of the lines, also where a clock has been put back.
        """
        at, start = self._times.get(path, 0.0), self._sizes.get(path, 0)
        if several:
            with open_plain(path, "rb") as file:
                size = file.seek(start)
                for line in read_lines(file):
                    if line.startswith(b'{"settings"'):
                        yield at, path, start, size
                        stated = parse(line).get("at")
                        at = max(at, stated) if isinstance(stated, float) else at
                        start = size
                    size += len(line)
        yield at, path, start, None
        self._times[path] = at

    def _complain(self, verb: str, error: Exception) -> DataError:
        named = error.filename if isinstance(error, OSError) else None
        return JournalError(f"{named or self.path}: cannot be {verb} ({reason(error)})")

    def _take(self, entry: dict[str, Any]) -> None:
        """Take in a line; one whose beginning is not known means nothing."""
        done = entry.get("done")
        if isinstance(done, str) and done in self._begun:
            finished, files = self._begun.pop(done)
            self._songs[finished] = hash(done) & ~FAILED
            for name in files:
                self.made.finish(name, done)
            return
        failed, song = entry.get("failed"), entry.get("song")
        if isinstance(failed, str) and failed in self._begun:
            song, files = self._begun.pop(failed)
            self._songs[song] = hash(failed) | FAILED
            kept = pick_texts(entry.get("kept"))
            for name in set(files).difference(kept):
                self.made.remove(name)
            for name in kept:
                self.made.give_back(name)
        elif isinstance(song, str) and isinstance(entry.get("id"), str):
            bare = entry.get("bare") is True
            self._take_beginning(entry["id"], song, pick_texts(entry.get("files")), bare)
        elif isinstance(song, str) and entry.get("schema") == 1 and "made" in entry:
            self._take_before(entry)

    def _take_beginning(self, known: str, song: str, files: list[str], bare: bool = False) -> None:
        self._begun[known] = song, files
        self._songs[song] &= FAILED  # until it is done
        for name in files:
            self.made.add(name, song, bare)

    def _take_before(self, entry: dict[str, Any]) -> None:
        """Take in a line of the first schema: all of a song, at its beginning or its end."""
        song, error = self.made.relate(entry["song"]), entry.get("error")
        try:
            rest = (entry.get(key) for key in ("size", "mtime", "stems", "settings"))
            known = identify(song, *rest)
        except RecursionError:  # read from the bottom of a stack, and too deep here
            return
        if known not in self._begun:
            self._take_beginning(known, song, pick_texts(entry["made"]))
        if error is None:
            self._take({"done": known})
        elif error != UNFINISHED:
            self._take({"failed": known, "kept": entry["made"]})


def _join(pieces: Iterable[_Piece]) -> Iterator[tuple[Path, int, int | None]]:
    """Join pieces of one file that follow each other."""
    for path, group in groupby(pieces, itemgetter(1)):
        parts = list(group)
        yield path, parts[0][2], parts[-1][3]


def _is_left(place: Path) -> bool:
    """Tell whether there is a file; of a store that does not answer nothing is known: say yes."""
    if is_local(place):
        return is_there(place)
    try:
        return patiently(lambda: is_there(place))
    except Exception:  # stores have errors of their own kinds
        return True

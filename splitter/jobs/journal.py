"""The journal of an output folder: what became of each song, and which files were made of it.

    {"settings":{…}}                                        once a run, for whoever reads it
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
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b
from io import BufferedReader
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

from splitter.audio import remove_parts
from splitter.errors import CommandError, DataError, JournalError
from splitter.jobs.planning import Job, claim
from splitter.jobs.shards import Shard
from splitter.jobs.table import Table
from splitter.locks import try_lock
from splitter.paths import is_local, is_there, locate, locate_folder

JOURNAL = "splitter.jsonl"
SEGMENTS = ".splitter"  # where the lines of a journal in a store lie
LONGEST = 1 << 20  # bytes of a line; a longer one is none of ours
_SHARD = re.compile(r"splitter(\.\d+-of-\d+)?\.jsonl$")
_DONE = re.compile(rb'\{"done":"(\w+)"\}\n?')
UNFINISHED = "not finished"  # the error of such a line about a song under way
CLAIMS = 256  # songs that a store's journal tells of at once, before they are done
PATIENCE = 60.0  # seconds that a store's journal may be behind


class Files:
    """The files of a folder that were made here; ask for them by where they are located."""

    def __init__(self, folder: Path) -> None:
        self._start = f"{str(folder).rstrip('/')}{os.sep if is_local(folder) else '/'}"
        self._table = Table()

    def __contains__(self, path: object) -> bool:
        name = str(path)
        return name.startswith(self._start) and bool(self._table[self.relate(name)])

    def relate(self, path: Path | str) -> str:
        """Write a path as seen from the folder, so that the folder may move."""
        name = str(path).removeprefix(self._start)
        return name.replace(os.sep, "/") if os.sep != "/" else name

    def add(self, relative: str) -> None:
        """Take a file in, if its name does not lead out of the folder."""
        if _stays_inside(relative):
            self._table[relative] = 1

    def remove(self, relative: str) -> None:
        """Take a file out."""
        self._table[relative] = 0


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
        self._songs = Table()  # → the id with which each was done
        self._begun: dict[str, tuple[str, list[str]]] = {}  # id → song, files
        self._file: IO[bytes] | None = None
        self._other: IO[bytes] | None = None  # a shard's hold on the journal of whole runs
        self._sizes: dict[Path, int] = {}  # bytes read
        self._told = False  # the settings
        self._read()

    def select_undone(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Yield the jobs that are new, changed, failed, or whose stems are gone."""
        return (job for job in jobs if not self.has(job))

    def has(self, job: Job) -> bool:
        """Tell whether these stems of this song, as it is now, are there."""
        done = self._songs[self._name(job)] == hash(self._identify(job))
        return done and all(map(is_there, job.stems.values()))

    def failed(self, job: Job) -> bool:
        """Tell whether this song, as it is now, has failed."""
        return self._songs[self._name(job)] == hash(("failed", self._identify(job)))

    def begin(self, job: Job, overwrite: bool = False) -> Job:
        """Write down that a job is under way; return it with the stems that it may write.

        These are files that are not there yet, and those that were made here; or, by `overwrite`,
        all of them.
        """
        job = replace(job, claimed=frozenset(job.stems.values())) if overwrite else job
        job = claim(job, self.made)
        files = [
            self.made.relate(locate(path)) for path in job.stems.values() if path in job.claimed
        ]
        if not self._told:
            self._write({"settings": self.settings})
            self._told = True
        self._add({"id": self._identify(job), "song": self._name(job), "files": files})
        return job

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
        kept = [name for name in files if is_there(self._folder / name)]
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
        file = _open_plain(path, "ab")
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
            for name in filter(_stays_inside, files):
                remove_parts(self._folder / name)

    def _name(self, job: Job) -> str:
        return self.made.relate(locate(job.song))

    def _identify(self, job: Job) -> str:
        stems = {name: self.made.relate(locate(path)) for name, path in job.stems.items()}
        return _identify(self._name(job), job.size, job.mtime, stems, self.settings)

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
            _write_whole(self._file, b"\n" + line)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _open_plain(self.path, "ab") as file:
            _write_whole(file, b"\n" + line)

    def _find_files(self) -> list[Path]:
        """Find the journals of whole runs and of shards, in the order of their last lines."""
        files = [
            path for path in self.path.parent.glob("splitter*.jsonl") if _SHARD.match(path.name)
        ]
        return sorted(files, key=lambda path: (path.lstat().st_mtime, path.name))

    def _read(self) -> None:
        """Take in what the files have had added since they were read."""
        try:
            for path in self._find_files():
                with _open_plain(path, "rb") as file:
                    file.seek(self._sizes.get(path, 0))
                    for line in _read_lines(file):
                        self._sizes[path] = self._sizes.get(path, 0) + len(line)
                        self._take(_parse(line))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._complain("read", error) from error

    def _complain(self, verb: str, error: OSError) -> DataError:
        reason = error.strerror or error  # stores have no strerror
        return JournalError(f"{self.path}: cannot be {verb} ({reason})")

    def _take(self, entry: dict[str, Any]) -> None:
        """Take in a line; one whose beginning is not known means nothing."""
        done, failed, song = entry.get("done"), entry.get("failed"), entry.get("song")
        if isinstance(done, str) and done in self._begun:
            self._songs[self._begun.pop(done)[0]] = hash(done)
        elif isinstance(failed, str) and failed in self._begun:
            song, files = self._begun.pop(failed)
            self._songs[song] = hash(("failed", failed))
            for name in set(files).difference(_pick_texts(entry.get("kept"))):
                self.made.remove(name)
        elif isinstance(song, str) and isinstance(entry.get("id"), str):
            self._take_beginning(entry["id"], song, _pick_texts(entry.get("files")))
        elif isinstance(song, str) and entry.get("schema") == 1 and "made" in entry:
            self._take_before(entry)

    def _take_beginning(self, known: str, song: str, files: list[str]) -> None:
        self._begun[known] = song, files
        self._songs[song] = 0
        for name in files:
            self.made.add(name)

    def _take_before(self, entry: dict[str, Any]) -> None:
        """Take in a line of the first schema: all of a song, at its beginning or its end."""
        song, error = self.made.relate(entry["song"]), entry.get("error")
        try:
            rest = (entry.get(key) for key in ("size", "mtime", "stems", "settings"))
            known = _identify(song, *rest)
        except RecursionError:  # read from the bottom of a stack, and too deep here
            return
        if known not in self._begun:
            self._take_beginning(known, song, _pick_texts(entry["made"]))
        if error is None:
            self._take({"done": known})
        elif error != UNFINISHED:
            self._take({"failed": known, "kept": entry["made"]})


class StoredJournal(Journal):
    """A journal in a store, where nothing can be appended to: segments, each an object.

    Songs are told of before any of them is done, many at once; their ends up to a minute later.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], shard: Shard | None = None
    ) -> None:
        self._lines: list[bytes] = []
        self._open = False
        self._written = time.monotonic()
        super().__init__(folder, settings, shard)

    def begin_all(self, jobs: Iterable[Job], overwrite: bool = False) -> Iterator[Job]:
        """Begin jobs before they are asked for: a few at first, so that work begins soon."""
        jobs, count = iter(jobs), 8
        while begun := [self.begin(job, overwrite) for job in islice(jobs, count)]:
            self._flush()
            yield from begun
            count = min(2 * count, CLAIMS)

    def add(self, job: Job, error: str | None = None) -> None:
        """Write down that a job, which was begun, is done, or what was wrong."""
        super().add(job, error)
        if time.monotonic() - self._written > PATIENCE or not self._open:
            self._flush()

    def __enter__(self) -> StoredJournal:
        self._open = True
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()

    def _append(self, line: bytes) -> None:
        self._lines.append(line)

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        self._written = time.monotonic()
        if not lines:
            return
        # by their time, so that they are read in order; two runs may have the same
        name = f"{time.time_ns():020}-{secrets.token_hex(4)}.jsonl"
        try:
            path = self.path.parent / SEGMENTS / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\n".join(lines))
        except OSError as error:
            raise self._complain("written", error) from error

    def _read(self) -> None:
        folder = self.path.parent / SEGMENTS
        if not folder.is_dir():
            return
        # before there were segments, each song had an object called by its hash, with .json
        for path in sorted(folder.iterdir(), key=lambda path: (path.suffix != ".json", path.name)):
            for line in path.read_bytes().split(b"\n"):
                self._take(_parse(line))


def open_journal(folder: Path, settings: Mapping[str, Any], shard: Shard | None = None) -> Journal:
    """Open the journal of an output folder, be it in a store, for a run or a shard of one."""
    kind = Journal if is_local(folder) else StoredJournal  # whose runs write what they alone have
    return kind(folder, settings, shard)


def _identify(song: str, size: Any, mtime: Any, stems: Any, settings: Any) -> str:
    facts = json.dumps([song, size, mtime, stems, settings], sort_keys=True)
    return blake2b(facts.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def _parse(line: bytes) -> dict[str, Any]:
    """Read a line; of one that was cut off, or is damaged, there is nothing."""
    if done := _DONE.fullmatch(line):  # half of all lines
        return {"done": done[1].decode()}
    try:
        entry = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def _write_whole(file: IO[bytes], line: bytes) -> None:
    while line:  # a disk that becomes full takes a part of it
        line = line[file.write(line) :]


def _open_plain(path: Path, mode: str) -> IO[bytes]:
    """Open a file that lies in its folder: no link, whoever made it, and nothing that may hang."""
    harmless = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    file = open(  # noqa: SIM115 - a path's own has no opener
        path, mode, buffering=0, opener=lambda name, flags: os.open(name, flags | harmless, 0o666)
    )
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(None, "it is no plain file")
    return file


def _read_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield lines; one that is too long to be ours comes in pieces, which mean nothing."""
    with BufferedReader(file, LONGEST) as buffered:  # type: ignore[type-var]
        while line := buffered.readline(LONGEST):
            yield line


def _pick_texts(given: object) -> list[str]:
    return [text for text in given if isinstance(text, str)] if isinstance(given, list) else []


def _stays_inside(name: str) -> bool:
    if name.startswith("/") or "\0" in name:
        return False
    return ".." not in name or ".." not in PurePosixPath(name).parts

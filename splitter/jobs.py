"""What is to do, and what is done: songs in folders, and the journal of a run.

    folders ── find_songs ──▶ songs ── plan_jobs ──▶ jobs ── Journal.select_undone ──▶ an engine
                                                                     ▲                     │
                                                     splitter.jsonl ─┴──── Journal.add ◀───┘

The journal lies in the output folder, and only ever grows: a line when a song is begun, and one
when it is done. A run that was killed goes on where it stopped; a song that changed, or failed, is
done again. What was there before, under a name that the journal does not know, is not replaced.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import Any

from splitter.audio import SUFFIXES
from splitter.errors import DataError
from splitter.paths import is_folder, is_local, is_there, locate, locate_folder

JOURNAL = "splitter.jsonl"
ENTRIES = ".splitter"  # where the lines of a journal in a store lie, an object a song
SCHEMA = 1
UNFINISHED = "not finished"  # the error of a song that is under way, or was when the run ended
HEAD = 64  # bytes that tell a song from a picture
SIGNATURES = (  # at the very start of a file
    b"fLaC", b"OggS", b"ID3", b"caff", b".snd", b"wvpk", b"MAC ", b"MPCK", b"MP+", b"TTA", b"DSD ",
    b"FRM8", b"#!AMR", b"riff.\x91\xcf\x11", b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11", b"\x0bw",
)  # fmt: skip
CHUNKED = {b"RIFF": (b"WAVE",), b"RF64": (b"WAVE",), b"FORM": (b"AIFF", b"AIFC")}
PICTURES = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"crx ")  # brands of MP4's family

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Search:
    """Which files of a folder are looked at."""

    recursive: bool = False
    include: Sequence[str] = ()  # globs of a name, or, with a slash, of a path below the folder
    exclude: Sequence[str] = ()
    skip: frozenset[Path] = frozenset()  # located: files that are no songs, folders to stay out of

    def wants(self, relative: PurePath) -> bool:
        """Tell whether the globs let a file in."""
        return _matches(relative, self.include or ("*",)) and self.enters(relative)

    def enters(self, relative: PurePath) -> bool:
        """Tell whether the globs let a folder in."""
        return not _matches(relative, self.exclude)


@dataclass(frozen=True)
class Found:
    """A song file, and where it lay below the folder that was searched."""

    path: Path
    parent: PurePath = field(default_factory=PurePath)


@dataclass(frozen=True)
class Job:
    """A song to be separated, and the files that its stems become."""

    song: Path
    stems: Mapping[str, Path]  # name → file
    size: int = 0  # bytes
    mtime: float = 0.0  # seconds since 1970
    claimed: frozenset[Path] = frozenset()  # stems that were free, or are the journal's own


def find_songs(places: Iterable[Path], search: Search = Search()) -> Iterator[Found]:
    """Yield the songs among files and in folders, in the order of their names.

    A file that is named itself counts as a song whatever it holds; in a folder, content decides.
    Raises DataError for a folder that cannot be read.
    """
    for place in places:
        if not is_folder(place):
            yield Found(place)
            continue
        for path in _walk(place, place, search):
            relative = path.relative_to(place)
            if not search.wants(relative):
                log.debug("%s: left out by a glob", path)
            elif is_song(path):
                yield Found(path, relative.parent)
            else:
                log.debug("%s: no song, skipped", path)


def read_names(names: bytes) -> Iterator[Found]:
    """Read names that end in NUL, as `find -print0` prints them; relative ones keep their tree."""
    for name in names.split(b"\0"):
        if name:
            path = Path(os.fsdecode(name))
            inside = not path.is_absolute() and ".." not in path.parts
            yield Found(path, path.parent if inside else PurePath())


def is_song(path: Path) -> bool:
    """Tell a song from what else lies in a folder: by its content, or else by its name."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return has_sound(file.read(HEAD))
    except OSError as error:
        log.debug("%s: cannot be opened (%s)", path, error.strerror)
        return False


def has_sound(head: bytes) -> bool:
    """Tell from the first bytes whether a file is of a kind that holds sound."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in PICTURES
    chunked = CHUNKED.get(head[:4])
    if chunked:
        return head[8:12] in chunked
    return head.startswith(SIGNATURES) or _is_mpeg_frame(head[:4])


def plan_jobs(
    songs: Iterable[Found], output: Path, name_stems: Callable[[Path, Path], Mapping[str, Path]]
) -> list[Job]:
    """Say which files the stems of all songs become; `name_stems` gets song and folder.

    Songs that are themselves stems of others are left out: output may lie among the songs. Raises
    DataError, naming both, when two songs would become one file.
    """
    jobs = [_plan(found, output, name_stems) for found in songs]
    owners: dict[Path, Job] = {}
    for job in jobs:
        for path in job.stems.values():
            other = owners.setdefault(locate(path), job)
            if other is not job and locate(other.song) != locate(job.song):
                raise DataError(
                    f"{other.song} and {job.song} would both become {path}; rename one of them"
                )
    unique = {locate(job.song): job for job in reversed(jobs)}  # named twice, done once
    return [job for path, job in reversed(unique.items()) if path not in owners]


def claim(job: Job, ours: Collection[Path] = ()) -> Job:
    """Return a job with the stems that it may write: those that are free now, or `ours` (located).

    It may be done again, by another worker say, and then finds some of them written.
    """
    free = (path for path in job.stems.values() if locate(path) in ours or not is_there(path))
    return replace(job, claimed=job.claimed.union(free))


class Journal:
    """What became of each song, and which files were made of it, in a file that only grows.

    `settings` is all that the stems depend on beside the song, as JSON: the model's hash, options.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / JOURNAL
        self.settings = json.loads(json.dumps(settings))
        self._folder = locate_folder(folder)
        self.entries = {entry["song"]: entry for entry in self._read()}
        self.made = {
            self._folder / path for entry in self.entries.values() for path in entry["made"]
        }

    def select_undone(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Yield the jobs that are new, changed, failed, or whose stems are gone."""
        return (job for job in jobs if not self.has(job))

    def has(self, job: Job) -> bool:
        """Tell whether these stems of this song, as it is now, are there."""
        entry = self.entries.get(str(locate(job.song)), {})
        wanted = self._describe(job, None)
        same = all(key in entry and entry[key] == value for key, value in wanted.items())
        return same and all(map(is_there, job.stems.values()))

    def begin(self, job: Job, overwrite: bool = False) -> Job:
        """Write down that a job is under way; return it with the stems that it may write.

        These are files that are not there yet, and those that were made here; or, by `overwrite`,
        all of them.
        """
        job = replace(job, claimed=frozenset(job.stems.values())) if overwrite else job
        job = claim(job, self.made)
        self.made |= set(map(locate, job.claimed))
        self.add(job, UNFINISHED)
        return job

    def add(self, job: Job, error: str | None = None) -> None:
        """Write down that a job is done, or what was wrong."""
        entry = self._describe(job, error)
        before = self.entries.get(entry["song"], {}).get("made", ())
        made = {*before, *(_relate(path, self._folder) for path in job.claimed)}
        if error not in (None, UNFINISHED):  # a failure leaves names free that it did not use
            made = {path for path in made if is_there(self._folder / path)}
        entry["made"] = sorted(made)
        self.entries[entry["song"]] = entry
        try:
            self._append(json.dumps(entry, ensure_ascii=False))
        except OSError as failure:
            reason = failure.strerror or failure  # stores have no strerror
            raise DataError(f"{self.path}: cannot be written ({reason})") from failure

    def _describe(self, job: Job, error: str | None) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "song": str(locate(job.song)),
            "size": job.size,
            "mtime": job.mtime,
            "settings": self.settings,
            "stems": {name: _relate(path, self._folder) for name, path in job.stems.items()},
            "error": error,
        }

    def _append(self, line: str) -> None:
        # one write of a whole line; the newline comes first, so that a line that a kill cut off
        # does not swallow this one
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(f"\n{line}".encode("utf-8", "surrogateescape"))

    def _read(self) -> Iterator[dict[str, Any]]:
        if not is_there(self.path):
            return
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error
        for line in content.split(b"\n"):
            entry = _parse(line)
            if entry is not None:
                yield entry


class StoredJournal(Journal):
    """A journal in a store, where nothing can be appended to a file: an object for each song."""

    def _append(self, line: str) -> None:
        song = json.loads(line)["song"].encode("utf-8", "surrogateescape")
        path = self.path.parent / ENTRIES / f"{hashlib.sha256(song).hexdigest()}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(line.encode("utf-8", "surrogateescape"))

    def _read(self) -> Iterator[dict[str, Any]]:
        folder = self.path.parent / ENTRIES
        if folder.is_dir():
            entries = (_parse(path.read_bytes()) for path in folder.iterdir())
            yield from (entry for entry in entries if entry is not None)


def open_journal(folder: Path, settings: Mapping[str, Any]) -> Journal:
    """Open the journal of an output folder, be it in a store."""
    return Journal(folder, settings) if is_local(folder) else StoredJournal(folder, settings)


def _parse(line: bytes) -> dict[str, Any] | None:
    """Read a line of a journal; one that was cut off, or is of another schema, is None."""
    try:
        entry = json.loads(line.decode("utf-8", "surrogateescape"))
    except ValueError:
        return None
    known = isinstance(entry, dict) and entry.get("schema") == SCHEMA
    return entry if known and {"song", "stems", "made"} <= entry.keys() else None


def _plan(
    found: Found, output: Path, name_stems: Callable[[Path, Path], Mapping[str, Path]]
) -> Job:
    # by its parts: of a store, "." would be a name, and its paths are none that others can join
    stems = name_stems(found.path, output.joinpath(*found.parent.parts))
    try:
        facts = found.path.stat()
    except OSError:  # opening it will say what is wrong
        return Job(found.path, stems)
    return Job(found.path, stems, facts.st_size, facts.st_mtime)


def _walk(folder: Path, top: Path, search: Search) -> Iterator[Path]:
    """Yield the files of a folder, each folder's own before those below; hidden ones are not ours.

    A link to a folder is not followed: it may lead in a circle.
    """
    try:
        children = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        way_out = "" if folder == top else f"; --exclude '{folder.name}' leaves it out"
        raise DataError(f"{folder}: cannot be read ({error.strerror}){way_out}") from error
    here = locate_folder(folder)
    shown = [path for path in children if not path.name.startswith(".")]
    shown = [path for path in shown if here / path.name not in search.skip]
    yield from (path for path in shown if path.is_file())
    if search.recursive:
        for path in shown:
            if path.is_dir() and not path.is_symlink() and search.enters(path.relative_to(top)):
                yield from _walk(path, top, search)


def _matches(relative: PurePath, globs: Sequence[str]) -> bool:
    return any(
        fnmatch(relative.as_posix() if "/" in glob else relative.name, glob) for glob in globs
    )


def _is_mpeg_frame(head: bytes) -> bool:
    """Know the header of MPEG audio (ISO 11172-3, 2.4.1.3), or ADTS, from UTF-16 text."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    if head[1] & 0xF6 == 0xF0:
        return True  # ADTS: no layer
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    return version != 1 and layer in (1, 2) and head[2] >> 4 != 15 and head[2] >> 2 & 3 != 3


def _relate(path: Path, folder: Path) -> str:
    """Write a path as seen from the output folder, so that the folder may move."""
    whole = locate(path)
    return whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else str(whole)

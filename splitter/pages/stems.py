"""Stems on disk: which sound files are some, and which of them belong to one song.

    song/vocals.wav    song/instrumental.wav      a folder of a song's own
    song (vocals).mp3  song (instrumental).mp3    songs in one folder: alike but for the stem

A file that splitter made says itself which stem it is; others are known by their names.
"""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from splitter.audio import SUFFIXES, read_mark
from splitter.errors import DataError, reason
from splitter.registry import INSTRUMENTAL, REST, SYNONYMS, canonical_stem

log = logging.getLogger(__name__)

PAGE = "listen"  # stands for the stem in the name of a page
VOCALS = "vocals"
PARTS = frozenset({"drums", "bass", "other"})  # what an instrumental beside them is the sum of
NAMES = PARTS | {VOCALS, INSTRUMENTAL, "guitar", "piano", "residual", REST}
MIXES = frozenset({"mixture", "mix"})
# what only stands beside stems of these names: songs are called so, too
BESIDE = frozenset({
    "acoustic_guitar", "backing_vocals", "brass", "cymbals", "dialog", "effects",
    "electric_guitar", "keys", "kick", "lead_vocals", "music", "percussion", "sfx", "snare",
    "speech", "strings", "synth", "toms", "wind", "woodwinds",
})  # fmt: skip
FIRST = (VOCALS, INSTRUMENTAL)  # the others follow in the order of their names
BRACKETS = ("()", "[]", "{}")
BETWEEN = " -_."  # a song and its stem


@dataclass(frozen=True)
class Take:
    """The stems of a song as one model, or another tool, made them."""

    name: str
    stems: Mapping[str, Path]


@dataclass(frozen=True)
class FoundTake(Take):
    """Stems that were found on a disk."""

    page: Path  # where a page of them belongs, named like them

    @property
    def song(self) -> str:
        """Return what stands before the stem in its files' names: a program may add its model's."""
        opening = "".join(pair[0] for pair in BRACKETS)
        return self.page.stem.rpartition(PAGE)[0].rstrip(BETWEEN + opening)


@dataclass(frozen=True)
class _Part:
    """A sound file that may be a stem."""

    path: Path
    stem: str  # as its name writes it
    song: str  # its name without the stem: "" in a folder of the song's own
    page: str  # its name with another word for the stem
    marked: bool  # splitter made it

    @property
    def group(self) -> tuple[str, str]:
        """Return what it has in common with the other stems of its song."""
        return self.song, self.page


def find_takes(folder: Path) -> dict[Path, FoundTake]:
    """Find the songs below a folder of stems, or the one in it: path below the folder → stems.

    Raises DataError for a folder that cannot be read.
    """
    found: dict[Path, FoundTake] = {}
    for place, take in _walk(folder, folder.name):
        name = place.relative_to(folder)
        # songs that are called alike but for brackets, say, are told apart by their pages
        found[take.page.relative_to(folder) if name in found else name] = take
    return found


def find_passed_over(folder: Path, takes: Mapping[Path, FoundTake]) -> Iterator[Path]:
    """Find the sound files in a folder and beside the stems in it that are neither stem nor mix."""
    heard = {path for take in takes.values() for path in take.stems.values()}
    songs = {folder / name for name in takes}
    songs |= {take.page.with_name(take.song) for take in takes.values() if take.song}
    for place in sorted({folder, *(path.parent for path in heard)}):
        for path in _list_inside(place):
            mix = path.with_suffix("") in songs or path.stem == place.name
            known = mix or canonical_stem(path.stem) in {*MIXES, INSTRUMENTAL}
            if path not in heard and not known and _is_sound(path):
                yield path


def _walk(
    folder: Path, name: str, above: frozenset[str] = frozenset()
) -> Iterator[tuple[Path, FoundTake]]:
    real = os.path.realpath(folder)
    if real in above:  # a link that leads back
        return
    inside = _list_inside(folder)
    sounds = list(filter(_is_sound, inside))
    for (song, page), parts in _group(filter(None, map(_read_name, sounds))).items():
        if _are_stems(parts, len(sounds)):
            yield folder / song, FoundTake(name, _order_stems(parts), folder / page)
    for path in filter(Path.is_dir, inside):
        try:
            yield from _walk(path, name, above | {real})
        except DataError as error:
            log.warning("%s; passed over", error)


def _list_inside(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({reason(error)})") from error


def _is_sound(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _group(files: Iterable[Sequence[_Part]]) -> Mapping[tuple[str, str], list[_Part]]:
    """Group files by song and page, each as what it has vocals and the most stems beside it as.

    A name may have more than one word for a stem: `song_(Vocals)_UVR-MDX-NET-Inst_HQ_3`.
    """
    files = list(files)
    beside = defaultdict(set)
    for part in chain.from_iterable(files):
        beside[part.group].add(canonical_stem(part.stem))
    groups = defaultdict(list)
    for readings in files:
        best = max(readings, key=lambda part: _rank(beside[part.group]))
        groups[best.group].append(best)
    return groups


def _rank(stems: Collection[str]) -> tuple[bool, int]:
    """Rank what may be the stems of one song, the likeliest highest."""
    return VOCALS in stems, len(stems)


def _read_name(path: Path) -> list[_Part]:
    """Find the stems that the name of a sound file may say, the likeliest, its last, first."""
    mark = read_mark(path)
    parts = []
    for place in _find_words(path.stem, [mark.stem] if mark else {*NAMES, *SYNONYMS, *BESIDE}):
        before, after = path.stem[: place.start()], path.stem[place.end() :]
        page, song = f"{before}{PAGE}{after}.html", _join_song(before, after)
        parts.append(_Part(path, place[0], song, page, mark is not None))
    if mark and not parts:
        return [_Part(path, mark.stem, path.stem, f"{path.stem}.html", True)]
    return parts[::-1]


def _find_words(name: str, words: Iterable[str]) -> Iterator[re.Match[str]]:
    """Find these words, in any case; of each the longest one, as in song_no_vocals."""
    longest = sorted(map(re.escape, words), key=len, reverse=True)
    either = "|".join(longest).replace("_", "[-_]")
    return re.finditer(rf"(?<![^\W_])(?:{either})(?![^\W_])", name, re.IGNORECASE)


def _join_song(before: str, after: str) -> str:
    """Name a song by what stands around a stem's name: "a (" and ")" are of a."""
    if before[-1:] + after[:1] in BRACKETS:
        before, after = before[:-1], after[1:]
    before = before.rstrip(BETWEEN)
    return before + (after if before else after.lstrip(BETWEEN))


def _are_stems(parts: Collection[_Part], sounds: int) -> bool:
    """Tell whether some of the `sounds` in a folder are stems, and not songs that are called so.

    Songs are called Piano, or Hit (Vocal) and Hit (Instrumental).
    """
    if any(part.marked for part in parts):
        return True
    known = [part for part in parts if part.stem.lower().replace("-", "_") not in BESIDE]
    names = {part.stem.lower() for part in known}
    several = len(set(map(canonical_stem, names))) > 1
    if all(part.song for part in parts):
        return several and VOCALS in names
    # beside others "Instrumental" may be a song's title, and "instrumental" is not
    alone = len(known) == sounds
    return several or any((part.stem.lower() if alone else part.stem) in FIRST for part in known)


def _order_stems(parts: Collection[_Part]) -> dict[str, Path]:
    """Sort stems, and leave out an instrumental beside its parts."""
    paths = {part.stem: part.path for part in parts}
    names = {canonical_stem(stem): stem for stem in paths}
    left_out = {INSTRUMENTAL} if names.keys() >= PARTS else set()
    if len(names) < len(paths):  # two of them are called alike elsewhere
        names = {stem: stem for stem in paths}
    order = sorted(names, key=lambda stem: (*(stem != first for first in FIRST), stem))
    return {stem: paths[names[stem]] for stem in order if canonical_stem(stem) not in left_out}


def name_page(stems: Mapping[str, Path]) -> Path:
    """Name the page of a song like its stems: song/vocals.wav → song/listen.html."""
    stem, path = next(iter(stems.items()))
    before, found, after = path.stem.rpartition(stem)
    return path.with_name(f"{before}{PAGE}{after}.html" if found else f"{after}.html")

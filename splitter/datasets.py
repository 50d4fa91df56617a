"""The field's data sets, song by song, behind one interface.

A data set is a folder; `find_songs` recognises its layout and lists its songs without opening a
sound file, and `song.load()` reads one: mixture, vocals and instrumental at one rate.

    musdb18      [train|test/]<song>.stem.mp4 (needs ffmpeg)
    musdb18hq    train|test/<song>/{mixture,vocals,drums,bass,other}.wav
    dsd100       Mixtures/Dev|Test/<song>/mixture.wav, Sources/Dev|Test/<song>/{vocals,…}.wav
    ccmixter     <song>/{mix,source-01,source-02}.wav; source-02 is the voice
    mir1k        Wavfile/<clip>.wav: music left, voice right; the test singers are all but two
    ikala        Wavfile/<clip>_{chorus,verse}.wav: music left, voice right
    medleydb     …/<song>/<song>_METADATA.yaml with <song>_STEMS/*.wav; songs that somebody sings
    folders      [train|test/]<song>/{vocals,instrumental}.*, or as MUSDB18-HQ in any format

Where a set has no mixture of its own, the mixture is the sum of the two stems, at the levels that
the files have. For MIR-1K that is close to 0 dB voice to music; Huang et al. (2014) scale each clip
to exactly 0 dB (`at_level`), Park et al. (2018) leave it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splitter.audio import SUFFIXES, open_song
from splitter.errors import DataError, reason
from splitter.paths import glob_all
from splitter.registry import INSTRUMENTAL, canonical_stem

Signal = NDArray[np.float32]  # (channels, samples)

SPLITS = {"train", "test", "dev", "val", "valid", "validation"}
DSD100_SPLITS = {"Dev": "train", "Test": "test"}
MIR1K_TRAIN_SINGERS = {"abjones", "amy"}
# an order of streams is part of the stem format that MUSDB18 uses
MUSDB18_STEMS = ("mixture", "drums", "bass", "other", "vocals")
MUSDB18_MARKS = ("*/*.stem.mp4", "*.stem.mp4")
MUSDB18_INSTRUMENTS = ("drums", "bass", "other")
MORE_INSTRUMENTS = ("guitar", "piano")  # not in `other`, where Demucs or Spleeter has them apart
WAY_OUT = "mend it, or leave it out"  # of a data set's file that is damaged
MEDLEYDB_VOICES = ("singer", "vocalist", "rapper", "speaker", "screamer")


@dataclass(frozen=True)
class Tracks:
    """The sound of a song, all three of one shape."""

    mixture: Signal  # (channels, samples)
    vocals: Signal
    instrumental: Signal
    rate: int  # Hz

    @property
    def seconds(self) -> float:
        """Return the song's length."""
        return float(self.mixture.shape[-1] / self.rate)


@dataclass(frozen=True)
class Song:
    """A song of a data set, not yet read."""

    name: str
    split: str  # "train", "test", …; empty where the set has none
    files: Sequence[Path]  # what it is read from
    load: Callable[[], Tracks]  # raises AudioError or DataError

    @property
    def label(self) -> str:
        """Return split and name, which no other song of the data set has."""
        return f"{self.split}/{self.name}" if self.split else self.name


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk."""

    title: str
    marks: Sequence[str]  # globs below the folder; a match of any tells the layout
    find: Callable[[Path], Iterator[Song]]
    karaoke: bool = False  # mono clips that papers score by BSSEval v3


def find_songs(folder: Path, dataset: str | None = None) -> list[Song]:
    """List the songs of a data set, which is recognised by its files unless it is named."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder of a data set")
    name = dataset or recognise(folder)
    songs = sorted(DATASETS[name].find(folder), key=lambda song: song.label)
    if not songs:
        raise DataError(
            f"{folder}: found no song of {DATASETS[name].title}; choose another --dataset"
        )
    for first, second in pairwise(songs):
        if first.label == second.label:
            places = " and ".join(str(song.files[0].parent) for song in (first, second))
            raise DataError(f"{places}: two songs are called {first.label}; rename one of them")
    return songs


def recognise(folder: Path) -> str:
    """Name the data set that a folder holds; raise DataError if it looks like none."""
    for name, layout in DATASETS.items():
        if any(next(glob_all(folder, mark), None) for mark in layout.marks):
            return name
    raise DataError(
        f"{folder}: not a known data set ({', '.join(DATASETS)}); "
        "name your own songs <song>/vocals.wav and <song>/instrumental.wav"
    )


def select_songs(
    songs: Sequence[Song],
    split: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> list[Song]:
    """Keep the songs of a split that match a pattern of `include` and none of `exclude`.

    A song matches by its name or its label: as a glob, or as it is.
    """
    splits = sorted({song.split for song in songs} - {""})
    if split and split not in splits:
        known = ", ".join(splits) or "none"
        raise DataError(f"this data set has no split {split!r}; choose from {known}")
    chosen = [
        song
        for song in songs
        if (not split or song.split == split)
        and (not include or _matches(song, include))
        and not _matches(song, exclude)
    ]
    if not chosen:
        raise DataError(f"none of {len(songs)} songs is chosen; change --include or --exclude")
    return chosen


def at_level(song: Song, level: float) -> Song:
    """Return the song mixed anew: the vocals `level` dB (of energy) above the instrumental.

    Papers score MIR-1K at 0 dB. A song without voice or without music stays as it is.
    """
    return replace(song, load=partial(_load_at_level, song, level))


def _load_at_level(song: Song, level: float) -> Tracks:
    tracks = song.load()
    voice, music = (np.square(part).sum() for part in (tracks.vocals, tracks.instrumental))
    if not voice or not music:
        return tracks
    vocals = tracks.vocals * np.float32(np.sqrt(music / voice) * 10 ** (level / 20))
    return replace(tracks, mixture=vocals + tracks.instrumental, vocals=vocals)


def read_sound(path: Path) -> tuple[Signal, int]:
    """Read a whole sound file: `(channels, samples)` and its rate in Hz."""
    with open_song(path, way_out=WAY_OUT) as reader:
        blocks = [np.zeros((reader.channels, 0), np.float32), *reader.read_blocks()]
        return np.concatenate(blocks, axis=-1), reader.rate


def find_stem(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the sound file in `folder` that has one of these names, the first name first.

    Where none has, one that other programs give to such a stem will do.
    """
    found = _find_stems(folder)
    return next((found[name] for name in names if name in found), None)


def _find_stems(folder: Path) -> dict[str, Path]:
    paths = sorted(folder.glob("*"))
    return name_stems({p.stem: p for p in paths if p.suffix.lower() in SUFFIXES})


def name_stems(files: Mapping[str, Path]) -> dict[str, Path]:
    """Add to files by their names what stems so called by other programs are called here."""
    return {canonical_stem(name): path for name, path in files.items()} | {**files}


def list_instrumental(stems: Mapping[str, Path]) -> list[Path]:
    """List the files whose sum is the instrumental: that itself, or all instruments.

    `stems` are a song's files by name. Of drums, bass and other a missing one is listed where it
    should be; guitar and piano need not be there.
    """
    if INSTRUMENTAL in stems:
        return [stems[INSTRUMENTAL]]
    known = [stems[name] for name in MUSDB18_INSTRUMENTS if name in stems]
    if not known:
        return []
    three = [stems.get(name) or known[0].with_stem(name) for name in MUSDB18_INSTRUMENTS]
    return three + [stems[name] for name in MORE_INSTRUMENTS if name in stems]


def find_idle_patterns(songs: Sequence[Song], patterns: Iterable[str]) -> list[str]:
    """List the patterns that no song of a data set matches."""
    return [one for one in patterns if not any(_matches(song, [one]) for song in songs)]


def _matches(song: Song, patterns: Iterable[str]) -> bool:
    names = (song.name, song.label)  # a name may hold brackets, which mean something in a glob
    return any(one == name or fnmatchcase(name, one) for one in patterns for name in names)


@dataclass(frozen=True)
class StemFiles:
    """The files whose sums are a song's stems."""

    folder: Path
    vocals: Sequence[Path]
    instrumental: Sequence[Path]
    mixture: Path | None = None  # none: the sum of the stems

    @property
    def paths(self) -> list[Path]:
        """List all of them, the mixture last."""
        return [*self.vocals, *self.instrumental, *([self.mixture] if self.mixture else [])]

    def load(self) -> Tracks:
        """Read them all and add them up."""
        if not self.vocals or not self.instrumental:
            missing = "instrumental" if self.vocals else "vocals"
            raise DataError(f"{self.folder}: has no {missing}.*; add it, as both stems are needed")
        signals, rate = read_alike(self.paths)
        voices = len(self.vocals)
        vocals = np.sum(signals[:voices], axis=0)
        instrumental = np.sum(signals[voices : voices + len(self.instrumental)], axis=0)
        mixture = signals[-1] if self.mixture else vocals + instrumental
        return Tracks(mixture, vocals, instrumental, rate)


def read_alike(paths: Sequence[Path]) -> tuple[list[Signal], int]:
    """Read files that must have one rate, one length and one number of channels."""
    sounds = [read_sound(path) for path in paths]
    (first, rate), reference = sounds[0], paths[0]
    for path, (signal, its_rate) in zip(paths, sounds, strict=True):
        require_alike(path, (signal, its_rate), reference.name, (first, rate))
    return [signal for signal, _ in sounds], rate


def require_alike(
    path: Path, sound: tuple[Signal, int], other: str, reference: tuple[Signal, int]
) -> None:
    """Raise DataError if a sound differs from another in rate, channels or length."""
    (signal, rate), (expected, expected_rate) = sound, reference
    if rate != expected_rate:
        raise DataError(
            f"{path}: has {rate} Hz, but {other} has {expected_rate} Hz; resample one of them"
        )
    for axis, unit in enumerate(("channels", "samples")):
        if signal.shape[axis] != expected.shape[axis]:
            raise DataError(
                f"{path}: has {signal.shape[axis]} {unit}, but {other} has "
                f"{expected.shape[axis]}; make them equal"
            )


def _find_musdb18(root: Path) -> Iterator[Song]:
    for path in (path for mark in MUSDB18_MARKS for path in glob_all(root, mark)):
        name = path.name.removesuffix(".stem.mp4")
        split = path.parent.name if path.parent != root else ""
        yield Song(name, split, [path], partial(_load_musdb18, path))


def _load_musdb18(path: Path) -> Tracks:
    try:
        import ffmpeg
        import musdb
    except RuntimeError as error:  # it looks for ffmpeg when it is imported
        raise DataError(
            f"{path}: cannot be read without ffmpeg and ffprobe; "
            "install them (apt install ffmpeg, brew install ffmpeg), or use MUSDB18-HQ"
        ) from error
    try:
        track = musdb.MultiTrack(path=str(path), name=path.name, stem_id=0)
        stems = np.atleast_3d(track.stems)  # stems, samples, channels
    except (ffmpeg.Error, RuntimeError, ValueError, KeyError, IndexError, Warning) as error:
        raise DataError(
            f"{path}: ffmpeg cannot read it as a stem file; download it again"
        ) from error
    if len(stems) != len(MUSDB18_STEMS):
        raise DataError(f"{path}: has {len(stems)} streams instead of {len(MUSDB18_STEMS)}")
    signals = np.ascontiguousarray(stems.swapaxes(1, 2), np.float32)  # stems, channels, samples
    by_name = dict(zip(MUSDB18_STEMS, signals, strict=True))
    instrumental = np.sum([by_name[name] for name in MUSDB18_INSTRUMENTS], axis=0)
    return Tracks(by_name["mixture"], by_name["vocals"], instrumental, int(track.rate))


def _find_dsd100(root: Path) -> Iterator[Song]:
    for folder in root.glob("Sources/*/*/"):
        split = folder.parent.name
        instruments = [folder / f"{name}.wav" for name in MUSDB18_INSTRUMENTS]
        mixture = root / "Mixtures" / split / folder.name / "mixture.wav"
        files = StemFiles(folder, [folder / "vocals.wav"], instruments, mixture)
        split = DSD100_SPLITS.get(split, split.lower())
        yield Song(folder.name, split, files.paths, files.load)


def _find_ccmixter(root: Path) -> Iterator[Song]:
    for folder in _folders_of(root, "*/source-01.wav", "*/source-02.wav"):
        vocals, music = folder / "source-02.wav", folder / "source-01.wav"
        files = StemFiles(folder, [vocals], [music], folder / "mix.wav")
        yield Song(folder.name, "", files.paths, files.load)


def _find_mir1k(root: Path) -> Iterator[Song]:
    if not (root / "Wavfile").is_dir():  # unpacked: <split>/<clip>/{vocals,instrumental}.*
        yield from _find_folders(root)
    for path in glob_all(root, "Wavfile/*.wav"):
        singer = path.stem.split("_")[0]
        split = "train" if singer in MIR1K_TRAIN_SINGERS else "test"
        yield Song(path.stem, split, [path], partial(_load_karaoke, path))


def _find_ikala(root: Path) -> Iterator[Song]:
    for path in glob_all(root, "Wavfile/*.wav"):
        yield Song(path.stem, "", [path], partial(_load_karaoke, path))


def _load_karaoke(path: Path) -> Tracks:
    """Read a file with music on the left and the voice on the right."""
    signal, rate = read_sound(path)
    if len(signal) != 2:
        raise DataError(
            f"{path}: has {len(signal)} channels; it needs 2, music left and voice right"
        )
    instrumental, vocals = signal[:1], signal[1:]
    return Tracks(instrumental + vocals, vocals, instrumental, rate)


def _find_medleydb(root: Path) -> Iterator[Song]:
    for path in glob_all(root, "**/*_METADATA.yaml"):
        voices, music = _sort_medleydb(path)
        if voices and music:
            files = StemFiles(path.parent, voices, music)
            yield Song(path.parent.name, "", files.paths, files.load)


def _sort_medleydb(metadata: Path) -> tuple[list[Path], list[Path]]:
    """Split the stems of a song into those with voices and all others."""
    import yaml

    try:
        content = yaml.safe_load(metadata.read_text(encoding="utf-8"))
        folder = metadata.parent / content["stem_dir"]
        stems = [(folder / s["filename"], str(s["instrument"])) for s in content["stems"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise DataError(
            f"{metadata}: not readable as MedleyDB metadata ({reason(error)})"
        ) from error
    sung = [path for path, instrument in stems if any(v in instrument for v in MEDLEYDB_VOICES)]
    return sung, [path for path, _ in stems if path not in sung]


def _find_folders(root: Path, *, also: Sequence[str] = ()) -> Iterator[Song]:
    """Find songs by their stems, and by files that match `also`; one missing hides no song."""
    for folder in _folders_of(root, "**/vocals.*", "**/instrumental.*", *also):
        stems = _find_stems(folder)
        vocals = [stems["vocals"]] if "vocals" in stems else []
        mixture = stems.get("mixture") or stems.get("mix")
        files = StemFiles(folder, vocals, list_instrumental(stems), mixture)
        yield _name_song(root, folder, files)


def _folders_of(root: Path, *patterns: str) -> set[Path]:
    """Collect the folders with a sound file that matches: one missing stem hides no song."""
    paths = (path for pattern in patterns for path in glob_all(root, pattern))
    return {path.parent for path in paths if path.suffix.lower() in SUFFIXES}


def _name_song(root: Path, folder: Path, files: StemFiles) -> Song:
    """Name a song by its folder below `root`; a first folder called `test`, say, is its split."""
    parts = folder.relative_to(root).parts or (folder.resolve().name,)
    split = parts[0].lower() if len(parts) > 1 and parts[0].lower() in SPLITS else ""
    return Song("/".join(parts[1:] if split else parts), split, files.paths, files.load)


# the more particular before the more general: a folder is the first that it looks like
DATASETS = {
    "musdb18": Layout("MUSDB18", MUSDB18_MARKS, _find_musdb18),
    "dsd100": Layout("DSD100", ["Sources/*/*/"], _find_dsd100),
    "medleydb": Layout("MedleyDB", ["**/*_METADATA.yaml"], _find_medleydb),
    "musdb18hq": Layout(
        "MUSDB18-HQ", ["**/drums.wav"], partial(_find_folders, also=["**/drums.*"])
    ),
    "ccmixter": Layout("ccMixter", ["*/source-01.wav", "*/source-02.wav"], _find_ccmixter),
    "ikala": Layout("iKala", ["Wavfile/*_chorus.wav", "Wavfile/*_verse.wav"], _find_ikala, True),
    "mir1k": Layout("MIR-1K", ["Wavfile/*.wav"], _find_mir1k, True),
    "folders": Layout("plain folders", ["**/vocals.*", "**/instrumental.*"], _find_folders),
}

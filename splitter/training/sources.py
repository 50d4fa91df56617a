"""What to train on: pools of voices, music and aligned pairs, decoded once and mapped into memory.

A folder of sound is read by its names alone:

    …/<song>/vocals.*  and  …/<song>/instrumental.*   an aligned pair
    …/<song>/vocals.*  and  drums.*, bass.*, other.*  one, too, as in MUSDB18-HQ
    …/vocals/**                                       voices without accompaniment
    …/instrumental/**                                 music without voices
    …/mixtures/**                                     songs whose stems nobody has

Each part is decoded to the model's rate once, into `cache`, as float16 (its rounding noise lies
74 dB below the sound); after that a crop costs no more than the bytes of the crop.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from splitter.atomic import making, remove_abandoned, write_atomically
from splitter.audio import SUFFIXES, Block, SongReader, open_song, resample
from splitter.datasets import WAY_OUT, list_instrumental, name_stems
from splitter.errors import AudioError, DataError, reason
from splitter.paths import glob_all
from splitter.registry import INSTRUMENTAL
from splitter.training.recipe import Recipe

log = logging.getLogger(__name__)

ROUNDING = 4 * (2.0**-15) ** 2 / 12  # mean square of what 16 bits lose, and 6 dB more
SILENT_DB = -85.0  # a band so far below the loudest one holds codec noise, no sound
SPECTRUM_WINDOW = 4096  # samples
_PART = 256 * SPECTRUM_WINDOW  # samples that are looked at together
# what is in folders of these names, as a field of `Files`
KINDS = {"vocals": "vocals", "instrumental": "instrumental", "mixtures": "mixture"}


@dataclass(frozen=True)
class Stored:
    """Samples on disk; their file is open only while some are read, as few files may be at once."""

    path: Path
    shape: tuple[int, ...]  # channels, samples

    def __getitem__(self, place: Any) -> npt.NDArray[np.float16]:
        """Map a part into memory."""
        part: npt.NDArray[np.float16] = np.load(self.path, mmap_mode="r")[place]
        return part


@dataclass(frozen=True)
class Recording:
    """One decoded part."""

    samples: Stored | npt.NDArray[np.float16]  # (channels, samples)
    bandwidth: float  # Hz; above it the file holds nothing
    loudness: float  # RMS of all its samples

    @property
    def length(self) -> int:
        """Return the number of samples."""
        return int(self.samples.shape[-1])


@dataclass(frozen=True)
class Source:
    """Something to draw crops from: a voice, music, or both, aligned; or a song without stems."""

    name: str  # path below the data folder, without suffix
    vocals: Recording | None
    instrumental: Recording | None
    mixture: Recording | None = None

    @property
    def length(self) -> int:
        """Return the number of samples that all its recordings have."""
        return min(part.length for part in self._parts if part)

    def limit(self, bandwidth: float) -> Source:
        """Return the source with recordings that hold nothing above `bandwidth` Hz."""
        limited = (
            part and replace(part, bandwidth=min(part.bandwidth, bandwidth)) for part in self._parts
        )
        return Source(self.name, *limited)

    @property
    def _parts(self) -> tuple[Recording | None, ...]:
        return self.vocals, self.instrumental, self.mixture


@dataclass(frozen=True)
class Pools:
    """All sources, by what they hold."""

    pairs: list[Source]
    voices: list[Source]
    music: list[Source]
    validation: list[Source]  # aligned pairs that training never draws from
    mixtures: list[Source] = field(default_factory=list)  # songs without stems


@dataclass(frozen=True)
class Files:
    """Where a source lies on disk: each part is the sum of its files, or missing."""

    name: str
    vocals: Sequence[Path] = ()
    instrumental: Sequence[Path] = ()
    mixture: Sequence[Path] = ()


def find_sources(data: Path) -> list[Files]:
    """List what `data` holds, in the order of its names."""
    if not data.is_dir():
        raise DataError(f"{data}: no such folder; give one with vocals/ and instrumental/ in it")
    files = sorted(p for p in glob_all(data, "**/*") if p.suffix.lower() in SUFFIXES)
    by_folder: dict[Path, dict[str, Path]] = {}
    for path in files:
        beside = by_folder.setdefault(path.parent, {}).setdefault(path.stem, path)
        if beside != path:
            raise DataError(f"{path}: {beside.name} beside it has the same name; keep one of them")
    sources: list[Files] = []
    passed: list[Path] = []
    for folder, stems in by_folder.items():
        name = folder.relative_to(data).as_posix()
        kind = _find_kind(name)
        named = stems if kind else name_stems(stems)
        music = list_instrumental(named)
        if "vocals" in named and (INSTRUMENTAL in named or (music and not kind)):
            sources.append(Files(name, [named["vocals"]], music))
        elif kind:
            for path in stems.values():
                title = path.relative_to(data).with_suffix("").as_posix()
                sources.append(Files(title, **{kind: [path]}))
        else:
            passed += stems.values()
    if not sources:
        raise DataError(
            f"{data}: nothing to train on; add <song>/vocals.* and <song>/instrumental.*"
        )
    if passed:
        why = "neither a stem beside the other one, nor in vocals/, instrumental/ or mixtures/"
        log.warning("passed over %d files, such as %s: %s", len(passed), passed[0], why)
    return sources


def _find_kind(folder: str) -> str | None:
    """Name the field of `Files` that a folder is for, by its path below the data; or none."""
    parts = folder.split("/")
    return next((kind for name, kind in KINDS.items() if name in parts), None)


def load_sources(found: Iterable[Files], cache: Path, rate: int) -> Iterator[Source]:
    """Decode what is not yet in `cache`, at `rate` Hz, and yield every source."""
    cache.mkdir(parents=True, exist_ok=True)
    remove_abandoned(cache)
    for files in found:
        parts = (files.vocals, files.instrumental, files.mixture)
        yield Source(files.name, *(_load(part, cache, rate) if part else None for part in parts))


def sort_pools(sources: Iterable[Source], recipe: Recipe) -> Pools:
    """Put each source into its pool; names that match a pattern of `validation` are held out.

    Of these, aligned pairs are what is validated on; voices or music alone are left out. Sources
    whose names match a pattern of `bandwidths` hold nothing above so many Hz.
    """
    pools = Pools([], [], [], [])
    held = 0
    for source in sources:
        for pattern, most in recipe.bandwidths:
            source = source.limit(most) if fnmatch(source.name, pattern) else source
        held_out = any(fnmatch(source.name, pattern) for pattern in recipe.validation)
        held += held_out
        if source.vocals and source.instrumental:
            (pools.validation if held_out else pools.pairs).append(source)
        elif not held_out:
            alone = pools.music if source.instrumental else pools.mixtures
            (pools.voices if source.vocals else alone).append(source)
    if not (pools.pairs or (pools.voices and pools.music)):
        out = f' (the recipe\'s "validation" holds out {held} sources)' if held else ""
        way_out = "add songs with both stems, or voices and music"
        raise DataError(f"not enough to train on{out}; {way_out}")
    _tell_tests([*pools.pairs, *pools.voices, *pools.music, *pools.mixtures])
    return pools


def _tell_tests(learned: Iterable[Source]) -> None:
    """Warn of songs of a test set that are learned from: scores on them would mean nothing."""
    tests = [one.name for one in learned if "test" in one.name.lower().split("/")[:-1]]
    if tests:
        way_out = "give the training set's folder alone, or hold them out by the recipe"
        log.warning(
            "songs of a test set are learned from, too (%d, such as %s); %s",
            *(len(tests), tests[0], way_out),
        )


def find_idle_patterns(names: Iterable[str], recipe: Recipe) -> list[str]:
    """List the patterns of a recipe that match none of the sources' names."""
    names = list(names)
    limited = [pattern for pattern, _ in recipe.bandwidths]
    patterns = [*recipe.validation, *limited, *(pattern for pattern, *_ in recipe.weights)]
    return [one for one in dict.fromkeys(patterns) if not any(fnmatch(name, one) for name in names)]


def _load(paths: Sequence[Path], cache: Path, rate: int) -> Recording:
    identity = f"{' '.join(map(_identify, paths))} {rate}"
    hashed = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    stored = cache / f"{hashed}.npy"
    if not stored.exists():
        _decode(paths, stored, rate)
    samples = np.load(stored, mmap_mode="r")
    bandwidth = _remember(stored.with_suffix(".hz"), partial(measure_bandwidth, samples, rate))
    loudness = _remember(stored.with_suffix(".rms"), partial(root_mean_square, samples))
    return Recording(Stored(stored, samples.shape), bandwidth, loudness)


def _identify(path: Path) -> str:
    """Say which file it is, and in which state."""
    try:
        stat = path.stat()
    except OSError as error:
        way_out = "add it, or the sum of all parts as instrumental.*"
        raise DataError(f"{path}: cannot be opened ({reason(error)}); {way_out}") from error
    return f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"


def _decode(paths: Sequence[Path], stored: Path, rate: int) -> None:
    """Decode the sum of files block by block, however long it is; note its bandwidth beside it."""
    spectrum, path = _Spectrum(rate), paths[0]
    with ExitStack() as stack, making(stored, shared=True) as beside:
        songs = [stack.enter_context(open_song(each, way_out=WAY_OUT)) for each in paths]
        song = songs[0]
        shape = (song.channels if song.channels < 3 else 1, 0)
        with beside.open("wb") as file:
            head = _write_head(file, shape)
            for block in resample(_add_up(songs), song.rate, rate, song.channels):
                # a voice may be on any of more than two channels
                kept = block if len(block) < 3 else block.mean(axis=0, keepdims=True)
                if not np.abs(kept).max() <= np.finfo(np.float16).max:  # nor where it is no number
                    raise AudioError(f"{path}: holds samples that are no sound; leave it out")
                spectrum.add(kept)  # before it is rounded: the noise of that has no bandwidth
                file.write(kept.T.astype("<f2").tobytes())
                shape = (len(kept), shape[1] + kept.shape[1])
            file.seek(0)
            if _write_head(file, shape) != head:
                raise AudioError(f"{path}: is too long; cut it into parts")
        if not shape[1]:
            raise AudioError(f"{path}: contains no sound; remove it from the training data")
        note = str(spectrum.find_bandwidth()).encode()
        write_atomically(stored.with_suffix(".hz"), note, shared=True)


def _add_up(songs: Sequence[SongReader]) -> Iterator[Block]:
    """Yield the sum of sounds block by block; raise DataError where they differ in shape."""
    nothing = np.zeros((0, 0), np.float32)
    for blocks in zip_longest(*(song.read_blocks() for song in songs), fillvalue=nothing):
        facts = [
            {"rate": song.rate, "channels": song.channels, "length": block.shape[1]}
            for song, block in zip(songs, blocks, strict=True)
        ]
        for song, its in zip(songs, facts, strict=True):
            if unlike := [name for name, value in its.items() if value != facts[0][name]]:
                other = Path(songs[0].source).name
                raise DataError(
                    f"{song.source}: differs from {other} in {unlike[0]}; make them equal"
                )
        yield np.add.reduce(blocks)


def _write_head(file: BinaryIO, shape: tuple[int, int]) -> int:
    """Write the head of an array whose last axis grows; return its size in bytes."""
    told = {"descr": "<f2", "fortran_order": True, "shape": shape}
    np.lib.format.write_array_header_1_0(file, told)
    return file.tell()


def _remember(note: Path, measure: Callable[[], float]) -> float:
    """Return what was measured of samples, remembered beside them."""
    if not note.exists():
        write_atomically(note, str(measure()).encode(), shared=True)
    return float(note.read_text(encoding="utf-8"))


def root_mean_square(samples: npt.NDArray[np.floating]) -> float:
    """Return the root of the mean square of all samples, (channels, samples)."""
    parts = _cut(samples, _PART)
    energy = sum(float(np.square(part, dtype=np.float32).sum(dtype=np.float64)) for part in parts)
    return math.sqrt(energy / max(samples.size, 1))


def measure_bandwidth(samples: npt.NDArray[np.floating], rate: int) -> float:
    """Return the frequency in Hz above which (channels, samples) holds no sound.

    What is left there is a codec's noise, or that of rounding to 16 bits.
    """
    spectrum = _Spectrum(rate)
    for part in _cut(samples, _PART):
        spectrum.add(part)
    return spectrum.find_bandwidth()


def _cut(samples: npt.NDArray[np.floating], size: int) -> Iterator[npt.NDArray[np.floating]]:
    return (samples[..., start : start + size] for start in range(0, samples.shape[-1], size))


class _Spectrum:
    """The mean power of a sound's frames, gathered as the sound comes."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.window = np.hanning(SPECTRUM_WINDOW).astype(np.float32)
        self.power = np.zeros(SPECTRUM_WINDOW // 2 + 1)
        self.frames = 0
        self.rest = np.zeros(0, np.float32)  # samples that fill no frame yet

    def add(self, samples: npt.NDArray[np.floating]) -> None:
        """Add (channels, samples) that follow on what came before."""
        mono = np.concatenate([self.rest, samples.astype(np.float32).mean(0)])
        whole = len(mono) - len(mono) % SPECTRUM_WINDOW
        self.rest = mono[whole:]
        for part in _cut(mono[:whole], _PART):
            self._add_frames(part.reshape(-1, SPECTRUM_WINDOW))

    def _add_frames(self, frames: npt.NDArray[np.float32]) -> None:
        self.power += (np.abs(np.fft.rfft(frames * self.window)) ** 2).sum(0)
        self.frames += len(frames)

    def find_bandwidth(self) -> float:
        """Return the frequency in Hz above which there is no sound; half the rate in silence."""
        if len(self.rest):
            self._add_frames(np.pad(self.rest, (0, SPECTRUM_WINDOW - len(self.rest)))[None])
            self.rest = self.rest[:0]
        power = self.power / max(self.frames, 1)
        bins_wide = 8
        smooth = np.convolve(power, np.ones(bins_wide) / bins_wide, mode="same")
        rounding = ROUNDING * np.square(self.window).sum()
        floor = max(smooth.max() * 10 ** (SILENT_DB / 10), rounding)
        heard = np.flatnonzero(smooth > floor)
        return float((heard[-1] + 1) * self.rate / SPECTRUM_WINDOW) if len(heard) else self.rate / 2

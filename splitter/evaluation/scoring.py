"""From a song and its estimates to scores, and from scores to JSON and back.

Values are rounded to a millionth of a dB, so that a score is the same whatever the order of a sum.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splitter import metrics
from splitter.datasets import Song, Tracks
from splitter.errors import DataError, SplitterError
from splitter.evaluation.systems import Separate, System

STEMS = ("vocals", "instrumental")
DIGITS = 6  # of a dB

Values = dict[str, float]  # metric -> dB; NaN where there is no score
Windows = dict[str, list[float]]  # metric -> dB of each window


@dataclass(frozen=True)
class StemScores:
    """What one estimate of one stem scored."""

    values: Values
    windows: Windows


@dataclass(frozen=True)
class SongScores:
    """What all systems scored on one song."""

    song: str  # label
    seconds: float  # length of the song
    silent: tuple[str, ...]  # stems that the song does not have
    systems: dict[str, dict[str, StemScores]]  # system -> stem
    took: dict[str, float]  # system -> seconds that it needed


@dataclass(frozen=True)
class Failure:
    """A song that could not be scored."""

    song: str  # label
    message: str


@dataclass(frozen=True)
class Truth:
    """References, and what scoring needs to know of them once for all estimates."""

    references: metrics.Signal  # (stems, channels, samples)
    rate: int  # Hz
    projection: metrics.SourceProjection | None
    mixture: list[metrics.SourceRatios]  # what the mixture scores by BSSEval v3


def score_songs(
    songs: Sequence[Song], systems: Sequence[System], chosen: Sequence[str]
) -> Iterator[SongScores | Failure]:
    """Score songs one by one; a song that cannot be read or separated gives a Failure."""
    separators = {system.name: system.start() for system in systems}
    for song in songs:
        try:
            yield score_song(song, separators, chosen)
        except SplitterError as error:
            yield Failure(song.label, str(error))


def score_song(song: Song, separators: Mapping[str, Separate], chosen: Sequence[str]) -> SongScores:
    """Score all systems on one song by the chosen families of metrics."""
    tracks = song.load()
    truth = _prepare(tracks, chosen)
    systems, took = {}, {}
    for name, separate in separators.items():
        started = time.perf_counter()
        estimates = np.stack(separate(song, tracks))  # stems
        took[name] = time.perf_counter() - started
        if estimates.shape != truth.references.shape:
            shapes = f"{estimates.shape[1:]}, not {truth.references.shape[1:]}"
            raise DataError(f"{name} made stems whose shape is not the song's: {shapes}")
        if not np.isfinite(estimates).all():
            raise DataError(f"{name} made stems that hold samples that are not numbers")
        systems[name] = _score_stems(truth, estimates, chosen)
    silent = [s for s, r in zip(STEMS, truth.references, strict=True) if not r.any()]
    return SongScores(song.label, tracks.seconds, tuple(silent), systems, took)


def _prepare(tracks: Tracks, chosen: Sequence[str]) -> Truth:
    references = np.stack([tracks.vocals, tracks.instrumental])
    if "v3" not in chosen:
        return Truth(references, tracks.rate, None, [])
    projection = metrics.SourceProjection(_merge_channels(references))
    mixture = _merge_channels(tracks.mixture)
    return Truth(references, tracks.rate, projection, projection.score([mixture] * len(STEMS)))


def _score_stems(
    truth: Truth, estimates: metrics.Signal, chosen: Sequence[str]
) -> dict[str, StemScores]:
    parts = [FAMILIES[family](truth, estimates) for family in chosen]
    return {
        stem: StemScores(
            {name: round(v, DIGITS) for part in parts for name, v in part[n].values.items()},
            {
                name: [round(v, DIGITS) for v in windows]
                for part in parts
                for name, windows in part[n].windows.items()
            },
        )
        for n, stem in enumerate(STEMS)
    }


def _by_window(scores: dict[str, metrics.Scores]) -> list[StemScores]:
    """Keep the windows, and their median as the song's value."""
    return [
        StemScores(
            {name: metrics.median_window(windows[n]) for name, windows in scores.items()},
            {name: windows[n].tolist() for name, windows in scores.items()},
        )
        for n in range(len(STEMS))
    ]


def _score_windows(truth: Truth, estimates: metrics.Signal) -> list[StemScores]:
    return _by_window({"SDR": metrics.window_sdr(truth.references, estimates, truth.rate)})


def _score_images(truth: Truth, estimates: metrics.Signal) -> list[StemScores]:
    scores = metrics.bss_eval_images(truth.references, estimates, truth.rate)
    return _by_window({name: scores[name] for name in ("ISR", "SIR", "SAR")})


def _score_song_wise(
    name: str, metric: Callable[[metrics.Signal, metrics.Signal], float]
) -> Callable[[Truth, metrics.Signal], list[StemScores]]:
    """Make a family of a metric for whole songs; a stem that the song does not have scores NaN."""

    def score(truth: Truth, estimates: metrics.Signal) -> list[StemScores]:
        pairs = zip(truth.references, estimates, strict=True)
        return [StemScores({name: metric(r, e) if r.any() else math.nan}, {}) for r, e in pairs]

    return score


def _score_sources(truth: Truth, estimates: metrics.Signal) -> list[StemScores]:
    assert truth.projection is not None
    scores = truth.projection.score(_merge_channels(estimates))
    return [
        StemScores(
            {"NSDR": s.sdr - mixture.sdr, "SDR v3": s.sdr, "SIR v3": s.sir, "SAR v3": s.sar}, {}
        )
        for s, mixture in zip(scores, truth.mixture, strict=True)
    ]


def _merge_channels(signals: metrics.Signal) -> metrics.Signal:
    """Average the channels, which BSSEval's `sources` version does not know."""
    merged: metrics.Signal = signals.mean(axis=-2, dtype=np.float64)
    return merged


FAMILIES: dict[str, Callable[[Truth, metrics.Signal], list[StemScores]]] = {
    "sdr": _score_windows,
    "usdr": _score_song_wise("uSDR", metrics.usdr),
    "si-sdr": _score_song_wise("SI-SDR", metrics.si_sdr),
    "v3": _score_sources,
    "images": _score_images,
}


def to_json(scores: SongScores) -> dict[str, Any]:
    """Give the scores, without the time they took, as JSON knows it: NaN is null."""
    return {
        "song": scores.song,
        "seconds": round(scores.seconds, DIGITS),
        "silent": list(scores.silent),
        "systems": {
            name: {
                stem: {
                    "values": {metric: encode(v) for metric, v in part.values.items()},
                    "windows": {m: [encode(v) for v in w] for m, w in part.windows.items()},
                }
                for stem, part in stems.items()
            }
            for name, stems in scores.systems.items()
        },
    }


def from_json(raw: Mapping[str, Any], took: Mapping[str, float]) -> SongScores:
    """Give the scores that `to_json` wrote."""
    systems = {
        name: {
            stem: StemScores(
                {metric: _decode(v) for metric, v in part["values"].items()},
                {metric: [_decode(v) for v in w] for metric, w in part["windows"].items()},
            )
            for stem, part in stems.items()
        }
        for name, stems in raw["systems"].items()
    }
    return SongScores(raw["song"], raw["seconds"], tuple(raw["silent"]), systems, dict(took))


def encode(value: float) -> float | str | None:
    """Give a value as JSON knows it, which has neither NaN nor infinity."""
    if math.isnan(value):
        return None
    return str(value) if math.isinf(value) else value


def _decode(value: float | str | None) -> float:
    return math.nan if value is None else float(value)

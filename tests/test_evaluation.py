import json
import math
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from splitter import metrics
from splitter.datasets import Song, Tracks, find_songs
from splitter.errors import DataError
from splitter.evaluation import baselines
from splitter.evaluation.baselines import BASELINES, MASKED, Grid
from splitter.evaluation.journal import Journal, make_key
from splitter.evaluation.run import Outcome, evaluate
from splitter.evaluation.scoring import (
    FAMILIES,
    Failure,
    SongScores,
    StemScores,
    from_json,
    score_song,
    to_json,
)
from splitter.evaluation.summary import Results, write_scores
from splitter.evaluation.systems import BaselineSystem, EstimatesSystem, Separate

RATE = 8000  # Hz
GRID = Grid(512, 128, RATE)
METRICS = ("sdr", "usdr", "si-sdr", "v3")


def tone(*frequencies: float, channels: int = 1, seconds: float = 2.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    wave = sum(0.1 * np.sin(2 * math.pi * f * time) for f in frequencies)
    return np.tile(np.asarray(wave, np.float32), (channels, 1))


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return 0.1 * generator.standard_normal((channels, samples)).astype(np.float32)


def make_tracks(vocals: np.ndarray, instrumental: np.ndarray) -> Tracks:
    return Tracks(vocals + instrumental, vocals, instrumental, RATE)


def make_song(name: str = "song", vocals: np.ndarray | None = None, seed: int = 0) -> Song:
    voice = tone(400, 800) if vocals is None else vocals
    tracks = make_tracks(voice, noise(voice.shape[-1], len(voice), seed))
    return Song(name, "", [], lambda: tracks)


def write_songs(root: Path, count: int = 3) -> list[Song]:
    """Write songs of noise; each differs from the others."""
    for number in range(count):
        folder = root / f"song {number}"
        folder.mkdir(parents=True)
        for stem, seed in (("vocals", number), ("instrumental", 100 + number)):
            soundfile.write(folder / f"{stem}.wav", noise(3 * RATE // 2, seed=seed).T, RATE)
    return find_songs(root)


@dataclass(frozen=True)
class Halver:
    """A system for tests: remembers what it was asked, and can fail."""

    name: str = "halver"
    timed: bool = True
    asked: list[str] = field(default_factory=list)
    broken: Sequence[str] = ()

    def describe(self) -> str:
        return "half of the mixture"

    def identify(self, song: Song) -> str:
        return "1"

    def start(self) -> Separate:
        def separate(song: Song, tracks: Tracks) -> baselines.Stems:
            self.asked.append(song.name)
            if song.name in self.broken:
                raise DataError(f"{song.name}: out of order")
            return tracks.mixture / 2, tracks.mixture / 2

        return separate


@dataclass(frozen=True)
class Suicide(Halver):
    """A system that takes its process with it."""

    def start(self) -> Separate:
        os._exit(3)


@dataclass(frozen=True)
class Interrupted(Halver):
    """A system in whose process Ctrl-C comes, as a terminal sends it to all."""

    def start(self) -> Separate:
        os.kill(os.getpid(), signal.SIGINT)
        return super().start()


def gather(outcomes: Iterator[Outcome] | list[Outcome], system: Halver | None = None) -> Results:
    ordered = sorted(outcomes, key=lambda outcome: outcome.song)
    scores = [outcome for outcome in ordered if isinstance(outcome, SongScores)]
    systems = {name: "what it is" for song in scores[:1] for name in song.systems}
    failures = [outcome for outcome in ordered if isinstance(outcome, Failure)]
    return Results({"folder": "x"}, systems, frozenset(["halver"]), METRICS, scores, failures)


def sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    return metrics.usdr(reference, estimate)


# Baselines


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("name", [*MASKED])
def test_masked_stems_sum_to_the_mixture(name: str, channels: int) -> None:
    tracks = make_tracks(tone(400, channels=channels), noise(2 * RATE, channels))
    vocals, instrumental = BASELINES[name](tracks, GRID)
    assert vocals.shape == instrumental.shape == tracks.mixture.shape
    np.testing.assert_allclose(vocals + instrumental, tracks.mixture, atol=1e-6)


@pytest.mark.parametrize("name", ["IRM1", "IRM2", "IBM"])
def test_oracles_separate_what_does_not_overlap(name: str) -> None:
    tracks = make_tracks(tone(440, 880), tone(2000, 3000))
    vocals, instrumental = BASELINES[name](tracks, GRID)
    assert sdr(tracks.vocals, vocals) > 30
    assert sdr(tracks.instrumental, instrumental) > 30


def test_the_three_oracles_are_three_masks() -> None:
    # in phase, at 3 to 1 everywhere: the shares of the voice are 3/4, 9/10 and 1
    voice, music = 3 * noise(2 * RATE), noise(2 * RATE)
    tracks = make_tracks(voice, music)
    for name, share in (("IRM1", 3 / 4), ("IRM2", 9 / 10), ("IBM", 1)):
        vocals, _ = BASELINES[name](tracks, GRID)
        np.testing.assert_allclose(vocals, share * tracks.mixture, atol=1e-4)


def test_floors_are_the_mixture_and_half_of_it() -> None:
    tracks = make_tracks(tone(400), noise(2 * RATE))
    assert all(stem is tracks.mixture for stem in BASELINES["mixture"](tracks, GRID))
    for stem in BASELINES["half"](tracks, GRID):
        np.testing.assert_array_equal(2 * stem, tracks.mixture)


def test_repet_sim_finds_what_repeats() -> None:
    beat = tone(200, 310, seconds=0.5)
    beats = np.tile(np.concatenate([beat, 0 * beat], axis=-1), 8)
    voice = np.zeros_like(beats)
    voice[:, 3 * RATE : 4 * RATE] = tone(700, 1400, seconds=1)
    tracks = make_tracks(voice, beats)
    vocals, music = BASELINES["REPET-SIM"](tracks, GRID)
    assert sdr(voice, vocals) > sdr(voice, tracks.mixture) + 10
    assert sdr(beats, music) > sdr(beats, tracks.mixture) + 10


@pytest.mark.parametrize("samples", [0, 1, 127, 128, 129, 513])
@pytest.mark.parametrize("name", BASELINES)
def test_baselines_take_songs_of_any_length(name: str, samples: int) -> None:
    tracks = make_tracks(noise(samples), noise(samples, seed=1))
    for stem in BASELINES[name](tracks, GRID):
        assert stem.shape == (1, samples)
        assert np.isfinite(stem).all()


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_give_silence_for_silence(name: str) -> None:
    silence = np.zeros((2, RATE), np.float32)
    for stem in BASELINES[name](make_tracks(silence, silence), GRID):
        assert not stem.any()


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000, 96000])
def test_a_grid_keeps_its_resolution_at_another_rate(rate: int) -> None:
    stft = Grid(4096, 1024, 44100).stft(rate)
    assert stft.size == 4 * stft.hop
    assert stft.size / rate == pytest.approx(4096 / 44100, rel=0.01)


# Scoring


def test_half_of_an_even_mixture_scores_three_decibels() -> None:
    # for uncorrelated stems of equal energy ‖s‖² / ‖s − (s + n) / 2‖² is 2
    song = make_song(vocals=noise(4 * RATE, seed=5))
    scores = score_song(song, {"half": lambda _, tracks: BASELINES["half"](tracks, GRID)}, METRICS)
    for stem in ("vocals", "instrumental"):
        values = scores.systems["half"][stem].values
        assert values["SDR"] == pytest.approx(3.01, abs=0.1)
        assert values["uSDR"] == pytest.approx(3.01, abs=0.1)
        assert values["NSDR"] == pytest.approx(0, abs=1e-4)  # v3 forgives a gain
        assert len(scores.systems["half"][stem].windows["SDR"]) == 4
    assert scores.seconds == 4
    assert scores.took.keys() == {"half"}


def test_every_family_of_metrics_names_its_values() -> None:
    song = make_song(vocals=tone(400, channels=2))
    halver = {"half": lambda _, tracks: BASELINES["half"](tracks, GRID)}
    names = {f: set(_values(score_song(song, halver, [f]))) for f in FAMILIES}
    assert names == {
        "sdr": {"SDR"},
        "usdr": {"uSDR"},
        "si-sdr": {"SI-SDR"},
        "v3": {"NSDR", "SDR v3", "SIR v3", "SAR v3"},
        "images": {"ISR", "SIR", "SAR"},
    }


def _values(scores: SongScores) -> dict[str, float]:
    return scores.systems["half"]["vocals"].values


def test_a_silent_stem_has_no_scores_and_is_reported() -> None:
    song = make_song(vocals=np.zeros((1, 2 * RATE), np.float32))
    scores = score_song(song, {"half": lambda _, tracks: BASELINES["half"](tracks, GRID)}, METRICS)
    assert scores.silent == ("vocals",)
    assert all(math.isnan(v) for v in _values(scores).values())
    assert scores.systems["half"]["instrumental"].values["uSDR"] == pytest.approx(6.02, abs=0.01)


def test_scores_survive_json_to_the_last_digit() -> None:
    part = StemScores({"SDR": 1.234567, "uSDR": math.inf}, {"SDR": [math.nan, -math.inf, 0.1]})
    scores = SongScores("a/b", 1.5, ("vocals",), {"x": {"vocals": part}}, {"x": 0.123456789})
    text = json.dumps(to_json(scores), allow_nan=False)
    again = from_json(json.loads(text), scores.took)
    assert json.dumps(to_json(again)) == text
    assert to_json(replace(scores, seconds=1.23456789))["seconds"] == 1.234568
    assert again.took == scores.took
    assert math.isnan(again.systems["x"]["vocals"].windows["SDR"][0])
    assert again.systems["x"]["vocals"].values == part.values


def test_time_is_no_part_of_the_scores() -> None:
    scores = score_song(make_song(), {"half": Halver().start()}, ["usdr"])
    assert to_json(scores) == to_json(replace(scores, took={"half": 99.0}))


# Running


def test_a_song_that_fails_is_an_outcome_and_the_rest_is_scored(tmp_path: Path) -> None:
    songs = [make_song(name) for name in "abc"]
    outcomes = list(evaluate(songs, [Halver(broken="b")], METRICS, Journal(tmp_path / "j")))
    assert [type(outcome) for outcome in outcomes] == [SongScores, Failure, SongScores]
    assert outcomes[1] == Failure("b", "b: out of order")


def test_stems_of_another_shape_than_the_song_are_a_failure(tmp_path: Path) -> None:
    class Cutter(Halver):
        def start(self) -> Separate:
            return lambda _, tracks: (tracks.mixture[:, 1:], tracks.mixture[:, 1:])

    (outcome,) = evaluate([make_song()], [Cutter("cutter")], METRICS, Journal(tmp_path / "j"))
    assert isinstance(outcome, Failure)
    assert "cutter made stems whose shape is not the song's" in outcome.message


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    songs = write_songs(tmp_path / "data", 4)
    whole = gather(evaluate(songs, [Halver()], METRICS, Journal(tmp_path / "whole.jsonl")))
    write_scores(tmp_path / "whole.json", whole)

    journal = Journal(tmp_path / "killed.jsonl")
    first = evaluate(songs, [Halver()], METRICS, journal)
    for _ in range(2):
        next(first)
    text = journal.path.read_text(encoding="utf-8")
    journal.path.write_text(text + "\n" + text[: len(text) // 3], encoding="utf-8")  # cut off

    halver = Halver()
    resumed = gather(evaluate(songs, [halver], METRICS, journal))
    write_scores(tmp_path / "killed.json", resumed)
    assert halver.asked == ["song 2", "song 3"]
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_a_finished_run_scores_nothing_again(tmp_path: Path) -> None:
    songs, journal = write_songs(tmp_path / "data", 2), Journal(tmp_path / "j.jsonl")
    list(evaluate(songs, [Halver()], METRICS, journal))
    halver = Halver()
    assert len(list(evaluate(songs, [halver], METRICS, journal))) == 2
    assert halver.asked == []


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    songs, journal = write_songs(tmp_path / "data", 2), Journal(tmp_path / "j.jsonl")
    list(evaluate(songs, [Halver(broken=["song 1"])], METRICS, journal))
    halver = Halver()
    outcomes = list(evaluate(songs, [halver], METRICS, journal))
    assert halver.asked == ["song 1"]
    assert all(isinstance(outcome, SongScores) for outcome in outcomes)


def test_a_stored_score_holds_for_nothing_but_what_was_scored(tmp_path: Path) -> None:
    song, other = write_songs(tmp_path / "data", 2)
    system = BaselineSystem("IRM1", GRID)
    key = make_key(song, [system], METRICS)
    assert key == make_key(find_songs(tmp_path / "data")[0], [system], METRICS)
    assert key != make_key(other, [system], METRICS)
    assert key != make_key(song, [system], METRICS[:1])
    assert key != make_key(song, [BaselineSystem("IRM1", Grid())], METRICS)
    assert key != make_key(song, [BaselineSystem("IRM2", GRID)], METRICS)
    soundfile.write(song.files[0], noise(RATE, seed=9).T, RATE)
    assert key != make_key(song, [system], METRICS)


def test_estimates_that_were_written_again_are_scored_again(tmp_path: Path) -> None:
    (song,) = write_songs(tmp_path / "data", 1)
    estimates = tmp_path / "peer" / song.name / "vocals.wav"
    estimates.parent.mkdir(parents=True)
    soundfile.write(estimates, noise(RATE).T, RATE)
    system = EstimatesSystem(tmp_path / "peer")
    key = make_key(song, [system], METRICS)
    soundfile.write(estimates, noise(RATE + 1).T, RATE)
    assert key != make_key(song, [system], METRICS)


@pytest.mark.slow
def test_two_processes_score_as_one_does(tmp_path: Path) -> None:
    write_songs(tmp_path / "data", 3)
    (tmp_path / "data" / "song 1" / "vocals.wav").unlink()
    songs = find_songs(tmp_path / "data")
    systems = [BaselineSystem("half", GRID), BaselineSystem("IRM2", GRID)]
    written = []
    for jobs in (1, 2):
        journal = Journal(tmp_path / f"{jobs}.jsonl")
        results = gather(evaluate(songs, systems, METRICS, journal, jobs))
        write_scores(tmp_path / f"{jobs}.json", results)
        written.append((tmp_path / f"{jobs}.json").read_text(encoding="utf-8"))
    assert written[0] == written[1]
    assert "has no vocals" in written[0]


def test_a_process_that_dies_is_a_failure_of_its_songs(tmp_path: Path) -> None:
    songs = write_songs(tmp_path / "data", 1)
    journal = Journal(tmp_path / "j.jsonl")
    (outcome,) = evaluate(songs, [Suicide()], METRICS, journal, jobs=2)
    assert isinstance(outcome, Failure)
    assert "ended with status 3" in outcome.message


@pytest.mark.skipif(os.name == "nt", reason="a process cannot be kept from hearing it there")
def test_only_the_process_that_started_the_others_hears_ctrl_c(tmp_path: Path) -> None:
    songs = write_songs(tmp_path / "data", 1)
    journal = Journal(tmp_path / "j.jsonl")
    (outcome,) = evaluate(songs, [Interrupted()], METRICS, journal, jobs=2)
    assert isinstance(outcome, SongScores)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])  # it still does


def test_a_journal_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    halver = Halver()
    with pytest.raises(DataError, match=r"scores\.jsonl: cannot be written"):
        list(
            evaluate([make_song()], [halver], METRICS, Journal(tmp_path / "file" / "scores.jsonl"))
        )
    assert halver.asked == []


def test_the_folder_of_the_scores_is_made(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "folder" / "scores.jsonl")
    assert len(list(evaluate([make_song()], [Halver()], METRICS, journal))) == 1
    assert len(journal.read()) == 1


# Estimates of other tools


@pytest.mark.parametrize("place", ["test/song", "Test/song", "song"])
@pytest.mark.parametrize("names", [("vocals", "no_vocals"), ("vocals", "accompaniment")])
def test_estimates_are_found_under_the_names_that_tools_use(
    place: str, names: tuple[str, str], tmp_path: Path
) -> None:
    tracks = make_tracks(tone(400), noise(2 * RATE))
    song = Song("song", "test", [], lambda: tracks)
    for name, stem in zip(names, (tracks.vocals, tracks.instrumental), strict=True):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / place / f"{name}.wav", stem.T, RATE, subtype="FLOAT")
    vocals, instrumental = EstimatesSystem(tmp_path).start()(song, tracks)
    np.testing.assert_array_equal(vocals, tracks.vocals)
    np.testing.assert_array_equal(instrumental, tracks.instrumental)


def test_estimates_for_dsd100_are_found_where_its_songs_are(tmp_path: Path) -> None:
    song = replace(make_song(), split="train")
    tracks = song.load()
    (tmp_path / "Dev" / song.name).mkdir(parents=True)
    place = tmp_path / "Dev" / song.name / "vocals.wav"
    soundfile.write(place, tracks.vocals.T, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(EstimatesSystem(tmp_path).start()(song, tracks)[0], tracks.vocals)


@pytest.mark.parametrize("stem", ["vocals", "instrumental"])
def test_the_stem_that_is_missing_is_what_the_other_one_leaves(stem: str, tmp_path: Path) -> None:
    song = make_song()
    tracks = song.load()
    (tmp_path / "song").mkdir()
    signal = getattr(tracks, stem)
    soundfile.write(tmp_path / "song" / f"{stem}.wav", signal.T, RATE, subtype="FLOAT")
    vocals, instrumental = EstimatesSystem(tmp_path).start()(song, tracks)
    np.testing.assert_allclose(vocals, tracks.vocals, atol=1e-7)
    np.testing.assert_allclose(instrumental, tracks.instrumental, atol=1e-7)


def test_estimates_that_are_missing_or_do_not_fit_are_said(tmp_path: Path) -> None:
    song = make_song()
    separate = EstimatesSystem(tmp_path).start()
    with pytest.raises(DataError, match=r"song: has neither vocals\.\* nor instrumental"):
        separate(song, song.load())
    (tmp_path / "song").mkdir()
    soundfile.write(tmp_path / "song" / "vocals.wav", noise(2 * RATE - 1).T, RATE)
    with pytest.raises(DataError, match=r"vocals\.wav: has 15999 samples, but the song has 16000"):
        separate(song, song.load())

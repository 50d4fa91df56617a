import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from splitter.cli.scored import _make_tables
from splitter.errors import SplitterError
from splitter.evaluation.scoring import (
    Failure,
    SongScores,
    StemScores,
)
from splitter.evaluation.summary import Results, format_song, make_table, summarise, write_scores

METRICS = ("sdr", "usdr", "si-sdr", "v3")


def make_scores(song: str, value: float, seconds: float = 60.0) -> SongScores:
    part = StemScores({"SDR": value, "NSDR": value}, {"SDR": [value]})
    return SongScores(song, seconds, (), {"x": {"vocals": part, "instrumental": part}}, {"x": 3.0})


def make_results(*scores: SongScores, failures: Sequence[Failure] = ()) -> Results:
    return Results({"data set": "d"}, {"x": "a model"}, frozenset("x"), METRICS, scores, failures)


def test_a_summary_is_median_mean_and_mean_by_length() -> None:
    scores = [make_scores("a", 1, 10), make_scores("b", 2, 10), make_scores("c", 9, 20)]
    summary = summarise(scores, "x", "vocals", "SDR")
    assert (summary.median, summary.mean, summary.weighted) == (2, 4, 5.25)
    assert (summary.songs, summary.left_out) == (3, ())


def test_a_song_without_a_score_is_in_no_mean_and_is_named() -> None:
    scores = [make_scores("a", 1), make_scores("b", math.nan), make_scores("c", 3)]
    summary = summarise(scores, "x", "vocals", "SDR")
    assert (summary.mean, summary.songs, summary.left_out) == (2, 2, ("b",))
    table = make_table(make_results(*scores))
    assert "vocals, SDR, NSDR of all: without 1 song" in table
    assert "silent: b." in table
    assert "nan" not in table


def test_of_infinite_scores_of_both_signs_there_is_no_mean() -> None:
    scores = [make_scores("a", math.inf), make_scores("b", -math.inf), make_scores("c", 3)]
    summary = summarise(scores, "x", "vocals", "SDR")
    assert summary.median == 3 and math.isnan(summary.mean)


def test_without_any_score_the_table_says_nothing_as_a_dash() -> None:
    table = make_table(make_results(make_scores("a", math.nan)))
    assert "| x | – / – | – | 3.00 |" in table


def test_the_table_has_median_mean_global_mean_and_speed() -> None:
    table = make_table(make_results(make_scores("a", 1, 30), make_scores("b", 4, 90)))
    assert "| vocals | SDR | GNSDR | s/min |" in table
    assert "| x | 2.50 / 2.50 | 3.25 | 3.00 |" in table  # 6 s for 2 min
    assert "Scored: 2 songs, 2.0 min; data set d." in table


def test_a_ratio_of_rounding_is_printed_as_infinite() -> None:
    table = make_table(make_results(make_scores("a", 140.0)))
    assert "| x | ∞ / ∞ | ∞ |" in table


def test_the_table_counts_what_failed() -> None:
    failures = [Failure(f"s{n}", "broken") for n in range(7)]
    table = make_table(make_results(make_scores("a", 1), failures=failures))
    assert "7 songs could not be scored: s0, s1, s2, s3, s4 and 2 more." in table


def test_a_song_is_one_line() -> None:
    line = format_song(make_scores("test/a", 1.234), "x")
    assert line == "test/a  x  vocals SDR 1.23 NSDR 1.23  instrumental SDR 1.23 NSDR 1.23"


def test_names_of_several_lines_or_with_bars_break_no_table() -> None:
    name = "a\nb|c"
    scores = replace(make_scores("one\ntwo", math.nan), took={name: 3.0})
    scores = replace(scores, systems={name: scores.systems["x"]})
    results = replace(make_results(scores), systems={name: "stems in a\nb|c"}, timed=frozenset())
    table = make_table(results)
    assert r"| a b\|c | – / – | – | – |" in table.splitlines()
    assert "- a b|c: stems in a b|c." in table.splitlines()
    assert "silent: one two.\n" in table
    assert format_song(scores, name).startswith("one two  a b|c  vocals")
    (first, *_) = _make_tables(table.split("\n\n", 1)[1])
    assert "<tr><td>a b|c</td><td>– / –</td><td>–</td><td>–</td></tr>" in first


def test_scores_are_json_that_says_what_it_is(tmp_path: Path) -> None:
    scores = [make_scores("a", math.nan), make_scores("b", math.inf)]
    write_scores(tmp_path / "s.json", make_results(*scores, failures=[Failure("c", "broken")]))
    text = (tmp_path / "s.json").read_text(encoding="utf-8")
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (content["format"], content["schema"]) == ("splitter scores", 1)
    assert content["failed"] == {"c": "broken"}
    assert [song["song"] for song in content["songs"]] == ["a", "b"]
    assert content["songs"][0]["systems"]["x"]["vocals"]["windows"]["SDR"] == [None]
    summary = content["summary"]["x"]["vocals"]["SDR"]
    assert summary == {
        "median": "inf",
        "mean": "inf",
        "weighted": "inf",
        "songs": 1,
        "left_out": 1,
    }
    assert not list(tmp_path.glob(".*"))


def test_scores_that_cannot_be_written_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SplitterError, match=r"s\.json: cannot be written"):
        write_scores(tmp_path / "missing" / "s.json", make_results(make_scores("a", 1)))

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from splitter import datasets
from splitter.cli import evaluate as command
from splitter.cli import splitter
from splitter.errors import SplitterError
from splitter.evaluation.baselines import BASELINES
from splitter.evaluation.scoring import FAMILIES
from tests.commands import call

RATE = 8000  # Hz
ROOT = Path(__file__).parents[1]
SONGS = 8  # of the run that is killed
FAST = ["--metric", "sdr", "--metric", "usdr", "--baseline", "mixture", "--baseline", "IRM1"]


def noise(seed: int, seconds: float = 2.0, channels: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return 0.1 * generator.standard_normal((channels, round(seconds * RATE)))


def write(path: Path, signal: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal.T, RATE, subtype="FLOAT")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three test songs and one to train on."""
    for number, song in enumerate(("test/a", "test/b", "test/c", "train/d")):
        write(tmp_path / "data" / song / "vocals.wav", noise(number))
        write(tmp_path / "data" / song / "instrumental.wav", noise(100 + number))
    return tmp_path / "data"


@pytest.fixture
def estimates(data: Path, tmp_path: Path) -> Path:
    """What a peer made of the test songs: the vocals at 20 dB."""
    for song in ("a", "b", "c"):
        vocals, _ = soundfile.read(data / "test" / song / "vocals.wav", always_2d=True)
        write(tmp_path / "peer" / song / "vocals.wav", 0.9 * vocals.T)
    return tmp_path / "peer"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(splitter, ["evaluate", *map(str, arguments)])


def test_the_choices_are_those_of_the_library() -> None:
    assert sorted(command.DATASETS) == sorted(datasets.DATASETS)
    assert list(FAMILIES) == command.METRICS
    assert list(BASELINES) == command.BASELINES


def test_stems_of_another_tool_get_a_table_and_scores(
    data: Path, estimates: Path, tmp_path: Path
) -> None:
    result = run(data, "--estimates", estimates, *FAST, "-o", tmp_path / "scores.json")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"Scored: 3 songs, 0.1 min; folder {data}, data set folders, split test."
    assert "| vocals | SDR | uSDR | s/min |" in lines
    assert "| peer | 20.00 / 20.00 | 20.00 / 20.00 | – |" in lines
    assert [line.split()[1] for line in lines if line.startswith("| IRM1")] == ["IRM1", "IRM1"]
    assert (tmp_path / "scores.md").read_text(encoding="utf-8") == result.stdout
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert [song["song"] for song in scores["songs"]] == ["test/a", "test/b", "test/c"]
    assert scores["summary"]["peer"]["vocals"]["uSDR"]["songs"] == 3


def test_a_model_is_scored_and_timed(data: Path, small_model_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.json"
    result = run(data, "--model", small_model_folder, *FAST, "-o", output, "--device", "cpu")
    assert result.exit_code == 0, result.output
    (row,) = [line for line in result.stdout.splitlines() if line.startswith("| small")][:1]
    assert float(row.split("|")[-2]) > 0
    assert "IRM1: STFT of 256/64 at 44100 Hz." in result.stdout
    assert "small: model, weights " in result.stdout


def test_without_a_split_the_test_songs_are_scored(
    data: Path, estimates: Path, tmp_path: Path
) -> None:
    def labels(*arguments: object) -> list[str]:
        result = run(data, "-e", estimates, *FAST, "-o", tmp_path / "s.json", *arguments)
        assert result.exit_code in (0, 1)
        scores = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
        return [*(song["song"] for song in scores["songs"]), *scores["failed"]]

    assert labels() == ["test/a", "test/b", "test/c"]
    assert labels("--split", "train") == ["train/d"]
    assert labels("--split", "all") == ["test/a", "test/b", "test/c", "train/d"]
    assert labels("--include", "[ab]", "--exclude", "b") == ["test/a"]


def test_clips_of_mir_1k_get_the_metrics_of_its_papers(
    data: Path, estimates: Path, tmp_path: Path
) -> None:
    arguments = ["--dataset", "mir1k", "--baseline", "mixture", "-o", tmp_path / "s.json"]
    result = run(data, "-e", estimates, *arguments)
    assert "| vocals | SDR | uSDR | SI-SDR | GNSDR | GSIR | GSAR | s/min |" in result.stdout


@pytest.mark.parametrize("name", ["scores.md", "scores.jsonl", "scores"])
def test_scores_do_not_write_over_their_own_table(
    data: Path, estimates: Path, tmp_path: Path, name: str
) -> None:
    result = run(data, "-e", estimates, *FAST, "-o", tmp_path / name)
    assert result.exit_code == 2 and "must end in .json" in result.stderr


def test_a_text_that_is_no_table_is_not_replaced(
    data: Path, estimates: Path, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text("precious")
    result = run(data, "-e", estimates, *FAST, "-o", tmp_path / "README.json")
    assert result.exit_code == 1, result.output
    assert "is no table of scores" in str(result.exception)
    assert (tmp_path / "README.md").read_text() == "precious"


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_a_file_that_holds_no_scores_is_not_replaced(
    data: Path, estimates: Path, tmp_path: Path, suffix: str
) -> None:
    mine = tmp_path / f"mine.{suffix}"
    mine.write_text('{"precious": 1}\n')
    result = run(data, "-e", estimates, *FAST, "-o", tmp_path / "mine.json")
    assert result.exit_code == 1, result.output
    assert f"{mine}: is no " in str(result.exception)
    assert mine.read_text() == '{"precious": 1}\n'


def test_pages_are_not_written_among_what_is_scored(
    data: Path, estimates: Path, tmp_path: Path
) -> None:
    for output in (data / "scores.json", data.with_suffix(".json"), estimates / "x.json"):
        result = run(data, "-e", estimates, *FAST, "--page", "-o", output)
        assert result.exit_code == 2 and "--page would write into" in result.stderr


def test_what_cannot_be_scored_is_a_line_each_and_the_rest_is_scored(
    data: Path, estimates: Path, tmp_path: Path
) -> None:
    write(data / "test" / "b" / "vocals.wav", noise(1, 1.5))
    (data / "test" / "c" / "instrumental.wav").write_text("no sound", encoding="utf-8")
    write(data / "test" / "d" / "vocals.wav", noise(4))  # nothing but vocals
    write(data / "test" / "e" / "vocals.wav", noise(5, channels=2))
    write(data / "test" / "e" / "instrumental.wav", noise(5))
    arguments = (data, "-e", estimates, *FAST, "-o", tmp_path / "scores.json")
    result = call("evaluate", *arguments, folder=tmp_path)
    assert result.status == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("splitter:")]
    assert len(lines) == 4
    for line, song, message in zip(
        lines,
        "bcde",
        ["has 16000 samples, but vocals.wav has", "instrumental.wav", "no instr", "1 channels"],
        strict=True,
    ):
        assert line.startswith(f"splitter: test/{song}: ")
        assert message in line
    assert "4 songs could not be scored: test/b, test/c, test/d, test/e." in result.stdout
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert [song["song"] for song in scores["songs"]] == ["test/a"]


def test_a_line_for_each_song_comes_on_request(data: Path, estimates: Path, tmp_path: Path) -> None:
    result = run(data, "-e", estimates, *FAST, "-o", tmp_path / "s.json", "--per-song")
    line = result.stdout.splitlines()[0]
    assert line.startswith("test/a  peer  vocals SDR 20.00 uSDR 20.00  instrumental SDR ")
    assert len([line for line in result.stdout.splitlines() if "  peer  " in line]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "valid"], "no split 'valid'"),
        (["--include", "nobody"], "none of 4 songs is chosen"),
        (["--dataset", "ccmixter"], "no song of ccMixter"),
        (["--model", "nonesuch"], "no model is called 'nonesuch'"),
    ],
)
def test_what_is_asked_in_vain_is_said(arguments: list[str], message: str, data: Path) -> None:
    result = run(data, *arguments)
    assert isinstance(result.exception, SplitterError)
    assert message in str(result.exception)


def test_a_pattern_that_matches_no_song_is_said(
    data: Path, estimates: Path, tmp_path: Path
) -> None:
    done = call(
        *("evaluate", data, "-e", estimates, "--metric", "usdr", "--baseline", "none"),
        *("--exclude", "test/b", "--exclude", "tset/c", "-o", tmp_path / "s.json"),
        folder=tmp_path,
    )
    assert done.complaints == ["splitter: no song matches tset/c; see the names with --per-song"]
    assert "Scored: 2 songs" in done.stdout


def test_options_of_models_without_a_model_are_refused(data: Path, estimates: Path) -> None:
    result = run(data, "-e", estimates, "--tta")
    assert result.exit_code == 2
    assert "--tta and --wiener are for models" in result.output


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no such names")
def test_songs_are_scored_whose_names_are_no_utf8(
    data: Path, estimates: Path, tmp_path: Path
) -> None:
    for folder in (data / "test", estimates):
        (folder / "a").rename(folder / os.fsdecode(b"Caf\xe9"))
    result = run(data, "-e", estimates, *FAST, "-o", tmp_path / "s.json")
    assert result.exit_code == 0, result.exception
    assert "Caf?" in (tmp_path / "s.json").read_text("utf-8")


def test_an_empty_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "splitter", "evaluate", "data"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("splitter: data: not a known data set")


def test_two_systems_of_one_name_are_refused(data: Path, estimates: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "peer"
    other.mkdir(parents=True)
    result = run(data, "-e", estimates, "-e", other, *FAST, "-o", tmp_path / "s.json")
    assert result.exit_code == 2
    assert "two systems are called peer" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_is_killed_goes_on_to_the_same_bytes(jobs: int, tmp_path: Path) -> None:
    """Kill for real, without warning, in the middle; no song is scored twice."""
    for number in range(SONGS):
        for stem, seed in (("vocals", number), ("instrumental", 100 + number)):
            write(tmp_path / "data" / f"{number:02}" / f"{stem}.wav", noise(seed, 30, 2))
        write(tmp_path / "peer" / f"{number:02}" / "vocals.wav", noise(number, 30, 2))

    def start(name: str) -> subprocess.Popen[bytes]:
        options = ["-j", str(jobs), "-o", f"{name}.json", "--baseline", "IRM1"]
        return subprocess.Popen(
            [sys.executable, "-m", "splitter", "evaluate", "data", "-e", "peer", *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
        )

    def lines(name: str) -> int:
        journal = tmp_path / f"{name}.jsonl"
        return journal.read_bytes().count(b'"key"') if journal.exists() else 0

    assert start("whole").wait(600) == 0
    killed = start("killed")
    while lines("killed") < 2:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = lines("killed")
    assert done < SONGS
    assert start("killed").wait(600) == 0
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert lines("killed") == SONGS

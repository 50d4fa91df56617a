"""The line that says what is being done: in real terminals, in files, and as a function."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from splitter.cli import screen as screens
from splitter.cli.messages import format_duration, format_speed, format_time
from splitter.cli.progress import BatchProgress, Pace, watch_items
from splitter.cli.screen import Screen, State, compose
from splitter.engines.worker import Outcome
from splitter.jobs import Extent, Job
from tests import sounds
from tests.commands import Done, call
from tests.terminals import run_in_terminal

FACTS = (("103 of 240 s", "103/240 s"), ("25 × real time", "25 ×"), ("0:05 left", "0:05 left"))


def state(doing: str = "separating song.mp3") -> State:
    return State(doing, 0.43, FACTS)


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (12, "43%"),
        (19, "43%, 0:05 left"),
        (39, "43%, 103/240 s, 25 ×, 0:05 left"),
        (72, "separating song.mp3: 43%, 103 of 240 s, 25 × real time, 0:05 left"),
        (73, f"separating song.mp3: 43% |{'█' * 2:6}| 103 of 240 s, 25 × real time, 0:05 left"),
        (79, f"separating song.mp3: 43% |{'█' * 5:12}| 103 of 240 s, 25 × real time, 0:05 left"),
        (199, f"separating song.mp3: 43% |{'█' * 17:40}| 103 of 240 s, 25 × real time, 0:05 left"),
        (None, "separating song.mp3: 43%, 103 of 240 s, 25 × real time, 0:05 left"),
    ],
)
def test_a_line_says_what_fits(columns: int | None, line: str) -> None:
    assert compose(state(), columns) == line


def test_a_line_is_never_wider_than_its_terminal() -> None:
    names = (
        "s",
        "separating " + "long " * 30,
        "separating 夜に駆ける.mp3",
        "separating e\u0301\n\x1b[2J",
    )
    for doing in names:
        for shown in (state(doing), State(doing), State(doing, 1.0), State(doing, None, FACTS)):
            for columns in range(1, 210):
                line = compose(shown, columns)
                assert screens._measure(line) <= columns
                assert line.isprintable()


def test_a_name_that_is_cut_says_so() -> None:
    assert compose(State("loading a-model-of-a-long-name"), 12) == "loading a-m…"


def test_times_are_written_as_people_do() -> None:
    assert [format_time(s) for s in (0, 5.4, 65, 3600, 11525)] == [
        *("0:00", "0:05", "1:05"),
        *("1:00:00", "3:12:05"),
    ]
    durations = [format_duration(s) for s in (0.04, 9.4, 48, 90, 600, 5400, 12000)]
    assert durations == ["0.0 s", "9.4 s", "48 s", "1.5 min", "10 min", "90 min", "3.3 h"]
    assert [format_speed(s, 2) for s in (0.5, 3, 50, 500)] == ["0.2", "1.5", "25", "250"]


def test_time_left_is_told_once_it_can_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = Pace(begun=0.5)
    now = 101.0
    assert pace.left(0.6) == []  # too early, be the share ever so large
    now = 110.0
    assert pace.left(0.5001) == []  # 14 hours, by what began to run ten seconds ago
    assert pace.left(0.6) == [("0:40 left", "0:40 left")]  # a tenth took ten seconds
    assert Pace().left(0.0) == []
    assert pace.left(1.0) == [("0:00 left", "0:00 left")]
    assert pace.speed(25) == ("2.5 × real time", "2.5 ×")
    now = 220.0
    assert pace.left(0.51) == [("1:38:00 left", "1:38:00 left")]  # of very many songs


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_song_has_one_line_in_a_terminal_of_any_width(
    small_model_folder: Path, tmp_path: Path, columns: int
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.noise(44100 * 60))
    arguments = ("separate", "song.wav", "--model", small_model_folder)
    session = run_in_terminal(*arguments, folder=tmp_path, columns=columns)
    assert session.status == 0
    paths = ["song/vocals.wav", "song/instrumental.wav"]
    assert session.drawings[-2:] == paths
    assert all(len(line) < columns for line in session.drawings[:-2])
    assert session.text.count("\n") == 3  # nothing else was left on the screen
    assert session.drawings[0] == "loading"
    assert session.first("loading") < session.first("%") / 2  # most of it is PyTorch
    last = [line for line in session.drawings if "%" in line][-1]
    assert ("60/60 s" if columns == 40 else "60 of 60 s") in last or columns == 20
    assert ("×" in last and "left" in last) or columns == 20


def test_the_line_is_there_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    for name in ("numpy", "torch", "av", "soundfile"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('too early')")
    for command in (("separate", "x.wav"), ("evaluate", "."), ("train", ".", "-o", "x")):
        session = run_in_terminal(*command, folder=tmp_path, columns=80)
        assert session.drawings[0] == "loading"
        assert "too early" in session.text


def test_messages_stand_above_the_line(tmp_path: Path, small_model_folder: Path) -> None:
    songs = [sounds.write(tmp_path / f"{name}.wav", sounds.noise(44100 * 20)) for name in "ab"]
    (tmp_path / "broken.mp3").write_bytes(b"no sound")
    arguments = (*(song.name for song in songs), "broken.mp3", "--model", small_model_folder)
    arguments = (*arguments, "-o", "\x1b[2Jout")
    session = run_in_terminal("separate", *arguments, folder=tmp_path, columns=60)
    assert session.status == 1
    kept = [line for line in session.text.split("\n") if line.strip()]
    assert len(kept) == 6  # four paths, an error, a summary
    assert "\x1b[2J" not in session.text
    complaint = next(line for line in kept if "broken.mp3: " in line)
    assert complaint.rpartition("\r")[2].startswith("splitter: broken.mp3: ") or complaint.endswith(
        "\r"
    )
    assert "2 songs done, 1 failed" in session.text
    assert "of 3 songs" in session.text or "/3 songs" in session.text


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a log file get a line at every occasion."""
    monkeypatch.setattr(screens, "LINE_EVERY", 0.0)


def test_a_log_file_gets_lines_and_no_bars(
    log_lines: None, separate: Callable[..., Done], tmp_path: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.noise(44100 * 30))
    done = separate("song.wav")
    assert "\r" not in done.stderr and "█" not in done.stderr
    assert done.complaints[0] == "loading"
    assert done.complaints[-1].startswith("separating song.wav: 100%, 30 of 30 s, ")
    assert "separating song.wav" not in separate("song.wav", "--overwrite", "-q").stderr


def test_a_short_run_leaves_a_log_file_alone(separate: Callable[..., Done], tmp_path: Path) -> None:
    sounds.write(tmp_path / "song.wav", sounds.noise(44100))
    assert separate("song.wav").stderr == ""


def test_a_folder_says_how_many_songs_are_done(
    log_lines: None, separate: Callable[..., Done], tmp_path: Path
) -> None:
    for index in range(3):
        sounds.write(tmp_path / "songs" / f"{index}.wav", sounds.noise(44100, seed=index))
    done = separate("songs", "-o", "out")
    at_work = re.compile(r": [1-9]\d*%, 0 of 3 songs, ")  # songs at work count by their shares
    assert any(map(at_work.search, done.complaints)), done.complaints
    assert any(", 2 of 3 songs, " in line for line in done.complaints)
    assert any(": 100%, 3 of 3 songs, " in line for line in done.complaints)
    assert done.complaints[-1].startswith("3 songs done: 3.0 s of sound in ")
    assert done.complaints[-1].endswith(" × real time")


def test_a_cluster_says_how_many_songs_are_done(
    log_lines: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody watches songs there: only their ends are known here, and workers start for long."""
    times = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: times[-1])
    jobs = [Job(Path(f"{index}.wav"), {}, size=100) for index in range(4)]
    extent = Extent()
    progress = BatchProgress(Screen(), extent)
    progress.count(Outcome(jobs[0], error="broken"))  # before anyone knows how many there are
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("separating songs: 1 song, 1 failed, 0.0 × real time")
    progress = BatchProgress(Screen(), extent)
    for job in jobs:
        extent.add(job)
    extent.end()
    for job, now in zip(jobs[:3], (160.0, 165.0, 170.0), strict=True):
        times.append(now)
        progress.count(Outcome(job, error="broken"))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("75%, 3 of 4 songs, 3 failed, 0.0 × real time, 0:05 left")


def test_scoring_says_how_many_songs_are_done(log_lines: None, data: Path, tmp_path: Path) -> None:
    arguments = (data / "pairs", "--estimates", data / "pairs", "--baseline", "none")
    done = call("evaluate", *arguments, "--metric", "usdr", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert "scoring: 100%, 1 of 1 songs, 0:00 left" in done.complaints


def test_training_says_how_far_it_is(log_lines: None, data: Path, tmp_path: Path) -> None:
    recipe = {"sizes": sounds.SMALL_SIZES, "crop": 8192, "batch": 2, "steps": 2}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    arguments = ("train", data, "-o", "mine", "--recipe", "recipe.json")
    done = call(*arguments, folder=tmp_path)
    assert done.status == 0, done.stderr
    assert any(line.startswith("decoding: 100%, ") for line in done.complaints)
    assert any(line.startswith("training mine.run: 0%") for line in done.complaints)
    assert any("step 2 of 2, " in line for line in done.complaints)


def test_what_was_there_before_tells_nothing_of_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 1,000 songs 600 are in the journal; the others take a minute each."""
    now = 0.0
    monkeypatch.setattr("splitter.cli.progress.time.monotonic", lambda: now)
    shown: list[str] = []

    class Kept(Screen):
        def show(self, state: State) -> None:
            shown.append(" ".join(long for long, _ in state.facts))

    def score() -> Iterator[int]:
        nonlocal now
        for number in range(1000):
            now += 60 if number >= 600 else 0
            yield number

    for number in watch_items(Kept("none"), score(), "scoring", 1000, "songs"):
        if number == 610:
            break
    assert shown[-1] == "610 of 1000 songs 6:30:00 left"

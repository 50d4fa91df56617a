"""splitter as a library: what those who embed it call."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import splitter
from splitter.errors import AudioError, SplitterError
from splitter.loading import Model
from splitter.runtime.computing import Computing
from tests import sounds
from tests.commands import ENVIRONMENT


def test_the_package_shows_what_it_has_and_imports_it_when_it_is_asked_for() -> None:
    assert dir(splitter) == sorted(splitter.__all__)
    assert all(callable(getattr(splitter, name)) for name in splitter.__all__ if name[0] != "_")
    with pytest.raises(AttributeError, match="nosuch"):
        _ = splitter.nosuch
    program = (
        "import splitter, sys; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, check=True)


def test_samples_before_channels_are_told_with_the_remedy(small_model: Model) -> None:
    with pytest.raises(SplitterError, match=r"\(44100, 2\) looks like .* pass signal\.T"):
        splitter.separate(np.zeros((44100, 2), np.float32), 44100, small_model)


@pytest.mark.parametrize(
    ("kind", "full", "middle"),
    [("int16", 32768, 0), ("int32", 2**31, 0), ("uint8", 128, 128), ("float64", 1, 0)],
)
def test_samples_of_any_type_are_taken_at_their_scale(
    small_model: Model, kind: str, full: float, middle: float
) -> None:
    song = np.round(sounds.noise(5000) * 100) / 128  # that each type holds exactly
    expected = splitter.separate(song.astype(np.float32), 44100, small_model)
    given = (song.astype(np.float64) * full + middle).astype(kind)
    stems = splitter.separate(given, 44100, small_model)
    for name, stem in stems.items():
        assert stem.dtype == np.float32
        np.testing.assert_array_equal(stem, expected[name])


def test_what_is_no_sound_is_told(small_model: Model) -> None:
    for signal, rate in ((np.zeros((2, 2, 2)), 44100), (np.zeros(5), 0), (np.zeros(5, bool), 8000)):
        with pytest.raises(SplitterError, match=r"a signal is|a rate is"):
            splitter.separate(signal, rate, small_model)


@pytest.mark.parametrize(
    "rate", [math.nan, math.inf, 1, True, 999, -44100, "44100", None, np.zeros((99, 2))]
)
def test_what_is_no_rate_is_told(rate: Any, small_model: Model) -> None:
    with pytest.raises(SplitterError, match=r"Hz from 1000 to 768000, not .{1,30}$") as error:
        splitter.separate(np.zeros((2, 100), np.float32), rate, small_model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"signal": [[0.1], [0.2, 0.3]]}, "an array of numbers"),
        ({"signal": torch.zeros(2, 9, requires_grad=True)}, "an array of numbers"),
        ({"model": ["unet"]}, "not a list"),
        ({"model": "x" * 300}, "no model is called"),
        ({"model": "/tmp/" + "x" * 300}, "there is no such folder"),
    ],
)
def test_what_cannot_be_separated_is_told(
    given: dict[str, Any], message: str, small_model: Model
) -> None:
    signal, model = given.get("signal", np.zeros((2, 100))), given.get("model", small_model)
    with pytest.raises(SplitterError, match=message):
        splitter.separate(signal, 44100, model)


def test_what_is_no_model_is_told_before_a_file_is_written(tmp_path: Path) -> None:
    song, model = sounds.write(tmp_path / "song.wav", sounds.noise(500)), None
    with pytest.raises(SplitterError, match="what load_model returns, not a NoneType"):
        splitter.separate_file(song, tmp_path / "out", model)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("processors", [-1, 2.5])
def test_processors_are_counted_in_whole_numbers(processors: Any) -> None:
    with pytest.raises(SplitterError, match="must be a whole number from 0"):
        splitter.load_model("unet-fast", processors=processors)


def test_the_first_processor_is_the_processor(small_model_folder: Path) -> None:
    assert type(splitter.load_model(small_model_folder, "cpu:0")) is type(
        splitter.load_model(small_model_folder, "cpu")
    )


def test_a_model_that_pytorch_runs_keeps_the_precision_it_was_loaded_for(
    small_model_folder: Path,
) -> None:
    choice = splitter.ModelChoice((str(small_model_folder),), wiener=1)
    song = sounds.noise(3000)
    exact = splitter.separate(
        song, 44100, splitter.load_model(choice), Computing(precision="float32")
    )
    kept = splitter.separate(song, 44100, splitter.load_model(choice, precision="float32"))
    np.testing.assert_array_equal(kept["vocals"], exact["vocals"])


def test_a_model_of_a_relative_path_may_be_passed_on_from_elsewhere(
    small_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_model_folder.parent)
    model = splitter.load_model(f"./{small_model_folder.name}")
    monkeypatch.chdir(tmp_path)
    song = sounds.noise(3000)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        splitter.separate(song, 44100, again)["vocals"],
        splitter.separate(song, 44100, model)["vocals"],
    )


def test_what_is_no_number_stays_in_the_residual_and_spoils_nothing_else(
    small_model: Model,
) -> None:
    song = sounds.noise(5000)
    song[0, 100] = np.nan
    stems = splitter.separate(song, 44100, small_model)
    assert np.isfinite(stems["vocals"]).all()
    assert np.argwhere(~np.isfinite(stems["instrumental"])).tolist() == [[0, 100]]


def test_one_sample_of_garbage_leaves_all_others_numbers(small_model: Model) -> None:
    song = sounds.noise(5000)
    song[0, 100] = 1e35
    stems = splitter.separate(song, 44100, small_model)
    assert np.isfinite(stems["vocals"]).all()
    assert np.abs(stems["vocals"]).max() < 1e7


def test_a_file_is_replaced_only_when_that_is_asked_for(small_model: Model, tmp_path: Path) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.noise(5000))
    output = splitter.Output(tmp_path / "out")
    done = splitter.separate_file(song, output, small_model)
    before = done.stems["vocals"].stat()
    with pytest.raises(AudioError, match=r"vocals\.wav: exists already"):
        splitter.separate_file(song, output, small_model)
    assert done.stems["vocals"].stat() == before
    again = splitter.Output(tmp_path / "out", overwrite=True)
    splitter.separate_file(song, again, small_model)


def test_progress_tells_seconds_done_and_in_all(small_model: Model, tmp_path: Path) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.noise(3 * 44100))
    told: list[tuple[float, float | None]] = []
    splitter.separate_file(
        song, splitter.Output(tmp_path / "out"), small_model, progress=lambda *now: told.append(now)
    )
    assert told == sorted(told) and told[-1] == (3.0, 3.0)


def test_stems_come_as_a_stream_that_sums_to_the_song(small_model: Model, tmp_path: Path) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.noise(100_000), subtype="FLOAT")
    with splitter.open_stems(song, small_model) as stems:
        assert (stems.rate, stems.channels, stems.samples) == (44100, 2, 100_000)
        blocks = list(stems)
    total = np.concatenate([block["vocals"] + block["instrumental"] for block in blocks], axis=-1)
    np.testing.assert_allclose(total, sounds.read(song), atol=1e-6)  # float32
    with song.open("rb") as file, splitter.open_stems(file, small_model) as stems:
        first = next(iter(stems))  # and no more is wanted
    np.testing.assert_array_equal(first["vocals"], blocks[0]["vocals"])


@pytest.mark.parametrize("begun", [True, False])
def test_stems_of_a_song_that_is_closed_are_an_error(
    small_model: Model, tmp_path: Path, begun: bool
) -> None:
    """Whoever returns the stream from within the with-block must learn it; a decoder crashed."""
    song = sounds.write(tmp_path / "song.wav", sounds.noise(200_000))
    with splitter.open_stems(song, small_model, Computing(core=1 << 14)) as stems:
        if begun:
            next(iter(stems))
    with pytest.raises(SplitterError, match=r"song\.wav: is closed; .* in the with-block"):
        list(stems)


def test_songs_are_separated_beside_a_running_event_loop(
    small_model: Model, tmp_path: Path
) -> None:
    songs = [sounds.write(tmp_path / f"{n}.wav", sounds.noise(50_000, seed=n)) for n in range(3)]
    output = splitter.Output(tmp_path / "out")

    async def separate_all() -> list[int]:
        tasks = [asyncio.to_thread(splitter.separate_file, s, output, small_model) for s in songs]
        return [done.samples for done in await asyncio.gather(*tasks)]

    assert asyncio.run(separate_all()) == [50_000] * 3


def measure_vocals(song: np.ndarray, model: Model | str) -> float:
    return float(np.abs(splitter.separate(song, 44100, model)["vocals"]).sum())


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (splitter.Output(stems="vocal"), "no stem 'vocal'; it has vocals, instrumental"),
        (splitter.Output(template="{name}.{ext}"), r"gives all stems one name; add \{stem\}"),
        (splitter.Output(template="{song}.{ext}"), r"there is no field \{song\}"),
        (splitter.Output(template="{stem}.mp3"), r"ends in \.mp3, but stems are wav; .*\{ext\}"),
    ],
)
def test_what_a_model_lacks_or_a_template_cannot_name_is_told_first(
    output: splitter.Output, told: str, tmp_path: Path
) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.noise(5000))
    with pytest.raises(SplitterError, match=told):
        splitter.separate_file(song, replace(output, folder=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_path_is_never_the_name_of_a_shipped_model(
    small_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_model_folder, "unet")
    shutil.copytree(small_model_folder, "mine:2")
    small = splitter.load_model(small_model_folder).hash
    assert splitter.load_model(Path("unet")).hash == small
    assert splitter.load_model("./unet").hash == small
    assert splitter.load_model("unet").hash != small
    assert splitter.ModelChoice.parse("mine:2,unet:3").names == ("mine:2", "unet")
    song = sounds.write(tmp_path / "song.wav", sounds.noise(5000))
    done = splitter.separate_file(song, splitter.Output("out", "vocals"), Path("unet"))
    assert (done.model_hash, list(done.stems)) == (small, ["vocals"])


def test_devices_and_precisions_that_there_are_not_are_told(small_model_folder: Path) -> None:
    with pytest.raises(SplitterError, match="no device is called 'bogus'"):
        splitter.load_model(small_model_folder, "bogus")
    with pytest.raises(SplitterError, match="no precision is called 'fp32'; use auto or float32"):
        splitter.load_model(small_model_folder, precision="fp32")
    with pytest.raises(SplitterError, match="no precision is called 'fp32'"):
        splitter.separate(sounds.noise(500), 44100, computing=Computing(precision="fp32"))


def test_a_folder_may_be_named_by_a_text(small_model: Model, tmp_path: Path) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.noise(5000))
    text: Any = str(tmp_path / "out")
    done = splitter.separate_file(song, splitter.Output(text), small_model)
    assert done.stems["vocals"] == tmp_path / "out/song/vocals.wav"


@pytest.mark.parametrize("url", ["s3://bucket/a", "https://example.org/a.mp3"])
def test_a_url_is_not_taken_for_a_path(
    small_model: Model, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sounds.write(tmp_path / "song.wav", sounds.noise(5000))
    place: Any = url
    for use in (
        lambda: splitter.Output(place),
        lambda: splitter.separate_file("song.wav", url, small_model),
        lambda: splitter.separate_file(url, "out", small_model),
        lambda: splitter.open_stems(url, small_model).__enter__(),
    ):
        with pytest.raises(SplitterError, match=f"^{url}: is a URL, no place here"):
            use()
    assert [path.name for path in tmp_path.iterdir()] == ["song.wav"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("load_model", ["splitter.load_model", "splitter.loading.load_model"])
def test_a_forked_child_of_a_process_that_has_separated_works(
    small_model_folder: Path, load_model: str
) -> None:
    """As with gunicorn --preload; in a process of its own, that no other test's threads disturb."""
    program = f"""
import multiprocessing, torch
from tests.test_api import measure_vocals
from tests import sounds
import splitter.loading
torch.set_num_threads(2)
model = {load_model}({str(small_model_folder)!r})
song = sounds.noise(44100)
before = measure_vocals(song, model)
with multiprocessing.get_context("fork").Pool(2) as pool:
    results = [pool.apply_async(measure_vocals, (song, model)) for _ in range(3)]
    assert all(abs(result.get(60) - before) < 1e-3 * before for result in results)
"""
    subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, check=True, timeout=150)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_of_a_process_that_has_only_loaded_works(small_model_folder: Path) -> None:
    program = f"""
import os, signal, sys, torch
from tests.test_api import measure_vocals
from tests import sounds
import splitter.loading
torch.set_num_threads(2)
model = splitter.loading.load_model({str(small_model_folder)!r})
torch.ones(1 << 22).isfinite().all()  # as for the weights of a larger model
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.alarm(60)
measure_vocals(sounds.noise(44100), model)
"""
    subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, check=True, timeout=150)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_may_leave_a_song_that_is_half_done(small_model_folder: Path) -> None:
    program = f"""
import gc, os, sys
from tests import sounds
import splitter
model = splitter.load_model({str(small_model_folder)!r}, precision="float32")
from splitter.separation import separate_blocks
stream = separate_blocks([sounds.noise(44100)] * 40, 44100, 2, model)
next(stream)
child = os.fork()
del stream
gc.collect()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, check=True, timeout=60)


def test_a_spawned_child_works(small_model: Model, small_model_folder: Path) -> None:
    song = sounds.noise(5000)
    passed = splitter.load_model(str(small_model_folder))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = [
            pool.apply_async(measure_vocals, (song, model)).get(120)
            for model in (str(small_model_folder), passed)
        ]
    assert there == pytest.approx([measure_vocals(song, small_model)] * 2, rel=1e-3)


def test_a_folder_alone_and_the_name_of_a_format_will_do(
    tmp_path: Path, small_model: Model
) -> None:
    song = sounds.write(tmp_path / "s.wav", sounds.song(0.2))
    done = splitter.separate_file(song, str(tmp_path / "stems"), small_model)
    assert done.stems["vocals"] == tmp_path / "stems/s/vocals.wav"
    output = splitter.Output(tmp_path / "more", format="flac")  # type: ignore[arg-type]
    done = splitter.separate_file(song, output, small_model)
    assert done.stems["vocals"] == tmp_path / "more/s/vocals.flac"

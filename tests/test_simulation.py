from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from splitter.audio import Block
from splitter.training.simulation import simulate_music, simulate_voice
from splitter.training.sources import find_sources

RATE = 16000
SCRIPTS = Path(__file__).parents[1] / "scripts"
SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")


@pytest.mark.parametrize(("simulate", "channels"), [(simulate_voice, 1), (simulate_music, 2)])
def test_a_seed_decides_what_is_played(
    simulate: Callable[[float, int, np.random.Generator], Block], channels: int
) -> None:
    first, again, other = (simulate(3, RATE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (channels, 3 * RATE)
    assert 0.3 <= np.abs(first).max() <= 0.9
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_a_voice_sings_notes_of_a_human_range_and_pauses() -> None:
    voice = simulate_voice(20, RATE, np.random.default_rng(3))[0]
    level = librosa.feature.rms(y=voice)[0]
    assert 0.03 < np.mean(level < 0.01 * level.max()) < 0.8
    pitch, voiced, _ = librosa.pyin(voice, fmin=60, fmax=1200, sr=RATE)
    assert voiced.mean() > 0.2
    assert 90 < np.nanmin(pitch) < np.nanmax(pitch) < 1100
    assert len(np.unique(np.round(12 * np.log2(pitch[voiced] / 100)))) >= 3  # a melody


def test_music_is_stereo_and_never_stops() -> None:
    music = simulate_music(10, RATE, np.random.default_rng(4))
    assert np.abs(music[0] - music[1]).max() > 0.01
    seconds = np.square(music).reshape(2, 10, RATE).mean((0, 2))
    assert seconds.min() > 0.01 * seconds.max()


def test_the_script_writes_a_folder_to_train_on(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "simulate.py"), str(tmp_path)]
    subprocess.run(
        [*command, "--minutes", "0.5", "--rate", "8000"], check=True, capture_output=True
    )
    sources = find_sources(tmp_path)
    assert sorted((bool(s.vocals), bool(s.instrumental)) for s in sources) == [
        (False, True),
        (True, False),
    ]


@pytest.mark.skipif(
    not (shutil.which("fluidsynth") and SOUNDFONT.exists()), reason="needs FluidSynth, a SoundFont"
)
def test_composed_music_is_played_the_same_for_the_same_seed(tmp_path: Path) -> None:
    pytest.importorskip("pretty_midi")
    for run in ("first", "again"):
        command = [sys.executable, str(SCRIPTS / "compose.py"), str(tmp_path / run)]
        subprocess.run([*command, "--minutes", "1"], check=True, capture_output=True)
    pieces = sorted((tmp_path / "first").rglob("*.flac"))
    assert len(pieces) == 2
    for piece in pieces:
        sound, rate = soundfile.read(piece)
        assert rate == 44100 and sound.shape == (30 * rate, 2)
        assert np.abs(sound).max() == pytest.approx(0.7, abs=1e-3)
        again, _ = soundfile.read(tmp_path / "again" / piece.relative_to(tmp_path / "first"))
        np.testing.assert_array_equal(sound, again)
    assert all(s.instrumental and not s.vocals for s in find_sources(tmp_path / "first"))


def test_a_moment_of_song_has_a_note() -> None:
    for seed in range(20):
        sung = simulate_voice(0.5, 16000, np.random.default_rng(seed))
        assert sung.shape[-1] == 8000 and np.isfinite(sung).all()

"""The scripts in examples/ do what they say."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import mutagen
import numpy as np
import pytest
import soundfile

from tests import sounds
from tests.commands import ENVIRONMENT, ROOT, files_below

EXAMPLES = ROOT / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_voice_for_speech_recognition_is_16_khz_mono(
    tmp_path: Path, small_model_folder: Path
) -> None:
    song = sounds.write(tmp_path / "song.flac", sounds.song(3))
    target = tmp_path / "voice.wav"
    load("whisper_input").write_voice(song, target, str(small_model_folder))
    told = soundfile.info(target)
    assert (told.samplerate, told.channels, told.subtype) == (16000, 1, "PCM_16")
    assert told.frames == pytest.approx(3 * 16000, abs=1)
    assert np.abs(sounds.read(target)).max() > 0.01


def test_a_dj_folder_is_kept_by_artist_and_title(tmp_path: Path, small_model_folder: Path) -> None:
    song = sounds.write(tmp_path / "Music/crate/01.mp3", sounds.song(1))
    tags = mutagen.File(song, easy=True)
    tags["artist"], tags["title"] = "Singer", "Tune"
    tags.save()
    command = tmp_path / "splitter"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m splitter "$@"\n')
    command.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    script = [EXAMPLES / "dj_folder.sh", "Music", "Stems", "--model", small_model_folder]
    environment = {**ENVIRONMENT, "PATH": path}
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stems = [path.name for path in files_below(tmp_path / "Stems") if path.suffix == ".mp3"]
    assert stems == ["Singer - Tune (instrumental).mp3", "Singer - Tune (vocals).mp3"]


@contextmanager
def serving(model: Path) -> Iterator[str]:
    server = load("web_worker").make_server(0, str(model))
    server.RequestHandlerClass.func.log_message = lambda *_: None  # it would write to stderr
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_web_worker_answers_a_song_with_its_stem_and_the_rest_with_a_reason(
    tmp_path: Path, small_model_folder: Path
) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.song(1)).read_bytes()
    with serving(small_model_folder) as address:
        stems = {}
        for stem in ("vocals", "instrumental"):
            with urllib.request.urlopen(f"{address}/?stem={stem}", data=song) as answer:
                stems[stem] = soundfile.read(io.BytesIO(answer.read()), dtype="int16")[0]
        mix = soundfile.read(io.BytesIO(song), dtype="int16")[0]
        np.testing.assert_array_equal(sum(stems.values()), mix)
        for query, body, status in (("", b"no song", 422), ("?stem=drums", song, 400)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{address}/{query}", data=body)
            assert refused.value.code == status
            refused.value.close()

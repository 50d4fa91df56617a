"""The real command with a model of each family: folders, resume, pipes, 5.1, 96 kHz and JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from splitter.registry import CONFIG, read_config
from splitter.weights.adding import add_model
from tests import sounds
from tests.commands import call
from tests.foreign import checkpoint_files

FAMILIES = (
    "bs-roformer",
    "htdemucs",
    "wave-demucs",
    "openunmix",
    "spleeter-5stems",
    "mdx23c",
    "mdx-net",
    "vr",
)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_does_all_that_a_model_does(name: str, tmp_path: Path) -> None:
    model = add_model(tmp_path / "models" / name, checkpoint_files(name))
    config = read_config(model / CONFIG)
    sounds.write(tmp_path / "songs/wide.wav", sounds.noise(20000, 6), 96000)
    song = sounds.write(tmp_path / "songs/deep/narrow.wav", sounds.song(0.5, 8000)[:1], 8000)

    command = ("separate", "-r", "songs", "-o", "out", "-m", model, "--json")
    done = call(*command, folder=tmp_path)
    assert done.status == 0, done.stderr
    for record in map(json.loads, done.stdout.splitlines()):
        whole = sounds.read(tmp_path / record["song"])
        stems = [sounds.read(Path(tmp_path / stem["path"])) for stem in record["stems"].values()]
        assert tuple(record["stems"]) == config.all_stems
        assert {stem.shape for stem in stems} == {whole.shape}
        assert record["model"]["name"] == name
        # 16 bits: exact, unless a stem of random weights is beyond full scale
        if not any(stem["clipped"] for stem in record["stems"].values()):
            assert np.abs(sum(stems) - whole).max() < 1e-6
    assert len(done.stdout.splitlines()) == 2

    again = call(*command, folder=tmp_path)
    assert again.status == 0
    assert [json.loads(line)["skipped"] for line in again.stdout.splitlines()] == [True, True]

    pick = ("--stems", "no_vocals" if "vocals" in config.stems else config.stems[0])
    options = ("-o", "-", "-m", model, *pick, "--format", "wav", "--bits", "32")
    piped = call("separate", "-", *options, folder=tmp_path, stdin=song.read_bytes())
    assert piped.status == 0, piped.stderr
    sound, rate = soundfile.read(io.BytesIO(piped.sound), always_2d=True)
    assert (rate, len(sound)) == (8000, 4000)

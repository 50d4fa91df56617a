"""The scripts in examples/ do what they say."""

from __future__ import annotations

import importlib.util
import io
import json
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
from typing import Any

import jsonschema
import mutagen
import numpy as np
import pytest
import soundfile
import yaml

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


def only(needed: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """The schema of an object that has these fields, and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(needed),
        "additionalProperties": False,
    }


def many(**item: Any) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": item}


TEXT, NUMBER = {"type": "string"}, {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": TEXT}
CONTAINER = only(
    ("name", "image"), name=TEXT, image=TEXT, resources=only(requests=TEXTS, limits=TEXTS)
)
POD = only(
    ("spec",),
    spec=only(("containers",), containers=many(**CONTAINER), terminationGracePeriodSeconds=NUMBER),
)
RAY_JOB = only(  # what we use of a RayJob, ray.io/v1
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=only(("name",), name=TEXT),
    spec=only(
        ("entrypoint", "rayClusterSpec"),
        entrypoint=TEXT,
        shutdownAfterJobFinishes={"type": "boolean"},
        ttlSecondsAfterFinished=NUMBER,
        backoffLimit=NUMBER,
        rayClusterSpec=only(
            ("headGroupSpec", "workerGroupSpecs"),
            headGroupSpec=only(("template", "rayStartParams"), rayStartParams=TEXTS, template=POD),
            workerGroupSpecs=many(
                **only(
                    ("groupName", "replicas", "minReplicas", "maxReplicas", "template"),
                    groupName=TEXT,
                    replicas=NUMBER,
                    minReplicas=NUMBER,
                    maxReplicas=NUMBER,
                    rayStartParams=TEXTS,
                    template=POD,
                )
            ),
        ),
    ),
)


def read_yaml(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))


def test_the_manifest_for_kubernetes_is_a_ray_job() -> None:
    manifest = read_yaml("kuberay.yaml")
    jsonschema.validate(manifest, RAY_JOB)
    check_command(manifest["spec"]["entrypoint"])


def test_the_cluster_file_is_one_that_ray_takes() -> None:
    ray = pytest.importorskip("ray")
    schema = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    jsonschema.validate(read_yaml("ray_aws.yaml"), json.loads(schema.read_text(encoding="utf-8")))
    lines = (EXAMPLES / "ray_aws.yaml").read_text(encoding="utf-8").splitlines()
    (command,) = (line for line in lines if "ray exec" in line)
    check_command(command.split("'")[1])


def check_command(line: str) -> None:
    """Have the command's own parser take a line."""
    from splitter.cli.separate import separate

    program, name, *arguments = line.split()
    assert (program, name) == ("splitter", "separate")
    pytest.importorskip("upath")
    separate.make_context(name, [word.replace("s3://", "memory://") for word in arguments])

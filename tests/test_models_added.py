"""Models that `splitter models` adds, used by the real commands."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from splitter.cli.models import suggest_name
from splitter.errors import ModelError
from splitter.registry import hash_model
from splitter.weights.adding import add_model
from splitter.weights.checkpoint import hash_file, hash_tail, read_checkpoint
from tests import sounds
from tests.commands import ENVIRONMENT, call, files_below
from tests.foreign import REFERENCES, checkpoint_files


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "splitter" / "models"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint with its yaml."""
    for file in (REFERENCES / "bs-roformer").glob("model.*"):
        shutil.copy(file, tmp_path)
    return tmp_path / "model.ckpt"


def test_a_checkpoint_is_added_listed_shown_used_and_removed(
    checkpoint: Path, tmp_path: Path, cache: Path
) -> None:
    done = call("models", "add", checkpoint, "--name", "bs", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert "vocals, instrumental" in done.stdout
    assert any(
        line.startswith("bs ") for line in call("models", folder=tmp_path).stdout.split("\n")
    )
    shown = call("models", "show", "bs", folder=tmp_path).stdout
    assert "unknown: ask its author" in shown
    assert "SHA-256" in shown
    sounds.write(tmp_path / "a.wav", sounds.song(3))
    done = call("separate", "a.wav", "-m", "bs", "--json", folder=tmp_path)
    assert done.status == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["model"]["name"] == "bs"
    stems = [sounds.read(tmp_path / "a" / f"{stem}.wav") for stem in record["stems"]]
    assert np.array_equal(sum(stems), sounds.read(tmp_path / "a.wav"))
    assert call("models", "remove", "bs", folder=tmp_path).status == 0
    assert not files_below(cache)
    assert call("models", "remove", "bs", folder=tmp_path).status == 2


def test_a_model_is_not_replaced_and_a_shipped_name_is_not_taken(
    checkpoint: Path, tmp_path: Path
) -> None:
    assert call("models", "add", checkpoint, "--name", "bs", folder=tmp_path).status == 0
    again = call("models", "add", checkpoint, "--name", "bs", folder=tmp_path)
    assert again.status == 2
    assert "exists already" in again.stderr
    for name in ("unet", "../x", ".x", "", "-x", "a.", "con", "NUL.x", "a b", "a,b"):
        done = call("models", "add", checkpoint, f"--name={name}", folder=tmp_path)
        assert done.status == 2
        assert "; give another with --name" in done.stderr


def test_a_file_whose_name_is_no_models_is_given_another(checkpoint: Path, tmp_path: Path) -> None:
    path = checkpoint.rename(tmp_path / "Kim Vocal (1).ckpt")
    done = call("models", "add", path, folder=tmp_path)
    assert "'Kim Vocal (1)' cannot be the name of a model" in done.stderr
    assert "--name '" not in done.stderr


class Evil:
    """What runs a command when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_file_is_not_run(legacy: bool, tmp_path: Path, cache: Path) -> None:
    content = {"weight": torch.zeros(3), "code": Evil()}
    torch.save(content, tmp_path / "evil.ckpt", _use_new_zipfile_serialization=not legacy)
    done = call("models", "add", "evil.ckpt", folder=tmp_path)
    assert done.status == 2
    assert len(done.complaints) == 1
    assert "it was not run" in done.stderr
    assert not (tmp_path / "harmed").exists()
    assert not files_below(cache)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\3\4 no archive",
        pickle.dumps({"a": 1}),
        pickle.dumps(Evil()),
        b"\x08\0\0\0\0\0\0\0{}      ",
        b"\xff" * 4096,
    ],
)
def test_what_is_no_checkpoint_gets_one_line(content: bytes, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(content)
    done = call("models", "add", "model.ckpt", folder=tmp_path)
    assert done.status == 2
    assert len(done.complaints) == 1
    assert "model.ckpt" in done.stderr
    assert not files_below(cache)


def test_a_tensor_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1).expand(1 << 20, 1 << 20)}, tmp_path / "model.ckpt")
    done = call("models", "add", "model.ckpt", folder=tmp_path)
    assert "larger than the file" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("dim: 8", "dim: 12", "width 8.*12"),
        ("depth: 2", "depth: 3", "depth 2.*3"),
        ("  target_instrument: Vocals", "  target_instrument: null", "1 stems.*vocals, instr"),
        ("stft_hop_length: 512", "other: 1", "stft_hop_length"),
        ("sample_rate: 44100", "sample_rate: 1.0e+9", "rate is 1000000000.0; it must be a whole"),
        (
            "- Instrumental",
            "- ../../x",
            "residual is '../../x'; it must be text that can be a file",
        ),
        ("audio:", "audio: !!python/object/apply:os.system [ls]\nx:", "cannot be read as yaml"),
    ],
)
def test_a_contradiction_names_both(
    old: str, new: str, said: str, checkpoint: Path, tmp_path: Path
) -> None:
    config = tmp_path / "model.yaml"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new, 1))
    done = call("models", "add", checkpoint, "--name", "bs", folder=tmp_path)
    assert done.status == 2
    assert len(done.complaints) == 1

    assert re.search(said, done.stderr), done.stderr


def test_a_family_that_is_insisted_on_must_be_it(checkpoint: Path, tmp_path: Path) -> None:
    done = call("models", "add", checkpoint, "--as", "demucs", folder=tmp_path)
    assert "those of roformer, not of demucs" in done.stderr


def test_stems_are_found_by_the_names_of_other_programs(checkpoint: Path, tmp_path: Path) -> None:
    call("models", "add", checkpoint, "--name", "bs", folder=tmp_path)
    sounds.write(tmp_path / "a.wav", sounds.song(1))
    done = call("separate", "a.wav", "-m", "bs", "--stems", "accompaniment", folder=tmp_path)
    assert done.stdout.split() == ["a/instrumental.wav"]


def test_the_overlap_of_tiles_can_be_changed(checkpoint: Path, tmp_path: Path) -> None:
    call("models", "add", checkpoint, "--name", "bs", folder=tmp_path)
    sounds.write(tmp_path / "songs/a.wav", sounds.song(5))  # longer than a tile
    vocals = []
    for overlap in ([], ["--overlap", "0"]):
        command = ("separate", "songs", "-m", "bs", "--overwrite", *overlap)
        done = call(*command, folder=tmp_path)
        assert done.status == 0, done.stderr
        vocals.append(sounds.read(tmp_path / "a" / "vocals.wav"))
    assert np.abs(vocals[0] - vocals[1]).max() > 1e-4


def test_the_seam_of_tiles_is_measured_and_stands_in_the_card(
    checkpoint: Path, tmp_path: Path
) -> None:
    call("models", "add", checkpoint, "--name", "bs", folder=tmp_path)
    sounds.write(tmp_path / "a.wav", sounds.song(4))
    for _ in range(2):
        done = call("models", "seam", "bs", "a.wav", folder=tmp_path)
        assert done.status == 0, done.stderr
    assert re.fullmatch(r"Seam: tiles differ from 4 s of song .* by −\d+ dB\n", done.stdout)
    assert call("models", "show", "bs", folder=tmp_path).stdout.count(done.stdout) == 1
    sounds.write(tmp_path / "short.wav", sounds.song(1))
    short = call("models", "seam", "bs", "short.wav", folder=tmp_path)
    assert short.status == 2
    assert "shorter than a tile (2.0 s)" in short.stderr
    assert "are exact" in call("models", "seam", "unet", "a.wav", folder=tmp_path).stdout


def test_a_table_of_many_models_is_asked_by_the_end_of_the_file(tmp_path: Path) -> None:
    file = REFERENCES / "mdx-net" / "model.onnx"
    shutil.copy(file, tmp_path)  # without its json
    assert "mdx_n_fft_scale_set" in call("models", "add", "model.onnx", folder=tmp_path).stderr
    entry = json.loads((file.parent / "model.json").read_text())
    table = {"0" * 32: {"primary_stem": "Drums"}, hash_tail(file): entry}
    (tmp_path / "table.json").write_text(json.dumps(table))
    done = call("models", "add", "model.onnx", "--config", "table.json", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert "vocals, instrumental" in done.stdout


def test_demucs_is_the_same_from_safetensors(tmp_path: Path, cache: Path) -> None:
    (file,) = (REFERENCES / "htdemucs").glob("*.th")
    checkpoint = read_checkpoint(file)
    facts = {"sources": checkpoint.fact("args")[0], **checkpoint.fact("kwargs")}
    segment = facts["segment"]
    facts["segment"] = {
        "_type": "fraction", "numerator": segment.numerator, "denominator": segment.denominator,
    }  # fmt: skip
    metadata = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": json.dumps(facts)}
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    save_file(tensors, tmp_path / "new.safetensors", metadata)
    for path in (file, tmp_path / "new.safetensors"):
        done = call("models", "add", path, "--name", path.suffix[1:], folder=tmp_path)
        assert done.status == 0, done.stderr
    hashes = {hash_model(cache / name) for name in ("th", "safetensors")}
    assert len(hashes) == 1


def test_a_folder_of_tensorflow_is_added_from_inside_and_with_others_beside_it(
    tmp_path: Path, cache: Path
) -> None:
    folder = Path(shutil.copytree(REFERENCES / "spleeter-2stems", tmp_path / "2stems"))
    (folder / "export").mkdir()
    config = ("--config", folder / "model.json")
    done = call("models", "add", ".", "--name", "inside", *config, folder=folder)
    assert done.status == 0, done.stderr
    done = call("models", "add", "model.index", "--name", "index", *config, folder=folder)
    assert done.status == 0, done.stderr
    cards = [(cache / name / "card.md").read_text("utf-8") for name in ("inside", "index")]
    first, second = (re.findall("SHA-256 `(.*?)`", card) for card in cards)
    assert first == second  # both say what the weights are
    data = folder / "model.data-00000-of-00001"
    whole = bytearray(data.read_bytes())
    whole[0] ^= 1  # of a number's last bits
    data.write_bytes(whole)
    done = call("models", "add", "model.index", "--name", "other", *config, folder=folder)
    assert done.status == 2
    assert "tensor batch_normalization/beta is damaged" in done.stderr


def test_a_table_that_does_not_list_a_file_is_said_to_lack_its_md5(tmp_path: Path) -> None:
    file = Path(shutil.copy(REFERENCES / "mdx-net/model.onnx", tmp_path / "mine.onnx"))
    (tmp_path / "table.json").write_text(json.dumps({"0" * 32: {"mdx_n_fft_scale_set": 6144}}))
    done = call("models", "add", file, "--config", "table.json", folder=tmp_path)
    assert done.status == 2
    (line,) = done.complaints
    assert f"table.json has no entry for its MD5, {hash_tail(file)}" in line


def test_a_yaml_that_windows_wrote_is_read(checkpoint: Path, tmp_path: Path) -> None:
    facts = checkpoint.with_suffix(".yaml")
    facts.write_bytes(b"\xef\xbb\xbf" + facts.read_bytes())
    assert call("models", "add", checkpoint, "--name", "bs", folder=tmp_path).status == 0


def test_a_table_that_names_a_yaml_sends_there(checkpoint: Path, tmp_path: Path) -> None:
    checkpoint.with_suffix(".yaml").unlink()
    table = {hash_tail(checkpoint): {"config_yaml": "model_2_stem.yaml"}}
    (tmp_path / "table.json").write_text(json.dumps(table))
    done = call("models", "add", checkpoint, "--config", "table.json", folder=tmp_path)
    assert done.status == 2
    assert "table.json says that 'model_2_stem.yaml' does; give that (--config)" in done.stderr


def test_a_bag_of_demucs_without_its_yaml_is_not_averaged_as_chance_has_it(
    tmp_path: Path, cache: Path
) -> None:
    files = checkpoint_files("demucs-bag")
    done = call("models", "add", *files, "--name", "bag", folder=tmp_path)
    assert done.status == 2
    assert "only the yaml of a bag of 2 models tells what each counts" in done.stderr
    assert not files_below(cache)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_pipes_and_devices_are_no_weights(tmp_path: Path) -> None:
    for name in ("model.th", "model.onnx", "model.tar.gz"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ModelError, match="not a plain file"):
            read_checkpoint(tmp_path / name)


def test_the_sum_in_a_name_is_that_of_the_file_that_was_published(
    tmp_path: Path, cache: Path
) -> None:
    (published,) = checkpoint_files("demucs-2")
    damaged = Path(shutil.copy(published, tmp_path / "demucs-01234567.th"))
    with pytest.raises(ModelError, match="but its name says 01234567"):
        add_model(cache / "damaged", [damaged])
    converted = tmp_path / "demucs-01234567.safetensors"
    save_file(dict(read_checkpoint(published).tensors), converted)
    add_model(cache / "converted", [converted])


def test_what_a_kill_left_of_a_model_is_removed_later(
    checkpoint: Path, tmp_path: Path, cache: Path
) -> None:
    old, new = cache / ".bs.1.part", cache / ".bs.2.part"
    for part in (old, new):
        part.mkdir(parents=True)
        (part / "weights.safetensors").touch()
    os.utime(old, (0, 0))
    add_model(cache / "bs", [checkpoint])
    assert sorted(path.name for path in cache.iterdir()) == [".bs.2.part", "bs"]


def test_a_model_is_called_like_its_file_or_folder(tmp_path: Path) -> None:
    (tmp_path / "umx-1.3").mkdir()
    names = {"2stems.tar.gz": "2stems", "ep_317_sdr_12.9.ckpt": "ep_317_sdr_12.9"}
    for path, name in {**names, "umx-1.3": "umx-1.3"}.items():
        assert suggest_name(tmp_path / path) == name


def test_a_folder_of_openunmix_stands_for_its_targets(tmp_path: Path, cache: Path) -> None:
    folder = Path(shutil.copytree(REFERENCES / "openunmix", tmp_path / "umx"))
    for target in ("drums", "vocals"):
        (folder / f"{target}.json").unlink()  # `separator.json` says it
        path = folder / f"{target}.pth"
        named = path.rename(folder / f"{target}-{hash_file(path)[:8]}.pth")
        named.with_name(f"._{named.name}").write_bytes(b"Mac OS X")
    done = call("models", "add", "umx", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert "drums, vocals, rest" in done.stdout
    named.rename(folder / f"{target}-01234567.pth")
    done = call("models", "add", "umx", "--name", "damaged", folder=tmp_path)
    assert done.status == 2
    assert "but its name says 01234567; get the file again, or rename it" in done.stderr
    (tmp_path / "empty").mkdir()
    done = call("models", "add", "empty", folder=tmp_path)
    assert "its folder has no .index file, nor any .pth; give the weights' files" in done.stderr


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
        lambda tensors: {f"module._orig_mod.{name}": one for name, one in tensors.items()},
        lambda tensors: {"epoch": 3, "model": tensors},
        lambda tensors: {"state_dict": {f"model.{name}": one for name, one in tensors.items()}},
    ],
)
def test_what_a_training_wraps_its_tensors_in_is_taken_off(wrap, checkpoint: Path) -> None:
    plain = read_checkpoint(checkpoint)
    torch.save(wrap(plain.tensors), checkpoint)
    assert read_checkpoint(checkpoint).tensors.keys() == plain.tensors.keys()


def test_what_git_leaves_in_place_of_a_large_file_is_told_from_weights(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    done = call("models", "add", "a.ckpt", folder=tmp_path)
    assert done.status == 2 and "a.ckpt: only stands for the weights; `git lfs pull`" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="it has limits on memory")
def test_a_file_for_which_memory_is_short_is_not_called_damaged(
    checkpoint: Path, tmp_path: Path
) -> None:
    torch.save({**read_checkpoint(checkpoint).tensors, "more": torch.zeros(1 << 26)}, checkpoint)
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from splitter.errors import ModelError, SplitterError\n"
        "from splitter.weights.adding import add_model\n"
        "pages = int(Path('/proc/self/statm').read_text('ascii').split()[0])\n"
        "most = pages * resource.getpagesize() + (1 << 26)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "try: add_model(Path('added'), [Path(sys.argv[1])])\n"
        "except SplitterError as error: print(isinstance(error, ModelError), error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(checkpoint)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    # no ModelError: `models get` keeps what it downloaded
    assert done.stdout.startswith("False ") and "there is not enough memory" in done.stdout


def test_weights_need_no_second_share_of_the_memory_when_they_are_added(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitter.loading.free_memory", lambda: 1000)  # they are in memory by then
    assert add_model(tmp_path / "added", [checkpoint]).is_dir()


def test_a_link_to_nowhere_in_place_of_a_model_is_told_at_once(
    checkpoint: Path, tmp_path: Path, cache: Path
) -> None:
    cache.mkdir(parents=True)
    (cache / "model").symlink_to("a disk that is not there")
    done = call("models", "add", checkpoint, folder=tmp_path)
    assert done.status == 2 and "model: exists already; `splitter models remove`" in done.stderr
    assert call("models", "remove", "model", folder=tmp_path).status == 0
    (cache / "umxl").mkdir()  # what is left of a removal that was killed
    done = call("models", "get", "umxl", "--mirror", "http://127.0.0.1:9", folder=tmp_path)
    assert done.status == 2 and "umxl: exists already" in done.stderr


def test_a_model_is_shown_by_its_name_and_missing_weights_by_their_path(
    checkpoint: Path, tmp_path: Path, cache: Path
) -> None:
    add_model(cache / "bs", [checkpoint])
    assert call("models", "show", ".", folder=cache / "bs").stdout.startswith("bs ")
    (cache / "bs" / "weights.safetensors").unlink()
    for command in (("models",), ("models", "show", "bs")):
        done = call(*command, folder=tmp_path)
        assert "weights.safetensors: cannot be read (No such file" in done.stderr
        assert "Errno" not in done.stderr


def test_a_removal_that_is_stopped_leaves_no_half_of_a_model(
    checkpoint: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_model(cache / "bs", [checkpoint])
    with monkeypatch.context() as patch:
        patch.setattr("os.rmdir", refuse)  # as for a folder in one that is read-only
        assert call("models", "remove", "bs", folder=tmp_path).status == 1
    assert not (cache / "bs").exists()
    assert add_model(cache / "bs", [checkpoint]).is_dir()


def refuse(*_: object, **__: object) -> None:
    """Refuse what the system is asked for."""
    raise PermissionError(errno.EACCES, "Permission denied", "bs")

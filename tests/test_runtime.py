from __future__ import annotations

import json
import locale
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from splitter.cgroups import FindGroups, find_groups
from splitter.errors import CommandError, SplitterError, StoppedError
from splitter.graphs import GraphError, find_reach, read_traced, write_traced
from splitter.loading import Model, build_network, load_model, save_model
from splitter.memory import free_memory
from splitter.networks import PRESETS, MaskModel
from splitter.networks.blocks import BLOCKS, Part, Stacked, convolve
from splitter.processors import count_processors, has_bfloat16
from splitter.registry import (
    AVERAGE,
    CONFIG,
    Config,
    ModelChoice,
    find_model,
    list_added,
    list_models,
    read_config,
)
from splitter.runtime.choose import compile_if_best
from splitter.runtime.computing import Computing
from splitter.runtime.traced import GRAPH, describe, find_traced
from splitter.runtime.tracing import trace_model
from splitter.separation import separate, separate_blocks
from splitter.tiling import Block
from tests import sounds, zoo
from tests.commands import ENVIRONMENT, Done, call
from tests.sounds import noise
from tests.test_separation import decibels

pytest.importorskip("openvino")
from splitter.runtime.compiled import Compiled, compile_model
from splitter.runtime.kept import MOST
from splitter.runtime.openvino import Network, Settings

EXACT = Computing(core=1024, batch=3, precision="float32")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A cache of graphs of its own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def compiled(small_model_folder: Path) -> Compiled:
    return compile_model(ModelChoice((str(small_model_folder),)), Settings(2), 16)


@pytest.mark.parametrize("samples", [1, 2, 63, 64, 65, 511, 512, 513, 1023, 1024, 1025, 2049, 9999])
def test_streamed_equals_tiled(compiled: Compiled, small_model: Model, samples: int) -> None:
    signal = noise(samples)
    expected = separate(signal, 44100, small_model, EXACT)["vocals"]
    vocals = separate(signal, 44100, compiled)["vocals"]
    assert vocals.shape == expected.shape
    assert decibels(expected, vocals - expected) > 90


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_streamed_equals_tiled_in_any_channels(
    compiled: Compiled, small_model: Model, channels: int
) -> None:
    signal = noise(5000, channels)
    expected = separate(signal, 48000, small_model, EXACT)
    stems = separate(signal, 48000, compiled)
    for name, stem in stems.items():
        assert decibels(expected[name], stem - expected[name]) > 90


def test_what_is_not_asked_for_is_not_computed(tmp_path: Path) -> None:
    name = "mask-tfc-tdf"
    save_model(tmp_path, Config(name, zoo.small_sizes(name)), zoo.small(name))
    choice, signal = ModelChoice((str(tmp_path),)), noise(9999)
    one, many = (compile_model(choice, Settings(2, lanes), 8) for lanes in (1, 2))
    expected = separate(signal, 44100, one)["vocals"]
    vocals = separate(signal, 44100, many)["vocals"]
    assert decibels(expected, vocals - expected) > 90
    assert many.parts[0].shape.unheard > 3  # chunks
    (_, _, whole), (_, _, early) = many.parts[0].network.result().export()
    assert 0 in whole and {*early} < {*whole} - {0}  # no mask, and less is kept


def test_a_model_that_was_loaded_for_bfloat16_is_not_taken_for_exact(
    small_model_folder: Path,
) -> None:
    choice = ModelChoice((str(small_model_folder),))
    quick = compile_model(choice, Settings(2, bfloat16=True), 16)
    with pytest.raises(SplitterError, match="was loaded to compute in bfloat16"):
        separate(noise(100), 44100, quick, EXACT)


def test_an_empty_song_has_empty_stems(compiled: Compiled) -> None:
    assert separate(noise(0), 44100, compiled)["vocals"].shape == (2, 0)


def test_blocks_of_any_length_give_the_same(compiled: Compiled) -> None:
    signal = noise(9000)
    whole = separate(signal, 44100, compiled)["vocals"]
    blocks = np.split(signal, [1, 2, 700, 701, 4000], axis=-1)
    parts = [stems["vocals"] for stems in separate_blocks(blocks, 44100, 2, compiled)]
    np.testing.assert_allclose(np.concatenate(parts, axis=-1), whole, atol=1e-6)


def test_songs_side_by_side_do_not_disturb_each_other(compiled: Compiled) -> None:
    first, second = noise(6000), 0.5 * noise(6000, seed=9)
    streams = [separate_blocks([song], 44100, 2, compiled) for song in (first, second)]
    together = [[next(stream)["vocals"]] for stream in streams]
    for parts, stream in zip(together, streams, strict=True):
        parts += [stems["vocals"] for stems in stream]
    for song, parts in zip((first, second), together, strict=True):
        alone = separate(song, 44100, compiled)["vocals"]
        np.testing.assert_allclose(np.concatenate(parts, axis=-1), alone, atol=1e-6)


def test_a_network_that_is_closed_ends_songs_under_way(small_model_folder: Path) -> None:
    compiled = compile_model(ModelChoice((str(small_model_folder),)), Settings(2), 16)
    stream = separate_blocks(np.split(noise(60_000), 60, axis=-1), 44100, 2, compiled)
    next(stream)
    compiled.close()
    with pytest.raises(StoppedError):
        list(stream)


@pytest.mark.parametrize("name", zoo.STREAMED)
def test_presets_stream_as_they_are_tiled(name: str, tmp_path: Path) -> None:
    save_model(tmp_path, Config(name, zoo.small_sizes(name)), zoo.small(name))
    signal = noise(9999)
    model = load_model(str(tmp_path))
    expected = separate(signal, 44100, model, Computing(precision="float32"))["vocals"]
    streamed = compile_model(ModelChoice((str(tmp_path),)), Settings(2), 16)
    vocals = separate(signal, 44100, streamed)["vocals"]
    assert decibels(expected, vocals - expected) > 90
    assert isinstance(model.network, MaskModel)
    level = model.network.level.span if model.network.level else 0
    reach = find_reach(find_traced(tmp_path).graph)  # by operations; the other one is by parts
    assert 0 <= model.network.unet.reach + level - reach <= 6


@pytest.mark.parametrize("name", sorted(PRESETS.keys() - set(zoo.STREAMED)))
def test_other_presets_are_left_to_pytorch(name: str) -> None:
    with pytest.raises(GraphError):
        trace_model(Config(name, zoo.small_sizes(name)), Path("config.json"))


def test_a_network_that_cannot_stream_is_not_built_to_learn_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("splitter.runtime.tracing.build_network", None)
    with pytest.raises(GraphError, match="only networks that mask"):
        trace_model(Config("open-unmix", {"hidden": 8192}), Path("config.json"))


@pytest.mark.parametrize("name", list_models())
def test_shipped_models_stream_as_they_are_tiled(name: str) -> None:
    signal = noise(44100)
    expected = separate(signal, 44100, load_model(name), Computing(precision="float32"))["vocals"]
    vocals = separate(signal, 44100, compile_model(ModelChoice((name,)), Settings(2)))["vocals"]
    assert decibels(expected, vocals - expected) > 90


@pytest.mark.skipif(not has_bfloat16(), reason="elsewhere it is emulated, and not used")
@pytest.mark.parametrize("level", [0, -50])  # dB
@pytest.mark.parametrize("name", list_models())
def test_products_in_bfloat16_are_close_to_those_in_float32(name: str, level: int) -> None:
    choice = ModelChoice((name,))
    signal = (sounds.song(3) * 10 ** (level / 20)).astype(np.float32)
    expected = separate(signal, 44100, compile_model(choice, Settings(2)))["vocals"]
    chosen = compile_if_best(choice, ["cpu"], exact=False)
    assert chosen is not None
    vocals = separate(signal, 44100, chosen)["vocals"]
    assert not np.array_equal(vocals, expected)
    assert (
        decibels(expected, vocals - expected) > 40
    )  # 25 dB and more below what separation gets wrong


@pytest.mark.parametrize(
    "name", [n for n in list_models() if read_config(find_model(n) / CONFIG).network != AVERAGE]
)
def test_a_shipped_graph_is_what_tracing_gives_today(name: str) -> None:
    folder = find_model(name)
    config = read_config(folder / CONFIG)
    text = (folder / GRAPH).read_text("utf-8")
    why = "run scripts/make_graphs.py"
    assert read_traced(text, describe(config)) == trace_model(config, folder / CONFIG), why


def test_a_graph_that_is_damaged_or_of_another_model_is_not_run(small_model_folder: Path) -> None:
    traced = find_traced(small_model_folder)
    text = write_traced(traced, "this")
    assert read_traced(text, "this") == traced
    for other in (text[:-9], text.replace("0.2", "0.3"), "", "{}", "[]\n", text.replace("e", "é")):
        with pytest.raises(GraphError):
            read_traced(other, "this")
    with pytest.raises(GraphError):
        read_traced(text, "that")


def test_a_broken_cache_is_made_again(small_model_folder: Path, cache: Path) -> None:
    for path in cache.rglob("*.json"):  # of other tests
        path.unlink()
    traced = find_traced(small_model_folder)
    (kept,) = cache.rglob("*.json")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:100])
    assert find_traced(small_model_folder) == traced
    assert kept.read_bytes() == whole


def _wait_for_keeping() -> None:
    for thread in threading.enumerate():
        if thread.name == "splitter-keep":
            thread.join()


def _kept(cache: Path) -> list[Path]:
    """Wait until networks that were compiled are kept."""
    _wait_for_keeping()
    return sorted((cache / "splitter/compiled").iterdir())


def test_a_compiled_network_is_kept_and_gives_the_same(
    small_model_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice, signal = ModelChoice((str(small_model_folder),)), noise(9000)
    new = separate(signal, 44100, compile_model(choice, Settings(1), 32))["vocals"]
    before = _kept(cache)
    monkeypatch.setattr("splitter.runtime.compiled.compile_network", None)  # not called
    kept = separate(signal, 44100, compile_model(choice, Settings(1), 32))["vocals"]
    np.testing.assert_array_equal(kept, new)
    assert _kept(cache) == before


def test_what_is_kept_in_a_language_of_decimal_commas_is_right(
    small_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = shutil.which("localedef")
    if not make or subprocess.run([make, "-i", "de_DE", tmp_path / "de"]).returncode:
        pytest.skip("no language of commas can be had here")
    monkeypatch.setenv("LOCPATH", str(tmp_path))
    choice, signal = ModelChoice((str(small_model_folder),)), noise(3000)
    locale.setlocale(locale.LC_NUMERIC, "de")
    try:
        new = separate(signal, 44100, compile_model(choice, Settings(1), 80))["vocals"]
        _wait_for_keeping()
        again = separate(signal, 44100, compile_model(choice, Settings(1), 80))["vocals"]
    finally:
        locale.setlocale(locale.LC_NUMERIC, "C")
    np.testing.assert_array_equal(again, new)


def test_very_quiet_sound_is_separated_also_where_a_program_has_numpy_raise(
    small_model_folder: Path,
) -> None:
    model = compile_model(ModelChoice((str(small_model_folder),)), Settings(1), 32)
    quiet = noise(3000).astype(np.float64) * 1e-38
    with np.errstate(all="raise"):
        separate(quiet, 44100, model)
        for stems in separate_blocks([noise(3000) * np.float32(1e-30)], 44100, 2, model):
            assert {*np.geterr().values()} == {"raise"}  # for the program itself
            assert 0 < np.abs(stems["vocals"]).max() < 1e-29


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="others always have a home")
def test_a_user_without_a_home_keeps_nothing_and_separates(
    small_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_nobody(_: int) -> NoReturn:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", find_nobody)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.chdir(tmp_path)
    model = compile_model(ModelChoice((str(small_model_folder),)), Settings(1), 32)
    assert separate(noise(3000), 44100, model)["vocals"].shape == (2, 3000)
    assert list_added() == []
    with pytest.raises(SplitterError, match="no model is called 'none'"):
        find_model("none")
    assert not [*tmp_path.iterdir()]


def test_without_memory_to_keep_a_network_it_is_used_all_the_same(
    small_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Network) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(Network, "export", fail)
    model = compile_model(ModelChoice((str(small_model_folder),)), Settings(1), 112)
    assert separate(noise(3000), 44100, model)["vocals"].any()
    _wait_for_keeping()  # what ends a thread is an error of the test


def test_without_memory_for_openvino_no_other_runtime_is_advised(
    small_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise RuntimeError("Exception from src/inference/src/cpp/core.cpp:117:\nstd::bad_alloc\n")

    monkeypatch.setattr("splitter.runtime.compiled.compile_network", fail)
    model = compile_model(ModelChoice((str(small_model_folder),)), Settings(1), 208)
    with pytest.raises(SplitterError, match=r"there is not enough memory; (?!.*torch)"):
        separate(noise(3000), 44100, model)


def test_where_a_part_of_openvino_is_missing_pytorch_takes_over(
    small_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> NoReturn:
        raise RuntimeError('Exception from a.cpp:1:\nDevice with "CPU" name is not registered\n')

    monkeypatch.setattr("splitter.runtime.compiled.describe_machine", fail)
    choice = ModelChoice((str(small_model_folder),))
    assert compile_if_best(choice, ["cpu"]) is None
    with pytest.raises(CommandError, match=r'on it \(Device with "CPU" name is not registered\);'):
        compile_if_best(choice, ["cpu"], "openvino")


@pytest.mark.parametrize("harm", ["short", "empty", "changed", "renamed", "reshaped"])
def test_a_kept_network_that_is_damaged_or_of_something_else_is_made_again(
    small_model_folder: Path, cache: Path, harm: str
) -> None:
    choice, signal = ModelChoice((str(small_model_folder),)), noise(3000)
    for path in (cache / "splitter/compiled").glob("*"):
        path.unlink()
    new = separate(signal, 44100, compile_model(choice, Settings(1), 48))["vocals"]
    (path,) = _kept(cache)
    whole = path.read_bytes()
    broken = {
        "short": whole[:-100],
        "empty": b"",
        "changed": whole[:-100] + bytes(100),
        "renamed": whole.replace(b'"origin": "', b'"origin": "x', 1),
        "reshaped": whole.replace(b'"late": ', b'"late": 1', 1),
    }
    path.write_bytes(broken[harm])
    again = separate(signal, 44100, compile_model(choice, Settings(1), 48))["vocals"]
    np.testing.assert_allclose(again, new, atol=1e-6)
    assert _kept(cache) == [path]
    origins = [
        json.loads(each.partition(b"\n")[0].partition(b" ")[2])["origin"]
        for each in (path.read_bytes(), whole)
    ]
    assert origins[0] == origins[1]
    assert len(path.read_bytes()) > len(whole) - 1000


def test_only_a_few_networks_are_kept(small_model_folder: Path, cache: Path) -> None:
    choice = ModelChoice((str(small_model_folder),))
    for number in range(1, MOST + 3):
        separate(noise(10), 44100, compile_model(choice, Settings(1), 16 * number))
        assert len(_kept(cache)) <= MOST


def test_what_killed_runs_left_among_kept_networks_is_removed(
    small_model_folder: Path, cache: Path
) -> None:
    folder = cache / "splitter/compiled"
    folder.mkdir(parents=True, exist_ok=True)
    old, new = folder / ".abc.0123.part", folder / ".def.4567.part"
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    choice = ModelChoice((str(small_model_folder),))
    separate(noise(10), 44100, compile_model(choice, Settings(1), 1600))
    _kept(cache)
    assert not old.exists() and new.exists()
    new.unlink()


def test_what_only_pytorch_can_do_is_left_to_it(small_model_folder: Path) -> None:
    choice = ModelChoice((str(small_model_folder),), tta=True)
    assert compile_if_best(choice, ["cpu"]) is None
    assert compile_if_best(ModelChoice((str(small_model_folder),)), ["cpu"], "torch") is None
    with pytest.raises(CommandError, match="--runtime openvino"):
        compile_if_best(choice, ["cpu"], "openvino")
    with pytest.raises(CommandError, match="processor"):
        compile_if_best(ModelChoice(), ["cuda"], "openvino")


WEIGHTED: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "neg": torch.neg,
    "relu": torch.relu,
    "rsqrt": torch.rsqrt,
    "sigmoid": torch.sigmoid,
    "sqrt": torch.sqrt,
    "tanh": torch.tanh,
    "concat": lambda gain: torch.cat([gain[1:], gain[:1]]),
    "softmax": lambda gain: gain.softmax(0),  # not known: left to PyTorch
}


class Weighed(Part):
    """Convolutions whose features are weighed by what becomes of weights alone."""

    change: Callable[[Tensor], Tensor]

    def __init__(self, inputs: int, outputs: int, rows: int) -> None:
        super().__init__()
        self.block = Stacked(convolve, inputs, outputs, rows)
        self.outputs, self.reach = outputs, self.block.reach
        self.gain = nn.Parameter(torch.rand(outputs) + 0.1)

    def forward(self, signal: Tensor) -> Tensor:
        return self.block(signal) * type(self).change(self.gain)[:, None, None]


@pytest.mark.parametrize("op", WEIGHTED)
def test_what_is_computed_of_weights_alone_streams_or_is_left_to_pytorch(
    op: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = type("Weighs", (Weighed,), {"change": staticmethod(WEIGHTED[op])})
    monkeypatch.setitem(BLOCKS, f"weighed-{op}", part)
    config = Config("unet-bn", {**zoo.small_sizes("unet-bn"), "block": f"weighed-{op}"})
    torch.manual_seed(0)
    save_model(tmp_path, config, build_network(config, tmp_path))
    signal = noise(9999)
    expected = separate(signal, 44100, load_model(str(tmp_path)), Computing(precision="float32"))
    choice = ModelChoice((str(tmp_path),))
    compiled = compile_if_best(choice, ["cpu"], exact=True)
    assert (compiled is None) == (op == "softmax")
    if compiled:
        vocals = separate(signal, 44100, compiled)["vocals"]
        assert decibels(expected["vocals"], vocals - expected["vocals"]) > 90


@pytest.mark.parametrize("spoiled", ["missing", "misshapen", "whole numbers"])
def test_weights_of_another_shape_are_one_line_before_a_song_is_opened(
    small_model_folder: Path, tmp_path: Path, spoiled: str
) -> None:
    folder = Path(shutil.copytree(small_model_folder, tmp_path / "model"))
    tensors = load_file(folder / "weights.safetensors")
    name = min(name for name in tensors if name.endswith("running_mean"))
    tensor = tensors.pop(name)
    if spoiled != "missing":
        tensors[name] = tensor[:-1] if spoiled == "misshapen" else tensor.astype(np.int64)
    save_file(tensors, folder / "weights.safetensors")
    sounds.write(tmp_path / "song.wav", sounds.song(0.1))
    done = call("separate", "song.wav", "--model", folder, folder=tmp_path)
    assert done.status == 2
    assert len(done.complaints) == 1 and f"tensor {name!r}" in done.stderr


@pytest.mark.parametrize(("name", "seconds"), [("unet", 17.9), ("unet-fast", 9.0)])
def test_a_pipes_first_sound_comes_when_the_network_has_heard_its_reach(
    name: str, seconds: float
) -> None:
    read = 0

    def blocks() -> Iterator[Block]:
        nonlocal read
        for block in np.array_split(noise(20 * 44100), 400, axis=1):
            read += block.shape[1]
            yield block

    compiled = compile_if_best(ModelChoice((name,)), ["cpu"], low_latency=True)
    assert compiled is not None
    first = next(compiled.estimate(blocks(), 2))
    assert first.shape[-1] > 0
    assert read / 44100 <= seconds


def test_a_pipe_gives_what_a_file_gives(separate: Callable[..., Done], tmp_path: Path) -> None:
    sound = noise(60000).T.astype("<f4").tobytes()
    (tmp_path / "song.raw").write_bytes(sound)
    more = ("--stems", "vocals", "--format", "raw", "--raw", "44100:2:f32le", "--device", "cpu")
    piped = separate("-", "-o", "-", *more, stdin=sound)
    assert separate("song.raw", "-o", "out", *more).status == piped.status == 0
    written = np.fromfile(tmp_path / "out/song/vocals.raw", "<f4")
    assert decibels(written, np.frombuffer(piped.sound, "<f4") - written) > 90


HEAVY = ("torch", "librosa", "numba", "scipy", "matplotlib", "pandas", "sklearn")


def test_separate_imports_nothing_heavy(tmp_path: Path) -> None:
    sounds.write(tmp_path / "song.wav", noise(4410))
    program = (
        "import atexit, sys\n"
        f"heavy = {HEAVY}\n"
        "atexit.register(lambda: print([n for n in heavy if n in sys.modules], file=sys.stderr))\n"
        "from splitter.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "separate", "song.wav", "--device", "cpu", "-q"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "[]"
    assert (tmp_path / "song/vocals.wav").exists()


def test_both_runtimes_write_the_same_stems(separate: Callable[..., Done], tmp_path: Path) -> None:
    sounds.write(tmp_path / "song.wav", noise(20000), subtype="FLOAT")
    written = []
    for runtime in ("torch", "openvino"):
        done = separate("song.wav", "-o", runtime, "--runtime", runtime, "--precision", "float32")
        assert done.status == 0
        written.append(sounds.read(tmp_path / runtime / "song/vocals.wav"))
    first, second = written
    assert first.shape == (2, 20000)
    assert np.linalg.norm(first - second) < 10 ** (-80 / 20) * np.linalg.norm(first)


def find_written(root: Path, membership: str = "") -> FindGroups:
    """Find control groups as they are written down below `root`."""
    own = root / "own"
    own.write_text(membership)
    return partial(find_groups, root=root, own=own)


@pytest.mark.parametrize(
    ("limit", "most"), [("max 100000", None), ("100000 100000", 1), ("150000 100000", 2)]
)
def test_a_containers_limit_is_kept(tmp_path: Path, limit: str, most: int | None) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    unlimited = count_processors(lambda _: [])
    assert count_processors(find_written(tmp_path)) == min(unlimited, most or unlimited)


@pytest.mark.parametrize(
    ("membership", "limits"),
    [
        ("0::/system.slice/radio.service\n", {"system.slice/radio.service/cpu.max": "9 9"}),
        ("0::/slurm/job_7/step_0\n", {"slurm/job_7/cpu.max": "9 9", "slurm/cpu.max": "max 9"}),
        ("3:cpu,cpuacct:/jobs/7\n0::/\n", {"cpu/jobs/cpu.cfs_quota_us": "9",
                                          "cpu/jobs/cpu.cfs_period_us": "9"}),
        ("0::/../../elsewhere:a\n", {"cpu.max": "9 9"}),
        ("what no kernel writes\n\n", {"cpu.max": "9 9"}),
    ],
)  # fmt: skip
def test_the_limits_of_services_and_jobs_are_kept(
    tmp_path: Path, membership: str, limits: dict[str, str]
) -> None:
    for name, text in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert count_processors(find_written(tmp_path, membership)) == 1


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "max", "memory.current": "5000", "memory.stat": "inactive_file 100"}, None),
        ({"memory.max": "9000", "memory.current": "5000", "memory.stat": "anon 1\ninactive_file 9"},
         4009),
        ({"memory.max": "90", "memory.current": "500", "memory.stat": ""}, 0),
        ({"memory/memory.limit_in_bytes": "9000", "memory/memory.usage_in_bytes": "5000",
          "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 9"}, 4009),
        ({"slice/memory.max": "7000", "slice/memory.current": "5000", "slice/memory.stat": "",
          "slice/job/memory.max": "9000", "slice/job/memory.current": "100",
          "slice/job/memory.stat": ""}, 2000),
    ],
)  # fmt: skip
def test_a_containers_memory_is_all_that_there_is(
    files: dict[str, str], left: int | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    of_system = free_memory(lambda _: [])
    assert of_system is not None
    found = free_memory(find_written(tmp_path, "0::/slice/job\n"))
    assert found == left if left is not None else found is not None and found > 10**6

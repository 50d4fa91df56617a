"""Measure splitter on this machine: each step alone, the whole command, folders, and the roofline.

    python scripts/benchmark.py [--json figures.json] [--seconds 240] [--songs 1,10,100]
    python scripts/benchmark.py --against OTHER-CHECKOUT    whole commands, by turns with another

Every figure is the best of several runs; × is times real time. The roofline says what share of the
time that the network takes could not be saved here: its arithmetic at the rate of the fastest
convolution measured, or its bytes at the memory's measured bandwidth, whichever takes longer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from splitter.audio import OutputFormat, open_song, write_stems
from splitter.devices import fast_dtype, pick_device
from splitter.engines.lanes import make_lanes, share_processor
from splitter.engines.sharing import Lane
from splitter.graphs import Graph, Node
from splitter.loading import Model, load_model
from splitter.memory import reuse_freed_memory
from splitter.processors import count_processors, has_bfloat16
from splitter.registry import ModelChoice, find_model
from splitter.runtime.compiled import compile_model
from splitter.runtime.computing import Computing
from splitter.runtime.openvino import Settings
from splitter.runtime.traced import find_traced
from splitter.tiling import cut

RATE = 44100  # Hz
ROOT = Path(__file__).parents[1]
Figures = dict[str, Any]
# runs splitter, or imports a module, and says in the end how much memory it had (kB): what wait4
# tells is never less than what the parent has
PROGRAM = """
import atexit, importlib, pathlib, re, sys
def tell():
    status = pathlib.Path("/proc/self/status").read_text()
    print("\\n" + re.search(r"VmHWM:\\s*(\\d+)", status)[1], file=sys.stderr)
atexit.register(tell)
if sys.argv[1] == "import":
    importlib.import_module(sys.argv[2])
else:
    if sys.argv[1] == "returning":
        import ctypes
        import splitter.memory
        del sys.argv[1]
        M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # <malloc.h>; to name the first one makes it fixed
        def give_back():
            mallopt = ctypes.CDLL(None).mallopt
            return bool(mallopt(M_MMAP_THRESHOLD, 1 << 20) and mallopt(M_ARENA_MAX, 1))
        splitter.memory.reuse_freed_memory = give_back
    from splitter.cli import main
    main()
"""


def best_of(runs: int, work: Callable[[], object]) -> float:
    """Return the shortest of some times, in seconds."""
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def make_song(path: Path, seconds: float) -> Path:
    """Write something that keeps an encoder as busy as music does."""
    random = np.random.default_rng(0)
    time_axis = np.arange(round(seconds * RATE)) / RATE
    chord = sum(np.sin(2 * np.pi * f * time_axis) for f in (110.0, 220.0, 277.2, 329.6, 1760.0))
    noise = random.standard_normal((2, time_axis.size)) * np.exp(-8 * (time_axis % 0.5))
    soundfile.write(path, (0.05 * (chord + noise)).T.astype(np.float32), RATE)
    return path


def run(*command: object, folder: Path, root: Path = ROOT) -> tuple[float, float]:
    """Run splitter, or Python, in a process; return seconds and the peak of its memory in MB."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, command)],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{command}: status {done.returncode}\n{done.stderr}")
    return time.perf_counter() - begun, float(done.stderr.splitlines()[-1]) / 1024


def measure_start(folder: Path, options: tuple[str, ...]) -> Figures:
    make_song(folder / "second.wav", 1)
    separate = ("separate", "second.wav", "--overwrite", *options)
    return {
        "splitter --help, s": best_of(3, lambda: run("--help", folder=folder)),
        "import torch, s": best_of(3, lambda: run("import", "torch", folder=folder)),
        "a song of one second, s": best_of(3, lambda: run(*separate, folder=folder)),
    }


def measure_steps(song: Path, seconds: float, model: Model, lanes: int) -> Figures:
    """Measure decoding, STFT, network and encoding, each alone on one core."""
    figures: Figures = {}
    with open_song(song) as reader:
        blocks = list(reader.read_blocks())

    def decode() -> None:
        with open_song(song) as again:
            for _ in again.read_blocks():
                pass

    def encode() -> None:
        targets = {name: song.with_name(f"{name}.wav") for name in model.stems}
        with write_stems(targets, RATE, 2, OutputFormat(bits=16)) as writers:
            for block in blocks:
                for writer in writers.values():
                    writer.write(block)

    figures["decode mp3, ×"] = seconds / best_of(3, decode)
    figures["encode two wav, ×"] = seconds / best_of(3, encode)
    figures |= measure_network(model, lanes)
    return figures


def measure_network(model: Model, lanes: int) -> Figures:
    """Measure the network on tiles as the engine cuts them."""
    computing = Computing()
    shape = computing.tile_shape(model.network)
    samples = shape.core + 2 * shape.context
    noise = np.random.default_rng(0).standard_normal((1, 2, samples), np.float32)
    workers = make_lanes([model], computing, lanes)
    signal = torch.from_numpy(noise).to(model.device)
    stft: Any = model.network.stft

    def one_lane() -> None:
        workers[0](noise, shape.context)

    def all_lanes() -> None:
        with ThreadPoolExecutor(len(workers)) as threads:
            list(threads.map(lambda lane: [lane(noise, shape.context) for _ in range(4)], workers))

    @torch.inference_mode()
    def transform() -> None:
        stft.inverse(stft(signal)[:, None], samples)

    all_lanes()
    tiles = 4 * len(workers)
    kept, whole = tiles * shape.core / RATE, tiles * samples / RATE
    taken = best_of(5, all_lanes)
    return {
        "lanes": len(workers),
        "STFT and inverse, one lane, ×": samples / RATE / best_of(5, transform),
        "network, one lane, ×": shape.core / RATE / best_of(5, one_lane),
        "network, all lanes, ×": kept / taken,
        "network, all lanes, context counted, ×": whole / taken,
        "network, s a tile and lane": taken / 4,
    }


def measure_compiled(model: Model) -> Figures:
    """Measure what torch.compile gains a lane, and what it takes before the first tile."""
    computing = Computing()
    shape = computing.tile_shape(model.network)
    noise = np.random.default_rng(0).standard_normal((1, 2, shape.core + 2 * shape.context))
    tile = noise.astype(np.float32)
    compiled: Any = torch.compile(model.network)

    def time_lane(each: Model) -> tuple[float, float]:
        lane = make_lanes([each], computing, 1)[0]
        first, later = (best_of(runs, lambda: lane(tile, shape.context)) for runs in (1, 5))
        return first, later

    _, plain = time_lane(model)
    first, fast = time_lane(replace(model, network=compiled))
    return {"torch.compile, first tile, s": first, "torch.compile, ×": plain / fast}


def measure_stream(name: str, bfloat16: bool) -> Figures:
    """Measure the compiled network alone, with all threads, and what convolution takes for it.

    What is needed is all that the products of one chunk take; nothing is computed twice.
    """
    compiled = compile_model(ModelChoice((name,)), Settings(count_processors(), 1, bfloat16))
    shape, network = compiled.parts[0].shape, compiled.parts[0].network.result()
    graph = find_traced(find_model(name)).graph
    operations = 2 * sum(_multiplications(graph, node, shape.frames) for node in graph.nodes)
    random = np.random.default_rng(0)
    heard = random.random((2, shape.frames, shape.size // 2 + 1), np.float32)
    song = network.begin_song()

    def a_chunk() -> None:
        song.begin(heard)
        song.take()

    for _ in range(8):  # until what windows keep is full
        a_chunk()
    taken = best_of(20, a_chunk)
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    rate = measure_machine(torch.device("cpu"), dtype, share_processor())["convolution, Gflop/s"]
    done, kind = operations / taken / 1e9, "bfloat16" if bfloat16 else "float32"
    return {
        f"stream in {kind}, ×": shape.frames * shape.hop / RATE / taken,
        f"stream in {kind}, Gflop/s of products": done,
        f"fastest convolution in {kind}, Gflop/s": rate,
        f"stream in {kind}, share of it, %": 100 * done / rate,
    }


def _multiplications(graph: Graph, node: Node, frames: int) -> int:
    """Return how many products of two numbers a node takes."""
    if node.op not in ("convolution", "matmul"):
        return 0
    left, right = (graph.nodes[place].sizes(frames) for place in node.inputs[:2])
    if node.op == "matmul":
        return prod(node.sizes(frames)) * left[-1]
    pixels = left if node.given["transposed"] else node.sizes(frames)
    return prod(right) * prod(pixels[2:]) * pixels[0]


def measure_tiles(model: Model, lanes: int, seconds: float) -> float:
    """Return what the network takes for the tiles of one song, in seconds of all lanes."""
    computing = Computing()
    shape = computing.tile_shape(model.network)
    noise = np.random.default_rng(0).standard_normal((2, int(seconds * RATE)), np.float32)
    tiles = list(cut([noise], shape))
    workers = make_lanes([model], computing, lanes)

    def a_song(lane: Lane) -> None:
        for tile in tiles:
            lane(tile.signal[None], tile.context)

    def all_lanes() -> None:
        with ThreadPoolExecutor(len(workers)) as threads:
            list(threads.map(a_song, workers))

    all_lanes()
    return best_of(3, all_lanes) / len(workers)


def measure_roofline(model: Model, lanes: int, seconds_a_tile: float) -> Figures:
    """Compare the network with what this machine multiplies and moves at most."""
    dtype = fast_dtype(model.device)
    shape = Computing().tile_shape(model.network)
    signal = torch.randn(1, 2, shape.core + 2 * shape.context) / 10
    moved = 0

    def count(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += sum(x.numel() * x.element_size() for x in (*inputs, output))

    leaves = [module for module in model.network.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(count) for module in leaves]
    with (
        torch.inference_mode(),
        torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32),
        FlopCounterMode(display=False) as flops,
    ):
        model.network(signal.to(model.device), shape.context)
    for hook in hooks:
        hook.remove()
    # beside the layers: a spectrogram is read or written by STFT, magnitude, mask and inverse
    moved += 8 * 8 * signal.shape[1] * 2049 * (signal.shape[-1] // 1024)
    rates = measure_machine(model.device, dtype, lanes)
    operations = flops.get_total_flops()
    bound = max(
        lanes * operations / rates["convolution, Gflop/s"] / 1e9,
        lanes * moved / rates["memory, GB/s"] / 1e9,
    )
    achieved = lanes * operations / seconds_a_tile / 1e9
    return {
        **rates,
        "network, Gflop a tile": operations / 1e9,
        "network, GB moved a tile": moved / 1e9,
        "network, Gflop/s, all of it counted as convolution": achieved,
        "share of the convolution rate, %": 100 * achieved / rates["convolution, Gflop/s"],
        "share of the roofline, %": 100 * bound / seconds_a_tile,
    }


def measure_machine(device: torch.device, dtype: torch.dtype, lanes: int) -> Figures:
    """Measure matrix product, convolution and copying with one thread in each lane."""
    size, pixels = 2048, (384, 768)
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    picture = torch.randn(1, 64, *pixels, device=device, dtype=dtype)
    picture = picture.to(memory_format=torch.channels_last)
    convolution = nn.Conv2d(64, 64, 5, padding=2, bias=False).to(device, dtype)
    convolution = convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    source = torch.zeros(1 << 26, device=device)
    targets = [torch.zeros_like(source) for _ in range(lanes)]

    def everywhere(work: Callable[[int], object]) -> float:
        def timed() -> None:
            with ThreadPoolExecutor(lanes) as threads, torch.inference_mode():
                list(threads.map(inferring(work), range(lanes)))
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        timed()
        return best_of(5, timed)

    products = 2 * size**3 * lanes
    flops = 2 * 64 * 64 * 25 * pixels[0] * pixels[1] * lanes
    copied = 2 * 4 * source.numel() * lanes
    return {
        "matrix product, Gflop/s": products / everywhere(lambda _: matrix @ matrix) / 1e9,
        "convolution, Gflop/s": flops / everywhere(lambda _: convolution(picture)) / 1e9,
        "memory, GB/s": copied / everywhere(lambda i: targets[i].copy_(source)) / 1e9,
    }


def inferring(work: Callable[[int], object]) -> Callable[[int], object]:
    def inner(lane: int) -> object:
        with torch.inference_mode():
            return work(lane)

    return inner


def measure_commands(song: Path, seconds: float, options: tuple[str, ...]) -> Figures:
    """Measure the whole command on one song, start-up and files included."""
    figures: Figures = {}
    wav = song.with_suffix(".wav")
    if not wav.exists():
        make_song(wav, seconds)
    for source in (song, wav):
        command = ("separate", source.name, "--overwrite", *options)
        taken, memory = min(run(*command, folder=song.parent) for _ in range(3))
        name = f"{source.suffix[1:]} to two wav"
        figures |= {f"{name}, s": taken, f"{name}, ×": seconds / taken, f"{name}, MB": memory}
    return figures


def measure_against(other: Path, folder: Path, seconds: float, options: tuple[str, ...]) -> Figures:
    """Measure whole commands, by turns with those of another checkout: the best of three each."""
    figures: Figures = {}
    songs = folder / "folder"
    songs.mkdir()
    for index in range(8):
        make_song(songs / f"{index}.wav", 60)
    sources = {
        "3 s of wav": make_song(folder / "short.wav", 3),
        f"{seconds:g} s of mp3": make_song(folder / "long.mp3", seconds),
        "8 wavs of 60 s": songs,
    }
    roots = {"there": other.resolve(), "here": ROOT}
    for name, source in sources.items():
        command = ("separate", source, "--overwrite", *options)
        run(*command, folder=folder)  # keeps the compiled network
        runs = [
            {place: run(*command, folder=folder, root=root) for place, root in roots.items()}
            for _ in range(3)
        ]
        best = {place: min(each[place] for each in runs) for place in roots}
        for place, (taken, memory) in best.items():
            figures |= {f"{name}, {place}, s": taken, f"{name}, {place}, MB": memory}
        figures[f"{name}, times as fast"] = best["there"][0] / best["here"][0]
    return figures


def show(figures: Figures, path: Path | None) -> None:
    """Print figures, and write them to a file of JSON."""
    for label, value in figures.items():
        shown = f"{value:>10.4g}" if isinstance(value, float) else f"{value:>10}"
        print(f"{label:65} {shown}")
    if path:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure_folders(
    folder: Path,
    counts: list[int],
    seconds: float,
    options: tuple[str, ...],
    steps: Figures,
    network: float,
    returning: bool,
) -> Figures:
    """Measure folders of songs of a minute or so, beside what their steps take alone.

    `network` is what the network takes for one of the songs, in seconds.
    """
    figures: Figures = {}
    cores = os.cpu_count() or 1
    coding = seconds / steps["decode mp3, ×"] + seconds / steps["encode two wav, ×"]
    figures["a song's decoding and encoding on all cores, s"] = coding / cores
    figures["a song's network on all lanes, s"] = network
    first = make_song(folder / "first.mp3", seconds)
    for count in counts:
        songs = folder / f"{count} songs"
        songs.mkdir()
        for index in range(count):
            (songs / f"{index}.mp3").write_bytes(first.read_bytes())
        command = (*["returning"] * returning, "separate", songs, "-o", folder / f"out {count}")
        taken, memory = run(*command, *options, folder=folder)
        name = f"{count} songs of {seconds:g} s"
        figures |= {f"{name}, ×": count * seconds / taken, f"{name}, MB": memory}
        figures[f"{name}, s"] = taken
        # on a processor both share the cores: the sum is what could be reached, not the longer
        longer, both = max(coding / cores, network), coding / cores + network
        figures[f"{name}, start-up and all, over the longer of both"] = taken / count / longer
        figures[f"{name}, start-up and all, over their sum"] = taken / count / both
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--songs", default="1,10,100", help="how many songs a folder has")
    parser.add_argument(
        "--returning",
        action="store_true",
        help="in folders, hand all freed memory back at once (glibc): peaks of what is in use",
    )
    parser.add_argument("--each", type=float, default=60, help="seconds of a folder's song")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="unet")
    parser.add_argument("--precision", default="auto", help="of whole commands, with --against")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, too")
    parser.add_argument("--stream", action="store_true", help="measure the stream alone")
    parser.add_argument("--against", type=Path, help="another checkout, to run by turns")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    # commands run in a folder of their own: a model's path must hold there, too
    name = str(Path(given.model).resolve()) if Path(given.model).is_dir() else given.model
    if given.against:
        with TemporaryDirectory() as temporary:
            device = ("--device", given.device, "--precision", given.precision)
            options: tuple[str, ...] = (*device, "--model", name)
            place = Path(temporary)
            show(measure_against(given.against, place, given.seconds, options), given.json)
        return
    if given.stream:
        for bfloat16 in (False, True)[: 1 + has_bfloat16()]:
            show(measure_stream(given.model, bfloat16), None)
        return
    reuse_freed_memory()
    lanes = share_processor()
    model = load_model(given.model, pick_device(given.device), folded=True)
    options = ("--device", given.device, "--model", name)
    figures: Figures = {"processors": os.cpu_count(), "torch": torch.__version__}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        song = make_song(folder / "song.mp3", given.seconds)
        figures |= measure_start(folder, options)
        figures |= measure_steps(song, given.seconds, model, lanes)
        figures |= measure_compiled(model) if given.compile else {}
        for bfloat16 in (False, True)[: 1 + has_bfloat16()] if given.device == "cpu" else ():
            figures |= measure_stream(name, bfloat16)
        figures |= measure_roofline(model, lanes, figures["network, s a tile and lane"])
        figures |= measure_commands(song, given.seconds, options)
        counts = [int(count) for count in given.songs.split(",") if count]
        network = measure_tiles(model, lanes, given.each)
        figures |= measure_folders(
            folder, counts, given.each, options, figures, network, given.returning
        )
    show(figures, given.json)


if __name__ == "__main__":
    main()

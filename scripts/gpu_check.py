"""Check everything that a GPU does for splitter, in one table, in at most eight minutes.

    python -m scripts.gpu_check [--device cuda] [--json gpu.json]
    python -m scripts.gpu_check --device cpu --small         # the script itself, on any machine

Each row says what is asked, what was found, and whether that will do; rows without a limit are
figures. A check that fails does not keep the others from running. The status is 1 if one failed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from scripts.benchmark import best_of, make_song, measure_roofline, measure_tiles, run
from splitter import separate
from splitter.datasets import Signal, read_sound
from splitter.devices import fast_dtype, pick_device, training_dtype
from splitter.engines.lanes import make_lanes
from splitter.engines.sharing import SharedNetwork
from splitter.loading import Model, load_model
from splitter.registry import CONFIG, find_model, read_config
from splitter.runtime.computing import Computing
from splitter.training.batches import Batch
from splitter.training.loop import Trainer
from splitter.training.recipe import Recipe

EXACT, FAST = 80, 45  # dB: agreement asked of float32, and of bfloat16 or float16
DEADLINE = 8 * 60  # seconds
RATE = 44100  # Hz
MODELS = ("unet", "unet-fast", "unet-free")


@dataclass(frozen=True)
class Size:
    """How much is done."""

    models: tuple[str, ...] = MODELS
    heard: float = 60  # seconds of song that are compared
    long: float = 240  # seconds of song that are timed
    songs: int = 32
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    steps: int = 10  # of training
    crop: int = 294_912  # samples of an example in training
    roofline: bool = True


SMALL = Size(("unet-fast",), 3, 3, 2, (1, 2), 2, 65_536, roofline=False)


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    found: float
    unit: str
    least: float | None = None

    @property
    def fails(self) -> bool:
        """Tell whether less was found than is asked for."""
        return self.least is not None and not self.found >= self.least

    def __str__(self) -> str:
        asked = "" if self.least is None else f"≥ {self.least:g}"
        verdict = "" if self.least is None else "FAILS" if self.fails else "ok"
        return f"| {self.what} | {self.found:.4g} {self.unit} | {asked} | {verdict} |"


@dataclass(frozen=True)
class Bench:
    """What all checks need."""

    device: torch.device
    size: Size
    folder: Path

    def load(self, name: str, device: torch.device | str | None = None) -> Model:
        """Load a model onto the device, or onto another."""
        return load_model(name, device or self.device, folded=True)

    def song(self, seconds: float) -> Signal:
        """Make a song."""
        path = self.folder / f"{seconds:g}.wav"
        return read_sound(path if path.exists() else make_song(path, seconds))[0]

    def wait(self) -> None:
        """Wait until the GPU has done all that it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def agreement(truth: Signal, other: Signal) -> float:
    """Return the energy of one signal against what another differs by, dB."""
    error = np.square(truth - other, dtype=np.float64).sum()
    return float(10 * np.log10(np.square(truth, dtype=np.float64).sum() / max(error, 1e-20)))


def check_agreement(bench: Bench) -> Iterator[Row]:
    """Compare the vocals of every model with the processor's in float32."""
    song = bench.song(bench.size.heard)
    exact = Computing(precision="float32")
    kind = str(fast_dtype(bench.device)).removeprefix("torch.") + ", the fastest"
    for name in bench.size.models:
        truth = separate(song, RATE, bench.load(name, "cpu"), exact)["vocals"]
        model = bench.load(name)
        for title, computing, least in (
            ("float32", exact, EXACT),
            (kind, Computing(), FAST),
            (f"{kind}, 4 tiles at a time", Computing(batch=4), FAST),
        ):
            vocals = separate(song, RATE, model, computing)["vocals"]
            yield Row(f"{name}: agrees in {title}", agreement(truth, vocals), "dB", least)


def check_lanes(bench: Bench) -> Iterator[Row]:
    """Give two lanes the tiles of several songs at once; each must get its own back."""
    model = bench.load(bench.size.models[0])
    songs = [np.roll(bench.song(bench.size.heard), 7 * number, axis=-1) for number in range(3)]
    alone = [separate(song, RATE, model)["vocals"] for song in songs]
    with SharedNetwork(make_lanes([model, model], Computing(batch=0), 2)) as network:
        shared = Computing(runner=network.run)
        with ThreadPoolExecutor(len(songs)) as threads:
            call = partial(separate, rate=RATE, model=model, computing=shared)
            together = [stems["vocals"] for stems in threads.map(call, songs)]
    worst = min(agreement(one, other) for one, other in zip(alone, together, strict=True))
    yield Row("lanes that share batches: songs agree with themselves alone", worst, "dB", FAST)


def check_batches(bench: Bench) -> Iterator[Row]:
    """Measure memory and speed by the number of tiles at a time."""
    model = bench.load(bench.size.models[0])
    shape = Computing().tile_shape(model.network)
    for batch in bench.size.batches:
        lane = make_lanes([model], Computing(batch=batch), 1)[0]
        tiles = np.random.default_rng(0).standard_normal(
            (batch, 2, shape.core + 2 * shape.context), np.float32
        )
        if bench.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(bench.device)
        taken = best_of(2, partial(lane, tiles, shape.context))
        yield Row(f"a batch of {batch}", batch * shape.core / RATE / taken, "× real time")
        if bench.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(bench.device) / 1e9
            yield Row(f"a batch of {batch}: peak", peak, "GB")


def check_roofline(bench: Bench) -> Iterator[Row]:
    """Hold the network's rate against what the device multiplies and moves at most."""
    for name in bench.size.models[:2] if bench.size.roofline else ():
        model = bench.load(name)
        shape = Computing().tile_shape(model.network)
        seconds = measure_tiles(model, 1, bench.size.long)
        tiles = max(1, -(-int(bench.size.long * RATE) // shape.core))
        for what, value in measure_roofline(model, 1, seconds / tiles).items():
            yield Row(f"{name}: {what}", value, "")


def check_commands(bench: Bench) -> Iterator[Row]:
    """Time the whole command on a song and on a folder, and see that both make the same."""
    model = bench.size.models[0]
    name = str(Path(model).resolve()) if Path(model).is_dir() else model
    options = ("--device", bench.device.type, "--overwrite", "--model", name)
    seconds, folder = bench.size.long, bench.folder
    make_song(folder / "song.mp3", seconds)
    taken, memory = run("separate", "song.mp3", *options, folder=folder)
    yield Row("whole command, one song", taken, "s")
    yield Row("whole command, one song", seconds / taken, "× real time")
    yield Row("whole command, one song: memory", memory / 1000, "GB")
    songs = folder / "songs"
    songs.mkdir()
    for number in range(bench.size.songs):
        (songs / f"{number}.mp3").write_bytes((folder / "song.mp3").read_bytes())
    taken, _ = run("separate", "songs", "-o", "stems", *options, folder=folder)
    yield Row(f"a folder of {bench.size.songs} songs", bench.size.songs * seconds / taken, "×")
    alone = read_sound(folder / "song/vocals.wav")[0]
    worst = min(
        agreement(alone, read_sound(path)[0]) for path in (folder / "stems").rglob("vocals.wav")
    )
    yield Row("a folder's stems agree with a song's alone", worst, "dB", FAST)


def check_training(bench: Bench) -> Iterator[Row]:
    """Take steps on one batch: the first loss is the processor's, and the loss falls."""
    config = read_config(find_model(bench.size.models[0]) / CONFIG)
    recipe = Recipe(
        network=config.network, sizes={**config.sizes, "dropout": 0.0}, optimizer="muon",
        batch=4, crop=bench.size.crop, steps=1000, warmup=1, learning_rate=1e-3, loss="segments",
    )  # fmt: skip
    song = np.resize(bench.song(bench.size.heard), (4, 2, recipe.crop))
    voice = np.roll(song, recipe.crop // 3, axis=-1) * np.float32(0.5)
    batch = Batch(
        torch.from_numpy(song + voice), torch.from_numpy(voice), torch.full((4,), RATE / 2)
    )

    def losses(device: torch.device, dtype: torch.dtype, steps: int) -> list[float]:
        trainer = Trainer(recipe, bench.folder / "run", device, dtype)
        return [step.loss for step in _steps(trainer, batch, steps)]

    truth = losses(torch.device("cpu"), torch.float32, 1)[0]
    dtype = training_dtype(bench.device)
    begun = time.perf_counter()
    found = losses(bench.device, dtype, bench.size.steps)
    bench.wait()
    taken = (time.perf_counter() - begun) / bench.size.steps
    yield Row("training: the first loss, less its distance from the processor's",
              -abs(found[0] - truth), "", -0.02 * abs(truth))  # fmt: skip
    yield Row("training: the loss falls by", found[0] - found[-1], "", 0)
    yield Row("training: examples", 4 * recipe.crop / RATE / taken, "× real time")


@dataclass(frozen=True)
class _Step:
    loss: float


def _steps(trainer: Trainer, batch: Batch, count: int) -> Iterator[_Step]:
    for _ in range(count):
        yield _Step(trainer.take_step(batch))
        trainer.step += 1


CHECKS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "agreement": check_agreement,
    "lanes": check_lanes,
    "training": check_training,
    "commands": check_commands,
    "batches": check_batches,
    "roofline": check_roofline,
}


def check(bench: Bench, begun: float) -> Iterator[Row]:
    """Yield all rows; one that could not be found has no number."""
    for name, rows in CHECKS.items():
        if time.monotonic() - begun > DEADLINE:
            yield Row(f"{name}: no time was left", np.nan, "", 0)
            continue
        try:
            yield from rows(bench)
        except Exception as error:  # the other checks are to run all the same
            yield Row(f"{name}: {type(error).__name__}: {error}".replace("\n", " "), np.nan, "", 0)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    begun = time.monotonic()
    device = pick_device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(f"{name}, PyTorch {torch.__version__}\n\n| what | found | asked | |\n|---|--:|--:|---|")
    rows = []
    with TemporaryDirectory() as folder:
        for row in check(Bench(device, SMALL if given.small else Size(), Path(folder)), begun):
            print(row, flush=True)
            rows.append(row)
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    raise SystemExit(any(row.fails for row in rows))


if __name__ == "__main__":
    main()

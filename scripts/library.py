"""Separate a large library of short songs, some broken, in runs that are killed; prove the result.

    python -m scripts.library --songs 100000 --broken 0.01 --kills 5 [--plot memory.png]
        [--folder FOLDER]
    python -m scripts.library --songs 2000 --shards 8 --kills 2
    python -m scripts.library --songs 2000 --raylets 3 --every 10 --kills 0

A run, or each of several shards, is started again after it was killed, until all have come to their
end; of a Ray cluster on this machine, a raylet is killed every so often, and another one started.
Then every good song has its stems, whole; the journal says once of each that it is done; the broken
ones are listed, there and by --failures; and the plot shows what memory was. With --folder
this script goes on where it was itself stopped. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests import sounds
from tests.commands import ENVIRONMENT

RATE = 44100  # Hz
SAMPLES = 2205  # 50 ms
IN_FOLDER = 1000  # songs
EVERY = 0.5  # seconds between two looks at memory
STEMS = ("vocals", "instrumental")


@dataclass
class Process:
    """A run over a shard, or over all; started again whenever it was killed."""

    command: Sequence[object]
    kills: int  # that are still to come
    record: Path  # of memory: a line each of start, songs that all have done, MB
    running: subprocess.Popen[bytes] | None = None
    status: int | None = None

    def __post_init__(self) -> None:
        """Go on from the record of a script that was stopped."""
        self.memory = list(read_memory_record(self.record))
        self.starts = max((start for start, _, _ in self.memory), default=0)

    def start(self) -> None:
        """Start, or start again."""
        self.starts += 1
        self.running = subprocess.Popen(
            [sys.executable, "-m", "splitter", *map(str, self.command)],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def look(self, done: int) -> bool:
        """Note memory, and how many songs are done; tell whether it is over."""
        assert self.running
        self.status = self.running.poll()
        if self.status is None:
            self.memory.append((self.starts, done, read_memory(self.running.pid)))
            with self.record.open("a", encoding="utf-8") as file:
                file.write(",".join(map(str, self.memory[-1])) + "\n")
        return self.status is not None

    def kill(self) -> None:
        """Kill it, and start it again."""
        assert self.running
        self.running.kill()
        self.running.wait()
        self.kills -= 1
        self.start()


def make_library(folder: Path, songs: int, broken: float, seed: int = 0) -> set[Path]:
    """Write short songs, unless they are there; return the paths of those that are broken."""
    draw = random.Random(seed)
    part = folder.with_suffix(".part")
    part.mkdir(parents=True, exist_ok=True)
    song = sounds.write(part / "song.wav", sounds.noise(SAMPLES, 1), RATE).read_bytes()
    (part / "song.wav").unlink()
    bad = set()
    for index in range(songs):
        name = Path(f"{index // IN_FOLDER:04}", f"song {index % IN_FOLDER:03}.wav")
        if draw.random() < broken:
            bad.add(folder / name)
        if not folder.is_dir():
            (part / name).parent.mkdir(exist_ok=True)
            (part / name).write_bytes(song[:30] if folder / name in bad else song)
    if not folder.is_dir():
        part.rename(folder)
    return bad


def read_memory_record(path: Path) -> Iterator[tuple[int, int, float]]:
    """Read starts, songs that were done, and MB."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        start, done, memory = line.split(",")
        yield int(start), int(done), float(memory)


def read_memory(process: int, what: str = "VmRSS") -> float:
    """Read how much memory a process has, in MB; VmHWM: has had at most."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    line = next((line for line in status.splitlines() if line.startswith(what)), ": 0")
    return int(line.split()[1]) / 1024


def run_all(
    processes: Sequence[Process],
    out: Path,
    songs: int,
    seed: int = 0,
    raylets: Raylets | None = None,
) -> float:
    """Run until all have ended; kill some on their way; return the seconds taken."""
    draw = random.Random(seed)
    kills = sum(process.kills for process in processes)
    ends = Journals(out)
    moments = sorted(draw.uniform(0.05, 0.9) * songs for _ in range(kills))
    moments = [moment for moment in moments if moment > ends.count()]
    began = time.monotonic()
    for process in processes:
        process.start()
    while alive := [one for one in processes if not one.look(ends.count())]:
        time.sleep(EVERY if songs > IN_FOLDER else EVERY / 10)
        if raylets:
            raylets.look()
        if moments and ends.count() >= moments[0]:
            mortal = [one for one in alive if one.kills and one.status is None]
            if mortal:
                draw.choice(mortal).kill()
            moments.pop(0)
    return time.monotonic() - began


class Raylets:
    """A Ray cluster of this machine that loses a raylet every so many seconds, and gets another."""

    def __init__(self, count: int, every: float) -> None:
        from ray.cluster_utils import Cluster

        self.lost = 0
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self._raylets = deque(self._cluster.add_node(num_cpus=1) for _ in range(count))
        self._every, self._next = every, time.monotonic() + 2 * every  # it takes time to begin
        self.address = self._cluster.address

    def look(self) -> None:
        """Kill the oldest one, if it is time."""
        if time.monotonic() > self._next:
            self._next += self._every
            self._cluster.remove_node(self._raylets.popleft(), allow_graceful=False)
            self._raylets.append(self._cluster.add_node(num_cpus=1))
            self.lost += 1

    def close(self) -> None:
        """End it."""
        self._cluster.shutdown()  # type: ignore[no-untyped-call,unused-ignore]


class Journals:
    """How many songs the journals tell to be done; each byte is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: Counter[Path] = Counter()
        self._ends = 0

    def count(self) -> int:
        """Count them."""
        for path in self._folder.glob("splitter*.jsonl"):
            with path.open("rb") as file:
                file.seek(self._read[path])
                new = file.read()
            self._read[path] += len(new)
            self._ends += new.count(b'{"done"')
        return self._ends


def check(library: Path, out: Path, bad: set[Path]) -> dict[str, Any]:
    """Raise AssertionError for what is not as it should be; tell what was found."""
    songs = {path.resolve() for path in library.rglob("*.wav")}
    good = songs - {path.resolve() for path in bad}
    done: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for entries in map(read_journal, out.glob("splitter*.jsonl")):
        names = {}
        for entry in entries:
            if "song" in entry:
                names[entry["id"]] = entry["song"]
            done[names.get(entry.get("done"), "")] += "done" in entry
            failed[names.get(entry.get("failed"), "")] += "failed" in entry
    assert {name for name, count in done.items() if count} == set(map(str, good))
    assert max(done.values()) == 1, "a song was done twice"
    assert {name for name, count in failed.items() if count} == set(map(str, songs - good))
    sizes: Counter[int] = Counter()
    for song in good:
        for stem in STEMS:
            relative = song.relative_to(library.resolve())
            sizes[(out / relative.with_suffix("") / f"{stem}.wav").stat().st_size] += 1
    assert len(sizes) <= 2, sizes  # of each stem, its own
    assert not list(out.rglob("*.part"))
    return {"songs": len(songs), "done": len(good), "failed": len(songs) - len(good)}


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Read the lines of a journal; one that a kill has cut off is none."""
    for line in path.read_bytes().split(b"\n"):
        try:
            yield json.loads(line)
        except ValueError:
            continue


def check_lists(bad: set[Path], lists: Iterable[Path]) -> None:
    """Raise AssertionError unless the lists that --failures wrote name the broken songs."""
    told = b"".join(path.read_bytes() for path in lists).split(b"\0")
    assert sorted(filter(None, map(os.fsdecode, told))) == sorted(map(str, bad))


def draw_memory(path: Path, processes: Sequence[Process]) -> None:
    """Draw the memory of each process, of each of its starts, over the songs that are done."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    for process in processes:
        for start, looks in groupby(process.memory, key=itemgetter(0)):
            _, done, memory = zip(*looks, strict=True)
            axes.plot(done, memory, linewidth=1, label=f"start {start}")
    axes.set(xlabel="songs that are done", ylabel="memory, MB", ylim=(0, None))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(ncols=6, loc="lower right", frameon=False, fontsize="small")
    figure.savefig(path, dpi=80)


def main() -> None:
    """Make a library, separate it, kill, and check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--songs", type=int, default=2000)
    parser.add_argument("--broken", type=float, default=0.01, help="share of all songs")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--raylets", type=int, default=0, help="of a Ray cluster")
    parser.add_argument("--every", type=float, default=10.0, help="seconds until one is killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--folder", type=Path, help="work here, and leave it")
    arguments = parser.parse_args()
    with TemporaryDirectory() as made:
        folder = arguments.folder or Path(made)
        model = folder / "small"
        if not model.exists():
            sounds.write_small_model(model)
        bad = make_library(folder / "songs", arguments.songs, arguments.broken, arguments.seed)
        processes = make_processes(folder, model, arguments.shards, arguments.kills)
        raylets = Raylets(arguments.raylets, arguments.every) if arguments.raylets else None
        if raylets:
            cluster = ("--engine", "ray", "--address", raylets.address)
            processes[0].command = (*processes[0].command, *cluster)
        taken = run_all(processes, folder / "out", arguments.songs, arguments.seed, raylets)
        found: dict[str, Any] = check(folder / "songs", folder / "out", bad)
        check_lists(bad, folder.glob("failed.*"))
        found |= {"seconds": round(taken), "songs a second": round(arguments.songs / taken, 1)}
        found["starts"] = sum(process.starts for process in processes)
        if raylets:
            raylets.close()
            found["raylets killed"] = raylets.lost
        found["memory, MB"] = describe_memory(processes[0])
        sys.stdout.write(f"{json.dumps(found)}\n")
        sys.stdout.flush()
        if arguments.plot:
            draw_memory(arguments.plot, processes)


def make_processes(folder: Path, model: Path, shards: int, kills: int) -> list[Process]:
    """Say which runs there are; the first ones are killed in turn."""
    command = ("separate", "-q", "-r", folder / "songs", "-o", folder / "out", "--model", model)
    processes = []
    for index in range(shards):
        shard = ("--shard", f"{index + 1}/{shards}") if shards > 1 else ()
        failures = ("--failures", folder / f"failed.{index}")
        processes.append(
            Process(
                (*command, *shard, *failures),
                kills // shards + (index < kills % shards),
                folder / f"memory.{index}.csv",
            )
        )
    return processes


def describe_memory(process: Process) -> dict[str, float]:
    """Tell memory when a tenth, half, and nearly all of the songs were done."""
    last = process.memory[-1][1] if process.memory else 0
    told: dict[str, float] = {}
    for share in (0.1, 0.5, 0.99):
        after = (memory for _, done, memory in process.memory if done >= share * last)
        told[f"{share:.0%}"] = round(next(after, 0.0))
    return told


if __name__ == "__main__":
    main()

"""Measure what many songs cost, side by side with another checkout of splitter.

    python -m scripts.scale [ROW…] [--against CHECKOUT] [--model MODEL] [--songs SONGS]

    first     65,000 songs in folders of 100: seconds until the first stem
    songs     processor time of a song of 50 ms, beside the network's own
    journal   reading a journal of 300,000 songs: time, memory, bytes of file a song
    store     songs of 50 ms from an S3 server of this machine into it: requests and rate, without
              and with 50 ms of latency, and those of a run after it, which finds all done
    long      songs of 20 s, here and from such a server into it; give a --model that works
    million   a million songs of 1 kB in folders of 1,000, all done: a run that finds that, by a
              journal and two million stems; 5 million inodes, 12 GB
    plan      the plan of --dry-run for these songs; first with --folder finds them, too
    listing   the same in an S3 server, for fewer songs: its listings take ever longer
    whole     songs of 4 minutes: time and processor time of each
    ray       songs that take no time: how many a second the driver hands out; songs of 50 ms of
              waiting: what eight workers do, of eight times what one does

Every figure is of a process of its own that imports the checkout's package. The model is one of a
few thousand weights, so that what is measured is all that is not the network.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from scripts.library import read_memory
from splitter.jobs import Found, Search, find_songs
from splitter.jobs.lines import identify
from splitter.paths import locate, open_path
from tests import sounds
from tests.proxies import Proxy

ROOT = Path(__file__).parents[1]
SAMPLES = 2205  # of a song: 50 ms
LONG = 20 * 44100
IN_FOLDER = 100  # songs
STEMS = ("vocals", "instrumental")
Figures = dict[str, float]

READ = """
import sys, json, re, time
from pathlib import Path
from splitter.jobs import Journal
def read(name):
    return int(re.search(name + r":\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
Path("/proc/self/clear_refs").write_text("5")  # forget the peak
before, began = read("VmRSS"), time.process_time()
Journal(Path(sys.argv[1]), {})
print(json.dumps([time.process_time() - began, read("VmHWM") - before]))
"""
NETWORK = """
import sys, time
import numpy as np
from splitter.separation import separate_blocks
try:
    from splitter.loading import load_model
    from splitter.registry import ModelChoice
    from splitter.runtime.choose import compile_if_best
    choice = ModelChoice.parse(sys.argv[1])
    model = compile_if_best(choice, ["cpu"], many=True, exact=False) or load_model(choice)
except ImportError:
    from splitter.zoo import ModelChoice, load_model
    model = load_model(ModelChoice.parse(sys.argv[1]))
song = np.zeros((2, int(sys.argv[2])), np.float32)
for count in (5, 40):
    began = time.process_time()
    for _ in range(count):
        list(separate_blocks([song], 44100, 2, model))
print((time.process_time() - began) / count)
"""
RAY = """
import json, sys, time
from pathlib import Path
from threading import Lock
import ray
from splitter.engines import cluster
from splitter.engines.worker import Outcome, Work
from splitter.jobs import Job

workers, songs, taken = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
old = not hasattr(cluster, "Asked")
stems = ("vocals", "instrumental")

class Waiting(cluster.RemoteWorker):
    def start(self):
        self._turn = Lock()
        if not old:
            self._load, self.at_once = lambda: None, 1
            from concurrent.futures import ThreadPoolExecutor
            self._threads = ThreadPoolExecutor(3)
            return super().start()
    def separate(self, job):
        with self._turn:
            time.sleep(taken)
        return Outcome(job, error="waited")

cluster.RemoteWorker = Waiting
ray.init(num_cpus=workers, num_gpus=workers, log_to_driver=False, configure_logging=False)
folder = Path("/nowhere")
jobs = (
    Job(folder / f"{i}.mp3", {stem: folder / f"{i}" / f"{stem}.wav" for stem in stems}, 5000, 1.0)
    for i in range(songs)
)
if old:
    outcomes = cluster._run(jobs, cluster._Cluster(ray, None, Work()))
else:
    asked = cluster.Asked(None, Work())
    outcomes = cluster._Cluster(ray, asked, cluster.Schedule(jobs)).run()
moments, used = [], []
for outcome in outcomes:
    moments.append(time.monotonic())
    used.append(time.process_time())
first, last = songs // 2, songs - 1 - songs // 20  # while all workers have work
count = last - first
print(json.dumps([count / (moments[last] - moments[first]), (used[last] - used[first]) / count]))
"""


SERVER = """
import sys
from pathlib import Path
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import main
port, songs, stems = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
for bucket in ("songs", "stems"):
    store.create_bucket(bucket, "us-east-1")
for index in range(songs):
    name = f"{index // 1000:04}/song {index % 1000:03}"
    store.put_object("songs", f"songs/{name}.wav", bytes(1000))
    for stem in stems:
        store.put_object("stems", f"stems/{name}/{stem}.wav", b"")
main(["-H", "127.0.0.1", "-p", str(port)])
"""


class Taken(NamedTuple):
    """What a process took."""

    wall: float  # seconds
    processor: float  # seconds
    memory: float = 0.0  # MB, at most


class Checkout:
    """A checkout of splitter, whose package processes import."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def start(self, *command: object, **more: Any) -> subprocess.Popen[bytes]:
        """Start Python."""
        environment = {**os.environ, "PYTHONPATH": str(self.place), "OMP_NUM_THREADS": "2"}
        line = [sys.executable, *map(str, command)]
        return subprocess.Popen(line, env=environment, cwd=self.place, **more)

    def ask(self, program: str, *arguments: object) -> str:
        """Run a program; return what it prints."""
        process = self.start("-c", program, *arguments, stdout=subprocess.PIPE)
        told, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{self.place}: a program failed")
        return told.decode()

    def separate(self, *arguments: object) -> Taken:
        """Run `splitter separate`."""
        began = time.monotonic()
        command = ("-m", "splitter", "separate", "-q", *arguments)
        process = self.start(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        memory = 0.0
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            # not what wait4 tells, which is never less than what this process has
            memory = max(memory, read_memory(process.pid, "VmHWM"))
            time.sleep(0.02)
        process.returncode, used = os.waitstatus_to_exitcode(ended[1]), ended[2]
        if process.returncode:
            raise SystemExit(f"{' '.join(map(str, command))}: status {process.returncode}")
        return Taken(time.monotonic() - began, used.ru_utime + used.ru_stime, memory)


def make_songs(
    folder: Path, count: int, samples: int = SAMPLES, in_folder: int = IN_FOLDER
) -> Path:
    """Write short songs, so many to a folder."""
    song = sounds.write(folder.with_suffix(".wav"), sounds.noise(samples)).read_bytes()
    for index in range(count):
        place = folder / f"{index // in_folder:04}"
        if index % in_folder == 0:
            place.mkdir(parents=True)
        (place / f"song {index % in_folder:03}.wav").write_bytes(song)
    return folder


def measure_first(checkout: Checkout, folder: Path, model: Path, songs: int) -> Figures:
    """Measure how long the first stem takes, when the disk's folders have been read before."""
    library = folder / "library"
    if not library.exists():
        make_songs(library, songs)
    times = []
    for _ in range(2):
        shutil.rmtree(folder / "first", ignore_errors=True)
        arguments = ("-q", "-r", library, "-o", folder / "first", "--model", model)
        began = time.monotonic()
        process = checkout.start("-m", "splitter", "separate", *arguments, stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        times.append(time.monotonic() - began)
        process.kill()
        process.wait()
    return {f"first stem of {songs} songs, s": min(times)}


def measure_songs(checkout: Checkout, folder: Path, model: Path, songs: int) -> Figures:
    """Measure what a short song costs beside the network."""
    taken = []
    for count in (20, 20 + songs):
        library = make_songs(folder / f"songs-{count}", count)
        times = []
        for _ in range(2):
            times.append(checkout.separate("-r", library, "-o", folder / "out", "--model", model))
            shutil.rmtree(folder / "out")
        taken.append(map(min, zip(*times, strict=True)))
        shutil.rmtree(library)
    wall, used, _ = (1000 * (many - few) / songs for few, many in zip(*taken, strict=True))
    return {
        f"a song of 50 ms, {model.name}, ms": wall,
        "of the processor, ms": used,
        "of these the network's own, ms": 1000 * float(checkout.ask(NETWORK, model, SAMPLES)),
    }


def measure_journal(checkout: Checkout, folder: Path, _: Path, songs: int) -> Figures:
    """Measure reading a journal, in the format that the checkout itself writes."""
    write = write_journal if (checkout.place / "splitter/jobs/lines.py").exists() else write_old
    figures = {}
    rows = []
    for count in (0, songs):
        place = folder / f"journal-{count}"
        place.mkdir()
        size = write(place / "splitter.jsonl", count)
        rows.append(json.loads(checkout.ask(READ, place)))
        shutil.rmtree(place)
    figures[f"journal of {songs} songs, s"] = rows[1][0] - rows[0][0]
    figures["memory, MB"] = rows[1][1] - rows[0][1]
    figures["bytes of file a song"] = size / songs
    return figures


def write_journal(path: Path, songs: int) -> int:
    """Write a journal as it is now."""
    with path.open("w", encoding="utf-8") as file:
        for index in range(songs):
            name = f"{index // 100:05}/song {index % 100:03}"
            files = [f"{name}/{stem}.wav" for stem in ("vocals", "instrumental")]
            entry = {"id": f"{index:012x}", "song": f"/data/music/{name}.mp3", "files": files}
            file.write(f"\n{json.dumps(entry, separators=(',', ':'))}")
            file.write(f'\n{{"done":"{index:012x}"}}')
    return path.stat().st_size


def write_old(path: Path, songs: int) -> int:
    """Write a journal of the first schema: two lines a song, each with all that is known."""
    settings = {"model": "0" * 16, "format": {"container": "wav", "bits": None, "clip": "clamp"}}
    with path.open("w", encoding="utf-8") as file:
        for index in range(songs):
            name = f"{index // 100:05}/song {index % 100:03}"
            files = {stem: f"{name}/{stem}.wav" for stem in ("vocals", "instrumental")}
            entry: dict[str, Any] = {
                "schema": 1,
                "song": f"/data/music/{name}.mp3",
                "stems": files,
                "size": 5_000_000,
                "mtime": 1.7e9,
                "settings": settings,
                "made": sorted(files.values()),
            }
            for error in ("not finished", None):
                file.write(f"\n{json.dumps({**entry, 'error': error})}")
    return path.stat().st_size


def measure_whole(checkout: Checkout, folder: Path, model: Path, songs: int) -> Figures:
    """Measure what songs of 4 minutes cost, start-up apart, of which all processors have one."""
    at_once = os.cpu_count() or 1
    taken = []
    for count in (at_once, at_once * (1 + songs)):
        library = make_songs(folder / "whole", count, 240 * 44100)
        taken.append(checkout.separate("-r", library, "-o", folder / "out", "--model", model))
        shutil.rmtree(library)
        shutil.rmtree(folder / "out")
    wall, used, _ = ((many - few) / songs / at_once for few, many in zip(*taken, strict=True))
    return {f"a song of 4 minutes, {model.name}, s": wall, "of the processor, s": used}


def measure_long(checkout: Checkout, folder: Path, model: Path, songs: int) -> Figures:
    """Measure songs of 20 s, here and from a store into it."""
    library = make_songs(folder / "long", songs, LONG)
    taken = checkout.separate("-r", library, "-o", folder / "out", "--model", model)
    shutil.rmtree(library)
    shutil.rmtree(folder / "out")
    stored = measure_store(checkout, folder, model, songs, LONG)
    figures = {name: value for name, value in stored.items() if "done before" not in name}
    here = f"{songs} songs of 20 s, here"
    return {f"{here}: s": taken.wall, f"{here}: s of the processor": taken.processor, **figures}


def measure_store(
    checkout: Checkout, _: Path, model: Path, songs: int, samples: int = SAMPLES
) -> Figures:
    """Measure songs from a store into it."""
    figures: Figures = {}
    with serve_s3() as server:
        for latency in (0.0, 0.05):
            name = f"songs-{time.time_ns()}"
            place: Any = open_path(f"s3://{name}")
            place.fs.mkdir(name)
            song = sounds.write(Path(os.environ["SONG"]), sounds.noise(samples)).read_bytes()
            for index in range(songs):
                place.fs.pipe_file(f"{name}/songs/{index // 50:02}/song {index:03}.wav", song)
            for run in ("", ", done before"):
                arguments = ("-r", f"s3://{name}/songs", "-o", f"s3://{name}/out")
                what = f"{songs} songs, {1000 * latency:.0f} ms{run}"
                told, requests = ask_server(checkout, server, latency, *arguments, "--model", model)
                figures |= {f"{what}: {name}": value for name, value in told.items()}
                figures[f"{what}: requests a song"] = requests.total() / songs
    return figures


def ask_server(
    checkout: Checkout, server: Server, latency: float, *arguments: object
) -> tuple[Figures, Counter[str]]:
    """Run `splitter separate`; tell what it took, and its server with the proxy before it."""
    with Proxy(server.url, latency) as proxy, environment(AWS_ENDPOINT_URL=proxy.url):
        before = server.used() + time.process_time()
        taken = checkout.separate(*arguments)
        beside = server.used() + time.process_time() - before
    told = {"s": taken.wall, "s of the processor": taken.processor, "s of the server's": beside}
    return told, proxy.requests


def make_million(folder: Path, songs: int) -> Path:
    """Write a library of many folders of 1,000 songs of 1 kB, unless it is there."""
    library = folder / "library"
    return library if library.exists() else make_songs(library, songs, 250, 1000)


def measure_plan(checkout: Checkout, folder: Path, model: Path, songs: int) -> Figures:
    """Measure the plan of such a library."""
    library = make_million(folder, songs)
    arguments = ("-r", library, "-o", folder / "planned", "--model", model)
    return describe(f"plan of {songs} songs", checkout.separate("--dry-run", *arguments))


def measure_million(checkout: Checkout, folder: Path, model: Path, songs: int) -> Figures:
    """Measure a run over such a library that finds all done."""
    library, out = make_million(folder, songs), folder / "out"
    settings = find_settings(checkout, folder, model)
    out.mkdir()
    found = (
        Found(path, path.parent.relative_to(library)) for path in sorted(library.glob("*/*.wav"))
    )
    with (out / "splitter.jsonl").open("w", encoding="utf-8") as file:
        for entry in tell_done(found, settings):
            file.write(f"\n{json.dumps(entry, separators=(',', ':'))}")
            for name in entry.get("files", ()):
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                (out / name).touch()
        size = file.tell()
    taken = checkout.separate("-r", library, "-o", out, "--model", model)
    assert (out / "splitter.jsonl").stat().st_size == size, "some were not known to be done"
    return {
        **describe(f"{songs} songs, done before", taken),
        "bytes of journal a song": size / songs,
    }


def describe(what: str, taken: Taken) -> Figures:
    """Name what a process took."""
    units = ("s", "s of the processor", "MB of memory")
    return {f"{what}: {unit}": value for unit, value in zip(units, taken, strict=True)}


def measure_listing(checkout: Checkout, folder: Path, model: Path, songs: int) -> Figures:
    """Measure how fast songs of a store are found to be done, from listings."""
    settings = find_settings(checkout, folder, model)
    with serve_s3(songs) as server:
        place: Any = open_path("s3://songs/songs")
        found = find_songs([place], Search(recursive=True))
        lines = "\n".join(json.dumps(entry) for entry in tell_done(found, settings))
        segment: Any = open_path("s3://stems/stems/.splitter/1-0.jsonl")
        segment.fs.pipe_file(segment.path, lines.encode())
        arguments = ("-r", place, "-o", "s3://stems/stems", "--model", model)
        told, requests = ask_server(checkout, server, 0.0, *arguments)
    assert requests["PUT"] == 0, "some were not known to be done"
    told["requests"] = requests.total()
    told["songs a second, without the server's"] = songs / told["s of the processor"]
    return {f"{songs} songs in a store, done before: {name}": told[name] for name in told}


def find_settings(checkout: Checkout, folder: Path, model: Path) -> Any:
    """Return the settings that a journal of such runs has."""
    one, out = make_songs(folder / "one", 1), folder / "settings"
    checkout.separate("-r", one, "-o", out, "--model", model)
    lines = (out / "splitter.jsonl").read_text(encoding="utf-8").splitlines()
    return next(json.loads(line)["settings"] for line in lines if line.startswith('{"settings"'))


def tell_done(songs: Iterable[Found], settings: Any) -> Iterator[dict[str, Any]]:
    """Yield what a journal tells of songs that are all done."""
    for found in songs:
        facts, song = found.look(), str(locate(found.path))
        files = {stem: f"{found.parent}/{found.path.stem}/{stem}.wav" for stem in STEMS}
        known = identify(song, facts.size, facts.mtime, files, settings)
        yield {"id": known, "song": song, "files": list(files.values())}
        yield {"done": known}


def measure_ray(checkout: Checkout, _: Path, __: Path, songs: int) -> Figures:
    """Measure how fast a driver hands out songs, and whether workers have to wait for it."""
    rate, used = json.loads(checkout.ask(RAY, 2, songs, 0))
    figures = {
        "songs that Ray's driver hands out, a second": rate,
        "its processor, ms": 1000 * used,
    }
    (one, _used), (eight, _used) = (
        json.loads(checkout.ask(RAY, workers, 200 * workers, 0.05)) for workers in (1, 8)
    )
    figures["songs of 50 ms, one worker, a second"] = one
    figures["eight workers, a second"] = eight
    figures["of eight times one, %"] = 100 * eight / one / 8
    return figures


@dataclass(frozen=True)
class Server:
    """An S3 server of this machine."""

    url: str
    process: int

    def used(self) -> float:
        """Return how much of the processor it has had, in seconds."""
        fields = Path(f"/proc/{self.process}/stat").read_text(encoding="utf-8").rsplit(")")[-1]
        return sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serve_s3(songs: int = 0) -> Iterator[Server]:
    """Start an S3 server, which may have songs, and their stems, already."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    access = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", SERVER, str(port), str(songs), *STEMS]
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server: subprocess.Popen[bytes] = subprocess.Popen(command, **quiet)
    try:
        with environment(AWS_ENDPOINT_URL=url, AWS_DEFAULT_REGION="us-east-1", **access):
            for _ in range(300 + songs // 100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            kind: Any = open_path("s3://songs").fs  # type: ignore[attr-defined]
            kind.clear_instance_cache()  # it may know a server that is gone
            yield Server(url, server.pid)
    finally:
        server.kill()
        server.wait()


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set variables of the environment for a while."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


ROWS: Mapping[str, tuple[Callable[[Checkout, Path, Path, int], Figures], int]] = {
    "first": (measure_first, 65_000),
    "songs": (measure_songs, 400),
    "journal": (measure_journal, 300_000),
    "store": (measure_store, 100),
    "long": (measure_long, 24),
    "whole": (measure_whole, 1),
    "ray": (measure_ray, 4000),
    "million": (measure_million, 1_000_000),
    "plan": (measure_plan, 1_000_000),
    "listing": (measure_listing, 33_000),
}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; all but the last three")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--model", help="a model of the package, in place of a very small one")
    parser.add_argument("--songs", type=int, help="for the rows that have many")
    parser.add_argument("--folder", type=Path, help="work here, and leave what is made")
    arguments = parser.parse_args()
    checkouts = [Checkout(ROOT)]
    if arguments.against:
        checkouts.insert(0, Checkout(arguments.against.resolve()))
    with TemporaryDirectory() as made:
        place = arguments.folder or Path(made)
        os.environ["SONG"] = str(place / "song.wav")
        model = Path(arguments.model or sounds.write_small_model(place / "small"))
        for row in arguments.rows or [*ROWS][:-3]:
            measure, songs = ROWS[row]
            found = [
                measure(checkout, place, model, arguments.songs or songs) for checkout in checkouts
            ]
            for name in found[-1]:
                told = [f"{figures[name]:.3g}" if name in figures else "?" for figures in found]
                sys.stdout.write(f"| {name} | {' | '.join(told)} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Run splitter on thousands of files that a stranger might send: none may harm, hang or mislead it.

    python -m scripts.mutate --cases 1000                   a thousand of each kind of target
    python -m scripts.mutate songs --cases 20000 --keep DIR     goes on where DIR's run stopped

Songs of all kinds, model folders, journals, tags and weights of other programs are made, spoiled by
a seeded mutator (`tests.mutations`), and given to the real command: in a process that takes one
case after the other, or, every so often, in one of its own. A case is a fault when the command ends
with a status other than 0, 1 or 2, prints a traceback, takes too long or too much memory, writes or
changes a file anywhere but in the output folder, leaves a part, or makes stems whose length is not
another decoder's. The table says how many there were of what; a fault's folder is kept, and the
exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import count, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from splitter.audio import OutputFormat, StemWriter, Tags, open_song
from splitter.errors import AudioError
from splitter.jobs import JOURNAL
from splitter.weights.checkpoint import read_facts
from tests import codecs, sounds
from tests.commands import Done, call, start
from tests.foreign import REFERENCES
from tests.mutations import NAMES, Random, dump, mutate_bytes, mutate_json, mutate_text, pick

LIMIT = 20.0  # seconds of a processor
PATIENCE = 240.0  # seconds by the clock, on a machine that is busy
MEMORY = 1.5 * 2**30  # bytes that a case of less than a megabyte may take, PyTorch included
SMALL = 2**20  # bytes
SPACE = 12 * 2**30  # bytes of addresses, so that a fault does not take the machine along
OWN_PROCESS = 500  # every so many cases the command has a process of its own
SECONDS = 0.3  # of a song
# what a codec's frames add at both ends: some decoders leave it there, some take it away
PADDING = 3000  # samples
# readers differ in what they make of the rest of a header that was cut off
SHORTEST = 32
LOSSY = re.compile(r"\.(mp[234]|m4a|og[ga]|opus|webm|wma|aac|ac3|aac\.mka|eac3\.mka)$")
SUSPECT = re.compile(r"Traceback|Exception ignored|exception being dropped|not enough memory")
SOUNDFILES = ("au", "caf", "w64", "rf64", "nist", "voc", "avr", "ircam", "paf", "wavex")
CODED = {
    "tta": ("tta", "tta"),
    "ac3": ("ac3", "ac3"),
    "mp2": ("mp2", "mp2"),
    "adpcm.wav": ("wav", "adpcm_ms"),
    "eac3.mka": ("matroska", "eac3"),
}


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    target: str
    kind: str  # of a target: a format, what was mutated
    number: int
    status: int | None = None
    fault: str = ""  # "" is none
    seconds: float = 0.0  # of a processor
    memory: int = 0  # bytes, at most at one time


@dataclass(frozen=True)
class Case:
    """What the command is given."""

    kind: str
    arguments: Sequence[object]
    stdin: bytes = b""
    size: int = 0  # bytes of what a stranger sent
    song: Path | None = None  # whose length the stems must have


class Songs:
    """Sound in every format that is known here, its bytes spoiled."""

    def __init__(self, folder: Path) -> None:
        self.model = sounds.write_small_model(folder / "model")
        self.songs = {kind: data for kind, data in make_songs(folder) if data}

    def prepare(self, number: int, box: Path, random: Random) -> Case:
        """Write a song that is damaged."""
        kind = list(self.songs)[number % len(self.songs)]
        data = mutate_bytes(self.songs[kind], random)
        partial = ["--keep-partial"] * (not random.integers(4))
        more: list[object] = ["-o", "out", "--model", self.model, *partial]
        if not random.integers(10):
            return Case(kind, ["separate", "-", *more], data, len(data))
        path = box / f"song.{kind}"
        path.write_bytes(data)
        return Case(kind, ["separate", path, *more], size=len(data), song=path)


class Models:
    """Model folders: what their config says, and what their weights are."""

    def __init__(self, folder: Path) -> None:
        self.folders = [sounds.write_small_model(folder / "small")]
        self.song = sounds.write(folder / "song.wav", sounds.song(SECONDS))

    def prepare(self, number: int, box: Path, random: Random) -> Case:
        """Write a model folder that is spoiled in one file."""
        kinds = {"config": _spoil_config, "weights": _spoil_weights, "average": _spoil_average}
        kind = list(kinds)[number % 3]
        model = box / "models" / "mine"
        shutil.copytree(pick(self.folders, random), model)
        kinds[kind](model, random)
        size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
        arguments = ["separate", self.song, "-o", "out", "--model", model]
        return Case(kind, arguments, size=size, song=self.song)


def _spoil_config(model: Path, random: Random) -> None:
    config = model / "config.json"
    whole = json.loads(config.read_text("utf-8"))
    changes = ("stems", "residual", "rate", "channels")
    if not random.integers(3):  # a name or a size, in the right place
        whole[pick(changes, random)] = mutate_json(["x"], random)
    elif not random.integers(3):
        whole["sizes"] = mutate_json(whole["sizes"], random)
    config.write_bytes(mutate_text(whole, random) if random.integers(4) else dump(whole))


def _spoil_weights(model: Path, random: Random) -> None:
    weights = model / "weights.safetensors"
    data = weights.read_bytes()
    action = int(random.integers(8))
    if action == 0:
        weights.unlink()
        os.mkfifo(weights)
    elif action == 1:
        weights.unlink()
        weights.symlink_to(pick(["/dev/zero", "weights.safetensors", "gone", ".."], random))
    elif action < 5:
        weights.write_bytes(mutate_bytes(data, random))
    else:  # its head is JSON, too
        size = int.from_bytes(data[:8], "little")
        head = mutate_text(json.loads(data[8 : 8 + size]), random)
        weights.write_bytes(len(head).to_bytes(8, "little") + head + data[8 + size :])


def _spoil_average(model: Path, random: Random) -> None:
    shutil.copytree(model, model.with_name("other"))
    names = [str(pick(("mine", "other", *NAMES), random)) for _ in range(random.integers(1, 4))]
    average = {"network": "average", "models": names * pick([1, 1, 1, 200], random)}
    if random.integers(2):
        _spoil_config(model.with_name("other"), random)
        average["models"] = ["first", "other"]
        shutil.copytree(model, model.with_name("first"))
    text = dump(average) if random.integers(2) else mutate_text(average, random)
    (model / "config.json").write_bytes(text)


class Journals:
    """What a run left in its output folder."""

    def __init__(self, folder: Path) -> None:
        self.model = sounds.write_small_model(folder / "model")
        for name in ("a.wav", "b.wav"):
            sounds.write(folder / "run/songs" / name, sounds.song(0.1))
        self.whole = folder / "run"
        arguments = ("separate", "songs", "-o", "out", "--model", self.model)
        assert call(*arguments, folder=self.whole).status == 0

    def prepare(self, number: int, box: Path, random: Random) -> Case:
        """Write an output folder whose journal is spoiled."""
        shutil.copytree(self.whole, box, dirs_exist_ok=True)
        (box / "precious.wav").write_bytes(b"never touched")
        journal = box / "out" / JOURNAL
        action = int(random.integers(10))
        if action == 0:
            journal.unlink()
            os.mkfifo(journal)
        elif action == 1:
            journal.write_bytes(mutate_bytes(journal.read_bytes(), random))
        else:
            lines = [json.loads(line) for line in journal.read_bytes().splitlines() if line]
            place = int(random.integers(len(lines)))
            if not random.integers(3):
                lines[place]["made"] = [str(pick(NAMES, random)), str(box / "precious.wav")]
            spoiled = [mutate_text(line, random) if at == place else dump(line)
                       for at, line in enumerate(lines)]  # fmt: skip
            journal.write_bytes(b"\n".join(spoiled))
        template = ["--template", pick(["{name}.{stem}.{ext}", "../{name} {stem}.{ext}"], random)]
        existing = pick([[], ["--overwrite"], ["--skip-existing"], template], random)
        arguments = ["separate", "songs", "-o", "out", "--model", self.model, *existing]
        return Case(f"journal {' '.join(existing[:1])}".strip(), arguments)


class Labels:
    """What songs call themselves."""

    def __init__(self, folder: Path) -> None:
        self.model = sounds.write_small_model(folder / "model")
        self.folder = folder

    def prepare(self, number: int, box: Path, random: Random) -> Case:
        """Write a song whose tags are odd, or spoiled."""
        kind, wanted = (
            pick(["wav", "flac", "mp3", "ogg", "opus", "m4a"], random) for _ in range(2)
        )
        texts = [str(pick(NAMES, random)).replace("\ud800", "?") for _ in range(4)]
        cover = pick([b"\x89PNG" + random.bytes(pick([0, 9, 200_000], random)), None], random)
        title, artist, album, genre = texts
        tags = Tags(
            title=title,
            artist=artist,
            album=album,
            genre=genre * pick([1, 1, 5000], random),
            cover=cover,
        )
        path = box / f"song.{kind}"
        try:
            with StemWriter(path, 44100, 2, OutputFormat(kind), tags) as writer:
                writer.write(sounds.song(0.1))
        except (AudioError, ValueError, UnicodeError):
            path = sounds.write(box / "song.wav", sounds.song(0.1))
        if random.integers(2):
            data = path.read_bytes()
            head = min(len(data), 4000)
            path.write_bytes(mutate_bytes(data[:head], random) + data[head:])
        template = pick(["{artist}/{title} {stem}.{ext}", "{title}{stem}", "{stem}"], random)
        more = ["--model", self.model, "--format", wanted, "--template", template]
        song = None if wanted in ("opus", "mp3", "m4a", "ogg") else path
        size = path.stat().st_size
        return Case(f"tags {kind}", ["separate", path, "-o", "out", *more], size=size, song=song)


class Weights:
    """Weights of other programs, and the yaml beside them."""

    def __init__(self, folder: Path) -> None:
        self.models = [path for path in sorted(REFERENCES.iterdir()) if path.is_dir()]

    def prepare(self, number: int, box: Path, random: Random) -> Case:
        """Write weights of another program that are spoiled, or what stands beside them."""
        model = self.models[number % len(self.models)]
        files = [path for path in model.iterdir() if path.suffix != ".npz"]
        for path in files:
            shutil.copy(path, box)
        # what is added goes where the output of other commands goes
        os.environ["XDG_CACHE_HOME"] = str(box / "out")
        spoiled = box / pick(sorted(path.name for path in files), random)
        if spoiled.suffix == ".yaml" and random.integers(4):
            # as JSON, which is YAML, too
            facts = json.loads(json.dumps(read_facts(spoiled)))
            spoiled.write_bytes(mutate_text(facts, random))
        else:
            spoiled.write_bytes(mutate_bytes(spoiled.read_bytes(), random))
        weights = next(path.name for path in files if path.suffix != ".yaml")
        return Case(model.name, ["models", "add", weights, "--name", "mine"], size=SMALL - 1)


TARGETS: Mapping[str, Callable[[Path], Any]] = {
    "songs": Songs,
    "models": Models,
    "journals": Journals,
    "tags": Labels,
    "weights": Weights,
}


def make_songs(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Make a whole song in each format that the libraries here can write."""
    signal = sounds.song(SECONDS)
    tags = Tags(title="song", artist="nobody", cover=b"\x89PNG" + bytes(500))
    for kind in ("wav", "flac", "mp3", "ogg", "opus", "m4a"):
        with StemWriter(folder / f"tagged.{kind}", 44100, 2, OutputFormat(kind), tags) as writer:
            writer.write(signal)
        yield f"tagged.{kind}", (folder / f"tagged.{kind}").read_bytes()
    for kind in {**codecs.FORMATS, **codecs.INEXACT}:
        yield kind, codecs.make(folder / "whole", kind, signal).read_bytes()
    for kind in SOUNDFILES:
        soundfile.write(folder / f"whole.{kind}", signal.T, 44100, format=kind.upper())
        yield kind, (folder / f"whole.{kind}").read_bytes()
    for kind, (container, codec) in CODED.items():
        yield kind, _encode(folder / f"whole.{kind}", container, codec, signal)


def _encode(path: Path, container: str, codec: str, signal: np.ndarray) -> bytes:
    try:
        with av.open(str(path), "w", format=container) as output:
            track: Any = output.add_stream(codec, rate=44100, layout="stereo")
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(signal), "fltp", "stereo")
            frame.sample_rate, frame.pts = 44100, 0
            output.mux(track.encode(frame))
            output.mux(track.encode(None))
    except (av.FFmpegError, ValueError):
        return b""  # FFmpeg was built without it
    return path.read_bytes()


def judge(case: Case, done: Done, box: Path, before: Mapping[Path, tuple[int, int]]) -> str:
    """Say what is wrong with what the command did; "" is nothing."""
    if done.status not in (0, 1, 2):
        return f"status {done.status}"
    found = SUSPECT.search(done.stderr)
    if found:
        return f"prints {found[0]!r}"
    if done.status and not done.stderr:
        return "fails without a word"
    after = list_files(box)
    changed = [path for path, facts in after.items() if before.get(path) != facts]
    out = box / "out"
    for path in [*changed, *(before.keys() - after.keys())]:
        if not path.is_relative_to(out):
            return f"writes {path}"
    for path in changed:
        if path.suffix == ".part":
            return f"leaves {path.name}"
    if done.status == 2 and changed:
        return f"status 2 with {changed[0].name}"
    stems = [path for path in changed if path.name != JOURNAL]
    if case.song and done.status and stems:
        return f"status {done.status} with {stems[0].name}"
    if case.song and done.status == 0:
        partial = "--keep-partial" in case.arguments
        return "" if partial else _compare_lengths(case.song, stems, case.song.name in done.stderr)
    return ""


def _compare_lengths(song: Path, stems: Sequence[Path], told: bool) -> str:
    """Hold the stems against what other decoders make of the song; a loss may be `told`."""
    if not stems:
        return "status 0 without a stem"
    lengths = sorted({_count(stem) for stem in stems})
    margin = PADDING if LOSSY.search(song.name) else SHORTEST
    others = []
    added = _read_added(song.read_bytes()[:1000]) if song.suffix == ".mp3" else 0
    for length, well in _count_elsewhere(song):
        if length - added - margin <= lengths[0] and lengths[-1] <= length + added + margin:
            return ""  # whatever the slower ones say
        others.append((length, well))
    least = min((length for length, _ in others), default=0) - margin
    # a decoder that complains may have left out what others can read
    most = max((length if well else np.inf for length, well in others), default=np.inf) + margin
    if (told or least <= lengths[0]) and lengths[-1] <= most:
        return ""
    return f"stems of {lengths} samples, others decode {[length for length, _ in others]}"


def _count(stem: Path) -> int:
    with open_song(stem) as song:
        return sum(block.shape[1] for block in song.read_blocks())


def _count_elsewhere(song: Path) -> Iterator[tuple[int, bool]]:
    """Count the samples that other decoders give or state, where they can; tell if all is well."""
    if song.suffix == ".w64":  # of which other decoders take junk behind the sound for sound
        yield from ((samples, True) for samples in _count_w64(song.read_bytes()))
        return
    try:
        sound, _ = soundfile.read(song)
        yield len(sound), True
    except (soundfile.SoundFileError, OSError, ValueError, TypeError):
        pass
    with suppress(av.FFmpegError, IndexError, ValueError), av.open(str(song)) as container:
        stream = container.streams.audio[0]
        if stream.duration and stream.time_base:
            yield round(stream.duration * stream.time_base * stream.codec_context.rate), True
    if not shutil.which("ffmpeg"):
        return
    command = ["ffmpeg", "-v", "error", "-i", str(song), "-map", "0:a:0", "-c:a", "pcm_s16le"]
    done = subprocess.run([*command, "-ac", "1", "-f", "s16le", "-"], capture_output=True)
    if done.stdout:
        yield len(done.stdout) // 2, not done.stderr


def _read_added(opening: bytes) -> int:
    """Read how many samples an encoder says that it has added, which not all decoders take away."""
    found = re.search(rb"(?:Xing|Info).*?(?:LAME|Lav[cf])", opening, re.DOTALL)
    packed = int.from_bytes(opening[found.end() + 17 :][:3], "big") if found else 0
    return (packed >> 12) + (packed & 0xFFF)


def _count_w64(data: bytes) -> Iterator[int]:
    """Count the samples of a Wave64 (Sonic Foundry) by its chunks: a GUID, and a size with its own.

    Of a chunk that promises more than the file holds, what there is counts.
    """
    place, align = 40, 0
    while place + 24 <= len(data):
        name, size = data[place : place + 4], int.from_bytes(data[place + 16 :][:8], "little")
        if name == b"fmt ":
            align = int.from_bytes(data[place + 36 : place + 38], "little")
        if name == b"data" and align:
            yield min(max(size - 24, 0), len(data) - place - 24) // align
            return
        place += max(size + -size % 8, 24)


def list_files(folder: Path) -> dict[Path, tuple[int, int]]:
    """List all files below a folder, with size and time of the last change."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_dir() or path.is_symlink():
            facts = path.lstat()
            found[path] = (facts.st_size, facts.st_mtime_ns)
    return found


class Bench:
    """A process's own place, where cases are prepared and run."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self._noise = (folder / "noise").open("w+b")
        os.dup2(self._noise.fileno(), 2)  # what libraries print themselves
        self._targets: dict[str, Any] = {}

    def run(self, target: str, number: int) -> Outcome:
        """Run a case; the folder of one without fault is removed."""
        if target not in self._targets:
            (self.folder / target).mkdir()
            self._targets[target] = TARGETS[target](self.folder / target)
        root = self.folder / f"{target}{number}"
        box = root / "a" / "b" / "box"  # with room for what climbs out of it
        box.mkdir(parents=True)
        random = np.random.default_rng((self.seed, list(TARGETS).index(target), number))
        case = self._targets[target].prepare(number, box, random)
        before = list_files(root)
        _forget_peak()
        began = time.process_time()
        done = self._call(case, box, number)
        seconds, memory = time.process_time() - began, _peak()
        fault = judge(case, done, box, before)
        fault = fault or self._judge_costs(case, seconds, memory)
        escaped = [path for path in list_files(root) if not path.is_relative_to(box)]
        fault = fault or (f"writes {escaped[0]}" if escaped else "")
        if not fault:
            shutil.rmtree(root)
        return Outcome(target, case.kind, number, done.status, fault, seconds, memory)

    def _call(self, case: Case, box: Path, number: int) -> Done:
        self._noise.seek(0)
        self._noise.truncate()
        if number % OWN_PROCESS == OWN_PROCESS - 1:
            process = start(*case.arguments, folder=box)
            out, err = process.communicate(case.stdin, timeout=PATIENCE)
            return Done(process.returncode, out, err.decode("utf-8", "backslashreplace"))
        try:
            done = call(*case.arguments, folder=box, stdin=case.stdin)
        except Exception as error:  # that is what this is about
            return Done(1, b"", f"Traceback: {type(error).__name__}: {error}")
        self._noise.seek(0)
        noise = self._noise.read().decode("utf-8", "backslashreplace")
        return replace(done, stderr=done.stderr + noise)

    def _judge_costs(self, case: Case, seconds: float, memory: int) -> str:
        if seconds > LIMIT:
            return f"takes {seconds:.0f} s"
        if memory > MEMORY and case.size < SMALL:
            return f"takes {memory / 1e9:.1f} GB"
        return ""


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Measure the most memory that was taken since it was last asked (Linux only)."""
    status = Path("/proc/self/status").read_text("ascii", "replace")
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def work(link: Connection, folder: Path, seed: int) -> None:
    """Run the cases that come."""
    resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))
    import torch

    torch.set_num_threads(1)
    bench = Bench(folder, seed)
    link.send(None)
    while (case := link.recv()) is not None:
        link.send(bench.run(*case))


class Worker:
    """A process that runs cases, and is replaced when it dies or hangs."""

    def __init__(self, keep: Path, seed: int) -> None:
        self.keep, self.seed = keep, seed
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.link, other = context.Pipe()
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir=self.keep))
        self.folder = folder
        self.process = context.Process(target=work, args=(other, folder, self.seed), daemon=True)
        self.process.start()
        other.close()
        self.link.recv()

    def run(self, target: str, number: int) -> Outcome:
        """Run a case; say what became of it."""
        self.link.send((target, number))
        try:
            if self._wait():
                outcome: Outcome = self.link.recv()
                return outcome
            fault = "hangs"
        except EOFError:
            self.process.join()
            fault = f"crashes with {self.process.exitcode}"
        self.process.kill()
        self.process.join()
        self._start()
        return Outcome(target, "", number, fault=fault)

    def _wait(self) -> bool:
        """Wait for an answer; tell whether it came in time."""
        began, before = time.monotonic(), self._measure()
        while not self.link.poll(0.1):
            late = time.monotonic() - began > PATIENCE
            if late or self._measure() - before > 2 * LIMIT:  # a target's making counts, too
                return False
        return True

    def _measure(self) -> float:
        """Measure the seconds of a processor that the process has used (Linux only)."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process."""
        self.link.send(None)
        self.process.join()


def run_cases(cases: Iterator[tuple[str, int]], keep: Path, seed: int) -> Iterator[Outcome]:
    """Run cases, and write down what became of each."""
    worker = Worker(keep, seed)
    with (keep / f"seed{seed}.jsonl").open("a", encoding="utf-8") as record:
        for case in cases:
            outcome = worker.run(*case)
            print(json.dumps(asdict(outcome)), file=record, flush=True)
            if outcome.fault:
                print(f"{case[0]} {case[1]}: {outcome.fault}", file=sys.stderr, flush=True)
            yield outcome
    worker.close()


def read_record(path: Path) -> list[Outcome]:
    """Read what became of the cases of an earlier run."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8").splitlines()
    return [Outcome(**json.loads(line)) for line in lines if line.endswith("}")]


def format_table(outcomes: Sequence[Outcome]) -> str:
    """Say how many cases there were, how they ended, and what the worst of them took."""
    rows = ["| target | kinds | cases | done | refused | faults | slowest, s | largest, GB |"]
    rows.append("|---|--:|--:|--:|--:|--:|--:|--:|")
    for target in TARGETS:
        ours = [outcome for outcome in outcomes if outcome.target == target]
        if ours:
            ends = Counter("fault" if one.fault else str(one.status) for one in ours)
            slowest, largest = max(one.seconds for one in ours), max(one.memory for one in ours)
            kinds = len({one.kind for one in ours if one.kind})
            rows.append(
                f"| {target} | {kinds} | {len(ours)} | {ends['0']} | {ends['1'] + ends['2']} "
                f"| {ends['fault']} | {slowest:.1f} | {largest / 1e9:.2f} |"
            )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", help=f"{', '.join(TARGETS)}; all, if none is named")
    parser.add_argument("--cases", type=int, default=1000, help="of each target")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the record and for what fails")
    options = parser.parse_args()
    keep = options.keep or Path(tempfile.mkdtemp(prefix="mutate-"))
    keep.mkdir(parents=True, exist_ok=True)
    outcomes = read_record(keep / f"seed{options.seed}.jsonl")
    known = {(outcome.target, outcome.number) for outcome in outcomes}
    numbers = islice(count(options.first), options.cases)
    cases = [(target, number) for number in numbers for target in options.targets or TARGETS]
    until = float("inf")
    for outcome in run_cases((case for case in cases if case not in known), keep, options.seed):
        outcomes.append(outcome)
        until = min(until, time.monotonic() + options.seconds)  # from the first one on
        if time.monotonic() > until:
            break
    print(format_table(outcomes))
    sys.exit(any(outcome.fault for outcome in outcomes))


if __name__ == "__main__":
    main()

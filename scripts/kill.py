"""Send signals to `splitter separate` at random moments: nothing broken may be left.

    python -m scripts.kill --times 100 --signals SIGINT,SIGTERM,SIGHUP,SIGKILL

Each run is a process of its own, and the moments are spread from its first import to its last
rename, over the time that the last undisturbed runs took. With --forked runs begin with PyTorch
imported: they are faster, and nearly all moments are those of the work. Every second run separates
one song, the others a folder of three. After a signal, a stem that has its name must be whole.
Whoever was asked to end must say so by the exit status (130, 143, 129), without a traceback, and
leave nothing that hides. The next run must complete: its stems are those of the undisturbed run,
byte for byte, and nothing is left of the one before. A table of what happened is printed.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from splitter.__main__ import main
from splitter.signals import end_at_once, handle
from tests import sounds
from tests.commands import ENVIRONMENT, files_below

Stems = dict[str, bytes]
SIZES = {"window": 2048, "hop": 1024, "bands": [[64, 16]], "width": 2, "levels": 2, "dropout": 0.0}
COMMANDS = (("song.wav",), ("-r", "songs"))
EARLY = 0.1  # seconds in which Python itself starts, which has a traceback for SIGINT


class Run:
    """A run that writes to the folder `out`."""

    forked = False

    def __init__(self, folder: Path, songs: tuple[str, ...]) -> None:
        arguments = ["separate", *songs, "-o", "out", "--model", "model"]
        if self.forked:
            self._process = None
            self._id = fork(folder, arguments)
            return
        with (folder / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "splitter", *arguments],
                cwd=folder,
                env=ENVIRONMENT,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                preexec_fn=hear,
            )
            self._id = self._process.pid

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self._id, number)

    def wait(self) -> int:
        """Wait for the end; return the status, or the negative number of the signal."""
        if self._process:
            return self._process.wait()
        return os.waitstatus_to_exitcode(os.waitpid(self._id, 0)[1])


def hear() -> None:
    """Let signals come through that a shell has its background, and nohup its command, ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def fork(folder: Path, arguments: list[str]) -> int:
    """Start a run as a child of this process, which has PyTorch but has not computed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # till the child can catch it
    process = os.fork()
    if process:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return process
    try:
        os.chdir(folder)
        for number, name in ((1, os.devnull), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["splitter", *arguments]
        hear()
        handle(end_at_once)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        main()
    except SystemExit as stop:
        os._exit(int(stop.code or 0))
    except BaseException:  # what main() let through
        traceback.print_exc()
    os._exit(1)


def measure(folder: Path, songs: tuple[str, ...]) -> float:
    """Let a run come to its end; return the seconds that it takes."""
    began = time.monotonic()
    Run(folder, songs).wait()
    return time.monotonic() - began


def find_stems(folder: Path) -> Stems:
    """Read all stems that have their name."""
    files = files_below(folder / "out")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if is_stem(path)}


def is_stem(path: Path) -> bool:
    """Tell a stem from a part and from the journal."""
    return path.suffix == ".wav" and not path.name.startswith(".")


def find_parts(folder: Path) -> list[str]:
    """Name what hides."""
    return [path.name for path in files_below(folder / "out") if path.name.startswith(".")]


def judge(folder: Path, number: signal.Signals, status: int, whole: Stems) -> str:
    """Say what a run has left behind that a signal has ended."""
    complaints = (folder / "stderr").read_text(encoding="utf-8")
    parts, stems = find_parts(folder), find_stems(folder)
    if any(whole.get(name) != content for name, content in stems.items()):
        return "FAULT: a broken stem has its name"
    if "Traceback" in complaints or "Exception" in complaints:
        return f"FAULT: {complaints!r}"
    if status == 0:
        return "0, had ended already" if stems == whole else "FAULT: status 0"
    if number == signal.SIGKILL:
        return "killed, parts left" if parts else "killed"
    if status not in (128 + number, -number):
        return f"FAULT: status {status}, {complaints!r}"
    return f"FAULT: left {parts}" if parts else str(128 + number)


def disturb(
    folder: Path, songs: tuple[str, ...], number: signal.Signals, moment: float, whole: Stems
) -> str:
    """Start a run, send a signal at a moment (in seconds), and judge what is left."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    process = Run(folder, songs)
    time.sleep(moment)
    process.send_signal(number)
    return judge(folder, number, process.wait(), whole)


def complete(folder: Path, songs: tuple[str, ...], whole: Stems) -> tuple[float, str]:
    """Run again; return the seconds that it takes, and what is wrong then, if anything."""
    # a single song has no journal that knows its stems
    more = ("--overwrite",) if songs == COMMANDS[0] else ()
    taken = measure(folder, (*songs, *more))
    if find_stems(folder) != whole:
        return taken, f"FAULT: not completed: {(folder / 'stderr').read_text('utf-8')!r}"
    return taken, f"FAULT: parts stay {find_parts(folder)}" if find_parts(folder) else ""


def prepare(folder: Path, seconds: float) -> None:
    """Write a model, a song, and a folder of three."""
    # not here: a fork of a process in which PyTorch has begun to compute has fewer threads
    writer = multiprocessing.get_context("spawn").Process(
        target=sounds.write_small_model, args=(folder / "model", SIZES)
    )
    writer.start()
    writer.join()
    sounds.write(folder / "song.wav", sounds.noise(round(seconds * 44100)))
    for index in range(3):
        song = sounds.noise(round(seconds * 44100 / 3) + index, seed=index)
        sounds.write(folder / "songs" / f"song {index}.wav", song)


def run() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=100, help="of each signal")
    parser.add_argument("--signals", default="SIGINT,SIGTERM,SIGHUP,SIGKILL")
    parser.add_argument("--seconds", type=float, default=60, help="length of the song")
    parser.add_argument("--complete-every", type=int, default=1, metavar="N", help="runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forked", action="store_true")
    options = parser.parse_args()
    Run.forked = options.forked
    if options.forked:  # before any fork
        importlib.import_module("splitter.cli.separate")
        importlib.import_module("splitter.engines.local")
    moments = random.Random(options.seed)
    numbers = [signal.Signals[name] for name in options.signals.split(",")]
    table: dict[str, Counter[str]] = {number.name: Counter() for number in numbers}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, options.seconds)
        taken, whole = {}, {}
        for songs in COMMANDS:
            shutil.rmtree(folder / "out", ignore_errors=True)
            taken[songs] = [measure(folder, songs)]
            whole[songs] = find_stems(folder)
            if not whole[songs]:
                sys.exit(f"an undisturbed run failed: {(folder / 'stderr').read_text('utf-8')}")
        for turn in range(options.times * len(numbers)):
            number = numbers[turn % len(numbers)]
            songs = COMMANDS[turn // len(numbers) % 2]
            moment = moments.uniform(EARLY, sorted(taken[songs][-5:])[len(taken[songs][-5:]) // 2])
            outcome = disturb(folder, songs, number, moment, whole[songs])
            if "FAULT" not in outcome and turn % options.complete_every == 0:
                seconds, wrong = complete(folder, songs, whole[songs])
                taken[songs].append(seconds)
                outcome = wrong or outcome
            table[number.name][outcome] += 1
            if "FAULT" in outcome:
                print(f"turn {turn} at {moment:.2f} s, {number.name}: {outcome}", file=sys.stderr)
            if turn % 20 == 19:
                print(turn + 1, table, file=sys.stderr, flush=True)
    print_table(table)
    sys.exit(any("FAULT" in outcome for row in table.values() for outcome in row))


def print_table(table: dict[str, Counter[str]]) -> None:
    """Print a line for each signal: its outcomes and how often there were."""
    for name, row in table.items():
        print(f"{name:8} {'; '.join(f'{outcome}: {count}' for outcome, count in row.items())}")


if __name__ == "__main__":
    run()

"""Kill `splitter separate` at random moments: nothing broken may have a stem's name.

    python -m scripts.kill --times 200

Half of the runs are killed (SIGKILL), half interrupted (SIGINT), at moments spread over the time
that an undisturbed run takes. After each, a stem that has its name must be whole, an interrupted
run must have left nothing and say so by its exit status, and the next run must complete: its stems
are those of the undisturbed run, byte for byte.

Runs are forks of this process, which has PyTorch already: so the moments are those of the work.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

# with PyTorch, before any fork
import splitter.cli.separate
import splitter.engines.local  # noqa: F401
from splitter.cli import main
from tests import sounds
from tests.commands import files_below

Stems = dict[str, bytes]
SIZES = {"window": 2048, "hop": 1024, "bands": [[64, 16]], "width": 2, "levels": 2, "dropout": 0.0}


def start(folder: Path) -> int:
    """Start a run that writes to the folder `out`; return its process id."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # till the child can catch it
    process = os.fork()
    if process:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return process
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        command = ["separate", "song.wav", "-o", "out", "--model", "model", "--overwrite"]
        sys.argv = ["splitter", *command]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
    except KeyboardInterrupt:  # before main() has begun, or after its end
        status = 130
    except BaseException:  # what main() let through
        traceback.print_exc()
    finally:
        os._exit(status)


def finish(process: int) -> int:
    """Wait for a run; return its status, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def measure(folder: Path) -> float:
    """Give the seconds that an undisturbed run takes."""
    began = time.monotonic()
    finish(start(folder))
    return time.monotonic() - began


def find_stems(folder: Path) -> Stems:
    """Read all files that do not hide."""
    files = files_below(folder / "out")
    return {file.name: file.read_bytes() for file in files if not file.name.startswith(".")}


def disturb(folder: Path, number: signal.Signals, moment: float, whole: Stems) -> str:
    """Start a run, send a signal at a moment (in seconds), and judge what is left."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    process = start(folder)
    time.sleep(moment)
    os.kill(process, number)
    status = finish(process)
    complaints = (folder / "stderr").read_text(encoding="utf-8")
    hidden = [file for file in files_below(folder / "out") if file.name.startswith(".")]
    stems = find_stems(folder)
    if any(whole[name] != content for name, content in stems.items()):
        return "FAULT: a broken stem has its name"
    if status == 0:
        return "had ended already"
    if number == signal.SIGINT:
        if status != 130 or complaints.strip() not in ("", "splitter: interrupted"):
            return f"FAULT: status {status}, {complaints!r}"
        return f"FAULT: left {hidden}" if hidden else "interrupted"
    return "killed" + (", a part was left" if hidden else "") + (", stems whole" if stems else "")


def run() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60, help="length of the song")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sounds.write(folder / "song.wav", sounds.noise(round(options.seconds * 44100)))
        # not here: a fork of a process in which PyTorch has begun to compute would wait forever
        writer = multiprocessing.get_context("spawn").Process(
            target=sounds.write_small_model, args=(folder / "model", SIZES)
        )
        writer.start()
        writer.join()
        taken = [measure(folder)]
        whole = find_stems(folder)
        if not whole:
            sys.exit(f"an undisturbed run made nothing: {(folder / 'stderr').read_text('utf-8')}")
        for turn in range(options.times):
            number = (signal.SIGKILL, signal.SIGINT)[turn % 2]
            outcome = disturb(folder, number, moments.uniform(0, 1) * min(taken[-5:]), whole)
            taken.append(measure(folder))
            if find_stems(folder) != whole:
                outcome = "FAULT: the next run did not complete"
            left = [file for file in files_below(folder / "out") if file.name.startswith(".")]
            if left:
                outcome += ", the next run left it"
            outcomes[f"{number.name}: {outcome}"] += 1
            if "FAULT" in outcome:
                print(f"turn {turn}: {outcome}", file=sys.stderr, flush=True)
            if turn % 20 == 19:
                print(f"{turn + 1}: {dict(outcomes)}", file=sys.stderr, flush=True)
    print(json.dumps({"undisturbed": min(taken), "outcomes": outcomes}, indent=2))
    sys.exit(any("FAULT" in outcome for outcome in outcomes))


if __name__ == "__main__":
    run()

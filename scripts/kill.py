"""Kill `splitter separate` at random moments: nothing broken may have a stem's name.

    python scripts/kill.py --times 200

Half of the runs are killed (SIGKILL), half interrupted (SIGINT), at moments spread over the time
that an undisturbed run takes. After each, a stem that has its name must be whole, an interrupted
run must have left nothing and say so by its exit status, and the next run must complete: its stems
are those of the undisturbed run, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests import sounds
from tests.commands import ENVIRONMENT, files_below

Stems = dict[str, bytes]


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start a run that writes to the folder `out`."""
    command = [sys.executable, "-m", "splitter", "separate", "song.wav", "-o", "out"]
    command += ["--model", "model", "--overwrite"]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def find_stems(folder: Path) -> Stems:
    """Read all files that do not hide."""
    files = files_below(folder / "out")
    return {file.name: file.read_bytes() for file in files if not file.name.startswith(".")}


def disturb(folder: Path, number: signal.Signals, moment: float, whole: Stems) -> str:
    """Start a run, send a signal at a moment (in seconds), and judge what is left."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    process = start(folder)
    time.sleep(moment)
    process.send_signal(number)
    _, complaints = process.communicate()
    hidden = [file for file in files_below(folder / "out") if file.name.startswith(".")]
    stems = find_stems(folder)
    if any(whole[name] != content for name, content in stems.items()):
        return "FAULT: a broken stem has its name"
    if process.returncode == 0:
        return "had ended already"
    if number == signal.SIGINT:
        if process.returncode not in (130, -signal.SIGINT):
            return f"FAULT: status {process.returncode}, {complaints.decode()!r}"
        if hidden:
            return f"FAULT: left {hidden}"
        early = process.returncode == -signal.SIGINT or b"Traceback" in complaints
        return "interrupted while Python started" if early else "interrupted"
    return "killed" + (", a part was left" if hidden else "") + (", stems whole" if stems else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120, help="length of the song")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sounds.write(folder / "song.wav", sounds.noise(round(options.seconds * 44100)))
        sounds.write_small_model(folder / "model")
        began = time.monotonic()
        start(folder).communicate()
        taken = time.monotonic() - began
        whole = find_stems(folder)
        for turn in range(options.times):
            number = (signal.SIGKILL, signal.SIGINT)[turn % 2]
            outcome = disturb(folder, number, moments.uniform(0, 1.05 * taken), whole)
            start(folder).communicate()
            if find_stems(folder) != whole:
                outcome = "FAULT: the next run did not complete"
            left = [file for file in files_below(folder / "out") if file.name.startswith(".")]
            if left:
                outcome += ", the next run left it"
            outcomes[f"{number.name}: {outcome}"] += 1
            if "FAULT" in outcome:
                print(f"turn {turn}: {outcome}", file=sys.stderr, flush=True)
    print(json.dumps({"undisturbed": taken, "outcomes": outcomes}, indent=2))
    sys.exit(any("FAULT" in outcome for outcome in outcomes))


if __name__ == "__main__":
    main()

"""Send hours of sound through `splitter separate - -o -` and watch its memory.

    python -m scripts.endure --hours 10 --small
    python -m scripts.endure --hours 1
    python -m scripts.endure --hours 0.17 --model FOLDER

The sound is a minute of song and a minute of noise in turns, as a wav that streams. Linux only.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests import sounds
from tests.commands import ENVIRONMENT

RATE = 44100  # Hz
MINUTE = 60 * RATE * 4  # bytes
SIZES = {"window": 2048, "hop": 1024, "bands": [[64, 16]], "width": 2, "levels": 2, "dropout": 0.0}


def make_minutes() -> list[bytes]:
    """Make a minute of song, and one of noise: 16 bits, stereo."""
    song = np.tile(sounds.song(12), 5)
    minutes = (song, sounds.noise(60 * RATE))
    return [np.asarray(32767 * minute.clip(-1, 1), np.int16).T.tobytes() for minute in minutes]


def wav_head() -> bytes:
    """Make the head of a wav whose length is not known."""
    form = struct.pack("<HHIIHH", 1, 2, RATE, RATE * 4, 4, 16)
    open_ended = struct.pack("<I", 0xFFFFFFFF)
    parts = (b"RIFF", open_ended, b"WAVEfmt ", struct.pack("<I", len(form)), form, b"data")
    return b"".join(parts) + open_ended


def read_peak(process: int) -> float:
    """Read the most memory that a process ever had, in MB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


def endure(hours: float, model: list[str]) -> dict[str, Any]:
    """Send the sound; report what came back and the memory on the way."""
    command = [sys.executable, "-m", "splitter", "separate", "-", "-o", "-", "-q"]
    command += ["--stems", "vocals", "--format", "raw", *model]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, env=ENVIRONMENT, **pipes)  # type: ignore[call-overload]
    count, minutes = round(60 * hours), make_minutes()
    began = time.monotonic()

    def feed() -> None:
        with process.stdin as pipe:
            pipe.write(wav_head())
            for minute in range(count):
                pipe.write(minutes[minute % 2])

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    received, first, peaks = 0, 0.0, {}
    while data := process.stdout.read1(1 << 20):
        first = first or time.monotonic() - began
        before, received = received, received + len(data)
        minute = received // MINUTE
        if minute != before // MINUTE and (
            minute in (1, 5, 20) or minute % max(1, count // 10) == 0
        ):
            peaks[f"{minute} min"] = read_peak(process.pid)
    taken = time.monotonic() - began
    return {
        "status": process.wait(),
        "hours": hours,
        "all samples came": received == count * MINUTE,
        "first sound after": first,
        "taken": taken,
        "times real time": 60 * count / taken,
        "peak MB": peaks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hours", type=float, default=1)
    parser.add_argument("--model", help="name or folder")
    parser.add_argument("--small", action="store_true", help="a small model of random weights")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = ["--model", options.model] if options.model else []
        if options.small:
            model = ["--model", str(sounds.write_small_model(Path(folder) / "small", SIZES))]
        report = endure(options.hours, model)
    print(json.dumps(report, indent=2))
    peaks = list(report["peak MB"].values())
    sys.exit(not report["all samples came"] or peaks[-1] > 1.1 * peaks[0])


if __name__ == "__main__":
    main()

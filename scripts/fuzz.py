"""Read thousands of damaged songs: none may crash splitter, hold it up, or pass for a whole one.

    python -m scripts.fuzz --cases 20000 --whole 300 --keep /tmp/found

Songs of every kind are made, damaged by a seeded mutator of bytes, and read in a process of their
own, which is watched: it has two seconds for each. Some go through the whole separation; a stem may
have its name only if the song was read to its end. What fails is kept, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import numpy as np

from splitter.audio import OutputFormat, Reading, StemWriter, Tags, open_song
from splitter.errors import AudioError
from splitter.outputs import Output
from tests import sounds

KINDS = ("mp3", "wav", "flac", "ogg", "m4a", "mp4")
SECONDS = 0.6  # of each song
LIMIT = 2.0  # seconds of a processor that reading one may take
PATIENCE = 60.0  # seconds by the clock, on a machine that is busy
MEMORY = 4 * 2**30  # bytes that reading may take; a size in a damaged head must not be believed
Random = np.random.Generator


def make_song(kind: str, folder: Path) -> bytes:
    """Make a small whole song."""
    path = folder / f"whole.{kind}"
    signal = sounds.song(SECONDS)
    if kind == "mp4":
        _write_video(path, signal)
    else:
        tags = Tags(title="song", artist="nobody", cover=b"\x89PNG" + bytes(500))
        with StemWriter(path, 44100, 2, OutputFormat(kind), tags) as writer:
            writer.write(signal)
    return path.read_bytes()


def _write_video(path: Path, signal: np.ndarray) -> None:
    """Write an mp4 with a picture track before its sound."""
    with av.open(path, "w") as container:
        video: Any = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        audio: Any = container.add_stream("aac", rate=44100, layout="stereo")
        for number in range(6):
            picture = np.full((32, 32, 3), 40 * number, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture)))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(signal), "fltp", "stereo")
        frame.sample_rate = 44100
        container.mux(audio.encode(frame))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def _flip(song: bytearray, random: Random) -> None:
    for place in random.integers(0, len(song), random.integers(1, 30)):
        song[place] ^= 1 << int(random.integers(8))


def _scatter(song: bytearray, random: Random) -> None:
    for place in random.integers(0, len(song), random.integers(1, 30)):
        song[place] = int(random.integers(256))


def _damage_head(song: bytearray, random: Random) -> None:
    for place in random.integers(0, min(len(song), 200), random.integers(1, 8)):
        extremes = [0, 1, 0x7F, 0x80, 0xFF, int(random.integers(256))]
        song[place] = int(random.choice(extremes))


def _exaggerate(song: bytearray, random: Random) -> None:
    """Put an extreme number where a size or a count may be."""
    place = int(random.integers(0, max(1, len(song) - 8)))
    width = int(random.choice([2, 4, 8]))
    number = random.choice([b"\xff", b"\0", b"\x7f", b"\x80"])
    song[place : place + width] = bytes(number) * width


def _cut(song: bytearray, random: Random) -> None:
    del song[int(random.integers(0, len(song))) :]


def _remove(song: bytearray, random: Random) -> None:
    start = int(random.integers(0, len(song)))
    del song[start : start + int(random.integers(1, 2000))]


def _repeat(song: bytearray, random: Random) -> None:
    start = int(random.integers(0, len(song)))
    song[start:start] = song[start : start + int(random.integers(1, 2000))]


def _insert(song: bytearray, random: Random) -> None:
    start = int(random.integers(0, len(song) + 1))
    song[start:start] = random.bytes(int(random.integers(1, 500)))


def _blank(song: bytearray, random: Random) -> None:
    start = int(random.integers(0, len(song)))
    size = len(song[start : start + int(random.integers(1, 3000))])
    song[start : start + size] = bytes(size)


MUTATORS: tuple[Callable[[bytearray, Random], None], ...] = (
    _flip,
    _scatter,
    _damage_head,
    _exaggerate,
    _cut,
    _remove,
    _repeat,
    _insert,
    _blank,
)


def damage(whole: bytes, random: Random) -> bytes:
    """Damage a song in one to three ways."""
    song = bytearray(whole)
    for index in random.integers(0, len(MUTATORS), random.integers(1, 4)):
        if song:
            MUTATORS[index](song, random)
    return bytes(song)


def make_case(number: int, seed: int, songs: dict[str, bytes]) -> tuple[str, bytes]:
    """Make a damaged song, always the same for a number and a seed."""
    kind = KINDS[number % len(KINDS)]
    return kind, damage(songs[kind], np.random.default_rng((seed, number)))


def read(path: Path, reading: Reading) -> str:
    """Read a song to its end; say what became of it."""
    try:
        with open_song(path, reading) as song:
            for block in song.read_blocks():
                if not np.isfinite(block).all() or block.shape[0] != song.channels:
                    return "FAULT: blocks that are none"
            return "kept in part" if song.damage else "whole"
    except AudioError as error:
        return (
            "refused" if str(path) in str(error) and "\n" not in str(error) else f"FAULT: {error}"
        )


def read_cases(link: Connection, seed: int, folder: Path) -> None:
    """Read the cases whose numbers come."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable()
    songs = {kind: make_song(kind, folder) for kind in KINDS}
    link.send(None)
    while (number := link.recv()) is not None:
        kind, content = make_case(number, seed, songs)
        path = folder / f"case{number}.{kind}"
        path.write_bytes(content)
        reading = Reading(keep_partial=number // len(KINDS) % 3 == 0)
        try:
            outcome = read(path, reading)
        except Exception as error:  # that is what this is about
            outcome = f"FAULT: {type(error).__name__}: {error}"
        link.send(outcome)
        if "FAULT" not in outcome:
            path.unlink()


class Reader:
    """A process that reads damaged songs, and is replaced when it dies or hangs."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.folder = seed, folder
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.link, other = context.Pipe()
        arguments = (other, self.seed, self.folder)
        self.process = context.Process(target=read_cases, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.link.recv()

    def read(self, number: int) -> str:
        """Read a case; say what became of it."""
        self.link.send(number)
        try:
            if self._wait():
                return str(self.link.recv())
            outcome = f"FAULT: takes more than {LIMIT:g} s"
        except EOFError:
            self.process.join()
            outcome = f"FAULT: crashed with {self.process.exitcode}"
        self.process.kill()
        self.process.join()
        self._start()
        return outcome

    def _wait(self) -> bool:
        """Wait for an answer; tell whether it came in time."""
        began, before = time.monotonic(), self._measure()
        while not self.link.poll(0.1):
            if self._measure() - before > LIMIT or time.monotonic() - began > PATIENCE:
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


def separate_cases(numbers: range, seed: int, folder: Path) -> Counter[str]:
    """Take cases through the whole separation; see what lies under a stem's name."""
    from splitter.loading import load_model
    from splitter.songs import separate_file

    model = load_model(str(sounds.write_small_model(folder / "model")))
    songs = {kind: make_song(kind, folder) for kind in KINDS}
    outcomes: Counter[str] = Counter()
    for number in numbers:
        kind, content = make_case(number, seed, songs)
        path, out = folder / f"case{number}.{kind}", folder / "out"
        path.write_bytes(content)
        shutil.rmtree(out, ignore_errors=True)
        whole = read(path, Reading()) == "whole"
        try:
            done = separate_file(path, Output(out), model)
            good = whole and all(_count(stem) == done.samples for stem in done.stems.values())
            outcomes["separated" if good else f"FAULT: {path} passes for whole"] += 1
        except AudioError:
            left = [file for file in out.rglob("*") if file.is_file()]
            good = not left and not whole
            outcomes["refused" if good else f"FAULT: {path} left {left}"] += 1
    return outcomes


def _count(path: Path) -> int:
    with open_song(path) as song:
        return sum(block.shape[1] for block in song.read_blocks())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--whole", type=int, default=30, help="cases through the whole separation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for what fails")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    slowest, began = 0.0, time.monotonic()
    reader = Reader(options.seed, folder)
    for number in range(options.first, options.first + options.cases):
        before = time.monotonic()
        outcome = reader.read(number)
        slowest = max(slowest, time.monotonic() - before)
        outcomes[KINDS[number % len(KINDS)]][outcome] += 1
        if "FAULT" in outcome:
            print(f"case {number}: {outcome}", file=sys.stderr, flush=True)
    reader.close()
    whole = separate_cases(range(options.whole), options.seed, folder)
    taken = time.monotonic() - began
    print(json.dumps({"read": outcomes, "separated": whole, "slowest": slowest, "taken": taken}))
    every = [*whole, *(outcome for counter in outcomes.values() for outcome in counter)]
    sys.exit(any("FAULT" in outcome for outcome in every))


if __name__ == "__main__":
    main()

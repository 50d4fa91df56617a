"""Odd but sound song files by the hundred, and what splitter makes of them.

    python -m scripts.corpus FOLDER [--damage]

Files are cut, joined, tagged, streamed, recorded and repacked by a dozen tools (those that are
missing are passed over, and named). What splitter reads of each is compared with two other
decoders: no file may be called damaged, and each half second that another decoder gives must be in
what splitter gives, at its place. What was joined or tagged is compared with its parts, as others
decode them: joints confuse them. With --damage each file is damaged in three ways: a part is torn
off, some bytes are overwritten, a bit is flipped. Splitter must tell it; where neither it nor
another decoder does, the table says by format why nobody can.

Needs: ffmpeg, gstreamer, sox, lame, mpg123, mp3splt, mp3wrap, vbrfix, twolame, oggenc, opusenc,
oggz, flac, mkvmerge, wavpack, id3v2 (Debian: vorbis-tools, opus-tools, oggz-tools, mkvtoolnix,
gstreamer1.0-tools, gstreamer1.0-plugins-{base,good,bad,ugly}, and these names).
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from scripts.oddities import Base, make_files
from splitter.audio import Block, Reading, open_song, resample_signal
from splitter.errors import AudioError

RATE = 44100  # Hz
WINDOW = 0.5  # seconds
REACHES = (0.1, 1.0)  # seconds by which a window may lie elsewhere: delays, paddings; first frames
LOUDEST_ERROR = 0.2  # of a window's level; another decoder's noise and half a sample of shift
PATIENCE = 20  # seconds for a decoder
MISSING = 0.1  # seconds that may be less than in another decoder's

Decoded = tuple[Block | None, bool]  # the sound, and whether the decoder complains
Decode = Callable[[Path, int, int], Decoded]


def decode_by(command: str, path: Path, rate: int, channels: int) -> Decoded:
    """Decode with a tool that writes floats to stdout."""
    shape = {"RATE": str(rate), "CHANNELS": str(channels), "FILE": str(path)}
    shape["SHAPE"] = "--mono" if channels == 1 else "--stereo"
    shape["CAPS"] = f"audio/x-raw,format=F32LE,rate={rate},channels={channels}"
    words = [shape.get(word, word.replace("=FILE", f"={path}")) for word in command.split()]
    if not shutil.which(words[0]):
        return None, False
    try:
        done = subprocess.run(words, capture_output=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:  # GStreamer waits for ever where it lacks a demuxer
        return None, False
    sound = np.frombuffer(done.stdout[: len(done.stdout) // 4 // channels * 4 * channels], "<f4")
    complains = done.returncode != 0 or bool(done.stderr.strip())
    return (sound.reshape(-1, channels).T if sound.size else None), complains


def decode_by_sndfile(path: Path, rate: int, channels: int) -> Decoded:
    """Decode with libsndfile."""
    try:
        sound, own = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, TypeError, ValueError, MemoryError):  # its own faults
        return None, True
    if sound.shape[1] != channels:
        sound = np.repeat(sound.mean(axis=1, keepdims=True), channels, axis=1)
    return resample_signal(np.ascontiguousarray(sound.T), own, rate), False


FFMPEG = "ffmpeg -v error -nostdin -i FILE -map 0:a:0 -f f32le -ar RATE -ac CHANNELS -"
MPG123 = "mpg123 -q -e f32 -r RATE SHAPE -s FILE"
GSTREAMER = (
    "gst-launch-1.0 -q filesrc location=FILE ! decodebin ! audioconvert ! audioresample ! CAPS"
    " ! fdsink fd=1"
)
BY_MPG123 = (".mp3", ".mp2")
BY_SNDFILE = (".wav", ".flac", ".ogg", ".oga", ".au", ".caf", ".w64", ".aiff", ".sph")


def choose_decoders(path: Path) -> dict[str, Decode]:
    """Give two independent decoders that know the format."""
    decoders: dict[str, Decode] = {"ffmpeg": partial(decode_by, FFMPEG)}
    if path.suffix in BY_MPG123:
        decoders["mpg123"] = partial(decode_by, MPG123)
    elif path.suffix in BY_SNDFILE:
        decoders["libsndfile"] = decode_by_sndfile
    else:
        decoders["gstreamer"] = partial(decode_by, GSTREAMER)
    return decoders


def find_missing(sound: Block, parts: list[Block], rate: int) -> list[float]:
    """Give the seconds at which something of the parts is not in `sound`, near the same place."""
    size = round(WINDOW * rate)
    reaches = [round(reach * rate) for reach in REACHES]
    mix: Block = sound.mean(axis=0)
    offset = 0
    missing: list[float] = []
    for part in parts:
        other: Block = part.mean(axis=0)
        for start in range(0, len(other) - size // 2, size):
            wanted = other[start : start + size]
            if float(np.sqrt(np.mean(wanted**2))) < 0.01:
                continue
            begin, end = offset + start, offset + start + len(wanted)
            places = (mix[max(begin - reach, 0) : end + reach] for reach in reaches)
            if not any(is_within(wanted, place) for place in places):
                missing.append(round(begin / rate, 3))
        offset += len(other)
    return missing


def is_within(wanted: Block, place: Block) -> bool:
    """Tell whether a piece of sound is in another one, at any level."""
    if len(place) < len(wanted) * 3 // 4:
        return False
    span = 1 << (len(place) + len(wanted)).bit_length()
    spectra = np.fft.rfft(place, span) * np.conj(np.fft.rfft(wanted, span))
    best = int(np.argmax(np.fft.irfft(spectra, span)[: len(place)]))
    found = place[best : best + len(wanted)]
    begun = wanted[: len(found)]
    gain = float(found @ begun / (begun @ begun + 1e-9))  # decoders mix in other ways
    error = float(np.sqrt(np.mean((found - gain * begun) ** 2)))
    level = LOUDEST_ERROR * float(np.sqrt(np.mean(begun**2)))
    return error <= level and 0.4 < gain < 2.5 and len(found) > 0.75 * len(wanted)


class Messages(logging.Handler):
    """What splitter logs."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text, without the file's name."""
        self.texts.append(record.getMessage().partition(": ")[2])


@dataclass(frozen=True)
class Read:
    """What splitter says of a file."""

    sound: Block | None
    rate: int
    fault: str | None
    messages: list[str]


def read(path: Path, patient: bool = False) -> Read:
    """Let splitter read a file."""
    rate, messages = 0, Messages()
    logging.getLogger("splitter").addHandler(messages)
    try:
        with open_song(path, Reading(keep_partial=patient)) as song:
            rate = song.rate
            blocks = [np.zeros((song.channels, 0), np.float32), *song.read_blocks()]
            sound = np.concatenate(blocks, axis=1)
            return Read(sound, rate, song.damage, messages.texts)
    except AudioError as error:
        return Read(None, rate, str(error).removeprefix(f"{path}: "), messages.texts)
    finally:
        logging.getLogger("splitter").removeHandler(messages)


def judge(path: Path, parts: list[Path]) -> dict[str, Any]:
    """Compare what splitter reads with what others do."""
    own = read(path)
    verdict: dict[str, Any] = {"name": path.name, "fault": own.fault, "messages": own.messages}
    if own.sound is None:
        return verdict
    verdict["samples"] = own.sound.shape[1]
    for name, decode in choose_decoders((parts or [path])[0]).items():
        decoded = [decode(part, own.rate, len(own.sound))[0] for part in parts or [path]]
        others = [other for other in decoded if other is not None]
        if len(others) < len(decoded):
            continue
        verdict[name] = sum(other.shape[1] for other in others)
        verdict[f"{name} missing"] = find_missing(own.sound, others, own.rate)
        late = float(verdict[name] - own.sound.shape[1]) / own.rate
        verdict[f"{name} more"] = round(late, 4) if late > MISSING else 0
    return verdict


def find_sound(data: bytes, parts: list[Path], seed: int) -> tuple[int, int]:
    """Give where sound begins and ends in a file that has one of its parts as it was."""
    wholes = [whole for part in parts if (whole := part.read_bytes()) in data]
    if not wholes:
        return 0, len(data)
    chosen = wholes[seed % len(wholes)]
    place = data.rfind(chosen)
    return place, place + len(chosen)


def damage(data: bytes, kind: str, span: tuple[int, int], seed: int) -> bytes:
    """Tear a part off, overwrite one, or flip a bit, within this span of bytes."""
    generator, harmed = random.Random(seed), bytearray(data)
    size = span[1] - span[0]
    place = span[0] + generator.randrange(size * 4 // 10, size * 7 // 10)
    if kind == "torn":
        return data[:place]
    if kind == "overwritten":
        length = min(size // 20, 3000)
        harmed[place : place + length] = generator.randbytes(length)
    else:
        harmed[place] ^= 1 << generator.randrange(8)
    return bytes(harmed)


PLAIN = {"wav", "au", "caf", "w64", "aiff", "sph"}
CHECKED = {"flac", "wv", "tta", "ac3"}  # codecs with a checksum of each frame
PAGES = {"ogg", "oga", "opus"}  # Ogg has one of each page
ANY_NUMBER = "samples have no checksum: any number is one"
ANY_BITS = "its frames have no checksum: other bits are another sound"
NO_LENGTH = "states no length, as what is written into a pipe: any end is an end"


def explain(path: Path, kind: str) -> str | None:
    """Say why nobody can know of a damage; None if one should."""
    suffixes = path.name.split(".")[1:]
    if kind == "torn":
        known = "pipe-" in path.name or path.suffix in (".wav", ".nut")
        return NO_LENGTH if known else None
    if CHECKED & set(suffixes) or suffixes[-1] in PAGES:
        return None
    return ANY_NUMBER if suffixes[-1] in PLAIN else ANY_BITS


def judge_damage(path: Path, parts: list[Path], seed: int) -> Iterator[dict[str, Any]]:
    """Damage copies; say of each whether splitter tells it, and whether others notice."""
    whole, data = read(path), path.read_bytes()
    span = find_sound(data, parts, seed)
    for kind in ("torn", "overwritten", "flipped"):
        copy = path.with_name(f"damaged-{path.name}")
        copy.write_bytes(damage(data, kind, span, seed))
        own = read(copy)
        told = own.fault or next((m for m in own.messages if m not in whole.messages), None)
        verdict: dict[str, Any] = {"name": path.name, "what": kind, "told": told}
        if not told and own.sound is not None and whole.sound is not None:
            verdict["same"] = np.array_equal(own.sound, whole.sound)
            verdict["noticed"] = find_complaints(path, copy, own)
            verdict["reason"] = explain(path, kind)
        copy.unlink()
        yield verdict


def find_complaints(path: Path, copy: Path, own: Read) -> list[str]:
    """Give the decoders that complain of a copy and not of its original."""
    channels = 2 if own.sound is None else len(own.sound)
    return [
        name
        for name, decode in choose_decoders(path).items()
        if decode(copy, own.rate or RATE, channels)[1]
        and not decode(path, own.rate or RATE, channels)[1]
    ]


def main() -> None:
    """Make the corpus, judge each file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--damage", action="store_true", help="damage each file")
    given = parser.parse_args()
    logging.getLogger("splitter").propagate = False
    given.folder.mkdir(parents=True, exist_ok=True)
    files = make_files(Base(given.folder))
    report = given.folder / ("damage.jsonl" if given.damage else "sound.jsonl")
    counts: Counter[tuple[str, str]] = Counter()
    with report.open("w", encoding="utf-8") as lines:
        for seed, (name, (way, parts)) in enumerate(files.items()):
            path = given.folder / name
            verdicts = judge_damage(path, parts, seed) if given.damage else [judge(path, parts)]
            for verdict in verdicts:
                outcome = sort(verdict)
                lines.write(json.dumps({**verdict, "way": way, "outcome": outcome}) + "\n")
                lines.flush()
                counts[way, outcome] += 1
    outcomes = sorted({outcome for _, outcome in counts})
    print("way".ljust(16), *(outcome.rjust(18) for outcome in outcomes))
    for way in sorted({way for way, _ in files.values()}):
        print(way.ljust(16), *(str(counts[way, outcome]).rjust(18) for outcome in outcomes))
    print(
        "all".ljust(16),
        *(
            str(sum(n for (_, o), n in counts.items() if o == outcome)).rjust(18)
            for outcome in outcomes
        ),
    )
    if given.damage:
        print_reasons(report)
    print(f"{len(files)} files; what is odd is in {report}", file=sys.stderr)


def print_reasons(report: Path) -> None:
    """Print by format why nobody can tell a damage."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for line in report.read_text(encoding="utf-8").splitlines():
        verdict = json.loads(line)
        if verdict["outcome"] == "nobody can":
            form = verdict["name"].rpartition(".")[2]
            counts[form, verdict["what"], verdict["reason"]] += 1
    for (form, what, reason), count in sorted(counts.items()):
        print(f"{form.ljust(10)} {what.ljust(12)} {count:4}  {reason}")


def sort(verdict: dict[str, Any]) -> str:
    """Say in a word what became of a file."""
    if "told" in verdict:
        if verdict["told"]:
            return "told"
        if verdict["reason"] == NO_LENGTH:  # some tools complain of half a sample at its end
            return "nobody can"
        if verdict["noticed"]:
            return "NOT TOLD"
        if verdict["same"]:
            return "no sound hit"
        return "nobody can" if verdict["reason"] else "NOT EXPLAINED"
    if verdict["fault"]:
        return "FALSE ALARM"
    missing = [set(verdict[key]) for key in verdict if key.endswith(" missing")]
    more = [verdict[key] for key in verdict if key.endswith(" more")]
    # where others disagree (a first frame lacks what was before it), one of them is right
    if missing and (set.intersection(*missing) or all(more)):
        return "LOSS"
    return f"{sum(not places for places in missing)} of {len(missing)} agree"


if __name__ == "__main__":
    main()

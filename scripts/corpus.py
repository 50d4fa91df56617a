"""Odd but sound song files by the hundred, and what splitter makes of them.

    python scripts/corpus.py FOLDER [--damage]

Files are cut, joined, tagged, streamed, recorded and repacked by a dozen tools (those that are
missing are passed over, and named). What splitter reads of each is compared with two other
decoders: no file may be called damaged, and each half second that another decoder gives must be in
what splitter gives, at its place. With --damage one part of each is torn off or overwritten, and
splitter must tell it, wherever one of the others notices.

Needs: ffmpeg, sox, lame, mpg123, mp3splt, mp3wrap, vbrfix, twolame, oggenc, opusenc, oggz, flac,
mkvmerge, wavpack, id3v2 (Debian: vorbis-tools, opus-tools, oggz-tools, mkvtoolnix and these names).
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import random
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import soundfile
from mutagen import apev2, id3

from splitter.audio import Block, Reading, open_song, resample_signal
from splitter.audio.mpeg import Frame, walk
from splitter.errors import AudioError

RATE = 44100  # Hz
WINDOW = 0.5  # seconds
REACH = 3500  # samples by which a window may lie elsewhere: delays and paddings at two joints
LOUDEST_ERROR = 0.2  # of a window's level; another decoder's noise and half a sample of shift
MISSING = 0.1  # seconds that may be less than in another decoder's
Files = Iterator[tuple[str, str]]  # way, name of a new file


@dataclass(frozen=True)
class Base:
    """What the odd files are made of: whole songs in plain files, by suffix and shape."""

    folder: Path

    def path(self, name: str) -> Path:
        """Give the path of a file."""
        return self.folder / name

    def load(self, name: str) -> bytes:
        """Give what is in a file."""
        return self.path(name).read_bytes()

    def write(self, name: str, data: bytes) -> str:
        """Write a file, and give its name."""
        self.path(name).write_bytes(data)
        return name


def run(*command: object, **given: Any) -> bool:
    """Run a tool, if it is here; say whether it did well."""
    if not shutil.which(str(command[0])):
        return False
    done = subprocess.run([str(c) for c in command], capture_output=True, check=False, **given)
    return done.returncode == 0


def ffmpeg(*arguments: object) -> bool:
    """Run ffmpeg."""
    return run("ffmpeg", "-v", "error", "-nostdin", "-y", *arguments)


def sing(seconds: float, channels: int, rate: int, seed: int = 0) -> Block:
    """Make a sound that is never twice the same, so that what is lost shows."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = 220 * 2 ** np.cumsum(
        np.repeat(generator.normal(0, 0.3, 200), rate // 8)[: len(time)] / rate * 8
    )
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tones = [0.3 * np.sin(phase * (1 + c / 7)) + 0.1 * np.sin(3 * phase) for c in range(channels)]
    noise = 0.03 * generator.standard_normal((channels, len(time)))
    return np.asarray(tones + noise, np.float32)


SHAPES = {  # name → channels, rate
    "stereo": (2, 44100),
    "mono": (1, 44100),
    "fast": (2, 48000),
    "slow": (1, 22050),
}


# a jingle before a song, a radio's titles, parts of one recording
JOINED = (
    ("stereo", "stereo"),
    ("mono", "stereo"),
    ("stereo", "mono"),
    ("fast", "stereo"),
    ("stereo", "slow"),
    ("slow", "fast"),
)


def make_bases(base: Base) -> None:
    """Write the songs that all else is made of."""
    for seed, (name, (channels, rate)) in enumerate(SHAPES.items()):
        wav = base.path(f"{name}.wav")
        soundfile.write(wav, sing(4 + seed / 3, channels, rate, seed).T, rate, "PCM_16")
        run("lame", "--quiet", "-b", 96, wav, base.path(f"{name}.mp3"))
        run("lame", "--quiet", "-V", 5, wav, base.path(f"{name}.vbr.mp3"))
        run("lame", "--quiet", "-t", "-b", 96, wav, base.path(f"{name}.bare.mp3"))
        run("sox", wav, base.path(f"{name}.sox.mp3"))
        run("twolame", "--quiet", wav, base.path(f"{name}.mp2"))
        run("oggenc", "-Q", wav, "-o", base.path(f"{name}.ogg"))
        run("opusenc", "--quiet", wav, base.path(f"{name}.opus"))
        run("flac", "--silent", "-f", wav, "-o", base.path(f"{name}.flac"))
        run("flac", "--silent", "-f", "--ogg", wav, "-o", base.path(f"{name}.oga"))
        run("wavpack", "-q", "-y", wav, base.path(f"{name}.wv"))
        for suffix in ("m4a", "aac", "wma", "ac3", "mka", "mp4", "ts"):
            ffmpeg("-i", wav, "-ar", max(rate, 32000), base.path(f"{name}.{suffix}"))
        ffmpeg("-i", wav, "-c:a", "alac", base.path(f"{name}.alac.m4a"))
        for suffix in ("aiff", "au", "caf", "w64", "tta"):
            ffmpeg("-i", wav, base.path(f"{name}.{suffix}"))


def cut_without_encoding(base: Base) -> Files:
    """Cut pieces out by tools that copy frames."""
    formats = ("mp3", "vbr.mp3", "bare.mp3", "mp2", "ogg", "opus", "flac", "m4a", "aac", "mka")
    places = itertools.cycle(((0, 2), (0.7, 2.1), (1.9, 9)))
    for shape, suffix in itertools.product(SHAPES, formats):
        start, length = next(places)
        name = f"cut-{start}.{shape}.{suffix}"
        given = ("-ss", start, "-t", length, "-i", base.path(f"{shape}.{suffix}"))
        if ffmpeg(*given, "-c", "copy", base.path(name)):
            yield "ffmpeg -c copy", name
    for shape, suffix in itertools.product(SHAPES, ("mp3", "vbr.mp3", "ogg")):
        name = f"splt-{shape}.{suffix}"
        arguments = ("-Q", "-o", name[: -len(suffix.split(".")[-1]) - 1], "-d", base.folder)
        if run("mp3splt", *arguments, base.path(f"{shape}.{suffix}"), "0.01", "0.03"):
            yield "mp3splt", name
    for shape in SHAPES:
        for start, end in ((0.5, 2), (1, 3.5)):
            name = f"chop-{start}.{shape}.ogg"
            options = ("chop", "-s", start, "-e", end, "-o", base.path(name))
            if run("oggz", *options, base.path(f"{shape}.ogg")):
                yield "oggz chop", name


def frames(data: bytes) -> list[bytes]:
    """Give the frames of an mp3."""
    position = iter([data])
    return [p.data for p in walk(lambda _: next(position, b"")) if isinstance(p, Frame)]


def cut_bytes(base: Base) -> Files:
    """Cut at frames or within the first one, as recorders of streams do."""
    for shape, suffix in itertools.product(SHAPES, ("mp3", "vbr.mp3", "bare.mp3", "mp2")):
        data = base.load(f"{shape}.{suffix}")
        pieces = frames(data)
        some = b"".join(pieces[10:-10])
        yield "own bytes", base.write(f"frames-{shape}.{suffix}", some)
        yield "own bytes", base.write(f"midframe-{shape}.{suffix}", some[77:])
        lying = bytearray(data)
        place = max(lying.find(b"Info"), lying.find(b"Xing"))
        if place > 0 and suffix == "mp3":
            count = int.from_bytes(lying[place + 8 : place + 12], "big")
            for error in (1, 2):
                lying[place + 8 : place + 12] = (count + error).to_bytes(4, "big")
                yield "own bytes", base.write(f"lies{error}-{shape}.mp3", bytes(lying))
    for shape in SHAPES:
        yield "own bytes", base.write(f"midframe-{shape}.aac", base.load(f"{shape}.aac")[100:])


def join(base: Base) -> Files:
    """Join two or three songs, of one shape or of several, as `cat` does."""
    for suffix in ("mp3", "vbr.mp3", "bare.mp3", "sox.mp3", "ogg", "opus", "oga", "aac", "mp2"):
        for first, second in JOINED:
            if not base.path(f"{first}.{suffix}").exists():
                continue
            data = base.load(f"{first}.{suffix}") + base.load(f"{second}.{suffix}")
            yield "cat", base.write(f"cat-{first}-{second}.{suffix}", data)
    data = b"".join(base.load(f"{shape}.mp3") for shape in SHAPES)
    yield "cat", base.write("cat-all.mp3", data)
    for shape in SHAPES:
        target, part = base.path(f"wrap-{shape}"), base.path(f"{shape}.mp3")
        if run("mp3wrap", target, part, part):
            yield "mp3wrap", f"wrap-{shape}_MP3WRAP.mp3"
        name = f"vbrfix-{shape}.mp3"
        if run("vbrfix", base.path(f"{shape}.vbr.mp3"), base.path(name), cwd=base.folder):
            yield "vbrfix", name
        name = f"concat-{shape}.m4a"
        parts = base.path("list.txt")
        parts.write_text(f"file '{shape}.m4a'\nfile '{shape}.m4a'\n")
        if ffmpeg("-f", "concat", "-safe", 0, "-i", parts, "-c", "copy", base.path(name)):
            yield "ffmpeg concat", name


def tag(base: Base) -> Files:
    """Tag in every way that there is, before, behind and between."""
    cover = b"\xff\xd8\xff\xe0" + random.Random(0).randbytes(50_000)
    tags = id3.ID3()
    tags.add(id3.TIT2(text="Title"))
    tags.add(id3.APIC(mime="image/jpeg", type=3, data=cover))
    id3v2 = base.path("tag.id3")
    tags.save(id3v2)
    head = id3v2.read_bytes()
    ape = base.path("tag.ape")
    ape.write_bytes(b"")
    items = apev2.APEv2()
    items["Title"] = "Title"
    items.save(ape)
    tails = {
        "id3v1": b"TAG" + bytes(125),
        "ape": ape.read_bytes(),
        "apeid3v1": ape.read_bytes() + b"TAG" + bytes(125),
        "id3v2": head,
        "lyrics": b"LYRICSBEGININD0000210000018LYRICS200TAG" + bytes(125),
        "zeros": bytes(5000),
        "junk": random.Random(1).randbytes(3000),
    }
    for shape, suffix in itertools.product(("stereo", "slow"), ("mp3", "bare.mp3", "flac", "aac")):
        data = base.load(f"{shape}.{suffix}")
        for tail in tails:
            if suffix == "aac" and tail in ("zeros", "junk", "lyrics"):
                continue
            way = "mutagen" if tail in ("ape", "id3v2") else "own bytes"
            yield way, base.write(f"tail-{tail}-{shape}.{suffix}", data + tails[tail])
        yield "mutagen", base.write(f"head-{shape}.{suffix}", head + data)
        if suffix.endswith("mp3"):
            yield "own bytes", base.write(f"zeros-{shape}.{suffix}", bytes(65_000) + data)
            junk = random.Random(2).randbytes(65_000)
            yield "own bytes", base.write(f"junk-{shape}.{suffix}", junk + data)
            yield "own bytes", base.write(f"between-{shape}.{suffix}", data + head + data)
    for shape, suffix in itertools.product(SHAPES, ("ogg", "opus", "flac", "m4a", "wav", "wma")):
        name = f"tagged-{shape}.{suffix}"
        base.write(name, base.load(f"{shape}.{suffix}"))
        file = mutagen.File(base.path(name), easy=suffix == "m4a")
        if file is not None:
            if file.tags is None:
                file.add_tags()
            if suffix == "wav":
                file.tags.add(id3.TIT2(text="Title"))
            else:
                file["title"] = ["Title"]
            file.save()
            yield "mutagen", name
        name = f"id3v2-{shape}.mp3"
        base.write(name, base.load(f"{shape}.mp3"))
        if run("id3v2", "-t", "Title", base.path(name)):
            yield "id3v2", name


def stream(base: Base) -> Files:
    """Write into a pipe, where no tool can go back to its header."""
    plain = "wav flac mp3 au caf w64 aiff ogg adts mpegts matroska asf tta rm flv"
    wanted: dict[str, tuple[str, ...]] = dict.fromkeys(plain.split(), ())
    wanted["webm"] = ("-c:a", "libopus")
    wanted["mp4"] = ("-movflags", "frag_keyframe+empty_moov")
    for shape, (form, options) in itertools.product(("stereo", "mono"), wanted.items()):
        source = base.path(f"{shape}.wav")
        given = ["ffmpeg", "-v", "error", "-i", source, "-ar", max(SHAPES[shape][1], 44100)]
        done = subprocess.run(
            [*map(str, given), *options, "-f", form, "-"], capture_output=True, check=False
        )
        if done.returncode == 0 and done.stdout:
            yield "ffmpeg pipe", base.write(f"pipe-{shape}.{form}", done.stdout)
    for shape, form in itertools.product(SHAPES, ("wav", "au", "flac", "ogg", "mp3", "caf", "sph")):
        with base.path(f"{shape}.wav").open("rb") as song:
            command = ["sox", "-t", "wav", "-", "-t", form, "-"]
            done = subprocess.run(command, stdin=song, capture_output=True, check=False)
        if done.returncode == 0 and done.stdout:
            yield "sox pipe", base.write(f"soxpipe-{shape}.{form}", done.stdout)


def repack(base: Base) -> Files:
    """Put sound into containers where it is seldom met."""
    pairs = {
        "mp3": ("mka", "mp4", "avi", "mov", "nut"),
        "flac": ("mka", "mp4", "oga"),
        "wav": ("mka",),
    }
    pairs |= {
        "m4a": ("mka", "ts", "mov", "aac", "caf"),
        "opus": ("webm", "mka", "mp4"),
        "ac3": ("ts",),
    }
    pairs |= {"ogg": ("mka",), "alac.m4a": ("caf", "mov", "mka"), "mp2": ("ts", "avi")}
    for shape, (source, targets) in itertools.product(("stereo", "slow"), pairs.items()):
        for target in targets:
            name = f"in-{shape}.{source}.{target}"
            if ffmpeg("-i", base.path(f"{shape}.{source}"), "-c", "copy", base.path(name)):
                yield "ffmpeg -c copy", name
        name = f"merge-{shape}.{source}.mka"
        if run("mkvmerge", "-q", "-o", base.path(name), base.path(f"{shape}.{source}")):
            yield "mkvmerge", name
    for shape, kind in itertools.product(SHAPES, ("ALAC_16", "PCM_24", "FLOAT", "ULAW")):
        name = f"{shape}.{kind}.caf"
        signal, rate = soundfile.read(base.path(f"{shape}.wav"), dtype="float32")
        soundfile.write(base.path(name), signal, rate, kind, format="CAF")
        yield "libsndfile", name


def break_headers(base: Base) -> Files:
    """Write the headers of crashed and careless programs."""
    for shape in ("stereo", "slow"):
        channels, rate = SHAPES[shape]
        data = base.load(f"{shape}.wav")
        sound = data[44:]
        form = struct.pack("<IHHIIHH", 16, 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
        whole = len(sound) + 36
        for riff, size in itertools.product(
            (0, 0xFFFFFFFF, whole), (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000)
        ):
            head = b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + form
            body = b"data" + struct.pack("<I", size) + sound
            yield "own bytes", base.write(f"{riff:x}-{size:x}-{shape}.wav", head + body)
        head = b"RIFF" + struct.pack("<I", whole) + b"WAVEfmt " + form
        body = b"data" + struct.pack("<I", 2 * len(sound)) + sound
        yield "own bytes", base.write(f"twice-{shape}.wav", head + body)
        flac = bytearray(base.load(f"{shape}.flac"))
        flac[21] &= 0xF0
        flac[22:26] = bytes(4)
        yield "own bytes", base.write(f"nolength-{shape}.flac", bytes(flac))


WAYS = (cut_without_encoding, cut_bytes, join, tag, stream, repack, break_headers)
Decoded = tuple[Block | None, bool]  # the sound, and whether the decoder complains
Decode = Callable[[Path, int, int], Decoded]


def decode_by(
    command: list[str], path: Path, rate: int, channels: int
) -> tuple[Block | None, bool]:
    """Decode with a tool that writes floats to stdout."""
    shape = {"RATE": str(rate), "CHANNELS": str(channels), "FILE": str(path)}
    words = [shape.get(word, word) for word in command]
    if not shutil.which(words[0]):
        return None, False
    done = subprocess.run(words, capture_output=True, check=False, timeout=60)
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
        return None, False
    return resample_signal(np.ascontiguousarray(sound.T), own, rate), False


FFMPEG = ["ffmpeg", "-v", "error", "-nostdin", "-i", "FILE", "-map", "0:a:0", "-f", "f32le"]
MPG123 = ["mpg123", "-q", "-e", "f32", "-r", "RATE", "-s", "FILE"]
SOX = ["sox", "-V1", "FILE", "-t", "f32", "-r", "RATE", "-c", "CHANNELS", "-"]


def choose_decoders(path: Path, channels: int) -> dict[str, Decode]:
    """Give two independent decoders that know the format."""
    decoders: dict[str, Decode] = {
        "ffmpeg": partial(decode_by, [*FFMPEG, "-ar", "RATE", "-ac", "CHANNELS", "-"])
    }
    if path.suffix in (".mp3", ".mp2"):
        shape = "--mono" if channels == 1 else "--stereo"
        decoders["mpg123"] = partial(decode_by, [*MPG123[:-2], shape, *MPG123[-2:]])
    elif path.suffix == ".opus":
        command = ["opusdec", "--quiet", "--float", "--rate", "RATE", "FILE", "-"]
        decoders["opusdec"] = partial(decode_by, command)
    elif path.suffix in (".wv",):
        decoders["sox"] = partial(decode_by, SOX)
    else:
        decoders["libsndfile"] = decode_by_sndfile
    return decoders


def find_missing(sound: Block, other: Block, rate: int) -> list[float]:
    """Give the seconds at which something of `other` is not in `sound`, near the same place."""
    size = round(WINDOW * rate)
    mixes = [signal.mean(axis=0) for signal in (sound, other)]
    missing = []
    shift = 0
    for start in range(0, other.shape[1] - size // 2, size):
        wanted = mixes[1][start : start + size]
        level = float(np.sqrt(np.mean(wanted**2)))
        if level < 0.01:
            continue
        begin = max(start + shift - REACH, 0)
        place = mixes[0][begin : start + shift + len(wanted) + REACH]
        if len(place) < len(wanted) // 2:
            missing.append(start / rate)
            continue
        span = 1 << (len(place) + len(wanted)).bit_length()
        spectra = np.fft.rfft(place, span) * np.conj(np.fft.rfft(wanted, span))
        best = int(np.argmax(np.fft.irfft(spectra, span)[: len(place)]))
        found = place[best : best + len(wanted)]
        wanted = wanted[: len(found)]
        gain = float(found @ wanted / max(wanted @ wanted, 1e-9))  # decoders mix in other ways
        error = float(np.sqrt(np.mean((found - gain * wanted) ** 2)))
        if error > LOUDEST_ERROR * level or not 0.4 < gain < 2.5 or len(found) < 0.8 * size / 2:
            missing.append(start / rate)
    return missing


@dataclass(frozen=True)
class Read:
    """What splitter says of a file."""

    sound: Block | None
    rate: int
    fault: str | None
    refused: bool


def read(path: Path, patient: bool = False) -> Read:
    """Let splitter read a file."""
    rate = 0
    try:
        with open_song(path, Reading(keep_partial=patient)) as song:
            rate = song.rate
            blocks = [np.zeros((song.channels, 0), np.float32), *song.read_blocks()]
            return Read(np.concatenate(blocks, axis=1), rate, song.damage, False)
    except AudioError as error:
        return Read(None, rate, str(error).removeprefix(f"{path}: "), True)


def judge(path: Path) -> dict[str, Any]:
    """Compare what splitter reads with what others do."""
    own = read(path)
    verdict: dict[str, Any] = {"name": path.name, "fault": own.fault, "refused": own.refused}
    if own.sound is None:
        return verdict
    verdict["samples"] = own.sound.shape[1]
    for name, decode in choose_decoders(path, len(own.sound)).items():
        other, _ = decode(path, own.rate, len(own.sound))
        if other is None:
            continue
        verdict[name] = other.shape[1]
        verdict[f"{name} missing"] = find_missing(own.sound, other, own.rate)
        late = (other.shape[1] - own.sound.shape[1]) / own.rate
        verdict[f"{name} more"] = round(late, 4) if late > MISSING else 0
    return verdict


PLAIN = (".wav", ".au", ".caf", ".w64", ".aiff", ".sph")  # where no decoder notices other bytes


def damage(path: Path, seed: int) -> str:
    """Tear a part off, or overwrite one, in place."""
    data = bytearray(path.read_bytes())
    generator = random.Random(seed)
    middle = generator.randrange(len(data) * 4 // 10, len(data) * 7 // 10)
    if seed % 2 or path.suffix in PLAIN:
        del data[middle:]
        what = "torn"
    else:
        size = min(len(data) // 20, 3000)
        data[middle : middle + size] = generator.randbytes(size)
        what = "overwritten"
    path.write_bytes(data)
    return what


def judge_damage(path: Path, seed: int) -> dict[str, Any]:
    """Damage a copy; say whether splitter tells it, and whether others notice."""
    copy = path.with_name(f"damaged-{path.name}")
    shutil.copy(path, copy)
    what = damage(copy, seed)
    own = read(copy)
    channels = 2 if own.sound is None else len(own.sound)
    decoders = choose_decoders(copy, channels)
    before, noticed = {}, []
    for name, decode in decoders.items():
        for file in (path, copy):
            before[file] = decode(file, own.rate or RATE, channels)[1]
        if before[copy] and not before[path]:
            noticed.append(name)
    copy.unlink()
    told = own.fault is not None
    return {"name": path.name, "what": what, "told": told, "fault": own.fault, "noticed": noticed}


def make_files(base: Base) -> dict[str, str]:
    """Make all files, or take those of the last time; give their names and ways."""
    made = base.path("made.json")
    if not made.exists():
        make_bases(base)
        files = {name: kind for way in WAYS for kind, name in way(base)}
        made.write_text(json.dumps(files))
    return dict(json.loads(made.read_text()))


def main() -> None:
    """Make the corpus, judge each file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--damage", action="store_true", help="damage each file")
    given = parser.parse_args()
    logging.disable()
    given.folder.mkdir(parents=True, exist_ok=True)
    files = make_files(Base(given.folder))
    report = given.folder / ("damage.jsonl" if given.damage else "sound.jsonl")
    counts: Counter[tuple[str, str]] = Counter()
    with report.open("w", encoding="utf-8") as lines:
        for seed, (name, way) in enumerate(files.items()):
            path = given.folder / name
            verdict = judge_damage(path, seed) if given.damage else judge(path)
            verdict["way"] = way
            lines.write(json.dumps(verdict) + "\n")
            counts[way, sort(verdict)] += 1
    outcomes = sorted({outcome for _, outcome in counts})
    print("way".ljust(16), *(outcome.rjust(14) for outcome in outcomes))
    for way in sorted(set(files.values())):
        print(way.ljust(16), *(str(counts[way, outcome]).rjust(14) for outcome in outcomes))
    print(f"{len(files)} files; what is odd is in {report}", file=sys.stderr)


def sort(verdict: dict[str, Any]) -> str:
    """Say in a word what became of a file."""
    if "told" in verdict:
        if verdict["told"]:
            return "told"
        return "NOT TOLD" if verdict["noticed"] else "unnoticeable"
    if verdict["fault"]:
        return "FALSE ALARM"
    missing = [set(verdict[key]) for key in verdict if key.endswith(" missing")]
    more = [verdict[key] for key in verdict if key.endswith(" more")]
    # where others disagree (a first frame lacks what was before it), one of them is right
    if missing and (set.intersection(*missing) or all(more)):
        return "LOSS"
    return f"sound, {sum(not places for places in missing)} agree"


if __name__ == "__main__":
    main()

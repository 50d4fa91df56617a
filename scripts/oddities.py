"""Odd but sound song files by the hundred, made by a dozen tools: `scripts/corpus.py` judges them.

Files are cut, joined, tagged, streamed, recorded and repacked. Tools that are missing are passed
over.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import soundfile
from mutagen import apev2, id3

from splitter.audio import Block
from splitter.audio.mpeg import Frame, walk

# way, name of a new file, and the files whose sound is in it; none: it is its own measure
Files = Iterator[tuple[str, str, tuple[str, ...]]]


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
        run("lame", "--quiet", "--freeformat", "-b", 400, wav, base.path(f"{name}.free.mp3"))
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
            yield "ffmpeg -c copy", name, ()
    for shape, suffix in itertools.product(SHAPES, ("mp3", "vbr.mp3", "ogg")):
        name = f"splt-{shape}.{suffix}"
        arguments = ("-Q", "-o", name[: -len(suffix.split(".")[-1]) - 1], "-d", base.folder)
        if run("mp3splt", *arguments, base.path(f"{shape}.{suffix}"), "0.01", "0.03"):
            yield "mp3splt", name, ()
    for shape in SHAPES:
        for start, end in ((0.5, 2), (1, 3.5)):
            name = f"chop-{start}.{shape}.ogg"
            options = ("chop", "-s", start, "-e", end, "-o", base.path(name))
            if run("oggz", *options, base.path(f"{shape}.ogg")):
                yield "oggz chop", name, ()


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
        yield "own bytes", base.write(f"frames-{shape}.{suffix}", some), ()
        yield "own bytes", base.write(f"midframe-{shape}.{suffix}", some[77:]), ()
        lying = bytearray(data)
        place = max(lying.find(b"Info"), lying.find(b"Xing"))
        if place > 0 and suffix == "mp3":
            count = int.from_bytes(lying[place + 8 : place + 12], "big")
            for error in (1, 2):
                lying[place + 8 : place + 12] = (count + error).to_bytes(4, "big")
                name = base.write(f"lies{error}-{shape}.mp3", bytes(lying))
                yield "own bytes", name, (f"{shape}.mp3",)
    for shape in SHAPES:
        name = base.write(f"midframe-{shape}.aac", base.load(f"{shape}.aac")[100:])
        yield "own bytes", name, ()


def join(base: Base) -> Files:
    """Join two or three songs, of one shape or of several, as `cat` does."""
    for suffix in ("mp3", "vbr.mp3", "bare.mp3", "sox.mp3", "ogg", "opus", "oga", "aac", "mp2"):
        for first, second in JOINED:
            if not base.path(f"{first}.{suffix}").exists():
                continue
            parts = f"{first}.{suffix}", f"{second}.{suffix}"
            data = b"".join(map(base.load, parts))
            yield "cat", base.write(f"cat-{first}-{second}.{suffix}", data), parts
    every = tuple(f"{shape}.mp3" for shape in SHAPES)
    yield "cat", base.write("cat-all.mp3", b"".join(map(base.load, every))), every
    for shape in SHAPES:
        target, part = base.path(f"wrap-{shape}"), base.path(f"{shape}.mp3")
        if run("mp3wrap", target, part, part):
            yield "mp3wrap", f"wrap-{shape}_MP3WRAP.mp3", (part.name, part.name)
        name = f"vbrfix-{shape}.mp3"
        if run("vbrfix", base.path(f"{shape}.vbr.mp3"), base.path(name), cwd=base.folder):
            yield "vbrfix", name, (f"{shape}.vbr.mp3",)
        name = f"concat-{shape}.m4a"
        script = base.path("list.txt")
        script.write_text(f"file '{shape}.m4a'\nfile '{shape}.m4a'\n")
        if ffmpeg("-f", "concat", "-safe", 0, "-i", script, "-c", "copy", base.path(name)):
            yield "ffmpeg concat", name, ()


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
        part = f"{shape}.{suffix}"
        data = base.load(part)
        for tail in tails:
            if suffix == "aac" and tail in ("zeros", "junk", "lyrics"):
                continue
            way = "mutagen" if tail in ("ape", "id3v2") else "own bytes"
            yield way, base.write(f"tail-{tail}-{part}", data + tails[tail]), (part,)
        yield "mutagen", base.write(f"head-{part}", head + data), (part,)
        if suffix.endswith("mp3"):
            yield "own bytes", base.write(f"zeros-{part}", bytes(65_000) + data), (part,)
            junk = random.Random(2).randbytes(65_000)
            yield "own bytes", base.write(f"junk-{part}", junk + data), (part,)
            both = part, part
            yield "own bytes", base.write(f"between-{part}", data + head + data), both
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
            yield "mutagen", name, (f"{shape}.{suffix}",)
        name = f"id3v2-{shape}.mp3"
        base.write(name, base.load(f"{shape}.mp3"))
        if run("id3v2", "-t", "Title", base.path(name)):
            yield "id3v2", name, (f"{shape}.mp3",)


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
            yield "ffmpeg pipe", base.write(f"pipe-{shape}.{form}", done.stdout), ()
    for shape, form in itertools.product(SHAPES, ("wav", "au", "flac", "ogg", "mp3", "caf", "sph")):
        with base.path(f"{shape}.wav").open("rb") as song:
            command = ["sox", "-t", "wav", "-", "-t", form, "-"]
            done = subprocess.run(command, stdin=song, capture_output=True, check=False)
        if done.returncode == 0 and done.stdout:
            yield "sox pipe", base.write(f"soxpipe-{shape}.{form}", done.stdout), ()


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
                yield "ffmpeg -c copy", name, (f"{shape}.{source}",)
        name = f"merge-{shape}.{source}.mka"
        if run("mkvmerge", "-q", "-o", base.path(name), base.path(f"{shape}.{source}")):
            yield "mkvmerge", name, (f"{shape}.{source}",)
    for shape, kind in itertools.product(SHAPES, ("ALAC_16", "PCM_24", "FLOAT", "ULAW")):
        name = f"{shape}.{kind}.caf"
        signal, rate = soundfile.read(base.path(f"{shape}.wav"), dtype="float32")
        soundfile.write(base.path(name), signal, rate, kind, format="CAF")
        yield "libsndfile", name, (f"{shape}.wav",)


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
            name = base.write(f"{riff:x}-{size:x}-{shape}.wav", head + body)
            yield "own bytes", name, (f"{shape}.wav",)
        head = b"RIFF" + struct.pack("<I", whole) + b"WAVEfmt " + form
        body = b"data" + struct.pack("<I", 2 * len(sound)) + sound
        yield "own bytes", base.write(f"twice-{shape}.wav", head + body), (f"{shape}.wav",)
        flac = bytearray(base.load(f"{shape}.flac"))
        flac[21] &= 0xF0
        flac[22:26] = bytes(4)
        name = base.write(f"nolength-{shape}.flac", bytes(flac))
        yield "own bytes", name, (f"{shape}.flac",)


WAYS = (cut_without_encoding, cut_bytes, join, tag, stream, repack, break_headers)


def make_files(base: Base) -> dict[str, tuple[str, list[Path]]]:
    """Make all files, or take those of the last time; give their names, ways and parts."""
    made = base.path("made.json")
    if not made.exists():
        make_bases(base)
        files = {name: (kind, parts) for way in WAYS for kind, name, parts in way(base)}
        made.write_text(json.dumps(files))
    known = json.loads(made.read_text()).items()
    return {name: (kind, [base.path(part) for part in parts]) for name, (kind, parts) in known}

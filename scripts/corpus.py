"""Odd but sound song files by the hundred, and what splitter makes of them.

    python scripts/corpus.py FOLDER [--damage]

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
REACHES = (0.1, 1.0)  # seconds by which a window may lie elsewhere: delays, paddings; first frames
LOUDEST_ERROR = 0.2  # of a window's level; another decoder's noise and half a sample of shift
PATIENCE = 20  # seconds for a decoder
MISSING = 0.1  # seconds that may be less than in another decoder's
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


def make_files(base: Base) -> dict[str, tuple[str, list[Path]]]:
    """Make all files, or take those of the last time; give their names, ways and parts."""
    made = base.path("made.json")
    if not made.exists():
        make_bases(base)
        files = {name: (kind, parts) for way in WAYS for kind, name, parts in way(base)}
        made.write_text(json.dumps(files))
    known = json.loads(made.read_text()).items()
    return {name: (kind, [base.path(part) for part in parts]) for name, (kind, parts) in known}


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

"""Songs in every format, made on the spot, and ways to read and write them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
import soundfile

from splitter.audio import Block, OutputFormat, Reading, StemWriter, open_song

RATE = 44100  # Hz
SAMPLES = 100_003  # no multiple of any frame

# suffix → container, codec and options for FFmpeg; None: written by libsndfile
FORMATS: Mapping[str, tuple[str, str, Mapping[str, str]] | None] = {
    "wav": None,
    "flac": None,
    "aiff": None,
    "ogg": None,
    "mp3": None,
    "lavf.mp3": ("mp3", "libmp3lame", {}),
    "opus": ("opus", "libopus", {}),
    "m4a": ("ipod", "aac", {"movflags": "+faststart", "movie_timescale": str(RATE)}),
    "coarse.m4a": ("ipod", "aac", {"movflags": "+faststart"}),  # its edit list counts milliseconds
    "fragmented.mp4": ("mp4", "aac", {"movflags": "+frag_keyframe+empty_moov+delay_moov"}),
    "alac.m4a": ("ipod", "alac", {"movflags": "+faststart"}),
    "opus.mp4": ("mp4", "libopus", {"movflags": "+faststart", "movie_timescale": "48000"}),
    "webm": ("webm", "libopus", {}),
    "flac.mka": ("matroska", "flac", {}),
    "wv": ("wv", "wavpack", {}),
}
# formats whose frames are not cut to the length of the song, and which do not state it
INEXACT: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "wma": ("asf", "wmav2", {}),
    "aac": ("adts", "aac", {}),
    "aac.mka": ("matroska", "aac", {}),
}


class Pipe(io.RawIOBase):
    """Bytes that come once, as from a shell's pipe."""

    def __init__(self, data: bytes, step: int = 1 << 16) -> None:
        self._file = io.BytesIO(data)
        self._step = step
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, self._step))
        self.taken += len(data)
        return data

    def readable(self) -> bool:
        return True


class Sink(io.RawIOBase):
    """A pipe's other end."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: Any) -> int:
        self.data += bytes(data)
        return len(data)

    def writable(self) -> bool:
        return True


def chirps(samples: int = SAMPLES, channels: int = 2, rate: int = RATE) -> Block:
    """Rising tones, another one in each channel: any shift and any mix-up shows."""
    time = np.arange(samples) / rate
    tones = [0.3 * np.sin(2 * np.pi * (300 + 90 * c) * time * (1 + time)) for c in range(channels)]
    return np.asarray(tones, np.float32)


def make(path: Path, suffix: str, signal: Block, rate: int = RATE) -> Path:
    """Write a signal in one of FORMATS or INEXACT; Opus has 48 kHz."""
    recipe = {**FORMATS, **INEXACT}[suffix]
    target = path.with_name(f"{path.name}.{suffix}")
    if recipe is None:
        with soundfile.SoundFile(target, "w", rate, len(signal)) as file:
            for start in range(0, signal.shape[1], 4096):  # libvorbis overruns its stack otherwise
                file.write(signal[:, start : start + 4096].T)
        return target
    container, codec, options = recipe
    with av.open(str(target), "w", format=container, options=dict(options)) as output:
        layout = {1: "mono", 2: "stereo"}[len(signal)]
        hertz = rate_of(suffix, rate)
        track = cast(Any, output.add_stream(codec, rate=hertz, layout=layout))
        track.bit_rate = 128_000
        if track.format.name == "u8p":
            track.format = "s16p"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(signal), "fltp", layout)
        frame.sample_rate, frame.pts = hertz, 0
        output.mux(track.encode(frame))
        output.mux(track.encode(None))
    return target


def rate_of(suffix: str, rate: int = RATE) -> int:
    """The rate that a format has for a signal of this rate."""
    return 48000 if "opus" in suffix or suffix == "webm" else rate


def read(source: Path | BinaryIO, reading: Reading = Reading()) -> Block:
    """A whole song, (channels, samples)."""
    with open_song(source, reading) as song:
        blocks = [np.zeros((song.channels, 0), np.float32), *song.read_blocks()]
    return np.concatenate(blocks, axis=1)


def find_lag(signal: Block, other: Block) -> int:
    """By how many samples `other` is late, from the peak of the cross-correlation."""
    size = 2 * max(signal.shape[-1], other.shape[-1])
    spectra = np.fft.rfft(other, size) * np.conj(np.fft.rfft(signal, size))
    lag = int(np.argmax(np.fft.irfft(spectra)))
    return lag if lag < size // 2 else lag - size


def write(target: Path, signal: Block, wanted: OutputFormat, rate: int = RATE) -> StemWriter:
    """Write a signal as a stem, in blocks of an odd size."""
    with StemWriter(target, rate, len(signal), wanted) as writer:
        for start in range(0, signal.shape[1], 4321):
            writer.write(signal[:, start : start + 4321])
    return writer

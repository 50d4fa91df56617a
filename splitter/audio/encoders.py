"""From blocks to bytes, in every format that stems are written in.

FFmpeg (PyAV) writes wav, raw, flac, m4a and Opus. libsndfile writes the others: Ogg Vorbis, for
which FFmpeg has no good encoder of its own, mp3, where it misstates the length of one song in 25,
and Opus of five or seven channels, which it mixes up (elsewhere it is four times as fast). Into a
pipe, where mp3 cannot state its length, FFmpeg writes it, as frames and nothing else; m4a goes
there in fragments.
"""

from contextlib import suppress
from types import SimpleNamespace
from typing import Any, BinaryIO, Protocol, cast

import av
import numpy as np
import soundfile

from splitter.audio.blocks import Block, to_integers
from splitter.audio.formats import Container, OutputFormat, find_bitrates, find_container
from splitter.audio.layouts import fit_layout

# Where Vorbis and Opus have the channels of wav: (xiph.org/vorbis/doc/Vorbis_I_spec.html, 4.3.9)
_VORBIS_ORDER = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 4, 5, 3),
    7: (0, 2, 1, 5, 6, 4, 3),
    8: (0, 2, 1, 6, 7, 4, 5, 3),
}
_SNDFILE_CODECS = {
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
_MIXED_UP = (5, 7)  # channels
_PIECE = 4096  # samples; libvorbis overruns the stack when it gets a minute at once
# nominal bit/s for each channel at Vorbis' qualities 0 to 1
_VORBIS_BITRATES = (32e3, 40e3, 48e3, 56e3, 64e3, 80e3, 96e3, 112e3, 128e3, 160e3, 250e3)


class Encoder(Protocol):
    """Takes blocks until it is closed; never closes the file."""

    def write(self, block: Block) -> None:
        """Add a block."""

    def close(self) -> None:
        """Write what is left."""

    def discard(self) -> None:
        """Free what is held; to a pipe, write nothing any more."""


def open_encoder(
    file: BinaryIO, settled: OutputFormat, rate: int, channels: int, layout: str | None = None
) -> Encoder:
    """Start to write a settled format (see `fit_format`) into a file or a pipe.

    `layout` is the song's; raises AudioError if the format cannot hold it (see `fit_layout`).
    """
    fitted = fit_layout(settled, channels, layout)
    by_sndfile = {
        "ogg": True,
        "mp3": file.seekable(),
        "opus": channels in _MIXED_UP,
    }
    if by_sndfile.get(settled.container):
        return SndfileEncoder(file, settled, rate, channels)
    return FFmpegEncoder(file, settled, rate, fitted)


class FFmpegEncoder:
    """Any format of FFmpeg's."""

    def __init__(self, file: BinaryIO, settled: OutputFormat, rate: int, layout: str) -> None:
        container = find_container(settled.container)
        self._bits = settled.bits or 16
        self._sample_format = _sample_format(container, self._bits)
        self._layout = layout
        self._rate = rate
        self._written = 0
        self._sink = _Sink(file)
        self._output = av.open(
            self._sink.for_ffmpeg(),
            "w",
            format=container.muxer or container.codecs[self._bits].removeprefix("pcm_"),
            options=_muxer_options(settled.container, rate, file.seekable()),
        )
        codec = container.codecs[0 if container.lossy else self._bits]
        self._track = cast(Any, self._output.add_stream(codec, rate=rate, layout=self._layout))
        # FFmpeg would write flac frames for high rates that it cannot read itself
        self._track.codec_context.options = {"frame_size": "4096"} if codec == "flac" else {}
        self._track.format = self._sample_format
        if container.lossy:
            self._track.bit_rate = settled.bitrate
        self._output.start_encoding()  # a file without a sample needs its head, too

    def write(self, block: Block) -> None:
        """Add a block."""
        frame = av.AudioFrame.from_ndarray(self._interleave(block), self._packed, self._layout)
        frame.sample_rate = self._rate
        frame.pts = self._written
        self._written += block.shape[1]
        self._output.mux(self._track.encode(frame))
        self._sink.check()

    @property
    def _packed(self) -> str:
        return self._sample_format.rstrip("p")

    def _interleave(self, block: Block) -> Any:
        """Convert to the encoder's numbers, as (1, samples · channels)."""
        numbers: Any = np.ascontiguousarray(block.T)  # samples, channels
        if self._packed != "flt":
            integers = np.int16 if self._packed == "s16" else np.int32
            numbers = to_integers(numbers, self._bits, integers)
            if self._packed == "s32":
                numbers <<= 32 - self._bits
        return numbers.reshape(1, -1)

    def close(self) -> None:
        """Write what is left."""
        self._output.mux(self._track.encode(None))
        self._sink.flush()  # a full disk is told here, and not while FFmpeg seeks to its head
        self._output.close()
        self._sink.check()

    def discard(self) -> None:
        """Free what FFmpeg holds, while it can still write."""
        self._sink.mute()
        with suppress(OSError, av.FFmpegError):
            self._output.close()


def _sample_format(container: Container, bits: int) -> str:
    if container.lossy:
        return "flt" if "libopus" in container.codecs.values() else "fltp"
    return {16: "s16", 24: "s32", 32: "flt"}[bits]


def _muxer_options(container: str, rate: int, seekable: bool) -> dict[str, str]:
    # flush_packets: a pipe's reader hears what is ready. bitexact: no advertisement in the file.
    options = {"flush_packets": "1", "fflags": "+bitexact"}
    if container == "wav":
        options["rf64"] = "auto"  # past 4 GB
    if container == "m4a":
        options["movie_timescale"] = str(rate)  # in milliseconds, the length would be inexact
        if not seekable:
            options["movflags"] = "+empty_moov+delay_moov+default_base_moof"
            options["frag_duration"] = "1000000"  # microseconds
    if container == "mp3":
        options |= {"write_xing": "0", "id3v2_version": "0"}
    return options


class SndfileEncoder:
    """Ogg Vorbis, mp3, and Opus."""

    def __init__(self, file: BinaryIO, settled: OutputFormat, rate: int, channels: int) -> None:
        container, codec = _SNDFILE_CODECS[settled.container]
        self._order = list(_VORBIS_ORDER.get(channels, range(channels)))
        self._sink = _Sink(file)
        self._sound = soundfile.SoundFile(
            self._sink,
            "w",
            rate,
            channels,
            codec,
            format=container,
            compression_level=_find_level(settled, rate, channels),
            bitrate_mode="CONSTANT" if container == "MP3" else None,
        )
        self._sink.check()

    def write(self, block: Block) -> None:
        """Add a block."""
        for start in range(0, block.shape[1], _PIECE):
            self._sound.write(block[self._order, start : start + _PIECE].T)
            self._sink.check()

    def close(self) -> None:
        """Write what is left."""
        self._sound.close()
        self._sink.check()

    def discard(self) -> None:
        """Free what libsndfile holds, while it can still write."""
        self._sink.mute()
        self._sound.close()


def _find_level(settled: OutputFormat, rate: int, channels: int) -> float:
    """Give the compression level, 0 to below 1, by which libsndfile chooses this bitrate."""
    bitrate = settled.bitrate or 0
    if settled.container == "ogg":
        return 1 - float(np.interp(bitrate / channels, _VORBIS_BITRATES, np.linspace(0, 1, 11)))
    lowest, highest = find_bitrates(settled.container, rate, channels)
    if settled.container == "mp3":
        lowest = 32_000 if rate >= 32000 else 8_000
    return min((highest - bitrate) / (highest - lowest), 0.999)


class _Sink:
    """A file as the two libraries want it.

    Both drop exceptions of a write, libsndfile all of them, FFmpeg Ctrl-C: they are kept for
    `check`. libsndfile asks a pipe, too, for positions, but writes Ogg from front to back.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._seekable = file.seekable()
        self._position = 0
        self._muted = False
        self._error: BaseException | None = None

    def for_ffmpeg(self) -> SimpleNamespace:
        """Give FFmpeg only what it needs: with a name it would guess, with seek it would use it.

        A file's own methods never run into Ctrl-C, as ours would.
        """
        if self._seekable:
            file = self._file
            return SimpleNamespace(write=file.write, seek=file.seek, tell=file.tell)
        return SimpleNamespace(write=self.write)

    def write(self, data: bytes) -> int:
        """Pass the bytes on, all of them; an unbuffered pipe takes them bit by bit."""
        size, rest = len(data), memoryview(data)
        try:
            while len(rest) and not self._muted:
                rest = rest[self._file.write(rest) or 0 :]
        except BaseException as error:
            self._error = error
            return 0
        self._position += size
        return size

    def read(self, size: int) -> bytes:
        """Read back the bytes that are about to be overwritten."""
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move, as far as the file can."""
        if self._seekable:
            self._position = self._file.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        """Give the position."""
        return self._position

    def flush(self) -> None:
        """Hand everything over."""
        self._file.flush()

    def mute(self) -> None:
        """Swallow what comes from now on."""
        self._muted = True

    def check(self) -> None:
        """Raise what happened inside a write."""
        if self._error is not None:
            raise self._error

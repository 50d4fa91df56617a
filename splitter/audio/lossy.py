"""Sound that went through a lossy codec: what encoders leave of it, in memory."""

from __future__ import annotations

from io import BytesIO

import av
import numpy as np
import soundfile

from splitter.audio.blocks import Block
from splitter.audio.formats import MPEG_RATES

_AAC_DELAY = 1024  # samples that come before the first: FFmpeg's encoder looks ahead by a frame


def through_mp3(signal: Block, rate: int, compression: float) -> Block:
    """Encode (1 or 2 channels, samples) as MP3 and decode it again.

    `compression` goes from 0, the best quality, to 1, the smallest file. The result may be some
    frames longer or shorter. A rate that MP3 has not is taken for 44.1 kHz.
    """
    file = BytesIO()
    soundfile.write(file, signal.T, _label(rate), format="MP3", compression_level=compression)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32", always_2d=True)
    return np.ascontiguousarray(decoded.T)


def through_aac(signal: Block, rate: int, bits: int, bandwidth: float) -> Block:
    """Encode (1 or 2 channels, samples) as AAC of so many bits a second, and decode it again.

    What lies above `bandwidth`, in Hz, is left out. The result may be a frame longer. A rate that
    AAC has not is taken for 44.1 kHz.
    """
    file = BytesIO()
    with av.open(file, "w", format="adts") as output:
        track = output.add_stream(
            "aac", rate=_label(rate), layout=("mono", "stereo")[len(signal) - 1]
        )
        track.bit_rate = bits
        track.options = {"cutoff": str(round(bandwidth))}
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(signal, np.float32), format="fltp", layout=track.layout.name
        )
        frame.sample_rate = _label(rate)
        output.mux(track.encode(frame))
        output.mux(track.encode(None))
    file.seek(0)
    with av.open(file) as coded:
        frames = [frame.to_ndarray() for frame in coded.decode(audio=0)]
    return np.concatenate(frames, axis=1)[:, _AAC_DELAY:]


def _label(rate: int) -> int:
    return rate if rate in MPEG_RATES else 44100

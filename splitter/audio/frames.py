"""From FFmpeg's frames to blocks."""

from typing import Any

import av
import numpy as np

from splitter.audio.blocks import Block


class Unpacker:
    """Makes blocks (channels, samples) of frames in any sample format."""

    def __init__(self) -> None:
        self._packer: Any = None

    def unpack(self, frame: Any) -> Block:
        """Bring a frame to float32."""
        if not frame.format.is_planar or frame.layout.nb_channels < 8:
            return _to_block(frame)
        # interleaved: PyAV reads beyond the eighth plane
        self._packer = self._packer or av.AudioResampler(frame.format.packed.name)
        (packed,) = self._packer.resample(frame)
        return _to_block(packed)


def _to_block(frame: Any) -> Block:
    if frame.format.name == "fltp":  # of most lossy codecs; to_ndarray takes as long as decoding
        return np.array([np.frombuffer(p, np.float32, frame.samples) for p in frame.planes])
    array: Any
    if frame.format.name == "s64":  # which PyAV does not know
        count = frame.samples * frame.layout.nb_channels
        array = np.frombuffer(frame.planes[0], np.int64, count)[None]
    else:
        array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, len(frame.layout.channels)).T  # (1, samples · channels)
    if array.dtype == np.uint8:
        array = array.astype(np.float32) - 128
        return np.asarray(array / 128, np.float32)
    if np.issubdtype(array.dtype, np.integer):
        scale = np.float32(-float(np.iinfo(array.dtype).min))
        return np.asarray(array.astype(np.float32) / scale)
    with np.errstate(over="ignore"):  # what float32 cannot hold is told as infinite
        return np.asarray(array, np.float32)

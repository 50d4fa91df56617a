"""Sound in and out: song files as blocks, stems as files, and the sample rates between them."""

from splitter.audio.blocks import Block, quantise
from splitter.audio.reading import SongReader, open_song
from splitter.audio.resampling import resample, resample_signal, resampled_length
from splitter.audio.writing import StemWriter

__all__ = [
    "Block",
    "SongReader",
    "StemWriter",
    "open_song",
    "quantise",
    "resample",
    "resample_signal",
    "resampled_length",
]

"""Sound in and out: song files as blocks, stems as files, and the sample rates between them."""

from splitter.audio.blocks import Block
from splitter.audio.checks import check_outputs, estimate_bytes
from splitter.audio.files import PARTS, remove_parts
from splitter.audio.formats import (
    CLIPS,
    CONTAINERS,
    SUFFIXES,
    OutputFormat,
    find_shape,
    fit_format,
    fit_pipe,
)
from splitter.audio.layouts import fit_layout
from splitter.audio.lossy import through_aac, through_mp3
from splitter.audio.marks import Mark, may_lack_mark, read_mark
from splitter.audio.options import RawFormat, Reading, parse_raw
from splitter.audio.reading import SongReader, open_song
from splitter.audio.resampling import resample, resample_signal, resampled_length
from splitter.audio.tags import Tags
from splitter.audio.writing import StemWriter, write_stems

__all__ = [
    "CLIPS",
    "CONTAINERS",
    "PARTS",
    "SUFFIXES",
    "Block",
    "Mark",
    "OutputFormat",
    "RawFormat",
    "Reading",
    "SongReader",
    "StemWriter",
    "Tags",
    "check_outputs",
    "estimate_bytes",
    "find_shape",
    "fit_format",
    "fit_layout",
    "fit_pipe",
    "may_lack_mark",
    "open_song",
    "parse_raw",
    "read_mark",
    "remove_parts",
    "resample",
    "resample_signal",
    "resampled_length",
    "through_aac",
    "through_mp3",
    "write_stems",
]

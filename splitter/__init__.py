"""splitter takes a song apart into vocals and instrumental."""

__version__ = "0.1.0"

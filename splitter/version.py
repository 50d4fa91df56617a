"""The version of splitter, which is named here alone."""

__version__ = "0.1.0"

"""splitter takes a song apart into vocals and instrumental.

    stems = splitter.separate(signal, rate)         arrays in, arrays out
    done = splitter.separate_file("song.mp3")       files in, files out
    with splitter.open_stems("song.mp3") as stems:  blocks of all stems, as they are computed
    model = splitter.load_model("unet")             once, for many songs
    splitter.ModelChoice(("unet",), tta=True)       what may be loaded, too: more quality, more time

What each name stands for is imported when it is first used, since PyTorch takes its time.
"""

from __future__ import annotations

from splitter.version import __version__

# nothing else is imported, as until `__main__` Ctrl-C leaves a traceback
TYPE_CHECKING = False
if TYPE_CHECKING:
    from splitter.audio import OutputFormat
    from splitter.errors import SplitterError
    from splitter.loading import Model
    from splitter.outputs import Output
    from splitter.registry import ModelChoice
    from splitter.runtime.ready import load_model
    from splitter.separation import separate
    from splitter.songs import open_stems, separate_file

__all__ = [
    "Model",
    "ModelChoice",
    "Output",
    "OutputFormat",
    "SplitterError",
    "__version__",
    "load_model",
    "open_stems",
    "separate",
    "separate_file",
]

_HOMES = {
    "Model": "splitter.loading",
    "ModelChoice": "splitter.registry",
    "Output": "splitter.outputs",
    "OutputFormat": "splitter.audio",
    "SplitterError": "splitter.errors",
    "load_model": "splitter.runtime.ready",
    "open_stems": "splitter.songs",
    "separate": "splitter.separation",
    "separate_file": "splitter.songs",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

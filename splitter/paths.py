"""Where files lie: in folders, or in stores that URLs name (s3://, gs://, …).

What a URL becomes has what is used of a path here: joining, opening, listing. It is no `Path`, and
`is_local` tells them apart; only `engines.stores` and `jobs` ever meet one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from splitter.errors import MissingExtra, SplitterError


def open_path(place: str) -> Path:
    """Turn a path or URL into a path, or something that serves as one.

    Raises MissingExtra when the package for this kind of store is not installed.
    """
    scheme, mark, rest = place.partition("://")
    if not mark:
        return Path(place)
    if scheme == "file":
        return Path(rest)
    try:
        from upath import UPath

        opened: Any = UPath(place)
        _ = opened.fs  # imports the package of the store
    except ImportError as error:
        raise MissingExtra(f"pip install 'splitter[{scheme}]'") from error
    except ValueError as error:
        raise SplitterError(f"{place}: there is no kind of store called {scheme}") from error
    return opened  # type: ignore[no-any-return]


def is_local(place: Path) -> bool:
    """Tell a path from what a URL became."""
    return isinstance(place, Path)


def is_folder(place: Path) -> bool:
    """Tell whether there is a folder; where nobody may look, there is none."""
    return os.path.isdir(place) if is_local(place) else place.is_dir()  # noqa: PTH112


def is_there(place: Path) -> bool:
    """Tell whether there is a file or folder; where nobody may look, there is none."""
    if is_local(place):
        return os.path.exists(place)  # noqa: PTH110 - Path's own would raise
    with suppress(UnicodeError):  # a name that a store cannot hold
        return place.exists()
    return False


def locate(place: Path) -> Path:
    """Return the one path of a file, however its folder was spelled or reached.

    A link to a file keeps its own name: it may be another song's, with stems of its own.
    """
    if not is_local(place):
        return place.absolute()
    return Path(os.path.realpath(place.parent)) / place.name


def locate_folder(place: Path) -> Path:
    """Return the one path of a folder."""
    return Path(os.path.realpath(place)) if is_local(place) else place.absolute()

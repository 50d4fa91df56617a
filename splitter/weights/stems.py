"""What stems are called here, whatever other programs call them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from splitter.registry import canonical_stem

REST = "rest"  # what is left by a model that claims all of a song


def name_stems(instruments: Sequence[str], target: str | None = None) -> tuple[list[str], str]:
    """Return a model's stems and its residual, of what it was trained for.

    `instruments` are all that the song is made of; a `target` among them is the only one estimated.
    """
    names = [canonical_stem(re.sub(r"\s+", "-", str(name).strip())) for name in instruments]
    if set(names) == {"vocals", "other"}:
        names = ["instrumental" if name == "other" else name for name in names]
    if not target:
        return (names, REST) if len(names) > 1 else (names, opposite(names[0]))
    wanted = canonical_stem(re.sub(r"\s+", "-", str(target).strip()))
    if set(names) == {"vocals", "instrumental"} and wanted == "other":
        wanted = "instrumental"
    others = [name for name in names if name != wanted]
    return [wanted], others[0] if len(others) == 1 else opposite(wanted)


def opposite(stem: str) -> str:
    """Name what is left of a song without `stem`."""
    return {"vocals": "instrumental", "instrumental": "vocals"}.get(stem, f"no_{stem}")

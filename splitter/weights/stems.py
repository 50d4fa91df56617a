"""What stems are called here, and what the yaml of many programs says of stems and tiles."""

from __future__ import annotations

import re
from collections.abc import Sequence

from splitter.errors import ModelError
from splitter.registry import REST, canonical_stem
from splitter.weights.checkpoint import Checkpoint

# what differs from Music-Source-Separation-Training at a song's end
ENDS = (
    "A song that is shorter than two borders is mirrored here as any other, and is not there. "
    "Where tiles do not overlap, what the last one lacks is mirrored here; there it is silence, if "
    "it is half a tile or more."
)


def name_stems(
    instruments: Sequence[str], target: str | None = None, whole: bool = True
) -> tuple[list[str], str]:
    """Return a model's stems and its residual, of what it was trained for.

    `instruments` are all that the song is made of, if `whole`; a `target` among them is the only
    one estimated.
    """
    names = list(map(_name, instruments))
    if whole and set(names) == {"vocals", "other"}:
        names = ["instrumental" if name == "other" else name for name in names]
    if not target:
        return (names, REST) if len(names) > 1 else (names, opposite(names[0]))
    wanted = _name(target)
    if set(names) == {"vocals", "instrumental"} and wanted == "other":
        wanted = "instrumental"
    others = [name for name in names if name != wanted]
    return [wanted], others[0] if len(others) == 1 else opposite(wanted)


def _name(instrument: object) -> str:
    """Give an instrument our name; what karaoke models call karaoke is the lead voice."""
    name = re.sub(r"\s+", "-", str(instrument).strip())
    return "vocals" if name.lower() == "karaoke" else canonical_stem(name)


def opposite(stem: str) -> str:
    """Name what is left of a song without `stem`: of no_echo that is echo."""
    if stem in ("vocals", "instrumental"):
        return "instrumental" if stem == "vocals" else "vocals"
    without = re.match(r"no[-_](.+)", stem)
    return without[1] if without else f"no_{stem}"


def find_stems(checkpoint: Checkpoint, made: int) -> tuple[list[str], str]:
    """Return the stems and the residual that the yaml says, which must be as many as are made."""
    instruments = checkpoint.need("training", "instruments")
    estimated, residual = name_stems(instruments, checkpoint.fact("training", "target_instrument"))
    if len(estimated) != made:
        raise ModelError(
            f"{checkpoint.path}: its tensors make {made} stems, but "
            f"{checkpoint.facts_path} says {', '.join(estimated)}"
        )
    return estimated, residual


def find_tiles(checkpoint: Checkpoint) -> dict[str, int | float]:
    """Return the length of tiles and how much of them overlaps, as the yaml says."""
    tile = checkpoint.fact("inference", "chunk_size") or checkpoint.need("audio", "chunk_size")
    overlaps = checkpoint.fact("inference", "num_overlap", default=4)
    if not isinstance(overlaps, int) or overlaps < 1:
        raise ModelError(
            f"{checkpoint.facts_path}: num_overlap {overlaps!r} is not a number above 0"
        )
    return {"tile": tile, "overlap": 1 - 1 / overlaps}

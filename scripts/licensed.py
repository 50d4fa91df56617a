"""Link what may be used for anything out of a data folder, and say where it is from.

    python scripts/licensed.py DATA -o FREE

DATA holds, beside the sound, a table SOURCES.tsv with the columns path, repository, original and
licence; a path is a file (its suffix may be left out) or a folder. CC0, the public domain, CC BY,
CC BY-SA, MIT, BSD and zlib are kept; not "NC" (non-commercial) or "ND" (no derivatives), not the
GPL alone, and no terms that only an author knows. Of a file that two rows name the stricter counts.
FREE gets the links, and ATTRIBUTION.md: for each licence and repository the works.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from splitter.audio import SUFFIXES

TABLE = "SOURCES.tsv"
CREDITS = "ATTRIBUTION.md"
FREE = re.compile(r"CC0|public domain|CC[ -]BY(-SA)?[ -]*(\d|\()|\bMIT\b|\bBSD\b|\bzlib", re.I)
BOUND = re.compile(
    r"\bN[CD]\b|non-?commercial|no.?deriv|research|personal|education|not stated|\bterms\b", re.I
)
Row = Mapping[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    data, free = arguments.data.resolve(), arguments.output.resolve()
    if data == free or data in free.parents or free in data.parents:
        parser.error(f"{arguments.output}: give a folder outside of {arguments.data}")
    with (data / TABLE).open(encoding="utf-8", newline="") as table:
        kept = choose(list(csv.DictReader(table, delimiter="\t")), data)
    link(kept, data, free)
    (free / CREDITS).write_text(credit(kept.values()), encoding="utf-8")
    print(f"{arguments.output}: {len(kept)} files, named in {CREDITS}")


def is_free(licence: str) -> bool:
    """Say whether a licence allows any use, at most with a name, or under the same licence."""
    return bool(FREE.search(licence)) and not BOUND.search(licence)


def choose(rows: Iterable[Row], data: Path) -> dict[Path, Row]:
    """Return the free files below `data`, each with its row."""
    sound = [path for path in sorted(data.rglob("*")) if path.suffix.lower() in SUFFIXES]
    places: dict[str, list[Path]] = defaultdict(list)  # by all that a table may call them
    for path in sound:
        relative = path.relative_to(data)
        for name in (relative, relative.with_suffix(""), *relative.parents[:-1]):
            places[name.as_posix()].append(path)
    kept: dict[Path, Row] = {}
    for row in sorted(rows, key=lambda row: not is_free(row["licence"] or "")):  # strict ones last
        for path in places[PurePosixPath(row["path"]).as_posix()]:  # also of "folder/"
            if is_free(row["licence"] or ""):
                kept.setdefault(path, row)
            else:
                kept.pop(path, None)
    return kept


def link(kept: Iterable[Path], data: Path, free: Path) -> None:
    """Make FREE hold links to these files, and no others."""
    free.mkdir(parents=True, exist_ok=True)
    for old in free.rglob("*"):
        if old.is_symlink() and old.readlink().is_relative_to(data):
            old.unlink()
    for path in kept:
        place = free / path.relative_to(data)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)


def credit(rows: Iterable[Row]) -> str:
    """List what was taken from each repository, by licence."""
    works: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        works[row["licence"], row["repository"]].add(row["original"].split(" @")[0].strip())
    lines = ["| licence | repository | works |", "|---|---|---|"]
    for (licence, repository), originals in sorted(works.items()):
        place = f"github.com/{repository.replace('+', '/')}"
        lines.append(f"| {licence} | {place} | {', '.join(sorted(originals))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""Link what may be used for anything out of a data folder, and say whom to name for it.

    python scripts/licensed.py DATA -o FREE

DATA holds, beside the sound, a table SOURCES.tsv with the columns path, repository, original and
licence. Of it CC0, the public domain, CC BY, CC BY-SA, MIT, BSD and zlib are kept; not "NC"
(non-commercial) or "ND" (no derivatives), not the GPL alone, and no terms that only an author
knows. FREE gets the links, and ATTRIBUTION.md: a line for each source, as CC BY asks.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

TABLE = "SOURCES.tsv"
CREDITS = "ATTRIBUTION.md"
FREE = re.compile(
    r"CC0|public domain|CC[ -]BY(-SA)? ?\d|CC[ -]BY-SA \(|\bMIT\b|\bBSD\b|\bzlib", re.I
)
BOUND = re.compile(r"\bN[CD]\b|not stated|\bterms\b", re.I)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    with (arguments.data / TABLE).open(encoding="utf-8", newline="") as table:
        kept = [row for row in csv.DictReader(table, delimiter="\t") if is_free(row["licence"])]
    for row in kept:
        for path in find(arguments.data, row["path"]):
            link(path, arguments.output / path.relative_to(arguments.data))
    (arguments.output / CREDITS).write_text(credit(kept), encoding="utf-8")
    print(f"{arguments.output}: {len(kept)} sources, named in {CREDITS}")


def is_free(licence: str) -> bool:
    """Say whether a licence allows any use, at most with a name, or under the same licence."""
    return bool(FREE.search(licence)) and not BOUND.search(licence)


def find(data: Path, path: str) -> Iterable[Path]:
    """Return the files of a row, whose path is a file, or a folder, or a file without suffix."""
    place = data / path
    if place.is_dir():
        return sorted(one for one in place.rglob("*") if one.is_file())
    return [place] if place.is_file() else sorted(place.parent.glob(f"{place.name}.*"))


def link(path: Path, place: Path) -> None:
    """Make `place` a link to `path`; one that is there already is made anew."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(path.resolve())


def credit(rows: Iterable[dict[str, str]]) -> str:
    """List repositories and what was taken from each, by licence."""
    works: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        works[row["licence"], row["repository"]].append(row["original"].split(" @")[0])
    lines = ["| licence | repository | works |", "|---|---|---|"]
    for (licence, repository), originals in sorted(works.items()):
        names = ", ".join(sorted(set(originals)))
        lines.append(f"| {licence} | github.com/{repository.replace('+', '/')} | {names} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

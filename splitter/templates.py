"""Names of stems, from a template such as `{artist}/{title} ({stem}).{ext}`.

A field is replaced by what the song says; `{album|Single}` is Single where it says nothing. Every
part between two slashes becomes the name of a file or folder, whatever a song says: so a stem lies
in the output folder. A part that comes out empty is left out, unless it is the last one.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePath

from splitter.errors import SplitterError
from splitter.paths import SEPARATORS, is_device, place_inside

TEMPLATE = "{name}/{stem}.{ext}"
TAG_FIELDS = ("artist", "album_artist", "title", "album", "track", "disc", "year", "genre")
NAMING = ("artist", "album_artist", "album", "genre")  # Unknown artist, where it is missing
FIELDS = ("name", "suffix", "stem", "ext", "parent", "model", *TAG_FIELDS)

# characters that end a line, command a terminal, or turn the direction of what follows
_UNSEEN = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def check_template(template: str, stems: int) -> None:
    """Raise SplitterError if `template` cannot name this number of stems."""
    try:
        parsed = [part for name in template.split("/") for part in string.Formatter().parse(name)]
    except ValueError as error:
        raise SplitterError(f"{template}: is not a template ({error})") from error
    for _, field, detail, conversion in parsed:
        name = (field or "").partition("|")[0]
        if field is not None and name not in FIELDS:
            known = ", ".join(f"{{{known}}}" for known in FIELDS)
            raise SplitterError(f"{template}: there is no field {{{name}}}; choose from {known}")
        if detail or conversion:
            raise SplitterError(f"{template}: write a field as {{{name}}} or {{{name}|fallback}}")
    if stems > 1 and "stem" not in find_fields(template):
        raise SplitterError(f"{template}: gives all stems one name; add {{stem}}")
    if not Path(template).name:
        raise SplitterError(f"an empty template names nothing; write {TEMPLATE}, say")
    try:
        place_inside(Path(), template)
    except SplitterError as error:
        way_out = "a template names stems below --output; write it without a leading / and .."
        raise SplitterError(f"{template}: leads out of the output folder; {way_out}") from error


def escape(name: str) -> str:
    """Return the template of exactly this name."""
    return name.replace("{", "{{").replace("}", "}}")


def find_fields(template: str) -> set[str]:
    """Return the names of a template's fields."""
    return {field.partition("|")[0] for _, field in _parse(template) if field is not None}


def needs_tags(template: str) -> bool:
    """Tell whether only the song itself can say its stems' names."""
    return not find_fields(template).isdisjoint(TAG_FIELDS)


def fill_template(template: str, values: Mapping[str, str | None], mark: str = "") -> str:
    """Return the relative path that a template names, with what a song says: its name at least.

    `mark` keeps it apart from another song's: it stands behind the song's name or title, or else
    before the suffix of the file.
    """
    given = {name: fit_name(value) for name, value in values.items() if value}
    fields = find_fields(template)
    marked = next((field for field in ("name", "title") if field in fields), "")

    def fill(part: str) -> str:
        filled, whole = [], True
        for literal, field in _parse(part):
            filled.append(literal)
            if field is not None:
                name, bar, fallback = field.partition("|")
                unknown = fallback if bar else given["name"] if name == "title" else _unknown(name)
                filled.append(given.get(name, unknown) + mark * (name == marked))
                whole = whole and name in given
        text = "".join(filled)
        return text if whole else text.strip()  # what is missing leaves no blank at the ends

    *folders, file = map(fill, template.split("/"))
    if not marked:
        file = f"{PurePath(file).stem}{mark}{PurePath(file).suffix}"
    return "/".join([*(fit_name(folder) for folder in folders if folder), fit_name(file)])


@lru_cache(64)
def _parse(template: str) -> Sequence[tuple[str, str | None]]:
    """Take a template apart, once for all songs."""
    return [(literal, field) for literal, field, _, _ in string.Formatter().parse(template)]


def _unknown(field: str) -> str:
    """Say what stands for a field that a song says nothing of, and a template no fallback for."""
    return f"Unknown {field.replace('_', ' ')}" if field in NAMING else ""


def fit_name(text: str, windows: bool = os.name == "nt") -> str:
    """Replace what the name of a file cannot hold, or what nobody could see in it."""
    reserved = SEPARATORS if windows else "/"
    fitted = _UNSEEN.sub("_", text.translate(dict.fromkeys(map(ord, reserved), "_")))
    if windows:
        fitted = fitted.rstrip(". ")
        if is_device(fitted):
            fitted = f"_{fitted}"
    return fitted if fitted.strip(".") else fitted.replace(".", "_") or "_"

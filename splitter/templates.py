"""Names of stems, from a template such as `{artist}/{title} ({stem}).{ext}`.

A field is replaced by what the song says; `{album|Single}` is Single where it says nothing. Every
part between two slashes becomes the name of a file or folder, whatever a song says: so a stem lies
in the output folder. A part that comes out empty is left out, unless it is the last one. Where a
part is longer than a name can be, its longest field is cut; what names stem and format stays.
"""

from __future__ import annotations

import os
import re
import string
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path, PurePath

from splitter.errors import SplitterError
from splitter.paths import FILE_BYTES, SEPARATORS, count_bytes, cut_name, is_device, place_inside

TEMPLATE = "{name}/{stem}.{ext}"
TAG_FIELDS = ("artist", "album_artist", "title", "album", "track", "disc", "year", "genre")
NAMING = ("artist", "album_artist", "album", "genre")  # Unknown artist, where it is missing
KEPT = ("suffix", "stem", "ext", "model")  # whole, where a name is too long
FIELDS = ("name", "parent", *KEPT, *TAG_FIELDS)

# characters that end a line, command a terminal, or turn the direction of what follows
_UNSEEN = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def check_template(template: str, stems: int) -> None:
    """Raise SplitterError if `template` cannot name this number of stems."""
    if not template:
        raise SplitterError(f"is empty; write {TEMPLATE}, say")
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
    if template.endswith("/"):
        raise SplitterError(f"{template}: ends in a folder; add the name of a file")
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

    def fill(part: str, given: Mapping[str, str]) -> str:
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

    def fill_file(part: str, given: Mapping[str, str]) -> str:
        file = fill(part, given)
        return file if marked else f"{PurePath(file).stem}{mark}{PurePath(file).suffix}"

    *folders, file = (part for part in template.split("/") if part != ".")
    names = [_fit_length(partial(fill, folder), find_fields(folder), given) for folder in folders]
    names = [*filter(None, names), _fit_length(partial(fill_file, file), find_fields(file), given)]
    return "/".join(map(fit_name, names))


def _fit_length(
    fill: Callable[[Mapping[str, str]], str], fields: Collection[str], given: Mapping[str, str]
) -> str:
    """Fill a part, with the longest of its fields cut as far as a name's length wants it."""
    values = dict(given)
    while (excess := count_bytes(fill(values)) - FILE_BYTES) > 0:
        cut = [field for field in fields if field not in KEPT and values.get(field)]
        if not cut:
            break
        longest = max(cut, key=lambda field: (count_bytes(values[field]), field))
        values[longest] = cut_name(values[longest], count_bytes(values[longest]) - excess)
    return fill(values)


@lru_cache(64)
def _parse(template: str) -> Sequence[tuple[str, str | None]]:
    """Take a template apart, once for all songs."""
    return [(literal, field) for literal, field, _, _ in string.Formatter().parse(template)]


def _unknown(field: str) -> str:
    """Say what stands for a field that a song says nothing of, and a template no fallback for."""
    return f"Unknown {field.replace('_', ' ')}" if field in NAMING else ""


@lru_cache(4096)
def fold_name(name: str) -> str:
    """Return what is the same for all names that some disk takes for one.

    Windows and macOS ignore case, macOS ignores how an accent is composed, and Windows drops dots
    and blanks at the end.
    """
    return unicodedata.normalize("NFC", fit_name(name, windows=True).casefold())


def fit_name(text: str, windows: bool = os.name == "nt") -> str:
    """Replace what the name of a file cannot hold, or what nobody could see in it."""
    reserved = SEPARATORS if windows else "/"
    fitted = _UNSEEN.sub("_", text.translate(dict.fromkeys(map(ord, reserved), "_")))
    if windows:
        fitted = fitted.rstrip(". ")
        if is_device(fitted):
            fitted = f"_{fitted}"
    return fitted if fitted.strip(".") else fitted.replace(".", "_") or "_"

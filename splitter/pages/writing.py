"""HTML out of takes and numbers; nothing here computes on sound."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from splitter.atomic import write_atomically
from splitter.errors import PageError, reason
from splitter.pages.pictures import LOWEST, TILE, Sketch, sketch
from splitter.pages.stems import Take

MARK = b'<meta name="generator" content="splitter">'  # in a page that may be written again
HEAD = 1000  # bytes that the mark lies in


@dataclass(frozen=True)
class Curve:
    """A number over the time of a song, such as a score of each second."""

    name: str
    seconds: float  # from one value to the next
    values: Sequence[float]  # not a number: none there


@dataclass(frozen=True)
class Listing:
    """A line of an index."""

    title: str
    page: Path


def write_page(
    page: Path,
    title: str,
    takes: Sequence[Take],
    curves: Mapping[tuple[str, str], Sequence[Curve]] | None = None,
) -> Path:
    """Write a page on which the takes of a song are heard, seen and compared.

    `curves` are drawn below a stem, by (take, stem). The stem files must stay where they are,
    as seen from the page. Raises AudioError for one that is no sound.
    """
    described = [_describe_take(page, take, curves or {}) for take in takes]
    tracks = [track for take in described for track in take["tracks"]]
    data = {
        "title": title,
        "seconds": max((track["seconds"] for track in tracks), default=0.0),
        "takes": described,
    }
    return _write(page, "listen.html", title=html.escape(title), data=_embed(data))


def write_index(page: Path, title: str, listings: Iterable[Listing], more: str = "") -> Path:
    """Write a page of links to pages; `more` is HTML that stands above them."""
    items = "".join(
        f'<li><a href="{_link(page, listing.page)}">{html.escape(listing.title)}</a></li>\n'
        for listing in listings
    )
    return _write(page, "index.html", title=html.escape(title), items=items, more=more)


def _describe_take(
    page: Path, take: Take, curves: Mapping[tuple[str, str], Sequence[Curve]]
) -> dict[str, Any]:
    tracks = [
        {
            "name": name,
            "url": _link(page, path),
            **_describe_sketch(sketch(path)),
            "curves": [_describe_curve(curve) for curve in curves.get((take.name, name), ())],
        }
        for name, path in take.stems.items()
    ]
    return {"name": take.name, "tracks": tracks}


def _describe_sketch(sketched: Sketch) -> dict[str, Any]:
    return {
        "seconds": round(sketched.seconds, 3),
        "column": sketched.column,
        "tile": TILE,
        "lowest": LOWEST,
        "highest": sketched.highest,
        "peaks": base64.b64encode(sketched.peaks).decode(),
        "pictures": [base64.b64encode(picture).decode() for picture in sketched.pictures],
    }


def _describe_curve(curve: Curve) -> dict[str, Any]:
    values = [round(value, 2) if abs(value) < 1e6 else None for value in curve.values]
    return {"name": curve.name, "seconds": curve.seconds, "values": values}


def _link(page: Path, target: Path) -> str:
    """Return the URL of a file as seen from a page, whatever its name holds."""
    try:
        relative = os.path.relpath(target.resolve(), page.parent.resolve())
    except ValueError:  # on another drive
        return target.resolve().as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")))


def _embed(data: Mapping[str, Any]) -> str:
    """Write JSON that may stand in a script element: nothing in it ends the element."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def _write(page: Path, template: str, **values: str) -> Path:
    """Fill a template in one pass, so that nothing that is filled in is taken for a place."""
    if page.exists() and not _is_ours(page):
        raise PageError(f"{page}: exists already and was not written by splitter; move it away")
    values |= {"style": _read("page.css"), "script": _read("listen.js")}
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], _read(template))
    try:
        write_atomically(page, text.encode("utf-8", "replace"))
    except OSError as error:
        raise PageError(f"{page}: cannot be written ({reason(error)})") from error
    return page


def _is_ours(page: Path) -> bool:
    try:
        with page.open("rb") as file:
            return MARK in file.read(HEAD)
    except OSError:  # a folder, say
        return False


def _read(name: str) -> str:
    return resources.files("splitter.pages").joinpath(name).read_text(encoding="utf-8")

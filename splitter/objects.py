"""Files in stores, which are objects: listed by the thousand, fetched and stored whole, patiently.

A store that refuses for a while (503, a cut connection, no answer) is asked again, ever later, for
PATIENCE seconds; what is wrong for good (403, 404) is said at once. An object has its name only
when all of it has come, be it in one part or many.
"""

from __future__ import annotations

import errno
import random
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, TypeVar

from splitter.paths import Facts

PATIENCE = 120.0  # seconds for which a store may refuse
FIRST_WAIT = 0.25  # seconds, then twice as long each time
LONGEST_WAIT = 15.0  # seconds
PAGE = 1000  # objects in an answer
PART = 32 << 20  # bytes; what is twice as large is stored in parts
STORED_AT_ONCE = 8  # objects; each may have two parts in memory
LAST = "\U0010ffff"  # sorts behind all that keys hold

_PASSING = {errno.EBUSY, errno.EAGAIN, getattr(errno, "EREMOTEIO", errno.EIO), errno.EIO}
_PASSING_KINDS = {  # of botocore, aiohttp and fsspec, by name: none of them need be installed
    "HTTPClientError", "ResponseParserError", "IncompleteRead", "ClientPayloadError",
    "ClientConnectionError", "FSTimeoutError",
}  # fmt: skip
_storing = BoundedSemaphore(STORED_AT_ONCE)

Result = TypeVar("Result")
Pause = Callable[[float], object]


@dataclass(frozen=True)
class Object:
    """An object, as a listing shows it."""

    key: str  # below the folder that was listed
    facts: Facts


class Listing:
    """What lies below a folder of a store, in the order of keys: a request for a page of it."""

    def __init__(self, folder: Path) -> None:
        self._place: Any = folder
        self._whole: list[Object] | None = None  # where a store has no pages
        self._page: list[Object] = []
        self._known = "", ""  # keys behind the first, up to the second, are those of the page

    def page(self, after: str = "") -> tuple[list[Object], bool]:
        """Return the next objects behind a key, at most PAGE, and whether there are more."""
        if hasattr(self._place.fs, "call_s3"):
            return patiently(lambda: self._ask_s3(after))
        if self._whole is None:
            self._whole = patiently(self._find)
        start = bisect_right(self._whole, after, key=lambda found: found.key) if after else 0
        return self._whole[start : start + PAGE], start + PAGE < len(self._whole)

    def among(self, keys: Set[str]) -> set[str]:
        """Return those of some keys that are there; one page does for all that lie within it.

        What lies between them is passed over, not listed.
        """
        wanted, found = sorted(keys), set[str]()
        after, start = "", 0
        while start < len(wanted):
            after = max(after, wanted[start][:-1])
            if not self._known[0] <= after < self._known[1]:
                self._page, more = self.page(after)
                self._known = after, self._page[-1].key if more else LAST
            found.update(one.key for one in self._page if one.key in keys)
            after = self._known[1]
            start = bisect_right(wanted, after)
        return found

    def _ask_s3(self, after: str) -> tuple[list[Object], bool]:
        fs = self._place.fs
        bucket, key, _ = fs.split_path(self._place.path)
        prefix = f"{key.rstrip('/')}/" if key else ""
        start = {"StartAfter": prefix + after} if after else {}
        answer = fs.call_s3(
            "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=PAGE, **start, **fs.req_kw
        )
        page = [
            Object(found["Key"][len(prefix) :], Facts(found["Size"], read_time(found)))
            for found in answer.get("Contents", ())
        ]
        return page, bool(page) and bool(answer.get("IsTruncated"))

    def _find(self) -> list[Object]:
        start = len(self._place.path.rstrip("/")) + 1
        found = self._place.fs.find(self._place.path, detail=True)
        return sorted(
            (
                Object(path[start:], Facts(facts["size"] or 0, read_time(facts)))
                for path, facts in found.items()
            ),
            key=lambda one: one.key,
        )


def list_tree(folder: Path, skips: Callable[[str], bool]) -> Iterator[tuple[str, Object]]:
    """Yield all objects below a folder, each with where it lies.

    Folders that are to be skipped are passed over, not listed.
    """
    listing, after, more = Listing(folder), "", True
    while more:
        page, more = listing.page(after)
        for found in page:
            after = found.key
            parent, _, name = found.key.rpartition("/")
            skipped = next(filter(skips, _list_parents(parent)), None)
            if skipped is not None:
                after, more = f"{skipped}/{LAST}", more or found is not page[-1]
                break
            if name:  # else it stands for a folder
                yield parent, found


def _list_parents(folder: str) -> Iterator[str]:
    """Yield a folder and those above it, from the top."""
    parts = folder.split("/") if folder else []
    return ("/".join(parts[: count + 1]) for count in range(len(parts)))


def fetch(source: Path, target: Path, pause: Pause = time.sleep) -> None:
    """Copy an object into a file."""
    place: Any = source
    single = {"max_concurrency": 1} if hasattr(place.fs, "call_s3") else {}
    patiently(lambda: place.fs.get_file(place.path, str(target), **single), pause=pause)


def store(source: Path, target: Path, pause: Pause = time.sleep) -> None:
    """Copy a file into an object, which has its name only when it is whole."""
    place: Any = target
    in_parts = hasattr(place.fs, "call_s3")
    options = {"chunksize": PART, "max_concurrency": 2} if in_parts else {}

    def put() -> None:
        try:
            place.fs.put_file(str(source), place.path, **options)
        except FileNotFoundError:
            # the answer to the last part was lost, say, and there is nothing more to complete
            if place.fs.info(place.path, refresh=True)["size"] != source.stat().st_size:
                raise

    with _storing:
        patiently(put, pause=pause)


def patiently(
    work: Callable[[], Result], patience: float = PATIENCE, pause: Pause = time.sleep
) -> Result:
    """Do something, again if it fails by what passes, for at most so many seconds.

    `pause` waits for some seconds between two times; it may raise what ends all this.
    """
    began, wait = time.monotonic(), FIRST_WAIT
    while True:
        try:
            return work()
        except Exception as error:
            if not is_passing(error) or time.monotonic() - began + wait > patience:
                raise
        pause(wait * random.uniform(0.5, 1))
        wait = min(2 * wait, LONGEST_WAIT)


def is_passing(error: BaseException) -> bool:
    """Tell what a store refuses for a while from what is wrong for good."""
    if isinstance(error, (FileNotFoundError, PermissionError, FileExistsError)):
        return False
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(error, "code", None)  # of gcsfs
    passing_status = isinstance(status, int) and (status == 429 or status >= 500)
    return (
        bool(kinds & _PASSING_KINDS)
        or passing_status
        or (isinstance(error, OSError) and error.errno in _PASSING)
    )


def read_time(facts: Mapping[str, Any]) -> float:
    """Return when an object was last changed, in seconds since 1970; 0: not known."""
    for name in ("LastModified", "last_modified", "mtime", "updated", "modified"):
        found = facts.get(name)
        if isinstance(found, datetime):
            return found.timestamp()
        if isinstance(found, (int, float)):
            return float(found)
    return 0.0

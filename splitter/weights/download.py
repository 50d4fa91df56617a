"""Fetch files over HTTP: go on where it stopped, check, and only then give the file its name."""

from __future__ import annotations

import errno
import hashlib
import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

from splitter.catalogue import Download
from splitter.errors import ModelError, reason
from splitter.locks import try_lock
from splitter.version import __version__

PORTION = 1 << 16  # bytes
FULL = {getattr(errno, name, errno.ENOSPC) for name in ("ENOSPC", "EDQUOT", "EFBIG")}  # a disk is
SCHEMES = ("http", "https")
ADDRESS = ":/?#[]@!$&'()*+,;=%~"  # what an address may hold as it is, beside letters and digits
Watch = Callable[[int, int | None], None]  # bytes that are there, bytes in all if that is known


@dataclass(frozen=True)
class Patience:
    """How long a server is borne with."""

    tries: int = 5
    pause: float = 1.0  # seconds before the second try; doubled before each further one
    silence: float = 30.0  # seconds without a byte
    most: int = 1 << 34  # bytes of a file


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, a few, to the web only."""

    max_redirections = 5

    def redirect_request(  # type: ignore[no-untyped-def]
        self, req, fp, code, msg, headers, newurl
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in SCHEMES:
            raise ModelError(
                f"{req.full_url}: redirects to {newurl[:80]}, which is not an http address"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch_file(
    download: Download,
    folder: Path,
    mirror: str | None = None,
    watch: Watch = lambda done, total: None,
    patience: Patience = Patience(),
) -> Path:
    """Download a file into a folder; what is there of it already is not fetched again.

    With a `mirror`, the file of this name below that address. Raises ModelError.
    """
    url = f"{mirror.rstrip('/')}/{download.name}" if mirror else download.url
    if not _is_address(url) or not download.name:
        raise ModelError(f"{url}: is not an http or https address")
    url = quote(url, safe=ADDRESS)
    target, part = folder / download.name, folder / f".{download.name}.part"
    if target.is_file() and _matches(target, download):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    beside = part.with_suffix(".lock")
    with beside.open("w") as lock:
        if try_lock(lock) is False:
            raise ModelError(f"{target}: another process downloads it; wait for that one")
        try:
            _fetch(url, download, part, watch, patience)
            part.replace(target)
            part.with_suffix(".version").unlink(missing_ok=True)
        finally:
            with suppress(OSError):  # Windows keeps what is open
                beside.unlink()
    return target


def _is_address(url: str) -> bool:
    try:
        return urlsplit(url).scheme in SCHEMES
    except ValueError:  # a bracket that is not closed, say
        return False


def _fetch(url: str, download: Download, part: Path, watch: Watch, patience: Patience) -> None:
    """Fetch what is missing of a part, as often as need be, until it is the whole file."""
    said = ""
    for attempt in range(patience.tries):
        if attempt:
            time.sleep(patience.pause * 2 ** (attempt - 1))
        try:
            _fetch_rest(url, download, part, watch, patience)
            break
        except urllib.error.HTTPError as error:
            error.close()
            said = " ".join(
                ["the server says", str(error.code), *str(error.reason).splitlines()[:1]]
            )
            if error.code == 416:  # there is no more of it than we have
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                raise ModelError(f"{url}: {said}") from error
        except ModelError:
            part.unlink(missing_ok=True)
            raise
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            if getattr(cause, "errno", None) in FULL:
                raise ModelError(
                    f"{part.parent}: cannot be written to ({reason(cause)}); make room, and give "
                    "the same command again to go on where it stopped"
                ) from error
            if isinstance(cause, ssl.SSLCertVerificationError):  # which no further try changes
                raise ModelError(
                    f"{url}: its certificate cannot be verified ({cause.verify_message}); where a "
                    "proxy has one of its own, name the file that vouches for it in SSL_CERT_FILE"
                ) from error
            said = str(cause) or type(error).__name__
    else:
        raise ModelError(f"{url}: {said}; give the same command again to go on where it stopped")
    if not _matches(part, download):
        part.unlink()
        raise ModelError(
            f"{url}: its SHA-256 differs from the one that its publisher states; "
            "the file was deleted"
        )


def _fetch_rest(url: str, download: Download, part: Path, watch: Watch, patience: Patience) -> None:
    """Fetch what is not there yet; raise OSError if the server ends too early.

    All of it, where nothing would tell that the rest is of another version of the file.
    """
    version = part.with_suffix(".version")  # what the server calls the file that this is part of
    sure = bool(download.sha256) or version.is_file()
    there = part.stat().st_size if sure and part.is_file() else 0
    headers = {"User-Agent": f"splitter/{__version__}", "Accept-Encoding": "identity"}
    asked = f"bytes {there}-"
    if there:
        headers["Range"] = f"bytes={there}-"
        if version.is_file():  # all of another one, if it has changed
            headers["If-Range"] = version.read_text("latin-1")
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(_Redirects)  # with the proxies of the system
    with opener.open(request, timeout=patience.silence) as response:
        if response.status != 206:  # all of it, from the start
            there = 0
            version.unlink(missing_ok=True)
            said = response.headers.get("ETag", "W/")
            if not said.startswith("W/"):  # a weak one may stand for other bytes
                version.write_text(said, "latin-1")
        elif not response.headers.get("Content-Range", asked).startswith(asked):
            part.unlink()
            raise OSError("it sent another part than was asked for")
        length = response.headers.get("Content-Length", "")
        total = there + int(length) if length.isdecimal() else None
        if max(there, total or 0) > patience.most:
            raise ModelError(
                f"{url}: is larger than the {patience.most} bytes that a model may have"
            )
        with part.open("ab" if there else "wb") as file:
            done = _copy(response, file, there, lambda count: watch(count, total), patience, url)
    if total is not None and done < total:
        raise OSError(f"it ended after {done} of {total} bytes")


def _copy(
    response: IO[bytes], file: IO[bytes], done: int, watch: Callable[[int], None],
    patience: Patience, url: str,
) -> int:  # fmt: skip
    while portion := response.read(PORTION):
        done += len(portion)
        if done > patience.most:
            raise ModelError(f"{url}: sends data without an end")
        file.write(portion)
        watch(done)
    return done


def _matches(path: Path, download: Download) -> bool:
    """Tell whether a file has the SHA-256 that is stated, as far as it is."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while portion := file.read(PORTION):
            digest.update(portion)
    return digest.hexdigest().startswith(download.sha256)

"""Models that are downloaded, from a server on this machine that misbehaves in every way."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from splitter.catalogue import Download, read_catalogue
from splitter.errors import ModelError
from splitter.registry import find_model
from splitter.weights.adding import ADAPTERS
from splitter.weights.download import Patience, fetch_file
from tests.commands import call, files_below
from tests.foreign import REFERENCES

CONTENT = bytes(range(256)) * 1000
SOON = Patience(tries=3, pause=0.01, silence=0.5, most=1 << 20)
SUM = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    """Answers by the first part of the path."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        # a proxy is asked for whole addresses
        way, name = urlsplit(self.path).path.strip("/").split("/", 1)
        range_, first = self.headers.get("Range"), not self.asked
        self.asked.append((self.path, range_))
        if way == "good":
            files = sorted(REFERENCES.glob(f"*/{name}"))
            return self.give(files[0].read_bytes() if files else CONTENT)
        if way in ("once", "never"):  # cut off in the middle; and so for ever
            return self.give(CONTENT, cut=first or way == "never")
        if way == "changed":  # another file, from the second time on
            content = CONTENT if first else CONTENT[::-1]
            name = '"first"' if first else '"second"'
            if self.headers.get("If-Range", name) != name:
                del self.headers["Range"]
            return self.give(content, cut=first, name=name)
        if way == "nameless":  # the same, and nothing tells one file from the other
            return self.give(CONTENT if first else CONTENT[::-1], cut=first)
        if way == "speechless":
            self.send_response_only(404, " ")
            self.end_headers()
            return None
        if way == "busy":
            return self.send_error(503) if first else self.give(CONTENT)
        if way == "missing":
            return self.send_error(404)
        if way == "broken":
            return self.send_error(500)
        if way == "endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(200):
                self.wfile.write(CONTENT)
            return None
        if way == "silent":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            threading.Event().wait(1)
            return None
        places = {"loop": self.path, "file": f"file:///{REFERENCES}", "moved": "/good/x"}
        self.send_response(302)
        self.send_header("Location", places[way])
        self.end_headers()
        return None

    secure = 0  # port of the server that a way is opened to; 0: none is

    def do_CONNECT(self) -> None:
        self.asked.append((f"CONNECT {self.path}", None))
        if not self.secure:
            return self.send_error(407)
        self.send_response(200)
        self.end_headers()
        with socket.create_connection(("127.0.0.1", self.secure)) as there:
            back = threading.Thread(target=pass_on, args=(there, self.connection))
            back.start()
            pass_on(self.connection, there)
            back.join()
        self.close_connection = True
        return None

    def give(self, content: bytes, cut: bool = False, name: str = "") -> None:
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        rest = content[int(start[1]) :] if start else content
        if start and not rest:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        if start:
            whole = len(content)
            self.send_header("Content-Range", f"bytes {start[1]}-{whole - 1}/{whole}")
        if name:
            self.send_header("ETag", name)
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if cut else rest)
        return None

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on, which mean nothing here, until there are no more."""
    with suppress(OSError):
        while content := source.recv(1 << 16):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)


class Threads(ThreadingHTTPServer):
    """Waits for its threads when it is closed."""

    daemon_threads = False

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that has left."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """Serve on loopback; give the address and what was asked for."""
    handler = type("Handler", (Server,), {"asked": []})
    with Threads(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", handler.asked
        running.shutdown()
        thread.join()


def test_a_file_is_downloaded_once(server, tmp_path: Path) -> None:
    address, asked = server
    for _ in range(2):
        path = fetch_file(Download(f"{address}/good/x", SUM[:8]), tmp_path, patience=SOON)
        assert path.read_bytes() == CONTENT
    assert len(asked) == 1
    assert files_below(tmp_path) == [path]


@pytest.fixture
def proxied(server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server stands in for a proxy, and the environment names it."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, server[0])
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)


@pytest.mark.usefixtures("proxied")
@pytest.mark.parametrize("way", ["good", "once", "moved"])
def test_a_proxy_of_the_environment_is_asked(way: str, server, tmp_path: Path) -> None:
    url = f"http://elsewhere.invalid/{way}/x"  # no name server knows it
    assert fetch_file(Download(url, SUM), tmp_path, patience=SOON).read_bytes() == CONTENT
    assert server[1][0] == (url, None)
    assert server[1][-1][0].startswith("http://elsewhere.invalid/")


@pytest.mark.usefixtures("proxied")
def test_a_proxy_is_to_open_a_way_for_https(server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="407"):
        fetch_file(Download("https://elsewhere.invalid/good/x"), tmp_path, patience=SOON)
    assert server[1][0][0] == "CONNECT elsewhere.invalid:443"
    assert len(server[1]) == SOON.tries


@pytest.fixture
def secure(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve over TLS behind the proxy, as elsewhere.invalid; give what vouches for it."""
    known, key = tmp_path / "known.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "1", "-subj", "/CN=elsewhere.invalid",
         "-addext", "subjectAltName=DNS:elsewhere.invalid", "-keyout", key, "-out", known],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(known, key)
    with Threads(("127.0.0.1", 0), type("Handler", (Server,), {"asked": []})) as running:
        running.socket = context.wrap_socket(running.socket, server_side=True)
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        monkeypatch.setattr(Server, "secure", running.server_port)
        yield known
        running.shutdown()
        thread.join()


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes the certificate")
@pytest.mark.usefixtures("proxied")
@pytest.mark.parametrize("way", ["good", "once", "moved"])
def test_a_file_comes_over_tls_through_a_proxy(
    way: str, server, secure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Download(f"https://elsewhere.invalid/{way}/x", SUM)
    with pytest.raises(ModelError, match=r"cannot be verified \(self-signed .* in SSL_CERT_FILE"):
        fetch_file(file, tmp_path, patience=SOON)
    assert len(server[1]) == 1
    monkeypatch.setenv("SSL_CERT_FILE", str(secure))
    assert fetch_file(file, tmp_path, patience=SOON).read_bytes() == CONTENT
    assert {asked for asked, _ in server[1]} == {"CONNECT elsewhere.invalid:443"}


@pytest.mark.parametrize("way", ["once", "busy", "moved"])
def test_a_server_gets_another_chance(way: str, server, tmp_path: Path) -> None:
    address, asked = server
    seen: list[int] = []
    path = fetch_file(
        Download(f"{address}/{way}/x", SUM), tmp_path, None, lambda done, _: seen.append(done), SOON
    )
    assert path.read_bytes() == CONTENT
    assert seen == sorted(seen)
    if way == "once":  # goes on where it stopped
        assert asked[-1][1] == f"bytes={len(CONTENT) // 2}-"


def test_two_versions_of_a_file_are_not_spliced(server, tmp_path: Path) -> None:
    address, asked = server
    path = fetch_file(Download(f"{address}/changed/x", ""), tmp_path, patience=SOON)
    assert path.read_bytes() == CONTENT[::-1]
    assert len(asked) == 2 and asked[1][1]  # a part was asked for
    assert list(tmp_path.iterdir()) == [path]


def test_a_download_goes_on_where_another_run_stopped(server, tmp_path: Path) -> None:
    address, asked = server
    (tmp_path / ".x.part").write_bytes(CONTENT[:1000])
    fetch_file(Download(f"{address}/good/x", SUM), tmp_path, patience=SOON)
    assert asked == [("/good/x", "bytes=1000-")]


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("never", "ended after .*go on where it stopped"),
        ("missing", "404"),
        ("broken", "500"),
        ("endless", "sends data without an end"),
        ("silent", "timed out"),
        ("loop", "302"),
        ("file", "not allowed"),
    ],
)
def test_a_server_that_misbehaves_gets_one_line(
    way: str, said: str, server, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=said) as raised:
        fetch_file(Download(f"{server[0]}/{way}/x", SUM), tmp_path, patience=SOON)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "x").exists()
    assert way == "never" or not sum(file.stat().st_size for file in files_below(tmp_path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_at_once_and_not_laid_to_the_server(server, tmp_path: Path) -> None:
    address, asked = server
    (tmp_path / ".x.part").symlink_to("/dev/full")
    told = re.escape(f"{tmp_path}: cannot be written to (No space left on device); make room")
    with pytest.raises(ModelError, match=told):
        fetch_file(Download(f"{address}/good/x", SUM), tmp_path, patience=SOON)
    assert len(asked) == 1


def test_a_wrong_sum_leaves_nothing(server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="SHA-256"):
        fetch_file(Download(f"{server[0]}/good/x", "0" * 8), tmp_path, patience=SOON)
    assert not files_below(tmp_path)


def test_only_the_web_is_asked(tmp_path: Path) -> None:
    for url in (f"file://{REFERENCES}/x", "ftp://127.0.0.1/x", "http://127.0.0.1/"):
        with pytest.raises(ModelError, match="not an http"):
            fetch_file(Download(url), tmp_path, patience=SOON)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_model_of_a_catalogue_is_got_from_a_mirror(
    server, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = {
        file: hashlib.sha256((REFERENCES / "openunmix" / file).read_bytes()).hexdigest()[:8]
        for file in ("drums.pth", "vocals.pth")
    }
    entry = {
        "name": "small", "family": "openunmix", "megabytes": 1, "licence": "CC0",
        "stems": ["drums", "vocals"], "config": "https://elsewhere/separator.json",
        "files": [{"url": f"https://elsewhere/{file}", "sha256": sums[file]} for file in sums],
    }  # fmt: skip
    (tmp_path / "list.json").write_text(json.dumps([entry]))
    listed = call("models", "search", "--catalogue", "list.json", folder=tmp_path).stdout
    assert "not tried here" in listed
    nothing = call("models", "search", "smaller", "--catalogue", "list.json", folder=tmp_path)
    assert (nothing.status, nothing.stdout) == (0, "")
    assert "no such model" in nothing.stderr
    command = ("models", "get", "small", "--catalogue", "list.json")
    offline = call(*command, "--offline", folder=tmp_path)
    assert offline.status == 2
    assert not server[1]
    monkeypatch.setenv("SPLITTER_MODELS_URL", f"{server[0]}/good/")
    done = call(*command, folder=tmp_path)
    assert done.status == 0, done.stderr
    assert done.stdout.startswith("small ")
    assert "CC0" in done.stdout
    names = {path.name for path in files_below(cache)}
    assert names == {"config.json", "weights.safetensors", "card.md"}
    asked = len(server[1])
    again = call(*command, folder=tmp_path)
    assert again.status == 0 and "small is installed already" in again.stderr
    assert len(server[1]) == asked
    assert call("models", "remove", "small", "small", folder=tmp_path).status == 0


def test_a_page_that_a_proxy_sends_in_place_of_a_model_is_not_kept(
    server, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {
        "name": "small", "family": "openunmix", "megabytes": 1, "licence": "CC0",
        "stems": ["vocals"],
        "files": [{"url": "https://elsewhere/vocals.pth"}],
        "config": "https://elsewhere/separator.json",
    }  # fmt: skip
    (tmp_path / "list.json").write_text(json.dumps([entry]))
    command = ("models", "get", "small", "--catalogue", "list.json")
    monkeypatch.setenv("SPLITTER_MODELS_URL", f"{server[0]}/once/")  # no model
    failed = call(*command, folder=tmp_path)
    assert failed.status != 0 and "not a PyTorch file" in failed.stderr
    monkeypatch.setenv("SPLITTER_MODELS_URL", f"{server[0]}/good/")
    done = call(*command, folder=tmp_path)
    assert done.status == 0, done.stderr


def test_one_bad_model_hides_no_other(tmp_path: Path, cache: Path) -> None:
    for name in ("bad", "worse"):
        (cache / "splitter/models" / name).mkdir(parents=True)
    (cache / "splitter/models/bad/config.json").write_text('{"schema": 99}')
    (cache / "splitter/models/worse/config.json").write_text("{")
    done = call("models", folder=tmp_path)
    assert done.status == 1
    assert [line.split(":")[1].strip() for line in done.complaints] == ["bad", "worse"]
    assert "unet-fast" in done.stdout and "Licence of" in done.stdout


def test_a_known_model_that_is_not_here_is_not_downloaded(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    done = call("separate", "a.wav", "-m", "htdemucs", folder=tmp_path)
    assert done.status == 2
    assert "splitter models get htdemucs" in done.stderr
    assert "83 MB" in done.stderr
    with pytest.raises(ModelError, match="models get umxl"):
        find_model("umxl")


def test_the_catalogue_names_what_can_be_converted() -> None:
    entries = read_catalogue()
    assert len(entries) > 12
    for entry in entries.values():
        assert entry.family in ADAPTERS
        assert not entry.tried
        assert all(download.url.startswith("https://") for download in entry.downloads)
    assert entries["hdemucs_mmi"].downloads[-1].name == "hdemucs_mmi.yaml"  # it says `segment: 44`


def test_a_file_is_never_spliced_where_nothing_tells_its_version(server, tmp_path: Path) -> None:
    address, asked = server
    path = fetch_file(Download(f"{address}/nameless/x", ""), tmp_path, patience=SOON)
    assert path.read_bytes() == CONTENT[::-1]
    assert [range_ for _, range_ in asked] == [None, None]
    with pytest.raises(ModelError, match="SHA-256 differs"):  # where a sum does, it is tried
        asked.clear()
        fetch_file(Download(f"{address}/nameless/y", SUM), tmp_path, patience=SOON)
    assert asked[1][1] is not None


def test_a_server_that_gives_no_reason_is_told_by_its_number(server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"/speechless/x: the server says 404$"):
        fetch_file(Download(f"{server[0]}/speechless/x", SUM), tmp_path, patience=SOON)


@pytest.mark.parametrize("mirror", ["http://[::1", "ftp://here", "nowhere"])
def test_a_mirror_that_is_no_address_is_one_line(mirror: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not an http or https address"):
        fetch_file(Download("http://localhost/x", SUM), tmp_path, mirror, patience=SOON)


def test_a_mirror_may_have_letters_that_addresses_have_not(server, tmp_path: Path) -> None:
    address, asked = server
    path = fetch_file(
        Download("http://gone/x", SUM), tmp_path, f"{address}/good/mes modèles", patience=SOON
    )
    assert path.read_bytes() == CONTENT
    assert asked[0][0].endswith("/good/mes%20mod%C3%A8les/x")

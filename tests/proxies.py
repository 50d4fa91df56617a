"""A proxy between an S3 client and its server: it counts, takes its time, and does harm.

client ── request ──▶ proxy (counted, late) ── request ──▶ server
◀── answer ──        (or 503, or nothing at all)  ◀── answer ──
"""

from __future__ import annotations

import http.client
import random
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import urlsplit

FAULTS = ("refuse", "cut", "cut the answer", "lose the answer")
REFUSALS = {"refuse": (503, "SlowDown"), "403": (403, "AccessDenied"), "404": (404, "NoSuchKey")}
Choice = Callable[[str, str], str]  # method, path → a fault, or ""


class Proxy:
    """A proxy in threads of this process; use it in a with-block."""

    def __init__(self, server: str, latency: float = 0.0, choose: Choice = lambda *_: "") -> None:
        self.server = urlsplit(server)
        self.latency = latency  # seconds
        self.choose = choose
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.lock = Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Proxy:
        Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def total(self) -> int:
        return sum(self.requests.values())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def handle_any(self) -> None:
        body = self._read_body()
        with self.proxy.lock:
            listing = "list-type=2" in self.path
            self.proxy.requests["LIST" if listing else self.command] += 1
            fault = self.proxy.choose(self.command, self.path)
            self.proxy.faults[fault] += bool(fault)
        time.sleep(self.proxy.latency)
        if fault in REFUSALS:
            return self._refuse(*REFUSALS[fault])
        if fault == "cut":
            return self._hang_up()
        status, reason, headers, answer = self._ask(body)
        if fault == "lose the answer":
            return self._hang_up()
        self.send_response(status, reason)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            half = fault == "cut the answer"
            self.wfile.write(answer[: len(answer) // 2] if half else answer)
            if half:
                self._hang_up()
        return None

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815 - their names

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _ask(self, body: bytes) -> tuple[int, str, list[tuple[str, str]], bytes]:
        server = self.proxy.server
        connection = http.client.HTTPConnection(server.hostname or "", server.port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name != "Connection"}
        headers.pop("Transfer-Encoding", None)
        try:
            connection.request(self.command, self.path, body, {**headers, "Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.reason, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _refuse(self, status: int, code: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>refused</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else text)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):  # the client has left
            self.close_connection = True


def now_and_then(share: float, seed: int = 0) -> Choice:
    """Do harm to a share of all requests."""
    draw = random.Random(seed)
    return lambda *_: draw.choice(FAULTS) if draw.random() < share else ""

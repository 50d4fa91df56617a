"""Separate songs that come over HTTP, with one model that is loaded once.

    python examples/web_worker.py 8000
    curl --data-binary @song.mp3 'http://localhost:8000/?stem=vocals' > vocals.flac

A song that cannot be separated is answered by 422 and the reason. It listens on this machine only:
put a proxy before it that knows who may ask, and how often.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from urllib.parse import parse_qs, urlparse

import splitter

LARGEST = 500_000_000  # bytes of a song
CHUNK = 1 << 20  # bytes


class Worker(BaseHTTPRequestHandler):
    """Answers a song with one of its stems as FLAC."""

    def __init__(self, model: splitter.Model, lock: Lock, *more: object) -> None:
        self.model, self.lock = model, lock
        super().__init__(*more)  # type: ignore[arg-type]

    def do_POST(self) -> None:
        """Separate the song in the body of a request."""
        stem = parse_qs(urlparse(self.path).query).get("stem", ["vocals"])[0]
        length = int(self.headers.get("Content-Length") or 0)
        if stem not in self.model.stems or not 0 < length <= LARGEST:
            self.send_error(400, "ask for ?stem=vocals or instrumental, and send a song")
            return
        with tempfile.TemporaryDirectory() as name:
            song = Path(name, "song")
            self._save(song, length)
            form = splitter.OutputFormat("flac")
            output = splitter.Output(Path(name), (stem,), form, template="{stem}.{ext}")
            try:
                with self.lock:  # one song at a time: the network uses all cores for it
                    done = splitter.separate_file(song, output, self.model)
            except splitter.SplitterError as error:
                self.send_error(422, str(error).replace(name, "").splitlines()[0])
                return
            self._answer(done.stems[stem])

    def _save(self, path: Path, length: int) -> None:
        with path.open("wb") as file:
            while length > 0 and (chunk := self.rfile.read(min(CHUNK, length))):
                length -= file.write(chunk)

    def _answer(self, path: Path) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "audio/flac")
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        with path.open("rb") as file:
            shutil.copyfileobj(file, self.wfile)


def make_server(port: int, model: str = "unet") -> ThreadingHTTPServer:
    """Load a model, and make a server of this machine; port 0 is any that is free."""
    worker = partial(Worker, splitter.load_model(model), Lock())
    return ThreadingHTTPServer(("127.0.0.1", port), worker)


if __name__ == "__main__":
    make_server(int(sys.argv[1]), *sys.argv[2:]).serve_forever()

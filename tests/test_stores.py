"""Songs in stores: one in memory, and a real S3 server of this machine."""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from splitter.engines.local import separate_songs
from splitter.engines.stores import separate_stored
from splitter.engines.worker import Worker
from splitter.errors import SplitterError
from splitter.jobs import Found, Job, Search, find_songs, open_journal
from splitter.jobs.segments import StoredJournal
from splitter.loading import Model
from splitter.objects import PATIENCE, Listing, list_tree, patiently
from splitter.objects import store as store_object
from splitter.paths import is_local, open_path
from tests import sounds
from tests.commands import ROOT, Done, call
from tests.jobs import make_song, plan, select_undone, work
from tests.proxies import FAULTS, Proxy, now_and_then

# Ray and the S3 client warn about each other's and Python's ways, which is no concern of ours
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def store() -> Iterator[str]:
    """The URL of an empty store in memory."""
    pytest.importorskip("upath")
    url = "memory://splitter"
    yield url
    place = open_path(url)
    place.fs.store.clear()  # type: ignore[attr-defined]
    place.fs.pseudo_dirs[:] = [""]  # type: ignore[attr-defined]


@pytest.fixture
def strict_store(store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a store with folders, as on a server's disk, and names in Unicode, as in S3."""
    from fsspec.implementations.memory import MemoryFileSystem

    def open_in_folder(self: Any, path: str, mode: str = "rb", **options: Any) -> Any:
        if "w" in mode and not self.isdir(self._parent(path)):
            raise FileNotFoundError(path)
        return real_open(self, path, mode, **options)

    def find_unicode(self: Any, path: str, **options: Any) -> Any:
        path.encode()
        return real_info(self, path, **options)

    real_open, real_info = MemoryFileSystem._open, MemoryFileSystem.info
    monkeypatch.setattr(MemoryFileSystem, "_open", open_in_folder)
    monkeypatch.setattr(MemoryFileSystem, "info", find_unicode)
    return store


def test_paths_and_file_urls_are_local(tmp_path: Path) -> None:
    assert open_path(str(tmp_path)) == tmp_path
    assert open_path(f"file://{tmp_path}") == tmp_path
    assert is_local(tmp_path)


def test_an_unknown_kind_of_store_is_said_so() -> None:
    pytest.importorskip("upath")
    with pytest.raises(SplitterError, match="nonsense"):
        open_path("nonsense://bucket/songs")


def fill(store: str, songs: int) -> Path:
    place = open_path(store)
    for index in range(songs):
        parent = place / "songs" / "AB"[index % 2]
        parent.mkdir(parents=True, exist_ok=True)
        with (parent / f"song {index}.wav").open("wb") as file:
            file.write(make_song(index))
    return place


def test_a_journal_in_a_store_is_at_most_a_minute_behind(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = fill(store, 3)
    jobs = plan(find_songs([place / "songs"], Search(recursive=True)), place / "out")
    now = began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with open_journal(place / "out", {}) as journal:
        for job, seconds, segments in zip(jobs, (1, 59, 61), (0, 0, 1), strict=True):
            now = began + seconds
            journal.add(job)
            assert len(list((place / "out" / ".splitter").glob("*.jsonl"))) == segments


def test_songs_in_a_store_become_stems_in_a_store(
    store: str, tmp_path: Path, small_model: Model
) -> None:
    place = fill(store, 3)
    assert not is_local(place)
    jobs = plan(find_songs([place / "songs"], Search(recursive=True)), place / "out")
    assert len(jobs) == 3
    with Worker([small_model], work()) as worker:
        journal = open_journal(place / "out", {})
        for job in jobs:
            outcome = separate_stored(worker, job)
            assert outcome.error is None and outcome.job == job
            journal.add(job)
        (tmp_path / "song 0.wav").write_bytes(make_song(0))
        (alone,) = plan([Found(tmp_path / "song 0.wav")], tmp_path)
        worker.separate(alone)
    stored = place / "out" / "A" / "song 0" / "vocals.wav"
    assert stored.read_bytes() == alone.stems["vocals"].read_bytes()
    jobs = plan(find_songs([place / "songs"], Search(recursive=True)), place / "out")
    assert select_undone(open_journal(place / "out", {}), jobs) == []
    assert select_undone(open_journal(place / "out", {"model": "other"}), jobs) == jobs


@pytest.mark.parametrize("output", ["memory://splitter/out", "out"])
@pytest.mark.parametrize("songs", ["memory://splitter/songs", "songs"])
def test_a_song_at_the_top_of_a_folder_lies_at_the_top_of_another(
    songs: str, output: str, store: str, tmp_path: Path
) -> None:
    folder, out = (open_path(text) if ":" in text else tmp_path / text for text in (songs, output))
    for parent in (folder, folder / "A"):
        parent.mkdir(parents=True)
        (parent / "song.wav").write_bytes(make_song(0))
    jobs = plan(find_songs([folder], Search(recursive=True)), out)
    (alone,) = plan([Found(folder / "song.wav")], out)
    names = [str(job.stems["vocals"]) for job in jobs]
    assert sorted(names) == [f"{out}/A/song/vocals.wav", f"{out}/song/vocals.wav"]
    assert str(alone.stems["vocals"]) == names[0 if is_local(folder) else 1]  # in order of keys


def test_what_a_killed_run_did_is_known_by_its_stems(store: str) -> None:
    place = fill(store, 3)

    def plan_all() -> list[Job]:
        return plan(find_songs([place / "songs"], Search(recursive=True)), place / "out")

    jobs = plan_all()
    store_text(jobs[2].stems["vocals"])  # of another run: it tells nothing of this one
    jobs = plan_all()
    begun = open_journal(place / "out", {}).begin_all(jobs)
    for job in (next(begun), next(begun), next(begun)):
        for stem in job.stems.values():
            store_text(stem)
    jobs[1].stems["vocals"].unlink()  # it was killed between two stems
    again = open_journal(place / "out", {})
    assert [again.has(job) for job in plan_all()] == [True, False, False]
    assert not any(map(open_journal(place / "out", {"model": "other"}).has, plan_all()))


def store_text(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"sound")


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_a_store_is_listed_in_pages(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_path(request.getfixturevalue("s3" if kind == "s3" else "store"))
    keys = [f"{folder}/{name}" for folder in ("a", "a.b", "out", "z") for name in ("1", "2", "3 é")]
    for key in keys:
        store_text(place / key)
    monkeypatch.setattr("splitter.objects.PAGE", 2)
    assert [one.key for _, one in list_tree(place, lambda _: False)] == sorted(keys)
    kept = [one.key for _, one in list_tree(place, lambda folder: folder == "out")]
    assert kept == sorted(key for key in keys if not key.startswith("out"))
    listing = Listing(place)
    for wanted in (keys[:2], keys[4:9], ["a/0", "a/1"], ["none"], ["zz"], keys):
        assert listing.among(set(wanted)) == set(wanted).intersection(keys)
    assert Listing(place / "nothing").among({"x"}) == set()


def test_what_lies_between_keys_that_are_looked_for_is_not_listed(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_path(store)
    for number in range(40):
        store_text(place / f"{number:02}" / "vocals.wav")
    store_text(place / "a.wav")
    monkeypatch.setattr("splitter.objects.PAGE", 2)
    listing, asked = Listing(place), []
    page = listing.page
    monkeypatch.setattr(listing, "page", lambda after: asked.append(after) or page(after))
    wanted = {"05/vocals.wav", "06/vocals.wav", "30/vocals.wav", "30/none.wav", "a.wav", "b.wav"}
    assert listing.among(wanted) == wanted - {"30/none.wav", "b.wav"}
    assert len(asked) <= 4


def test_a_journal_in_a_store_is_not_held_whole_while_it_is_read(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_path(store) / "out"
    jobs = [Job(Path(f"/songs/{n}.wav"), {"v": place / f"{n}.wav"}, size=7) for n in range(40)]
    for job in jobs:
        open_journal(place, {}).add(job, "no sound")
    fetched, most = [], 0

    def fetch(self: StoredJournal, name: str) -> bytes:
        fetched.append(name)
        return read(self, name)

    def take(self: StoredJournal, entry: dict[str, Any]) -> None:
        nonlocal most
        most = max(most, len(fetched) - len(taken))
        taken.update([entry["failed"]] if "failed" in entry else [])
        put(self, entry)

    taken: set[str] = set()
    read, put = StoredJournal._fetch, StoredJournal._take
    monkeypatch.setattr(StoredJournal, "_fetch", fetch)
    monkeypatch.setattr(StoredJournal, "_take", take)
    monkeypatch.setattr("splitter.jobs.segments.HELD", 4)
    journal = open_journal(place, {})
    assert all(map(journal.failed, jobs)) and len(fetched) >= 40
    assert most <= 8


def test_a_journal_in_a_store_makes_its_folder_and_keeps_any_name(strict_store: str) -> None:
    place = open_path(strict_store)
    song = Path("/songs") / os.fsdecode(b"caf\xe9.wav")
    job = Job(song, {"vocals": place / "out" / "vocals.wav"}, size=7)
    open_journal(place / "out", {}).add(job)
    job.stems["vocals"].write_bytes(b"sound")
    assert open_journal(place / "out", {}).has(job)


def test_stems_of_other_options_are_not_those_of_a_run_that_was_killed(store: str) -> None:
    place = open_path(store)
    job = Job(Path("/songs/a.wav"), {"vocals": place / "out" / "vocals.wav"}, size=7)
    with open_journal(place / "out", {"bits": 16}) as journal:
        journal.begin(job)
    assert not open_journal(place / "out", {"bits": 16}).has(job)
    with open_journal(place / "out", {"bits": 24}) as journal:
        journal.begin(job)
        job.stems["vocals"].write_bytes(b"sound")
        journal.add(job)
    assert open_journal(place / "out", {"bits": 24}).has(job)
    assert not open_journal(place / "out", {"bits": 16}).has(job)


def test_a_store_that_is_busy_for_a_moment_costs_a_journal_nothing(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_path(store)
    job = Job(Path("/songs/a.wav"), {"vocals": place / "out" / "vocals.wav"}, size=7)
    asked: list[int] = []

    def exists(*_: object, **__: object) -> bool:
        asked.append(1)
        if len(asked) < 3:
            raise OSError(errno.EBUSY, "try again")
        return False

    with open_journal(place / "out", {}) as journal:
        journal.begin(job)
        monkeypatch.setattr(type(place.fs), "exists", exists)
        journal.add(job, "no sound that can be read")
    assert len(asked) == 3


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_name_that_a_store_cannot_hold_costs_that_song_only(
    strict_store: str, tmp_path: Path, small_model_folder: Path
) -> None:
    (tmp_path / "songs").mkdir()
    for name in (b"caf\xe9.wav", b"good.wav"):
        (tmp_path / "songs" / os.fsdecode(name)).write_bytes(make_song(0))
    command = ("separate", "songs", "-o", f"{strict_store}/out", "--model", small_model_folder)
    for options in ((), ("--skip-existing",)):
        done = call(*command, *options, folder=tmp_path)
        assert done.status == 1
        assert "1 failed" in done.stderr and "caf\\udce9.wav: cannot be" in done.stderr
    assert (open_path(strict_store) / "out" / "good" / "vocals.wav").exists()


def test_stems_in_a_store_are_replaced_only_when_asked_for(
    store: str, tmp_path: Path, small_model_folder: Path
) -> None:
    (tmp_path / "song.wav").write_bytes(make_song(0))
    stem = open_path(store) / "out" / "song" / "vocals.wav"
    stem.parent.mkdir(parents=True)
    stem.write_bytes(b"precious")
    command = ("separate", "song.wav", "-o", f"{store}/out", "--model", small_model_folder)
    done = call(*command, folder=tmp_path)
    assert done.status == 1
    assert f"{stem}: exists already; --overwrite replaces it" in done.stderr
    assert [path.name for path in stem.parent.iterdir()] == ["vocals.wav"]
    assert stem.read_bytes() == b"precious"
    done = call(*command, "--overwrite", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert stem.read_bytes() != b"precious"


@pytest.mark.parametrize("field", ["artist", "title"])
def test_names_that_only_a_fetched_song_knows_are_refused(
    field: str, store: str, tmp_path: Path, small_model_folder: Path
) -> None:
    fill(store, 1)
    (tmp_path / "song.wav").write_bytes(make_song(0))
    template = ("--template", f"{{{field}}} {{stem}}", "--model", small_model_folder)
    for songs in (f"{store}/songs/A/song 0.wav", f"{store}/songs"):
        done = call("separate", songs, "-o", "out", *template, folder=tmp_path)
        assert done.status == 2
        assert "a song in a store" in done.stderr and "{name}" in done.stderr
    done = call("separate", "song.wav", "-o", f"{store}/out", *template, folder=tmp_path)
    assert done.status == 0, done.stderr


def test_what_cannot_be_fetched_is_an_outcome(store: str, small_model: Model) -> None:
    place = open_path(store)
    (job,) = plan([Found(place / "songs" / "none.wav")], place / "out")
    with Worker([small_model], work()) as worker:
        outcome = separate_stored(worker, job)
    assert outcome.separated is None and "none.wav" in str(outcome.error)


def test_an_unreadable_song_in_a_store_is_called_by_its_url(store: str, small_model: Model) -> None:
    place = open_path(store)
    (place / "songs").mkdir(parents=True)
    (place / "songs" / "bad.mp3").write_bytes(b"no sound")
    (job,) = plan([Found(place / "songs" / "bad.mp3")], place / "out")
    with Worker([small_model], work()) as worker:
        outcome = separate_stored(worker, job)
    assert str(outcome.error).startswith(str(job.song))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of an S3 server on this machine."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def s3(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_server,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"songs-{secrets.token_hex(4)}"
    bucket = open_path(f"s3://{name}")
    bucket.fs.mkdir(name)  # type: ignore[attr-defined]
    yield f"s3://{name}"
    bucket.fs.clear_instance_cache()  # type: ignore[attr-defined]


@contextmanager
def through(proxy: Proxy) -> Iterator[Proxy]:
    """Have commands reach the S3 server by a proxy."""
    with pytest.MonkeyPatch.context() as patch, proxy:
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def separate_stored_songs(store: str, model: Path, *more: str) -> Done:
    """Run the command as a new process would, which knows nothing of what was listed before."""
    open_path(store).fs.clear_instance_cache()  # type: ignore[attr-defined]
    arguments = ("-r", f"{store}/songs", "-o", f"{store}/out", "--model", model, *more)
    return call("separate", *arguments, folder=ROOT)


def read_stems(place: Path) -> dict[str, bytes]:
    place.fs.invalidate_cache()  # type: ignore[attr-defined]
    found = sorted((place / "out").rglob("*.wav"), key=str)
    return {str(path): path.read_bytes() for path in found}


SONGS = 24
RUN = 14  # requests that a run takes beside its songs: folders, pages, segments of the journal


def test_a_song_in_a_store_takes_three_requests_and_a_resume_none(
    s3: str, small_model_folder: Path
) -> None:
    place = fill(s3, SONGS)
    with through(Proxy(os.environ["AWS_ENDPOINT_URL"])) as proxy:
        done = separate_stored_songs(s3, small_model_folder)
        assert done.status == 0, done.stderr
        assert proxy.requests["GET"] <= SONGS + 4 and proxy.requests["PUT"] <= 2 * SONGS + 8
        assert proxy.total <= 3 * SONGS + RUN, proxy.requests
        proxy.requests.clear()
        again = separate_stored_songs(s3, small_model_folder)
        assert f"{SONGS} of {SONGS} songs are done already" in again.stderr
        assert proxy.total <= RUN, proxy.requests
    assert len(read_stems(place)) == 2 * SONGS


def test_songs_without_a_suffix_are_found_by_their_first_bytes(s3: str, tmp_path: Path) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.noise(50_000)).read_bytes()
    place = open_path(s3)
    for name, content in {"in/song": song, "in/cover": b"\x89PNG" + song, "in/x": b"RI"}.items():
        (place / name).write_bytes(content)
    found = find_songs([place / "in"], Search(recursive=True))
    assert [one.path.name for one in found] == ["song"]


def test_a_template_of_tags_is_refused_for_songs_in_a_store(s3: str, tmp_path: Path) -> None:
    (open_path(s3) / "a b.wav").write_bytes(b"RIFF")
    names = f"{s3}/a%20b.wav\0".encode()
    command = [sys.executable, "-m", "splitter", "separate", "--files0-from", "-"]
    command += ["-o", "out", "--template", "{title} ({stem}).{ext}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, input=names, capture_output=True, cwd=tmp_path, env=environment)
    told = done.stderr.decode()
    assert done.returncode in (1, 2) and "Traceback" not in told
    assert "a template of tags cannot name stems of a song in a store; use {name}" in told


def test_a_store_that_fails_now_and_then_loses_nothing(s3: str, small_model_folder: Path) -> None:
    place = fill(s3, SONGS)
    assert separate_stored_songs(s3, small_model_folder).status == 0
    expected = read_stems(place)
    place.fs.rm(f"{place.path}/out", recursive=True)  # type: ignore[attr-defined]
    harm = Proxy(os.environ["AWS_ENDPOINT_URL"], choose=now_and_then(0.2))
    with through(harm) as proxy:
        done = separate_stored_songs(s3, small_model_folder, "--json")
    assert done.status == 0, done.stderr
    assert min(proxy.faults[fault] for fault in FAULTS) >= 1
    songs = [json.loads(line)["song"] for line in done.stdout.splitlines()]
    assert len(songs) == len(set(songs)) == SONGS
    assert read_stems(place) == expected


def test_a_store_that_refuses_is_asked_ever_later_and_not_for_ever() -> None:
    asked: list[float] = []

    def refuse() -> None:
        asked.append(time.monotonic())
        raise TimeoutError("no answer")

    with pytest.raises(TimeoutError, match="no answer"):
        patiently(refuse, patience=2)
    waits = np.diff(asked)  # 0.25, 0.5 and 1 s, each shortened at random by a half at most
    assert len(waits) == 3 and asked[-1] - asked[0] < 2
    for wait, longest in zip(waits, (0.25, 0.5, 1), strict=True):
        assert longest / 2 <= wait < longest + 0.5
    told = " ".join((ROOT / "docs/many.md").read_text("utf-8").split())
    assert PATIENCE == 120 and "is tried again for up to two minutes" in told


def test_a_worker_that_is_stopped_does_not_wait_for_a_store(
    store: str, small_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = fill(store, 1)
    (job,) = plan(find_songs([place / "songs"], Search(recursive=True)), place / "out")
    asked = Event()

    def refuse(*_: object, **__: object) -> None:
        asked.set()
        raise OSError(errno.EBUSY, "try again")

    def stop() -> None:
        if asked.is_set():
            raise KeyboardInterrupt

    monkeypatch.setattr(type(place.fs), "get_file", refuse)  # type: ignore[attr-defined]
    monkeypatch.setattr("splitter.objects.FIRST_WAIT", 100.0)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(separate_songs([job], Worker([small_model], work()), check=stop))
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("code", [403, 404])
def test_what_a_store_refuses_for_good_is_not_asked_for_again(
    s3: str, code: int, small_model_folder: Path
) -> None:
    fill(s3, 3)
    refused = Proxy(os.environ["AWS_ENDPOINT_URL"])
    refused.choose = lambda _, path: str(code) if path.endswith("song%201.wav") else ""
    with through(refused) as proxy:
        done = separate_stored_songs(s3, small_model_folder)
    assert done.status == 1 and "2 songs done, 1 failed" in done.stderr
    assert "song 1.wav: cannot be fetched or stored" in done.stderr
    assert proxy.faults[str(code)] == 1


def test_songs_are_fetched_and_stored_while_others_are_computed(
    s3: str, small_model_folder: Path
) -> None:
    fill(s3, SONGS)
    latency = 0.2
    with through(Proxy(os.environ["AWS_ENDPOINT_URL"], latency)) as proxy:
        began = time.monotonic()
        done = separate_stored_songs(s3, small_model_folder)
        taken = time.monotonic() - began
    assert done.status == 0, done.stderr
    one_after_the_other = latency * proxy.total
    assert taken < 0.7 * one_after_the_other, (taken, one_after_the_other)


def test_a_long_stem_has_its_key_only_when_it_is_whole(s3: str, tmp_path: Path) -> None:
    place = open_path(f"{s3}/long.wav")
    (tmp_path / "long.wav").write_bytes(bytes(64 << 20))  # two parts
    answers: list[str] = []
    there: list[bool] = []

    def lose_the_last(method: str, path: str) -> str:
        if method == "POST" and "uploadId=" in path:
            answers.append(path)
            there.append(place.fs.exists(place.path))  # type: ignore[attr-defined]
            return "lose the answer" if len(answers) == 1 else ""
        return ""

    with through(Proxy(os.environ["AWS_ENDPOINT_URL"], choose=lose_the_last)) as proxy:
        place.fs.clear_instance_cache()  # type: ignore[attr-defined]
        store_object(tmp_path / "long.wav", open_path(f"{s3}/long.wav"))
        assert proxy.faults["lose the answer"] == 1 and proxy.requests["PUT"] == 2
    assert there[0] is False
    assert place.fs.info(place.path)["size"] == 64 << 20  # type: ignore[attr-defined]


def test_what_was_listed_before_says_nothing_of_what_was_stored_since(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    put, info = MemoryFileSystem.put_file, MemoryFileSystem.info

    def lose_the_answer(self: Any, *place: str, **options: Any) -> None:
        put(self, *place, **options)
        raise FileNotFoundError

    def remember(self: Any, path: str, refresh: bool = False) -> dict[str, Any]:
        return info(self, path) if refresh else {"name": path, "size": 0, "type": "directory"}

    monkeypatch.setattr(MemoryFileSystem, "put_file", lose_the_answer)
    monkeypatch.setattr(MemoryFileSystem, "info", remember)
    (tmp_path / "stem.wav").write_bytes(b"sound")
    store_object(tmp_path / "stem.wav", open_path(f"{store}/stem.wav"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_the_command_separates_from_s3_to_s3_and_resumes(
    s3: str, engine: str, small_model_folder: Path
) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    place = fill(s3, 4)
    (place / "songs" / "bad.mp3").write_bytes(b"no sound")
    model = ("--model", str(small_model_folder), "--engine", engine)
    command = ["separate", *model, "-r", f"{s3}/songs", "-o", f"{s3}/out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for expected in ("4 songs done, 1 failed", "0 songs done, 1 failed"):
        run = subprocess.run(
            [sys.executable, "-m", "splitter", *command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 1, run.stderr
        assert expected in run.stderr
    place.fs.invalidate_cache()  # type: ignore[attr-defined]
    made = list((place / "out").rglob("*.wav"))
    assert len(made) == 8
    assert (place / "out" / "A" / "song 0" / "vocals.wav").stat().st_size > 50_000


def test_a_key_with_two_slashes_stays_inside_of_the_output(s3: str) -> None:
    fs, place = open_path(s3).fs, s3.removeprefix("s3://")
    fs.pipe_file(f"{place}/music//tmp/x/evil/song.wav", make_song(0))
    (found,) = find_songs([open_path(f"{s3}/music")], Search(recursive=True))
    assert found.parent.as_posix() == "tmp/x/evil"


def test_paths_of_a_store_stay_equal_once_it_has_been_asked(s3: str) -> None:
    first = open_path(f"{s3}/song.wav")
    assert not first.exists()
    second = open_path(f"{s3}/song.wav")
    assert first == second and hash(first) == hash(second)
    assert first.parent / "song.wav" == second

import itertools
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest

from splitter.audio import CONTAINERS, Mark, OutputFormat, StemWriter, Tags, read_mark
from splitter.audio.files import PartFile
from splitter.errors import CommandError, DataError
from splitter.jobs import (
    JOURNAL,
    Count,
    Extent,
    Found,
    Job,
    Journal,
    Search,
    Shard,
    claim,
    find_songs,
    has_sound,
    plan_jobs,
    read_names,
)
from splitter.jobs.table import Table
from tests import sounds
from tests.jobs import select_undone

FLAC = b"fLaC\0\0\0\x22" + bytes(64)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(64)
SETTINGS = {"model": "0123456789abcdef", "options": {"format": "wav"}}


def make_file(path: Path, content: bytes = FLAC) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def name_stems(song: Path, folder: Path, mark: str) -> Mapping[str, Path]:
    folder = folder / f"{song.stem}{mark}"
    return {name: folder / f"{name}.wav" for name in ("vocals", "instrumental")}


def find_names(folder: Path, search: Search) -> list[str]:
    return [found.path.relative_to(folder).as_posix() for found in find_songs([folder], search)]


@pytest.mark.parametrize(
    "head",
    [
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"RF64\xff\xff\xff\xffWAVEds64",
        b"FORM\0\0\0\0AIFCFVER",
        FLAC,
        b"OggS\0\x02",
        b"ID3\x04\0",
        b"\xff\xfb\x90\x64",  # MPEG-1 layer III, 128 kbit/s, 44.1 kHz
        b"\xff\xf3\x40\xc0",  # MPEG-2 layer III
        b"\xff\xf1\x50\x80",  # ADTS
        b"\0\0\0\x20ftypM4A ",
        b"\0\0\0\x20ftypisom",
        b"\x1aE\xdf\xa3\x9fB\x86",  # Matroska, WebM
    ],
)
def test_sound_is_known_by_its_first_bytes(head: bytes) -> None:
    assert has_sound(head)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff",
        JPEG,
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x24\0\0\0WEBPVP8 ",
        b"\0\0\0\x20ftypavif",
        b"\0\0\0\x20ftypheic",
        b"[playlist]\n",
        b"\xff\xfea\0b\0",  # UTF-16 text
        bytes(64),
    ],
)
def test_what_is_no_sound_is_known_too(head: bytes) -> None:
    assert not has_sound(head)


def test_a_folder_gives_its_songs_and_passes_over_covers_and_hidden_files(tmp_path: Path) -> None:
    make_file(tmp_path / "b.mp3")
    make_file(tmp_path / "a.FLAC")
    make_file(tmp_path / "song without suffix")
    make_file(tmp_path / "cover.jpg", JPEG)
    make_file(tmp_path / "readme.txt", b"hello")
    make_file(tmp_path / ".b.mp3.part")
    make_file(tmp_path / "below" / "c.ogg")
    assert find_names(tmp_path, Search()) == ["a.FLAC", "b.mp3", "song without suffix"]
    assert find_names(tmp_path, Search(recursive=True))[-1] == "below/c.ogg"


def test_a_text_called_song_mp3_is_found_so_that_someone_hears_of_it(tmp_path: Path) -> None:
    make_file(tmp_path / "song.mp3", b"this is no sound")
    assert find_names(tmp_path, Search()) == ["song.mp3"]


def test_globs_choose_names_and_with_a_slash_paths(tmp_path: Path) -> None:
    for name in ("a.mp3", "a.wav", "live/a.mp3", "live/b.mp3"):
        make_file(tmp_path / name)
    assert find_names(tmp_path, Search(True, ["*.mp3"])) == ["a.mp3", "live/a.mp3", "live/b.mp3"]
    assert find_names(tmp_path, Search(True, ["live/*"], ["b*"])) == ["live/a.mp3"]


def test_a_file_named_itself_is_a_song_even_if_it_is_missing(tmp_path: Path) -> None:
    assert list(find_songs([tmp_path / "none.txt"])) == [Found(tmp_path / "none.txt")]


def test_folders_to_stay_out_of_are_not_entered(tmp_path: Path) -> None:
    make_file(tmp_path / "a.mp3")
    make_file(tmp_path / "out" / "a" / "vocals.wav")
    search = Search(recursive=True, skip=frozenset([tmp_path / "out"]))
    assert find_names(tmp_path, search) == ["a.mp3"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_in_a_circle_is_not_followed(tmp_path: Path) -> None:
    make_file(tmp_path / "a.mp3")
    (tmp_path / "circle").symlink_to(tmp_path)
    assert find_names(tmp_path, Search(recursive=True)) == ["a.mp3"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_that_leads_nowhere_is_found_so_that_someone_hears_of_it(tmp_path: Path) -> None:
    for name in ("lost.mp3", "cover.jpg"):
        (tmp_path / name).symlink_to("/not/mounted/now")
    (tmp_path / "itself.mp3").symlink_to("itself.mp3")
    (tmp_path / "folder.mp3").symlink_to(tmp_path)
    assert find_names(tmp_path, Search()) == ["itself.mp3", "lost.mp3"]


def test_names_that_end_in_nul_may_hold_anything_else() -> None:
    names = "./A/x\ny.mp3\0/abs/é 🎵.mp3\0../up.mp3\0".encode()
    assert list(read_names(names)) == [
        Found(Path("A/x\ny.mp3"), PurePath("A")),
        Found(Path("/abs/é 🎵.mp3")),
        Found(Path("../up.mp3")),
    ]
    pytest.importorskip("upath")
    (found,) = read_names(b"memory://bucket/x.mp3\0")
    assert str(found.path) == "memory://bucket/x.mp3"
    assert found.parent == PurePath()


def test_the_tree_of_parents_is_mirrored(tmp_path: Path) -> None:
    make_file(tmp_path / "songs" / "A" / "B" / "x.mp3")
    found = find_songs([tmp_path / "songs"], Search(recursive=True))
    (job,) = plan_jobs(found, tmp_path / "out", name_stems)
    assert job.stems["vocals"] == tmp_path / "out" / "A" / "B" / "x" / "vocals.wav"
    assert job.size == len(FLAC)


def test_two_songs_with_one_output_are_kept_apart_in_any_order(tmp_path: Path) -> None:
    for name in ("x.mp3", "x.flac", "y.mp3"):
        make_file(tmp_path / name)
    found = list(find_songs([tmp_path]))
    for songs in (found, found[::-1]):
        jobs = plan_jobs(songs, tmp_path / "out", name_stems)
        folders = {job.song.name: job.stems["vocals"].parent.name for job in jobs}
        assert folders == {"x.mp3": "x.mp3", "x.flac": "x.flac", "y.mp3": "y"}


def test_the_first_job_is_there_when_one_folder_has_been_read(tmp_path: Path) -> None:
    for folder in "abc":
        for name in ("x.flac", "x.mp3", "y.mp3"):
            make_file(tmp_path / folder / name)
    seen: list[Found] = []

    def note(found: Iterator[Found]) -> Iterator[Found]:
        for one in found:
            seen.append(one)
            yield one

    found = note(find_songs([tmp_path], Search(recursive=True)))
    jobs = plan_jobs(found, tmp_path / "out", name_stems)
    first = next(jobs)
    assert first.stems["vocals"] == tmp_path / "out" / "a" / "x.flac" / "vocals.wav"
    assert {one.parent.name for one in seen[:-1]} == {"a"}
    assert [job.song.parent.name for job in (first, *jobs)] == list("aaabbbccc")


def test_songs_of_several_places_are_kept_apart_as_they_come(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a/live/x.mp3", "a/rare/y.mp3", "b/live/x.mp3"):
        make_file(tmp_path / name)
    places = [tmp_path / "a", tmp_path / "b"]
    jobs = plan_jobs(find_songs(places, Search(recursive=True)), tmp_path / "out", name_stems)
    names = [job.stems["vocals"].relative_to(tmp_path / "out").as_posix() for job in jobs]
    assert names == ["live/x/vocals.wav", "rare/y/vocals.wav", "live/x.mp3/vocals.wav"]
    assert "another song becomes " in caplog.text


def test_a_large_folder_is_planned_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitter.jobs.planning.GROUP", 2)
    for name in ("a.mp3", "x.flac", "x.mp3", "x.wav"):
        make_file(tmp_path / name)
    jobs = plan_jobs(find_songs([tmp_path]), tmp_path / "out", name_stems)
    names = [job.stems["vocals"].parent.name for job in jobs]
    assert names == ["a", "x", "x.mp3", "x.wav"]


def test_what_is_to_come_is_counted_until_it_has_come(tmp_path: Path) -> None:
    for name in "abc":
        make_file(tmp_path / f"{name}.mp3", FLAC)
    extent = Extent()
    assert extent.estimate() is None
    extent.expect(Count(lambda: find_songs([tmp_path])))
    jobs = list(plan_jobs(find_songs([tmp_path]), tmp_path / "out", name_stems))
    told = []
    for number, job in enumerate(jobs):
        extent.pass_by(job)
        if number:  # the first was done before
            extent.add(job)
        told.append(extent.estimate())
    size = len(FLAC)
    assert told == [(2, 2 * size)] * 3
    extent.end()
    assert extent.estimate() == (2, 2 * size)


def test_a_song_named_twice_is_done_once(tmp_path: Path) -> None:
    song = make_file(tmp_path / "x.mp3")
    assert len(list(plan_jobs(find_songs([song, tmp_path]), tmp_path / "out", name_stems))) == 1


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_file_with_several_names_is_done_once_and_the_others_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    song = make_file(tmp_path / "b.mp3")
    (tmp_path / "c.mp3").symlink_to(song)
    (tmp_path / "d.mp3").hardlink_to(song)
    with caplog.at_level("INFO", "splitter"):
        jobs = list(plan_jobs(find_songs([song, tmp_path]), tmp_path / "out", name_stems))
    assert [job.song for job in jobs] == [song]
    told = "the same file as another song of this run"
    assert caplog.messages == [f"left out 3 files, such as {song}: {told}"]


@pytest.mark.parametrize("suffix", sorted({*CONTAINERS} - {"raw"}))
def test_a_mark_is_found_behind_long_tags(suffix: str, tmp_path: Path) -> None:
    path, rate = tmp_path / f"long.{suffix}", 48000 if suffix == "opus" else 44100
    mark = Mark("vocals", "my model", "0123abcd")
    tags = Tags(title="t" * 3000, artist="a" * 3000, album="b" * 3000, mark=mark)
    with StemWriter(path, rate, 2, OutputFormat(suffix), tags) as writer:
        writer.write(sounds.noise(rate))
    assert read_mark(path) == mark


@pytest.mark.parametrize("size", [1 << 62, (1 << 64) - 1])
def test_a_box_that_claims_more_than_any_file_has_no_mark(size: int, tmp_path: Path) -> None:
    box = b"\0\0\0\1free" + size.to_bytes(8, "big")
    (tmp_path / "song.m4a").write_bytes(b"\0\0\0\x10ftypM4A \0\0\0\0" + box + bytes(100))
    assert read_mark(tmp_path / "song.m4a") is None
    assert find_names(tmp_path, Search()) == ["song.m4a"]


def test_what_splitter_made_is_no_song_in_a_folder_but_one_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = {suffix: tmp_path / f"by splitter.{suffix}" for suffix in CONTAINERS if suffix != "raw"}
    cover = b"\x89PNG" + bytes(100_000)
    tags = Tags(title="of a song", cover=cover, mark=Mark("vocals", "my model", "0123abcd"))
    for suffix, path in made.items():
        rate = 48000 if suffix == "opus" else 44100
        with StemWriter(path, rate, 2, OutputFormat(suffix), tags) as writer:
            writer.write(sounds.noise(rate))
        assert read_mark(path) == tags.mark, suffix
    sounds.write(tmp_path / "song.wav", sounds.noise(1000))
    with caplog.at_level("INFO", "splitter"):
        assert find_names(tmp_path, Search()) == ["song.wav"]
    assert caplog.messages[0].startswith("left out 6 files, such as ")
    assert caplog.messages[0].endswith(": stems of an earlier run; to separate one, name it")
    assert [found.path for found in find_songs(made.values())] == list(made.values())


def test_stems_among_the_songs_are_not_separated_again(tmp_path: Path) -> None:
    make_file(tmp_path / "x.mp3")
    for stem in ("vocals", "instrumental"):
        make_file(tmp_path / "x" / f"{stem}.wav")
    jobs = plan_jobs(find_songs([tmp_path], Search(recursive=True)), tmp_path, name_stems)
    assert [job.song.name for job in jobs] == ["x.mp3"]


def make_job(folder: Path, name: str = "x") -> Job:
    song = make_file(folder / "songs" / f"{name}.mp3")
    (job,) = plan_jobs([Found(song)], folder / "out", name_stems)
    return job


def write_stems(job: Job) -> None:
    for path in job.stems.values():
        make_file(path, b"sound")


def is_done(job: Job, settings: Mapping[str, object] = SETTINGS) -> bool:
    folder = next(iter(job.stems.values())).parents[1]
    return Journal(folder, settings).has(job)


def test_a_song_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    assert not is_done(job)
    journal = Journal(tmp_path / "out", SETTINGS)
    job = journal.begin(job)
    assert job.claimed == set(job.stems.values())
    write_stems(job)
    assert not journal.has(job) and not is_done(job)
    journal.add(job)
    assert journal.has(job) and is_done(job)
    assert select_undone(journal, [job]) == []
    for known in (journal, Journal(tmp_path / "out", SETTINGS)):
        assert all(path in known.made for path in job.stems.values())


def test_without_a_journal_a_job_claims_the_names_that_are_free(tmp_path: Path) -> None:
    job = Job(tmp_path / "song.wav", {name: tmp_path / f"{name}.wav" for name in ("a", "b")})
    job.stems["a"].touch()
    claimed = claim(job)
    assert claimed.claimed == {job.stems["b"]}
    job.stems["b"].touch()  # it was done, in part, by a worker that died
    assert claim(claimed).claimed == claimed.claimed


def test_only_names_that_are_free_or_known_are_claimed(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    make_file(job.stems["vocals"])
    for _ in range(2):
        journal = Journal(tmp_path / "out", SETTINGS)
        job = journal.begin(job)
        assert job.claimed == {job.stems["instrumental"]}
        make_file(job.stems["instrumental"])
        journal.add(job, "vocals.wav: exists already")
    assert journal.begin(job, overwrite=True).claimed == set(job.stems.values())
    assert Journal(tmp_path / "out", SETTINGS).begin(job).claimed == set(job.stems.values())


def test_a_song_that_failed_claims_no_name(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    journal = Journal(tmp_path / "out", SETTINGS)
    journal.add(journal.begin(job), "no sound that can be read")
    mine = make_file(job.stems["vocals"])  # by somebody, later
    again = Journal(tmp_path / "out", SETTINGS)
    assert mine not in again.made
    assert mine not in again.begin(job).claimed


def test_a_folder_may_be_left_out(tmp_path: Path) -> None:
    for name in ("a/x.flac", "a/live/y.flac", "b/live/z.flac"):
        make_file(tmp_path / name)
    assert find_names(tmp_path, Search(True, exclude=["live"])) == ["a/x.flac"]
    assert find_names(tmp_path, Search(True, exclude=["a/live"])) == ["a/x.flac", "b/live/z.flac"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may look everywhere")
def test_a_folder_that_nobody_may_look_into_is_told_with_a_way_out(tmp_path: Path) -> None:
    make_file(tmp_path / "x.flac")
    (tmp_path / "secret").mkdir(mode=0)
    with pytest.raises(DataError, match=r"secret: cannot be read .*; --exclude 'secret' leaves"):
        find_names(tmp_path, Search(True))
    assert find_names(tmp_path, Search(True, exclude=["secret"])) == ["x.flac"]


def test_another_model_or_option_means_another_run(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    write_stems(job)
    Journal(tmp_path / "out", SETTINGS).add(job)
    assert not is_done(job, {**SETTINGS, "model": "fedcba9876543210"})
    assert not is_done(job, {**SETTINGS, "options": {"format": "flac"}})


def test_stems_that_were_made_without_tags_are_ours(tmp_path: Path) -> None:
    bare, tagged = ({**SETTINGS, "tags": tags} for tags in (False, True))
    job = make_job(tmp_path)
    with Journal(tmp_path / "out", bare) as journal:
        journal.begin(job)
        write_stems(job)
        journal.add(job)
    with Journal(tmp_path / "out", tagged) as journal:
        assert journal.begin(job).claimed == set(job.stems.values())
        journal.add(job)  # with a mark now
        assert not journal.begin(job).claimed  # without: somebody else's


def test_a_changed_song_a_failure_and_a_lost_stem_are_done_again(tmp_path: Path) -> None:
    changed, failed, lost = (make_job(tmp_path, name) for name in "abc")
    journal = Journal(tmp_path / "out", SETTINGS)
    for job in (changed, failed, lost):
        write_stems(job)
        journal.add(job, "broken" if job is failed else None)
    os.utime(changed.song, (1, 1))
    lost.stems["vocals"].unlink()
    again = [make_job(tmp_path, "a"), failed, lost]
    assert select_undone(Journal(tmp_path / "out", SETTINGS), again) == again


def test_the_last_line_counts(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    write_stems(job)
    journal = Journal(tmp_path / "out", SETTINGS)
    journal.add(job, "broken")
    journal.add(job)
    assert is_done(job)
    journal.add(job, "broken again")
    assert not is_done(job)


def test_the_last_run_counts_whichever_journal_was_changed_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(1e9)
    monkeypatch.setattr("splitter.jobs.journal.time.time", lambda: float(next(clock)))
    job, other = make_job(tmp_path), make_job(tmp_path, "y")
    newer = {**SETTINGS, "model": "fedcba9876543210"}
    for each in (job, other):
        write_stems(each)
    for settings, shard, done in (
        (SETTINGS, None, job), (newer, Shard(1, 2), job), (newer, None, other),
    ):  # fmt: skip
        with Journal(tmp_path / "out", settings, shard) as journal:
            journal.add(journal.begin(done))
    for first, last in ((JOURNAL, "splitter.1-of-2.jsonl"), ("splitter.1-of-2.jsonl", JOURNAL)):
        os.utime(tmp_path / "out" / first, (1, 1))
        os.utime(tmp_path / "out" / last, (2, 2))
        assert is_done(job, newer)
        assert not is_done(job)


def test_stems_of_several_commands_are_all_remembered(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    parts = [replace(job, stems={name: path}) for name, path in job.stems.items()]
    for part in parts:
        journal = Journal(tmp_path / "out", SETTINGS)
        journal.begin(part)
        write_stems(part)
        journal.add(part)
    assert all(map(is_done, parts))
    assert not is_done(job)  # made for another job, perhaps with other options
    Journal(tmp_path / "out", SETTINGS).add(job)
    assert is_done(job)
    assert not any(map(is_done, parts))


def test_a_stem_of_which_a_power_cut_left_the_name_is_not_there(tmp_path: Path) -> None:
    job, tagged = make_job(tmp_path), {**SETTINGS, "tags": True}
    journal = Journal(tmp_path / "out", tagged)
    journal.begin(job)
    write_stems(job)
    journal.add(job)
    assert is_done(job, tagged)
    job.stems["vocals"].write_bytes(b"")
    assert not is_done(job, tagged)
    claimed = Journal(tmp_path / "out", tagged).begin(job).claimed
    assert claimed == {job.stems["vocals"]}  # the other has no mark: it is somebody else's by now


def test_a_line_torn_by_a_kill_costs_one_song_only(tmp_path: Path) -> None:
    first, torn, later = (make_job(tmp_path, name) for name in "abc")
    for job in (first, torn, later):
        write_stems(job)
    journal = Journal(tmp_path / "out", SETTINGS)
    journal.add(first)
    journal.add(torn)
    whole = journal.path.read_bytes()
    start = whole.rindex(b"\n") + 1
    for length in (start, start + 1, (start + len(whole)) // 2, len(whole) - 1):
        journal.path.write_bytes(whole[:length])
        again = Journal(tmp_path / "out", SETTINGS)
        assert again.has(first) and not again.has(torn)
        again.add(later)
        assert is_done(first) and not is_done(torn) and is_done(later)


DAMAGED = [
    b"\xff\xfe",
    b"[]",
    b"7",
    b"[" * 200_000,
    b'{"schema": 1, "song": "x", "made": [], "stems": {}, "settings": '
    + b"[" * 970
    + b"]" * 970
    + b"}",
    b'{"schema": 99, "song": "x", "stems": {}}',
    b'{"schema": 1}',
    b'{"schema": 1, "song": ["a"], "made": [], "stems": {}}',
    b'{"schema": 1, "song": "a", "made": null, "stems": {}}',
    b'{"schema": 1, "song": "a", "made": [5], "stems": {}}',
    b'{"schema": 1, "song": "a\\u0000", "made": [], "stems": 5, "size": NaN, "error": {}}',
    b'{"id": ["a"], "song": "x", "files": []}',
    b'{"id": "a", "song": null, "files": []}',
    b'{"id": "a", "song": "x", "files": [null, [5], "y"]}',
    b'{"done": ["a"]}',
    b'{"done": "b"}',
    b'{"failed": "a", "kept": 5}',
    b'{"settings": [[]]}',
    b'{"id": "' + b"a" * 3_000_000 + b'"}',
]


def test_lines_that_are_damaged_are_passed_over(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    write_stems(job)
    Journal(tmp_path / "out", SETTINGS).add(job)
    path = tmp_path / "out" / JOURNAL
    path.write_bytes(b"\n".join([*DAMAGED, path.read_bytes(), *DAMAGED]))
    assert is_done(job)


def write_old_line(job: Job, **more: object) -> None:
    """Add a line of the first schema to a journal."""
    folder = next(iter(job.stems.values())).parents[1]
    stems = {name: path.relative_to(folder).as_posix() for name, path in job.stems.items()}
    entry = {
        "schema": 1,
        "song": str(job.song),
        "stems": stems,
        "size": job.size,
        "mtime": job.mtime,
        "settings": SETTINGS,
        "error": None,
        "made": sorted(stems.values()),
    }
    with (folder / JOURNAL).open("ab") as file:
        file.write(b"\n" + json.dumps({**entry, **more}).encode())


def test_a_journal_of_the_first_schema_is_read(tmp_path: Path) -> None:
    done, failed, begun = (make_job(tmp_path, name) for name in "abc")
    for job in (done, failed, begun):
        write_stems(job)
        write_old_line(job, error="not finished")
    write_old_line(done)
    write_old_line(failed, error="broken", made=[])
    journal = Journal(tmp_path / "out", SETTINGS)
    assert select_undone(journal, [done, failed, begun]) == [failed, begun]
    assert not is_done(done, {**SETTINGS, "model": "fedcba9876543210"})
    owned = [[path in journal.made for path in job.stems.values()] for job in (done, failed, begun)]
    assert owned == [[True, True], [False, False], [True, True]]


def test_a_line_that_names_files_elsewhere_makes_none_of_them_ours(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    precious = make_file(tmp_path / "precious.wav")
    names = ["../precious.wav", str(precious), "x/../../precious.wav", "in/side.wav"]
    line = {"id": "a", "song": "/x.mp3", "files": names}
    make_file(folder / JOURNAL, json.dumps(line).encode())
    with Journal(folder, SETTINGS) as journal:
        assert precious not in journal.made and folder / "in" / "side.wav" in journal.made
        for name in names[:3]:
            assert folder / name not in journal.made
    assert precious.read_bytes() == FLAC


@pytest.mark.skipif(os.name == "nt", reason="there are no such files there")
def test_only_a_plain_file_is_a_journal(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    elsewhere = make_file(tmp_path / "elsewhere")
    path = tmp_path / "out" / JOURNAL
    path.parent.mkdir()
    for make in (lambda: os.mkfifo(path), lambda: path.symlink_to(elsewhere)):
        make()
        with pytest.raises(DataError, match=r"splitter\.jsonl: cannot be"):
            Journal(tmp_path / "out", SETTINGS).add(job)
        path.unlink()
    other = path.with_name("splitter.9-of-9.jsonl")
    path.touch()
    os.mkfifo(other)
    with pytest.raises(DataError, match=r"splitter\.9-of-9\.jsonl: cannot be read"):
        Journal(tmp_path / "out", SETTINGS)
    assert elsewhere.read_bytes() == FLAC


def test_a_folder_has_one_run_at_a_time_and_a_dead_one_leaves_no_lock(tmp_path: Path) -> None:
    program = "import sys; from splitter.jobs import Journal; from pathlib import Path\n"
    program += "with Journal(Path(sys.argv[1]), {}): print('here', flush=True); input()"
    command = [sys.executable, "-c", program, str(tmp_path / "out")]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout and other.stdin
    assert other.stdout.readline() == b"here\n"
    with pytest.raises(CommandError, match="out: another run is writing to this folder; wait"):
        Journal(tmp_path / "out", SETTINGS).__enter__()
    other.kill()
    other.wait()
    other.stdin.close()
    other.stdout.close()
    with Journal(tmp_path / "out", SETTINGS):
        pass


def test_what_another_run_has_done_meanwhile_is_not_done_again(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    late = Journal(tmp_path / "out", SETTINGS)
    with Journal(tmp_path / "out", SETTINGS) as journal:
        journal.begin(job)
        write_stems(job)
        journal.add(job)
    assert not late.has(job)
    with late:
        assert late.has(job)


def test_parts_that_a_killed_run_left_are_removed_by_the_next(tmp_path: Path) -> None:
    killed, done = make_job(tmp_path, "a"), make_job(tmp_path, "b")
    Journal(tmp_path / "out", SETTINGS).begin(killed)
    stems = [path for job in (killed, done) for path in job.stems.values()]
    parts = [leave_part(path, kind) for path in stems for kind in ("", "floats")]
    with Journal(tmp_path / "out", SETTINGS):
        assert [part.exists() for part in parts] == 4 * [False] + 4 * [True]


def leave_part(target: Path, kind: str) -> Path:
    """Leave what a run that is killed leaves of a file."""
    folder, part = target.parent, PartFile(target, kind)
    part.discard()
    return make_file(folder / part.path.name)


def test_a_song_costs_little_memory_and_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "splitter.jobs.table.RECENT", 256
    )  # these take more until they are in order
    count = 3_000
    jobs = (
        Job(tmp_path / f"A{n // 100}/song {n}.mp3", {"v": tmp_path / f"out/{n}/vocals.wav"})
        for n in range(count)
    )
    path = tmp_path / "out" / JOURNAL
    with Journal(path.parent, SETTINGS) as journal:
        for job in jobs:
            journal.begin(job)
            journal.add(job)
    assert path.stat().st_size < 200 * count
    tracemalloc.start()
    try:
        journal = Journal(path.parent, SETTINGS)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100 * count + 100_000


def test_a_table_keeps_the_last_number_of_each_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitter.jobs.table.RECENT", 7)
    table, names = Table(), [f"name {index}" for index in range(100)]
    for value in (1, 2, 3):
        for index, name in enumerate(names[::value]):
            table[name] = 0 if index % 5 == 4 else value
    expected = dict.fromkeys(names, 1)
    for value in (1, 2, 3):
        for index, name in enumerate(names[::value]):
            expected[name] = 0 if index % 5 == 4 else value
    assert {name: table[name] for name in names} == expected
    assert table["another"] == 0


def test_a_large_table_is_put_in_order_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitter.jobs.table.RECENT", 10)
    table, times = Table(), []
    really = np.argsort
    monkeypatch.setattr(np, "argsort", lambda *args, **how: times.append(1) or really(*args, **how))
    for index in range(3_000):
        table[index] = index + 1
    assert len(times) < 100  # and not 300
    assert [table[index] for index in range(3_000)] == list(range(1, 3_001))


def test_a_table_may_be_read_while_it_is_put_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitter.jobs.table.RECENT", 100)
    table = Table()
    for index in range(100, 200):
        table[index] = index
    really = np.searchsorted

    def search(*found: Any) -> Any:
        """Find a place, and have another thread write before it is looked at."""
        place = really(*found)
        monkeypatch.setattr(np, "searchsorted", really)
        for index in range(100):
            table[index] = index
        return place

    monkeypatch.setattr(np, "searchsorted", search)
    assert table[150] == 150


def test_the_output_folder_may_move(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    write_stems(job)
    Journal(tmp_path / "out", SETTINGS).add(job)
    (tmp_path / "out").rename(tmp_path / "moved")
    (moved,) = plan_jobs([Found(job.song)], tmp_path / "moved", name_stems)
    assert is_done(moved)


def test_any_file_name_goes_into_the_journal_and_back(tmp_path: Path) -> None:
    job = make_job(tmp_path, "-é 🎵\n")
    write_stems(job)
    Journal(tmp_path / "out", SETTINGS).add(job)
    assert is_done(job)
    lines = (tmp_path / "out" / JOURNAL).read_bytes().split(b"\n")
    assert "done" in [json.loads(line) for line in lines if line][-1]


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_name_that_is_no_utf8_is_kept(tmp_path: Path) -> None:
    job = make_job(tmp_path, os.fsdecode(b"latin \xe9"))
    write_stems(job)
    Journal(tmp_path / "out", SETTINGS).add(job)
    assert is_done(job)


def test_a_journal_that_cannot_be_written_or_read_says_so(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    make_file(tmp_path / "out", b"a file where the folder should be")
    with pytest.raises(DataError, match="cannot be written"):
        Journal(tmp_path / "out", SETTINGS).add(job)
    (tmp_path / JOURNAL).mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        Journal(tmp_path, SETTINGS)


def test_each_song_is_of_one_shard_whatever_others_there_are(tmp_path: Path) -> None:
    songs = [tmp_path / f"song {index}.mp3" for index in range(300)]
    shards = [Shard.parse(f"{index}/4") for index in range(1, 5)]
    parts = [[song for song in songs if shard.takes(song)] for shard in shards]
    assert sorted(song for part in parts for song in part) == sorted(songs)
    assert all(40 < len(part) < 110 for part in parts)  # 75 are meant
    for wrong in ("0/4", "5/4", "1/0", "1", "a/b", "-1/4", "1/4/4"):
        with pytest.raises(ValueError, match="is not a shard; write I/N"):
            Shard.parse(wrong)


def test_shards_share_a_folder_with_each_other_but_with_no_whole_run(tmp_path: Path) -> None:
    first, second = make_job(tmp_path, "a"), make_job(tmp_path, "b")
    folder = tmp_path / "out"
    busy = pytest.raises(CommandError, match="another run is writing to this folder")
    with Journal(folder, SETTINGS, Shard(1, 2)) as one:
        with Journal(folder, SETTINGS, Shard(2, 2)) as two:
            for journal, job in ((one, first), (two, second)):
                journal.begin(job)
                write_stems(job)
                journal.add(job)
        with busy, Journal(folder, SETTINGS, Shard(1, 2)):
            pass
        with busy, Journal(folder, SETTINGS):
            pass
    with Journal(folder, SETTINGS) as whole:
        assert whole.has(first) and whole.has(second)
        with busy, Journal(folder, SETTINGS, Shard(1, 2)):
            pass
    assert Journal(folder, SETTINGS, Shard(1, 3)).has(second)


def test_a_journal_knows_which_songs_have_failed(tmp_path: Path) -> None:
    failed, done = make_job(tmp_path, "a"), make_job(tmp_path, "b")
    journal = Journal(tmp_path / "out", SETTINGS)
    journal.add(failed, "broken")
    journal.add(done, "broken")
    journal.add(done)
    again = Journal(tmp_path / "out", SETTINGS)
    assert [again.failed(job) for job in (failed, done, make_job(tmp_path, "c"))] == [
        True,
        False,
        False,
    ]
    again.begin(failed)
    assert again.failed(failed)  # so that a retry that is killed is known for one
    assert Journal(tmp_path / "out", SETTINGS).failed(failed)
    again.add(failed)
    assert not again.failed(failed)
    assert not Journal(tmp_path / "out", SETTINGS).failed(failed)


@pytest.mark.parametrize("end", ["failed", "killed"])
def test_a_song_that_was_not_replaced_after_all_keeps_its_stems(tmp_path: Path, end: str) -> None:
    """Of two libraries' songs of one name the second is begun by --overwrite, and fails."""
    settings, out = {"model": "x"}, tmp_path / "out"
    stems = {"vocals": out / "s/vocals.wav"}
    first, second = (Job(tmp_path / name / "s.mp3", stems, 1, 1.0) for name in "AB")
    with Journal(out, settings) as journal:
        journal.begin(first)
        make_file(stems["vocals"], b"first")
        journal.add(first)
    with Journal(out, settings) as journal:
        assert journal.has(first)
        journal.begin(second, overwrite=True)
        if end == "failed":
            journal.add(second, "is damaged")
            assert journal.has(first)
    with Journal(out, settings) as journal:
        assert journal.has(first)
        assert not journal.has(second)
        assert not journal.claim(second).claimed
        journal.begin(second, overwrite=True)
        journal.add(second)
        assert not journal.has(first)
        assert journal.has(second)

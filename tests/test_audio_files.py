"""Stem files appear when they are whole, all of a song or none, under any name, on any disk."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import numpy as np
import pytest
import soundfile

from splitter.audio import (
    OutputFormat,
    StemWriter,
    Tags,
    check_outputs,
    estimate_bytes,
    fit_format,
    open_song,
    write_stems,
)
from splitter.audio.files import PartFile, _Folder, remove_parts
from splitter.errors import AudioError
from splitter.locks import try_lock
from tests.codecs import RATE, chirps, write


@pytest.mark.parametrize("container", ["wav", "flac", "mp3", "ogg", "opus", "m4a"])
def test_a_stem_has_its_name_only_when_it_is_whole(tmp_path: Path, container: str) -> None:
    target = tmp_path / f"stem.{container}"
    target.write_bytes(b"the one before")
    with (
        pytest.raises(KeyboardInterrupt),
        StemWriter(target, RATE, 2, OutputFormat(container)) as w,
    ):
        w.write(chirps())
        assert target.read_bytes() == b"the one before"
        assert len(list(tmp_path.iterdir())) == 2
        raise KeyboardInterrupt
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [
        (target.name, b"the one before")
    ]


@pytest.mark.parametrize("clip", ["clamp", "float", "rescale"])
def test_stems_appear_together_or_not_at_all(tmp_path: Path, clip: str) -> None:
    targets = {"vocals": tmp_path / "vocals.wav", "instrumental": tmp_path / "sub" / "rest.wav"}
    with (
        pytest.raises(ValueError, match="broken"),
        write_stems(targets, RATE, 2, OutputFormat(clip=clip)) as writers,
    ):
        writers["vocals"].write(chirps())
        raise ValueError("broken")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("container", ["wav", "flac", "ogg"])
def test_a_full_disk_is_told(container: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 5 * RATE)).astype(np.float32)
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(AudioError, match="No space left"),
        StemWriter(_Unseekable(full), RATE, 2, OutputFormat(container)) as writer,
    ):
        writer.write(noise)


class _Unseekable(io.RawIOBase):
    """/dev/full says that it seeks; a pipe does not."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return self._file.write(data)

    def writable(self) -> bool:
        return True


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_not_written(tmp_path: Path, value: float) -> None:
    signal = chirps()
    signal[0, 5] = value
    with pytest.raises(AudioError, match=r"stem\.wav: .*not numbers"):
        write(tmp_path / "stem.wav", signal, OutputFormat())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["-", "söng 🎵", " leading", "two\nlines", "x" * 251, "trailing."])
def test_any_name_is_written(tmp_path: Path, name: str) -> None:
    target = tmp_path / f"{name}.wav"
    write(target, chirps(100), OutputFormat())
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_a_part_that_nobody_writes_any_more_is_removed(tmp_path: Path) -> None:
    left = leave_part(tmp_path / "stem.wav")
    other = tmp_path / ".another.part"
    other.touch()
    assert left.exists()
    write(tmp_path / "stem.wav", chirps(100), OutputFormat())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".another.part", "stem.wav"]


def test_a_stem_is_written_without_a_look_at_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_part(tmp_path / "stem.wav")
    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, None)  # not called: a folder may hold a million stems
    write(tmp_path / "stem.wav", chirps(100), OutputFormat(clip="rescale"))
    remove_parts(tmp_path / "stem.wav")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["stem.wav"]


@pytest.mark.skipif(os.name == "nt", reason="there the system keeps files that are open")
@pytest.mark.parametrize("end", ["commit", "discard"])
def test_a_part_is_its_runs_own_until_it_has_its_name_or_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Another run comes at the worst moment: when the file is closed, and still has its name."""
    target, refused = tmp_path / "stem.wav", []

    def come(self: object, *names: str) -> None:
        with pytest.raises(AudioError, match="another run is writing it"):
            PartFile(target)
        refused.append(1)
        really(self, *names)

    really = getattr(_Folder, "rename" if end == "commit" else "remove")
    monkeypatch.setattr(_Folder, really.__name__, come)
    part = PartFile(target)
    part.file.write(b"sound")
    getattr(part, end)()
    assert refused == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["stem.wav"] * (end == "commit")
    PartFile(target).discard()


@pytest.mark.skipif(os.name == "nt", reason="there the system keeps files that are open")
def test_a_part_that_is_taken_for_a_dead_one_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, came = tmp_path / "stem.wav", []

    def come_before(file: IO[bytes], shared: bool = False) -> bool | None:
        if not came:
            came.append(1)
            remove_parts(target)
        return try_lock(file, shared)

    monkeypatch.setattr("splitter.audio.files.try_lock", come_before)
    part = PartFile(target)
    assert os.path.samestat(os.fstat(part.file.fileno()), part.path.stat())
    part.discard()


def test_on_a_disk_without_locks_a_part_is_left_alone_for_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitter.audio.files.try_lock", lambda *_: None)
    left = leave_part(tmp_path / "stem.wav")
    for old in (False, True):
        write(tmp_path / "stem.wav", chirps(100), OutputFormat())
        assert left.exists() != (old or os.name == "nt")
        assert len(list(tmp_path.iterdir())) == 1 + left.exists()
        if left.exists():
            os.utime(left, (time.time() - 7200,) * 2)


@pytest.mark.skipif(os.name == "nt", reason="there are no such files there")
def test_what_somebody_else_put_in_a_parts_place_neither_hangs_nor_is_written_to(
    tmp_path: Path,
) -> None:
    place = leave_part(tmp_path / "stem.wav")
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    for make in (lambda: os.mkfifo(place), lambda: place.symlink_to(precious), place.mkdir):
        place.unlink()
        make()
        write(tmp_path / "stem.wav", chirps(100), OutputFormat())
        remove_parts(tmp_path / "stem.wav")
        assert os.path.lexists(place)
        assert {path.name for path in tmp_path.iterdir()} == {
            *("precious", "stem.wav", place.name),
        }
    assert precious.read_bytes() == b"mine"


def test_what_is_written_after_a_failure_goes_nowhere(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "stem.wav")
    part.abandon()
    part.file.write(b"trailer")
    part.file.flush()
    assert part.path.stat().st_size == 0
    part.discard()


def test_what_failed_is_removed_also_where_there_is_no_dev_null(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.devnull", str(tmp_path / "none"))
    with (
        pytest.raises(AudioError, match="breaks off"),
        write_stems(_stems(tmp_path), RATE, 2) as writers,
    ):
        writers["vocals"].write(chirps(100))
        raise AudioError("the song breaks off")
    assert not [*tmp_path.iterdir()]


def test_folders_that_nothing_came_into_are_removed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for song in ("new/song", "there/song", "there"):
        with pytest.raises(AudioError), write_stems(_stems(tmp_path / song), RATE, 2) as writers:
            writers["vocals"].write(chirps(100))
            raise AudioError("the song breaks off")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_folder_with_something_in_it_is_kept(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "new" / "broken.wav")
    write(tmp_path / "new" / "whole.wav", chirps(100), OutputFormat())
    part.discard()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["whole.wav"]


def _refuse_folders(monkeypatch: pytest.MonkeyPatch, flags: int) -> None:
    """Let nobody open a folder but with these flags, as if this were not root."""
    really = os.open

    def ask(path: str, asked: int, *others: int, **more: int) -> int:
        if Path(path).is_dir() and not asked & flags:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really(path, asked, *others, **more)

    monkeypatch.setattr(os, "open", ask)
    monkeypatch.setattr(os, "supports_dir_fd", os.supports_dir_fd | {ask})


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="opens no folder that cannot be listed")
def test_a_folder_that_takes_files_and_shows_none_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refuse_folders(monkeypatch, os.O_PATH)
    write(tmp_path / "stem.wav", chirps(100), OutputFormat())
    assert [path.name for path in tmp_path.iterdir()] == ["stem.wav"]


def test_a_folder_that_cannot_be_held_keeps_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refuse_folders(monkeypatch, 0)
    with pytest.raises(AudioError, match=r"stem\.wav: cannot be written"):
        PartFile(tmp_path / "stem.wav")
    assert list(tmp_path.iterdir()) == []


def leave_part(target: Path) -> Path:
    """Leave what a run that is killed leaves of a file."""
    part = PartFile(target)
    part.discard()
    part.path.write_bytes(b"half")
    return part.path


def _stems(folder: Path) -> dict[str, Path]:
    return {stem: folder / f"{stem}.wav" for stem in ("vocals", "instrumental")}


def test_outputs_that_cannot_be_are_told_before_the_work(tmp_path: Path) -> None:
    settled = fit_format(OutputFormat(), RATE, 2, 16)
    file = tmp_path / "file"
    file.touch()
    (tmp_path / "folder").mkdir()
    for target, complaint in (
        (tmp_path / ("x" * 252 + ".wav"), "name is too long"),
        (tmp_path / "folder", "is a folder"),
        (file / "stem.wav", "is not a folder"),
    ):
        with pytest.raises(AudioError, match=complaint):
            check_outputs([target], settled, RATE, 2, 1000)
    target = tmp_path / "new" / "deeper" / "stem.wav"
    check_outputs([target, file], settled, RATE, 2, None)
    with pytest.raises(AudioError, match=r"too full") as caught:
        check_outputs([target, target], settled, RATE, 2, 10**15)
    needed, free = map(float, re.findall(r"([\d.]+) MB are", str(caught.value)))
    # two stems of two channels of two bytes a sample
    assert needed == pytest.approx(2 * 2 * 2 * 10**9)
    assert needed > free
    # others write to this disk, too
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free / 1e6, rel=0.2)
    assert not target.parent.exists()


def test_a_disk_that_is_too_small_by_a_byte_never_reads_as_large_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = fit_format(OutputFormat(), RATE, 2, 16)
    needed = estimate_bytes(settled, RATE, 2, 250_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(AudioError, match=r"\(1\.1 MB are needed, 1\.0 MB are free\)"):
        check_outputs([tmp_path / "stem.wav"], settled, RATE, 2, 250_000)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_told_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    settled = fit_format(OutputFormat(), RATE, 2, 16)
    with pytest.raises(AudioError, match="no permission to write here"):
        check_outputs([tmp_path / "stem.wav"], settled, RATE, 2, 1000)


@pytest.mark.parametrize("container", ["wav", "flac", "mp3", "ogg", "opus", "m4a"])
@pytest.mark.parametrize("clip", ["clamp", "rescale"])
def test_the_estimate_of_the_space_is_enough(tmp_path: Path, container: str, clip: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 5 * RATE)).astype(np.float32)
    settled = fit_format(OutputFormat(container, clip=clip), RATE, 2, 16)
    write(tmp_path / "stem", noise, settled)
    assert (tmp_path / "stem").stat().st_size <= estimate_bytes(settled, RATE, 2, 5 * RATE)


def test_the_file_has_the_tags_of_its_stem(tmp_path: Path) -> None:
    targets = {"vocals": tmp_path / "vocals.flac"}
    with write_stems(
        targets, RATE, 2, OutputFormat("flac"), Tags(title="Song", artist="Singer")
    ) as writers:
        writers["vocals"].write(chirps(100))
    with open_song(targets["vocals"]) as song:
        assert song.tags == Tags(title="Song (vocals)", artist="Singer")


@pytest.mark.slow
def test_a_wav_grows_beyond_four_gigabytes(tmp_path: Path) -> None:
    block = np.random.default_rng(0).uniform(-1, 1, (8, 1 << 20)).astype(np.float32)
    path = tmp_path / "stem.wav"
    with StemWriter(path, 96000, 8, OutputFormat("wav", 32)) as writer:
        for _ in range(130):  # 4.36 GB
            writer.write(block)
    with path.open("rb") as file:
        assert file.read(4) == b"RF64"
    with open_song(path) as song:
        assert song.samples == 130 << 20
        total = 0
        for piece in song.read_blocks(1 << 20):
            assert np.array_equal(piece, block)
            total += piece.shape[1]
    assert total == 130 << 20
    assert soundfile.info(path).frames == total

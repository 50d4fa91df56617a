"""Small files that are whole, or not there at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitter.atomic import making, write_atomically


def test_a_link_where_a_file_is_made_is_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("mine", encoding="utf-8")
    for name in ("page.html", "weights"):
        (tmp_path / f".{name}.part").symlink_to(precious)
    write_atomically(tmp_path / "page.html", b"new")
    with making(tmp_path / "weights") as beside:
        beside.write_bytes(b"new")
    assert precious.read_text(encoding="utf-8") == "mine"
    for name in ("page.html", "weights"):
        assert (tmp_path / name).read_bytes() == b"new"
        assert not (tmp_path / name).is_symlink()
    assert len(list(tmp_path.iterdir())) == 3


def test_what_a_kill_has_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".list.part").write_bytes(b"half of what")
    write_atomically(tmp_path / "list", b"all")
    assert [path.name for path in tmp_path.iterdir()] == ["list"]
    assert (tmp_path / "list").read_bytes() == b"all"


def test_after_an_error_the_file_is_as_it_was(tmp_path: Path) -> None:
    write_atomically(tmp_path / "list", b"old")
    with pytest.raises(ValueError, match="in the middle"), making(tmp_path / "list") as beside:
        beside.write_bytes(b"ne")
        raise ValueError("in the middle")
    assert [path.name for path in tmp_path.iterdir()] == ["list"]
    assert (tmp_path / "list").read_bytes() == b"old"

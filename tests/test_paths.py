from __future__ import annotations

from pathlib import Path

import pytest

from splitter.errors import SplitterError
from splitter.paths import is_plain_name, locate, place_inside


@pytest.mark.parametrize("name", ["vocals", "Gesang 2", "é", "歌", "a.b", "🎵"])
def test_a_plain_name_is_taken(name: str) -> None:
    assert is_plain_name(name)


LEADS_ELSEWHERE = ["", ".", "..", ".hidden", "a/b", "a\\b", "a:b", "-n", " a", "a ", "a."]
UNPRINTABLE = ["a\0b", "a\nb", "\x1b[31m", "\ud800"]
RESERVED = ["CON", "nul.txt", "Com1", "lpt¹", "conin$"]
TOO_LONG = ["x" * 101, "歌" * 34]


@pytest.mark.parametrize("name", [*LEADS_ELSEWHERE, *UNPRINTABLE, *RESERVED, *TOO_LONG])
def test_what_is_no_plain_name_is_not(name: str) -> None:
    assert not is_plain_name(name)


def test_a_file_below_a_folder_is_placed_there(tmp_path: Path) -> None:
    assert place_inside(tmp_path, "a/b.wav") == tmp_path / "a" / "b.wav"


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "..", "", ".", "a\0b"])
def test_a_path_that_leads_out_of_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SplitterError, match="leads out of"):
        place_inside(tmp_path, name)


def test_a_file_is_located_from_the_folder_that_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert locate(Path("x.wav")) == tmp_path.resolve() / name / "x.wav"
    (tmp_path / "three").symlink_to("two")
    assert locate(tmp_path / "three" / "x.wav") == tmp_path.resolve() / "two" / "x.wav"

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import pytest

from splitter.audio import OutputFormat, StemWriter, Tags, open_song
from splitter.collisions import keep_apart
from splitter.errors import SplitterError
from splitter.outputs import Output, name_stems, plan_stems
from splitter.templates import TEMPLATE, check_template, fit_name, needs_tags
from tests import sounds

STEMS = ("vocals", "instrumental")


def name(template: str, tags: Tags = Tags(), song: str = "/music/live/a.b.mp3") -> str:
    output = Output(Path("out"), ("vocals",), OutputFormat("flac"), template)
    (path,) = name_stems(Path(song), output, "unet", STEMS, tags).values()
    return path.as_posix()


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{name}/{stem}.{ext}", "out/a.b/vocals.flac"),
        ("{parent}/{model} {name}.{stem}", "out/live/unet a.b.vocals"),
        ("{artist} - {title} ({stem}).{ext}", "out/me - mine (vocals).flac"),
        ("{{{stem}}}", "out/{vocals}"),
        ("{year} {album|Single}/{disc|1}-{track} {title}.{ext}", "out/Single/1-07 mine.flac"),
        ("{year|19xx} {genre}/{album_artist}.{suffix}", "out/19xx Unknown genre/me.mp3"),
        ("{album|}/{year|}/{stem}.{ext}", "out/vocals.flac"),
        ("./{name}/./{stem}.{ext}", "out/a.b/vocals.flac"),
    ],
)
def test_a_template_names_stems(template: str, path: str) -> None:
    check_template(template, 1)
    assert name(template, Tags(artist="me", title="mine", track="7/12")) == path


def test_a_song_that_does_not_say_what_it_is_called_goes_by_its_name() -> None:
    assert name("{artist}/{title}.{ext}") == "out/Unknown artist/a.b.flac"
    assert needs_tags("{artist}") and needs_tags("x {title}") and not needs_tags("{name} {stem}")


def test_braces_in_names_are_only_braces() -> None:
    assert name("{name}.{stem}", song="{stem}{0}.wav") == "out/{stem}{0}.vocals"


def test_what_a_song_calls_itself_cannot_leave_the_folder() -> None:
    for title in ("../../etc/passwd", "/etc/passwd", "..", ".", "a\0b"):
        path = Path(name("{title}", Tags(title=title)))
        assert path.parent == Path("out") and path.name not in (".", "..") and "\0" not in path.name


@pytest.mark.parametrize("template", ["../{stem}", "{name}/../../{stem}", "/tmp/{stem}", "a/.."])
def test_a_template_that_leads_out_of_the_folder_is_refused(template: str) -> None:
    with pytest.raises(SplitterError, match="leads out of the output folder"):
        check_template(template, 1)


@pytest.mark.parametrize("stem", ["../../../escaped", "/etc/passwd", "..", "a\0b"])
def test_what_a_model_calls_a_stem_cannot_leave_the_folder(stem: str) -> None:
    (path,) = name_stems(Path("song.wav"), Output(Path("out")), "unet", (stem,)).values()
    assert path.parent == Path("out/song") and path.name != "..wav" and "\0" not in path.name


@pytest.mark.parametrize(
    ("text", "fitted"),
    [
        ('a<b>c:d"e/f\\g|h?i*j', "a_b_c_d_e_f_g_h_i_j"),
        ("new\nline", "new_line"),
        ("ends in a dot. . ", "ends in a dot"),
        ("CON", "_CON"),
        ("com1.live", "_com1.live"),
        ("...", "_"),
        ("é 🎵", "é 🎵"),
    ],
)
def test_names_are_made_fit_for_windows(text: str, fitted: str) -> None:
    assert fit_name(text, windows=True) == fitted


def test_elsewhere_the_slash_is_replaced_and_what_nobody_sees() -> None:
    text = 'a<b>:"\\|?*.'
    assert fit_name(text, windows=False) == text
    assert fit_name("AC/DC", windows=False) == "AC_DC"
    unseen = "a\nb\x1b[2Jc\x7fd\u202egnp.exe\u2028"
    assert fit_name(unseen, windows=False) == "a_b_[2Jc_d_gnp.exe_"
    assert fit_name("\udcff 👩\u200d🎤", windows=False) == "\udcff 👩\u200d🎤"


@pytest.mark.parametrize(
    "template",
    [
        *(
            "{name}.{ext}",
            "{nmae}/{stem}",
            "{0}{stem}",
            "{stem:>9}",
            "",
            "{stem",
            "{album|a/b}{stem}",
        ),
        *("../{stem}", "/tmp/{stem}", "{name}/../../{stem}"),
    ],
)
def test_a_template_that_cannot_name_two_stems_is_refused(template: str) -> None:
    with pytest.raises(SplitterError):
        check_template(template, 2)


@pytest.mark.parametrize("said", ["..", "../..", "/etc", "", ".", "a/../../b", "\\..\\"])
def test_no_tag_leads_out_of_the_folder(said: str) -> None:
    for template in ("{album|}/{title|}/{stem}", ".{album|}./{stem}", "{album|}{title|}/x{stem}"):
        path = Path(name(template, Tags(album=said, title=said), song="/music/...mp3"))
        assert path.is_relative_to("out") and ".." not in path.parts


def test_tags_of_a_song_name_all_fields() -> None:
    tags = Tags(
        title="t",
        artist="a",
        album="al",
        album_artist="aa",
        track="3/12",
        disc="2/2",
        date="1999-05-01",
        genre="g",
    )
    template = "{artist} {album_artist} {title} {album} {track} {disc} {year} {genre}"
    assert name(template, tags) == "out/a aa t al 03 2 1999 g"


def name_apart(paths: list[Path], template: str = TEMPLATE) -> list[Mapping[str, Path]]:
    output = Output(Path("out"), template=template)
    return keep_apart(paths, lambda i, mark: name_stems(paths[i], output, "m", STEMS, mark=mark))


APART = {
    "suffix": (["a/x.mp3", "a/x.flac", "a/y.mp3"], ["x.mp3", "x.flac", "y"]),
    "folder": (["a/x.mp3", "b/x.mp3"], ["x (a)", "x (b)"]),
    "both": (["a/x.mp3", "a/x.flac", "b/x.mp3"], ["x (a)", "x.flac", "x (b)"]),
    "a name that is taken": (
        ["a/x.mp3", "a/x.flac", "a/x.mp3.wav"],
        ["x (a)", "x.flac", "x.mp3.wav"],
    ),
}
ALIKE = {
    "case": (["a/Song.mp3", "b/song.mp3", "a/y.mp3"], ["Song (a)", "song (b)", "y"]),
    "case of a suffix": (["a/x.mp3", "b/x.MP3"], ["x (a)", "x (b)"]),
    "case of a letter with two small forms": (["a/Straße.ogg", "b/STRASSE.ogg"], None),
    "how an accent is composed": (["a/Caf\u00e9.mp3", "b/Cafe\u0301.mp3"], None),
    "a blank at the end": (["a/x .mp3", "b/x.mp3"], ["x .mp3", "x.mp3"]),
    "what Windows replaces": (["a/who?.mp3", "b/who*.mp3"], ["who? (a)", "who* (b)"]),
    "a name that Windows reserves": (["a/_nul.mp3", "b/NUL.mp3"], ["_nul (a)", "NUL (b)"]),
}


@pytest.mark.parametrize(("songs", "names"), APART.values(), ids=APART)
def test_songs_of_one_name_are_kept_apart_in_any_order(
    songs: list[str], names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for order in permutations(range(len(songs))):
        paths = [Path("/music", songs[index]) for index in order]
        named = name_apart(paths)
        assert [stems["vocals"].parent.name for stems in named] == [names[index] for index in order]
    assert "would all become out/x/vocals.wav" in caplog.text


@pytest.mark.parametrize(("songs", "names"), ALIKE.values(), ids=ALIKE)
def test_names_that_some_disk_takes_for_one_are_kept_apart_on_every_disk(
    songs: list[str], names: list[str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = names or [f"{Path(song).stem} ({song[0]})" for song in songs]
    for order in permutations(range(len(songs))):
        paths = [Path("/music", songs[index]) for index in order]
        named = name_apart(paths)
        assert [stems["vocals"].parent.name for stems in named] == [wanted[i] for i in order]
    assert "would" in caplog.text and "they become" in caplog.text


def test_two_songs_of_a_folder_whose_names_differ_in_case_are_kept_apart_by_a_hash() -> None:
    named = name_apart([Path("/music/Song.mp3"), Path("/music/song.mp3")])
    folders = {stems["vocals"].parent.name for stems in named}
    assert len({folder.lower() for folder in folders}) == 2
    assert all(re.fullmatch(r"[Ss]ong\.mp3 \([0-9a-f]{8}\)", folder) for folder in folders)


@pytest.mark.parametrize(
    "title",
    ["x" * 300, "é" * 200, "🎵" * 90, "word " * 60],
    ids=["ascii", "two bytes", "four", "words"],
)
def test_a_title_too_long_for_a_name_is_cut_before_stem_and_suffix(title: str) -> None:
    file = Path(name("{title} ({stem}).{ext}", Tags(title=title))).name
    assert title.startswith(file.removesuffix(" (vocals).flac"))
    assert 250 < len(file.encode()) <= 255 and "  " not in file


def test_of_two_long_fields_the_longer_one_is_cut_and_folders_too() -> None:
    tags = Tags(title="t" * 300, artist="a" * 100, album="b" * 300)
    path = Path(name("{album}/{artist} - {title} {stem}.{ext}", tags))
    assert path.parent.name == "b" * 255
    assert path.name == f"{'a' * 100} - {'t' * 140} vocals.flac"


def test_long_titles_that_are_cut_to_one_name_are_kept_apart() -> None:
    paths = [Path("/music", folder, f"{'x' * 250}{folder}.mp3") for folder in ("a", "b" * 200)]
    named = name_apart(paths, "{name} ({stem}).{ext}")
    names = [path.name for stems in named for path in stems.values()]
    assert len(set(names)) == 4
    assert all(len(name.encode()) <= 255 and name.endswith(").wav") for name in names)


def test_twins_in_folders_of_one_name_are_kept_apart_by_a_hash() -> None:
    paths = [Path("/music", name, "live/x.mp3") for name in "abc"]
    named = name_apart(paths, "{title} {stem}.{ext}")
    names = {stems["vocals"].name for stems in named}
    assert len(names) == 3
    assert all(re.fullmatch(r"x\.mp3 \([0-9a-f]{8}\) vocals\.wav", name) for name in names)


def test_a_template_without_a_song_is_marked_before_its_suffix() -> None:
    paths = [Path("/music/x.mp3"), Path("/music/y.flac")]
    named = name_apart(paths, "{stem}.{ext}")
    assert [stems["vocals"].name for stems in named] == ["vocals.mp3.wav", "vocals.flac.wav"]


def test_a_song_without_a_suffix_does_not_lie_where_its_stems_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = Output(Path(), ("vocals",))
    for song in (Path("song"), tmp_path / "song"):
        assert name_stems(song, here, "unet", []) == {"vocals": Path("song stems/vocals.wav")}
    other = Output(Path("out"), ("vocals",))
    assert name_stems(Path("song"), other, "unet", []) == {"vocals": Path("out/song/vocals.wav")}


def test_stems_are_called_as_the_song_unless_that_is_unwanted(tmp_path: Path) -> None:
    path, named = tmp_path / "song.flac", Tags(title="Song", artist="Somebody")
    with StemWriter(path, 44100, 2, OutputFormat("flac"), named) as writer:
        writer.write(sounds.song(0.01))
    targets = {"vocals": tmp_path / "vocals.wav"}
    with open_song(path) as song:
        assert plan_stems(song, targets, Output(tmp_path)).tags == named
        assert plan_stems(song, targets, Output(tmp_path, tags=False)).tags == Tags()

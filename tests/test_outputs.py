from __future__ import annotations

from pathlib import Path

import pytest

from splitter.audio import OutputFormat, Tags
from splitter.errors import SplitterError
from splitter.outputs import Output, check_template, fit_name, name_stems, needs_tags

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
    ],
)
def test_a_template_names_stems(template: str, path: str) -> None:
    check_template(template, 2)
    assert name(template, Tags(artist="me", title="mine")) == path


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


def test_elsewhere_only_the_slash_is_replaced() -> None:
    text = 'a<b>:"\\|?*\n.'
    assert fit_name(text, windows=False) == text
    assert fit_name("AC/DC", windows=False) == "AC_DC"


@pytest.mark.parametrize(
    "template", ["{name}.{ext}", "{nmae}/{stem}", "{0}{stem}", "{stem:>9}", ""]
)
def test_a_template_that_cannot_name_two_stems_is_refused(template: str) -> None:
    with pytest.raises(SplitterError):
        check_template(template, 2)

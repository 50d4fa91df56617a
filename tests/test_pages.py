"""Pages to listen on: what is in them."""

from __future__ import annotations

import io
import json
import re
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from splitter.cli.listen import _write_for_jobs
from splitter.cli.screen import Screen
from splitter.errors import AudioError, MissingExtra, PageError
from splitter.jobs import Job
from splitter.pages import Curve, Listing, Take, find_takes, name_page, write_index, write_page
from splitter.pages.pictures import COLUMNS, ROWS, TILE, Scale, cut_tiles, find_levels, sketch
from tests import sounds
from tests.commands import call


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script id="song" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def write_stems(folder: Path, seconds: float = 1) -> Path:
    sounds.write(folder / "vocals.wav", sounds.voice(seconds))
    sounds.write(folder / "instrumental.wav", sounds.music(seconds))
    return folder


def test_a_tone_is_drawn_at_its_frequency_and_level(tmp_path: Path) -> None:
    time = np.arange(2 * 44100) / 44100
    tone = np.float32(0.5) * np.sin(2 * np.pi * 1000 * time, dtype=np.float32)[None]
    drawn = sketch(sounds.write(tmp_path / "tone.wav", tone))
    assert drawn.seconds == pytest.approx(2)
    picture = np.asarray(Image.open(io.BytesIO(drawn.pictures[0])).convert("L"))
    assert picture.shape == (ROWS, round(2 / drawn.column + 0.5))
    brightest = ROWS - 1 - int(picture[:, 40].argmax())
    edges = Scale(44100).bins * 44100 / Scale(44100).window  # Hz
    assert edges[brightest] == pytest.approx(1000, abs=15)  # one row there
    peaks = np.frombuffer(drawn.peaks, np.int8).reshape(-1, 2)
    np.testing.assert_allclose(np.abs(peaks[1:-1].astype(int)), 63.5, atol=1)


@pytest.mark.parametrize("more", [-1, 0, 1, 700])
def test_pictures_in_tiles_are_the_picture_of_the_whole(more: int) -> None:
    scale = Scale(8000)
    song = sounds.noise(TILE * scale.hop + more, 1)
    tiles = list(cut_tiles([song[:, :50000], song[:, 50000:]], scale))
    parts = np.concatenate([find_levels(tile, scale) for tile in tiles], axis=1)
    whole = np.pad(song[0], scale.window // 2)
    np.testing.assert_array_equal(parts, find_levels(whole, scale)[:, : parts.shape[1]])
    assert parts.shape[1] == -(-song.shape[1] // scale.hop)
    assert all(tile.shape[-1] - scale.window <= TILE * scale.hop for tile in tiles)


@pytest.mark.parametrize(("rate", "samples"), [(8000, 0), (8000, 1), (44100, 1), (192000, 5000)])
def test_short_stems_of_any_rate_are_drawn(tmp_path: Path, rate: int, samples: int) -> None:
    drawn = sketch(sounds.write(tmp_path / "a.wav", sounds.noise(samples, 1), rate))
    assert len(drawn.peaks) == 2 * -(-samples // round(rate / COLUMNS))
    assert len(drawn.pictures) == bool(samples)


def test_a_page_refers_to_the_stems_beside_it_and_to_nothing_else(tmp_path: Path) -> None:
    folder = write_stems(tmp_path / "a #1 & ü?")
    page = write_page(
        tmp_path / "listen.html", "Song", [Take("unet", find_takes(folder)[Path()].stems)]
    )
    data = data_of(page)
    urls = [track["url"] for track in data["takes"][0]["tracks"]]
    assert urls == [f"a%20%231%20%26%20%C3%BC%3F/{name}.wav" for name in ("vocals", "instrumental")]
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:)|@import|https?://", text)
    assert "default-src 'none'" in text


def test_a_title_cannot_leave_its_place_in_the_page(tmp_path: Path) -> None:
    title = "</script><script>alert(1)</script>{{style}}<b>"
    stems = find_takes(write_stems(tmp_path))[Path()].stems
    page = write_page(tmp_path / "listen.html", title, [Take(title, stems)])
    text = page.read_text(encoding="utf-8")
    assert "<script>alert" not in text and "<b>" not in text
    assert data_of(page)["title"] == title
    index = write_index(tmp_path / "index.html", title, [Listing(title, page)])
    assert "<script>alert" not in index.read_text(encoding="utf-8")


def test_curves_stand_below_their_stem_and_gaps_in_them_are_gaps(tmp_path: Path) -> None:
    stems = find_takes(write_stems(tmp_path))[Path()].stems
    curve = Curve("SDR", 1.0, [3.14159, float("nan"), float("-inf")])
    page = write_page(
        tmp_path / "listen.html", "Song", [Take("a", stems)], {("a", "vocals"): [curve]}
    )
    vocals, instrumental = data_of(page)["takes"][0]["tracks"]
    assert vocals["curves"] == [{"name": "SDR", "seconds": 1.0, "values": [3.14, None, None]}]
    assert instrumental["curves"] == []


def test_a_file_that_is_no_page_of_ours_is_not_replaced(tmp_path: Path) -> None:
    takes = [find_takes(write_stems(tmp_path))[Path()]]
    write_page(tmp_path / "listen.html", "Song", takes)
    write_page(tmp_path / "listen.html", "Song again", takes)
    (tmp_path / "listen.html").write_text("<html>mine</html>")
    with pytest.raises(PageError, match="was not written by splitter"):
        write_page(tmp_path / "listen.html", "Song", takes)
    assert (tmp_path / "listen.html").read_text() == "<html>mine</html>"


def test_a_stem_that_is_no_sound_is_an_error_and_leaves_no_page(tmp_path: Path) -> None:
    (tmp_path / "vocals.wav").write_text("no sound")
    with pytest.raises(AudioError, match="vocals"):
        write_page(tmp_path / "listen.html", "Song", [find_takes(tmp_path)[Path()]])
    assert not (tmp_path / "listen.html").exists()


@pytest.mark.parametrize(
    ("stem", "page"),
    [
        ("song/vocals.wav", "song/listen.html"),
        ("song (vocals).mp3", "song (listen).html"),
        ("vocals/vocals.wav", "vocals/listen.html"),
        ("karaoke.mp3", "karaoke.html"),
        ("vocals/song.wav", "vocals/song.html"),
    ],
)
def test_a_page_is_named_like_its_stems(stem: str, page: str) -> None:
    assert name_page({"vocals": Path(stem)}) == Path(page)


def test_listen_separates_a_song_and_compares_models(
    tmp_path: Path, small_model_folder: Path
) -> None:
    sounds.write(tmp_path / "-a song.wav", sounds.song(1))
    other = sounds.write_small_model(tmp_path / "other")
    models = ("-m", small_model_folder, "-m", other)
    done = call("listen", *models, "-f", "flac", "-q", "--", "-a song.wav", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "-a song/listen.html"
    takes = data_of(tmp_path / "-a song/listen.html")["takes"]
    assert [take["name"] for take in takes] == ["small", "other"]
    assert [track["url"] for track in takes[1]["tracks"]] == [
        "other/vocals.flac",
        "other/instrumental.flac",
    ]


def test_listen_draws_stems_that_are_there_whoever_made_them(
    tmp_path: Path, small_model_folder: Path
) -> None:
    sounds.write(tmp_path / "song.wav", sounds.song(1))
    done = call("separate", "song.wav", "-m", small_model_folder, "--wiener", 1, folder=tmp_path)
    assert done.status == 0, done.stderr
    before = (tmp_path / "song/vocals.wav").stat().st_mtime_ns
    done = call("listen", "song.wav", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert (tmp_path / "song/vocals.wav").stat().st_mtime_ns == before
    (take,) = data_of(tmp_path / "song/listen.html")["takes"]
    assert take["name"].startswith("small+")


def test_listen_writes_a_page_for_each_song_and_an_index(tmp_path: Path) -> None:
    for song in ("Stems/a", "Stems/album/b", "Other/a"):
        write_stems(tmp_path / song)
    done = call("listen", "Stems", "--against", "Other", folder=tmp_path)
    assert done.status == 0, done.stderr
    pages = ["Stems/a/listen.html", "Stems/album/b/listen.html", "Stems/index.html"]
    assert done.stdout.splitlines() == pages
    index = (tmp_path / pages[-1]).read_text(encoding="utf-8")
    assert re.findall('href="([^"]+html)"', index) == ["a/listen.html", "album/b/listen.html"]
    assert [take["name"] for take in data_of(tmp_path / pages[0])["takes"]] == ["Stems", "Other"]
    assert [take["name"] for take in data_of(tmp_path / pages[1])["takes"]] == ["Stems"]


def test_what_is_a_sum_of_other_stems_is_not_played_with_them(tmp_path: Path) -> None:
    for name in ("mixture", "vocals", "drums", "bass", "other", "instrumental"):
        sounds.write(tmp_path / f"{name}.wav", sounds.voice(0.1))
    assert list(find_takes(tmp_path)[Path()].stems) == ["vocals", "bass", "drums", "other"]
    for name in ("drums", "bass", "other"):
        (tmp_path / f"{name}.wav").unlink()
    assert list(find_takes(tmp_path)[Path()].stems) == ["vocals", "instrumental"]
    sounds.write(tmp_path / "rest.wav", sounds.voice(0.1))  # as models of several stems have it
    assert list(find_takes(tmp_path)[Path()].stems) == ["vocals", "instrumental", "rest"]


def test_a_page_that_cannot_be_written_costs_no_other(
    tmp_path: Path, small_model_folder: Path
) -> None:
    for song in ("a", "b"):
        sounds.write(tmp_path / f"music/{song}.wav", sounds.song(1))
    (tmp_path / "stems/a").mkdir(parents=True)
    (tmp_path / "stems/a/listen.html").write_text("mine")
    command = ("music", "-o", "stems", "--page", "-m", small_model_folder)
    done = call("separate", *command, folder=tmp_path)
    assert done.status == 1
    assert "stems/a/listen.html: exists already and was not written by splitter" in done.stderr
    assert done.stdout.splitlines()[-1] == "stems/b/listen.html"
    done = call("listen", "stems", folder=tmp_path)
    assert done.status == 1
    assert done.stdout.splitlines()[0] == "stems/b/listen.html"
    assert (tmp_path / "stems/a/listen.html").read_text() == "mine"


@pytest.mark.parametrize("more", [("-m", "unet-fast"), ("-o", "Out"), ("-f", "mp3")])
def test_listen_heeds_all_that_it_is_told(tmp_path: Path, more: tuple[str, str]) -> None:
    write_stems(tmp_path / "Stems/a")
    done = call("listen", "Stems", *more, folder=tmp_path)
    assert done.status == 2
    assert "would do nothing: these are stems" in done.stderr
    assert not (tmp_path / "Stems/a/listen.html").exists()


def test_separate_writes_pages_beside_stems_and_not_again(
    tmp_path: Path, small_model_folder: Path
) -> None:
    sounds.write(tmp_path / "music/a.wav", sounds.song(1))
    command = ("separate", "music", "-o", "stems", "--page", "-m", small_model_folder)
    done = call(*command, folder=tmp_path)
    assert done.status == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "stems/a/listen.html"
    assert call(*command, folder=tmp_path).stdout == ""


@pytest.mark.parametrize(
    "more", [["-o", "-", "--stems", "vocals"], ["-f", "raw"], ["--json"], ["-0"]]
)
def test_pages_of_what_no_page_can_play_are_refused(tmp_path: Path, more: list[str]) -> None:
    sounds.write(tmp_path / "a.wav", sounds.song(1))
    done = call("separate", "a.wav", "--page", *more, folder=tmp_path)
    assert done.status == 2
    assert "--page" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav"}


def test_without_matplotlib_listen_says_so_before_it_separates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds.write(tmp_path / "a.wav", sounds.song(1))
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.image", None)
    done = call("listen", "a.wav", folder=tmp_path)
    assert done.status == 2
    assert "songsplitter[plots]" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav"}
    with pytest.raises(MissingExtra):
        sketch(tmp_path / "a.wav")


def test_evaluate_writes_the_table_and_a_page_a_song_with_scores_over_time(tmp_path: Path) -> None:
    for song in ("test/a", "test/b<i>"):
        write_stems(tmp_path / "data" / song, 2)
        write_stems(tmp_path / "mine" / Path(song).name, 2)
    command = ("evaluate", "data", "--estimates", "mine", "--baseline", "none", "--metric", "sdr")
    done = call(*command, "--page", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "scores/index.html"
    index = (tmp_path / "scores/index.html").read_text(encoding="utf-8")
    assert re.findall('href="(test[^"]+)"', index) == [
        "test/a/listen.html",
        "test/b%3Ci%3E/listen.html",
    ]
    assert "<td>mine</td>" in index
    takes = data_of(tmp_path / "scores/test/a/listen.html")["takes"]
    assert [take["name"] for take in takes] == ["reference", "mine"]
    assert len(takes[1]["tracks"][0]["curves"][0]["values"]) == 2  # windows of a second
    for take in ("reference", "mine"):
        stem = sounds.read(tmp_path / "scores/test/a" / take / "vocals.flac")
        np.testing.assert_allclose(stem, sounds.voice(2), atol=2**-15)


def test_links_that_lead_back_are_followed_once(tmp_path: Path) -> None:
    for song in "ab":
        sounds.write(tmp_path / song / "vocals.wav", sounds.noise(100))
    for name in ("all", "two"):
        (tmp_path / name).symlink_to(tmp_path)
    assert sorted(map(str, find_takes(tmp_path))) == ["a", "b"]


def test_two_models_of_one_name_are_refused_before_any_work(
    tmp_path: Path, small_model_folder: Path
) -> None:
    song = sounds.write(tmp_path / "song.wav", sounds.song(1))
    again = shutil.copytree(small_model_folder, tmp_path / "run" / small_model_folder.name)
    done = call("listen", song.name, "-m", small_model_folder, "-m", again, folder=tmp_path)
    assert done.status == 2
    assert "two of the models have the same name" in done.stderr
    assert not (tmp_path / "song").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-", "-m", "unet", "-m", "unet-fast"), "-: can be read only once"),
        (("memory://songs/a.wav",), "download it first"),
        (("a.wav", "-o", "-"), "-o -: name a folder"),
        (("a.wav", "-o", "card.wav"), "-o card.wav: name a folder"),
    ],
)
def test_what_cannot_be_heard_is_refused_before_any_work(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    if "memory" in arguments[0]:
        pytest.importorskip("upath")
    sounds.write(tmp_path / "a.wav", sounds.song(1))
    done = call("listen", *arguments, folder=tmp_path)
    assert done.status == 2
    (line,) = done.complaints
    assert told in line
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_song_that_came_later_is_not_paired_with_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = []
    for model, songs in (("first", "ac"), ("second", "abc")):
        done = []
        for song in songs:
            stems = {"vocals": tmp_path / song / model / "vocals.wav"}
            sounds.write(stems["vocals"], sounds.voice(0.1))
            done.append(Job(tmp_path / f"{song}.wav", stems))
        jobs.append(done)
    pages = list(_write_for_jobs(Screen("none"), jobs, ["first", "second"], {}))
    assert [page and page.parent.name for page in pages] == ["a", "c"]
    for page in pages:
        assert page
        urls = [take["tracks"][0]["url"] for take in data_of(page)["takes"]]
        assert urls == ["first/vocals.wav", "second/vocals.wav"]


def test_stems_of_other_programs_stand_beside_ours(tmp_path: Path) -> None:
    for folder, stem in (("Mine/a", "instrumental"), ("Theirs/a", "no_vocals")):
        for name in ("vocals", stem):
            sounds.write(tmp_path / folder / f"{name}.wav", sounds.voice(0.1))
    assert call("listen", "Mine", "--against", "Theirs", folder=tmp_path).status == 0
    takes = data_of(tmp_path / "Mine/a/listen.html")["takes"]
    assert [[track["name"] for track in take["tracks"]] for take in takes] == [
        ["vocals", "instrumental"]
    ] * 2
    assert takes[1]["tracks"][1]["url"].endswith("no_vocals.wav")


def test_stems_that_a_program_named_after_its_model_are_compared(tmp_path: Path) -> None:
    write_stems(tmp_path / "Mine/a (Live)")
    for song in ("a (Live)", "a_2"):
        theirs = [f"{song}_(Vocals)_UVR-MDX-NET-Inst_HQ_3.wav", f"{song}_(Vocals)_Kim_Vocal_2.wav"]
        theirs += [name.replace("(Vocals)", "(Instrumental)") for name in theirs]
        make_files(tmp_path / "Theirs", *theirs)
    done = call("listen", "Mine", "--against", "Theirs", folder=tmp_path)
    assert "a (Live): Theirs has stems of it by several models" in done.stderr
    for path in (tmp_path / "Theirs").glob("*Kim*"):
        path.unlink()
    assert "Theirs" not in call("listen", "Mine", "--against", "Theirs", folder=tmp_path).stderr
    takes = data_of(tmp_path / "Mine/a (Live)/listen.html")["takes"]
    urls = [track["url"] for track in takes[1]["tracks"]]
    assert [url.rpartition("/")[2].partition("_UVR")[0] for url in urls] == [
        "a%20%28Live%29_%28Vocals%29",
        "a%20%28Live%29_%28Instrumental%29",
    ]
    make_files(tmp_path / "Theirs", "a (Live).wav")  # what they are stems of
    done = call("listen", "Theirs", "--against", "Mine", folder=tmp_path)
    assert "passed over" not in done.stderr
    assert "a (Live)_UVR" not in done.stderr
    assert "a_2_UVR-MDX-NET-Inst_HQ_3: Mine has no stems of it" in done.stderr


def test_stems_named_after_a_model_are_those_of_the_same_album(tmp_path: Path) -> None:
    for disc in ("CD1", "CD2"):
        write_stems(tmp_path / f"Mine/{disc}/Intro")
        names = (f"Intro_({stem})_Kim_Vocal_2.wav" for stem in ("Vocals", "Instrumental"))
        make_files(tmp_path / "Theirs" / disc, *names)
    done = call("listen", "Mine", "--against", "Theirs", folder=tmp_path)
    assert not done.stderr
    for disc in ("CD1", "CD2"):
        takes = data_of(tmp_path / f"Mine/{disc}/Intro/listen.html")["takes"]
        assert f"/Theirs/{disc}/" in takes[1]["tracks"][0]["url"]


def test_hidden_folders_hold_no_stems_and_songs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("CD1/Intro", "CD2/Intro", ".Trash-1000/x"):
        write_stems(tmp_path / "Lib" / folder)
    done = call("listen", "Lib", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    index = (tmp_path / "Lib/index.html").read_text(encoding="utf-8")
    assert "CD1/Intro<" in index and "CD2/Intro<" in index and "Trash" not in index


def test_a_library_that_a_link_leads_to_links_to_its_rivals(tmp_path: Path) -> None:
    write_stems(tmp_path / "deep/real/a")
    write_stems(tmp_path / "Est/a")
    (tmp_path / "Lib").symlink_to(tmp_path / "deep/real")
    assert call("listen", "Lib", "--against", "Est", folder=tmp_path).status == 0
    takes = data_of(tmp_path / "Lib/a/listen.html")["takes"]
    url = takes[1]["tracks"][0]["url"]
    assert (tmp_path / "deep/real/a" / url).resolve() == tmp_path / "Est/a/vocals.wav"


def test_songs_beside_stems_are_told_to_be_passed_over(tmp_path: Path) -> None:
    write_stems(tmp_path / "Music/song1")
    for name in ("song1", "song2"):
        sounds.write(tmp_path / f"Music/{name}.wav", sounds.voice(0.1))
    done = call("listen", "Music", folder=tmp_path)
    assert done.status == 0
    assert "Music: has stems, so 1 song is passed over, such as song2.wav;" in done.stderr
    (tmp_path / "Music/song2.wav").unlink()
    assert "passed over" not in call("listen", "Music", folder=tmp_path).stderr


def make_files(folder: Path, *names: str) -> Path:
    for name in names:
        sounds.write(folder / name, sounds.noise(100))
    return folder


def test_a_song_called_instrumental_is_a_song_beside_others(tmp_path: Path) -> None:
    make_files(tmp_path, "love.wav", "Instrumental.wav")
    assert find_takes(tmp_path) == {}
    (tmp_path / "Instrumental.wav").rename(tmp_path / "instrumental.wav")
    assert list(find_takes(tmp_path)) == [Path()]
    (tmp_path / "instrumental.wav").rename(tmp_path / "Instrumental.wav")
    (tmp_path / "love.wav").rename(tmp_path / "Strings.wav")
    assert find_takes(tmp_path) == {}


def test_songs_that_are_called_like_instruments_have_their_own_stems(tmp_path: Path) -> None:
    songs = ("Bass", "Drums", "Piano")
    for stem in ("vocals", "instrumental"):
        make_files(tmp_path, *(f"{song} ({stem}).wav" for song in songs))
    assert list(find_takes(tmp_path)) == list(map(Path, songs))


@pytest.mark.parametrize(
    ("files", "song", "page", "stems"),
    [
        ("Vocals.wav Instrumental.wav", ".", "listen.html", "vocals instrumental"),
        ("VOCALS.wav", ".", "listen.html", "vocals"),
        ("drums.wav Bass.wav", ".", "listen.html", "bass drums"),
        ("a_(Vocals).wav a_(Instrumental).wav", "a", "a_(listen).html", "vocals instrumental"),
        ("a_vocals_1.wav a_no_vocals_1.wav", "a_1", "a_listen_1.html", "vocals instrumental"),
        ("vocals-a.wav drums-a.wav", "a", "listen-a.html", "vocals drums"),
        # a model's name, or a song's, may have such a word, too
        (
            "a_(Vocals)_Net-Inst_3.wav a_(Instrumental)_Net-Inst_3.wav",
            "a_Net-Inst_3",
            "a_(listen)_Net-Inst_3.html",
            "vocals instrumental",
        ),
        (
            "a_(Piano)_vocals.wav a_(Piano)_no_vocals.wav",
            "a_(Piano)",
            "a_(Piano)_listen.html",
            "vocals instrumental",
        ),
        # beside stems of known names those of less known ones
        (
            "vocals.wav drums.wav strings.wav backing-vocals.wav",
            ".",
            "listen.html",
            "vocals backing-vocals drums strings",
        ),
    ],
)
def test_stems_of_other_tools_are_known_by_their_names(
    tmp_path: Path, files: str, song: str, page: str, stems: str
) -> None:
    make_files(tmp_path, *files.split())
    ((name, take),) = find_takes(tmp_path).items()
    assert (name, take.page) == (Path(song), tmp_path / page)
    assert list(take.stems) == stems.split()


def test_songs_that_are_called_like_stems_are_songs(tmp_path: Path) -> None:
    make_files(tmp_path, "Piano.wav", "Hit.wav", "Hit (Vocal).wav", "Hit (Instrumental).wav")
    make_files(tmp_path, "Etude for Piano.wav", "Etude for Guitar.wav", "Other Songs.wav")
    make_files(tmp_path, "Strings.wav", "Music.wav", "Speech.wav")
    assert find_takes(tmp_path) == {}


def test_songs_that_are_called_alike_but_for_brackets_have_a_page_each(tmp_path: Path) -> None:
    make_files(tmp_path, *(f"a {b}{s}{e}.wav" for b, e in ("()", "[]") for s in ("vocals", "bass")))
    found = find_takes(tmp_path)
    assert len(found) == 2
    assert {take.page.name for take in found.values()} == {"a (listen).html", "a [listen].html"}


def test_other_songs_in_the_folder_of_stems_are_no_stems_and_are_named(tmp_path: Path) -> None:
    make_files(tmp_path / "S/a", "vocals.wav", "instrumental.wav", "encore.wav", "a.wav", "mix.wav")
    done = call("listen", "S", folder=tmp_path)
    assert done.status == 0, done.stderr
    (take,) = data_of(tmp_path / "S/a/listen.html")["takes"]
    assert [track["name"] for track in take["tracks"]] == ["vocals", "instrumental"]
    told = f"S: has stems, so 1 song is passed over, such as {Path('a/encore.wav')};"
    assert told in done.stderr


def test_stems_that_a_template_named_are_found_where_their_pages_are(
    tmp_path: Path, small_model_folder: Path
) -> None:
    make_files(tmp_path / "Album", "Bass & Drums.wav", "b.wav")
    template = "{artist}/{stem} - {title}.{ext}"
    options = ("-m", small_model_folder, "--template", template, "--page")
    done = call("separate", "Album", "-o", "x", *options, folder=tmp_path)
    pages = [line for line in done.stdout.splitlines() if line.endswith(".html")]
    assert len(pages) == 2
    done = call("listen", "x", folder=tmp_path)
    assert (done.status, done.stdout.splitlines()) == (0, [*sorted(pages), "x/index.html"])
    assert "Unknown artist/Bass &amp; Drums<" in (tmp_path / "x/index.html").read_text("utf-8")
    assert data_of(tmp_path / pages[0])["title"] in ("Bass & Drums", "b")


def test_a_lone_stem_that_splitter_made_is_one_whatever_its_name(
    tmp_path: Path, small_model_folder: Path
) -> None:
    make_files(tmp_path, "a.wav")
    command = ("separate", "a.wav", "-m", small_model_folder, "--stems", "instrumental")
    assert call(*command, "-o", "x/sing along.wav", "--page", folder=tmp_path).status == 0
    ((name, take),) = find_takes(tmp_path / "x").items()
    assert (name, list(take.stems)) == (Path("sing along"), ["instrumental"])
    assert take.page == tmp_path / "x/sing along.html"
    assert take.page.exists()


def test_the_index_lies_in_the_folder_that_was_given(tmp_path: Path) -> None:
    write_stems(tmp_path / "Stems/artist/a", 0.1)
    done = call("listen", "Stems", folder=tmp_path)
    assert done.stdout.splitlines() == ["Stems/artist/a/listen.html", "Stems/index.html"]
    assert "artist/a<" in (tmp_path / "Stems/index.html").read_text(encoding="utf-8")
    done = call("listen", "Stems/artist/a", folder=tmp_path)  # which is the song
    assert done.stdout.splitlines() == ["Stems/artist/a/listen.html"]
    write_stems(tmp_path / "More/b", 0.1)
    done = call("listen", "Stems", "More", folder=tmp_path)
    assert done.stdout.splitlines()[-1] == "index.html"
    assert "Stems/artist/a<" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_index_of_songs_lies_in_the_output_folder(
    tmp_path: Path, small_model_folder: Path
) -> None:
    make_files(tmp_path / "Music/album", "a.wav")
    command = ("listen", "-r", "Music", "-o", "Out", "-m", small_model_folder)
    done = call(*command, folder=tmp_path)
    assert done.status == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["Out/album/a/listen.html", "Out/index.html"]


def test_songs_that_links_bring_from_elsewhere_stand_in_the_index(tmp_path: Path) -> None:
    write_stems(tmp_path / "far/a", 0.1)
    write_stems(tmp_path / "Lib/b", 0.1)
    (tmp_path / "Lib/a").symlink_to(tmp_path / "far/a")
    assert call("listen", "Lib", folder=tmp_path).status == 0
    index = (tmp_path / "Lib/index.html").read_text(encoding="utf-8")
    assert re.findall('href="([^"]+html)">([^<]+)', index) == [
        ("../far/a/listen.html", "a"),
        ("b/listen.html", "b"),
    ]


def test_a_run_that_wrote_no_page_has_failed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = call("listen", "empty", folder=tmp_path)
    assert (done.status, done.stdout) == (1, "")
    assert "found no songs" in done.stderr


def test_stems_that_browsers_do_not_play_are_told(tmp_path: Path) -> None:
    make_files(tmp_path / "a", "vocals.aiff", "instrumental.wav")
    done = call("listen", "a", folder=tmp_path)
    assert done.status == 0
    (line,) = (line for line in done.complaints if "browsers" in line)
    assert f"few browsers play 1 stem, such as {Path('a/vocals.aiff')}; convert" in line
    assert "browsers" not in call("listen", write_stems(tmp_path / "b"), folder=tmp_path).stderr


def test_of_a_page_that_is_written_again_only_the_beginning_is_read(tmp_path: Path) -> None:
    takes = [find_takes(write_stems(tmp_path, 0.1))[Path()]]
    page = write_page(tmp_path / "listen.html", "Song", takes)
    with page.open("r+b") as file:
        file.truncate(50_000_000)
    tracemalloc.start()
    write_page(page, "Song", takes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6
    page.unlink()
    page.mkdir()
    with pytest.raises(PageError, match="was not written by splitter"):
        write_page(page, "Song", takes)

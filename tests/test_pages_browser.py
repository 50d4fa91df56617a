"""Pages to listen on, in a real browser: they play, in step, and do what their buttons say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import soundfile

from splitter.pages import find_takes, write_page
from tests import sounds
from tests.browser import CHROMIUM, Browser, open_browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

STEP = 0.02  # seconds that stems may be apart
HEARD = "tracks.filter(t => !t.audio.muted).map(t => song.takes[t.take].name + ' ' + t.name)"
APART = "Math.max(...tracks.map(t => Math.abs(t.audio.currentTime - master.currentTime)))"
BOTH = ["first vocals", "first instrumental"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A song of 40 seconds, taken apart twice."""
    folder = tmp_path_factory.mktemp("page of a song")
    takes = []
    for name, gain in (("first", 1), ("second", 0.5)):
        sounds.write(folder / name / "vocals.flac", np.float32(gain) * sounds.voice(40))
        sounds.write(folder / name / "instrumental.flac", np.float32(0.5) * sounds.music(40))
        takes += find_takes(folder / name).values()
    return write_page(folder / "listen.html", "A song & more", takes)


@pytest.fixture
def opened(browser: Browser, page: Path) -> Iterator[Browser]:
    browser.resize(1280, 900)
    browser.open(page)
    yield browser
    assert browser.complaints == []
    beside = page.parent.as_uri()
    assert all(url.startswith((beside, "data:")) for url in browser.requests)


def press(browser: Browser, button: str) -> None:
    browser.run(f"document.querySelector({button!r}).click()")


def wait(browser: Browser, condition: str, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not browser.run(condition):
        assert time.monotonic() < until, condition
        time.sleep(0.02)


def test_it_plays_all_stems_and_pauses(opened: Browser) -> None:
    assert opened.run("document.title") == "A song & more"
    press(opened, "#play")
    wait(opened, "position() > 0.3")
    assert opened.run("tracks.every(t => !t.audio.paused)")
    assert opened.run(HEARD) == BOTH
    assert opened.run("document.getElementById('play').textContent") == "Pause"
    press(opened, "#play")
    wait(opened, "!playing && settled")
    at = opened.run("position()")
    time.sleep(0.2)
    assert opened.run("position()") == at
    assert opened.run("tracks.every(t => t.audio.paused)")


@pytest.mark.parametrize("place", [0, 17.3, 33])
def test_after_seeking_all_stems_are_in_step(opened: Browser, place: float) -> None:
    opened.run("void play()")
    wait(opened, "settled && position() > 0.1")
    opened.run(f"void seek({place})")
    wait(opened, f"settled && position() > {place} + 0.4")
    apart = [opened.run(APART) for _ in range(20) if time.sleep(0.03) is None]
    assert max(apart) < STEP
    assert place < opened.run("position()") < place + 5


def test_mute_and_solo_do_what_they_say(opened: Browser) -> None:
    press(opened, "[aria-label='Mute vocals']")
    assert opened.run(HEARD) == ["first instrumental"]
    assert (
        opened.run("document.querySelector(\"[aria-label='Mute vocals']\").ariaPressed") == "true"
    )
    press(opened, "[aria-label='Solo vocals']")
    assert opened.run(HEARD) == ["first vocals"]
    press(opened, "[aria-label='Solo vocals']")
    press(opened, "[aria-label='Mute vocals']")
    assert opened.run(HEARD) == BOTH


def test_a_fader_sets_the_level_of_its_stem_in_every_take(opened: Browser) -> None:
    fader = "document.querySelector(\"[aria-label='Level of vocals']\")"
    opened.run(f"{fader}.value = -20, {fader}.dispatchEvent(new Event('input'))")
    assert opened.run("tracks.map(t => t.audio.volume)") == pytest.approx([0.1, 1, 0.1, 1])
    assert opened.run(f"{fader}.getAttribute('aria-valuetext')") == "-20 dB"
    opened.run(f"{fader}.value = -40, {fader}.dispatchEvent(new Event('input'))")
    assert opened.run("tracks[0].audio.volume") == 0


def test_the_keyboard_does_it_all(opened: Browser) -> None:
    opened.press(" ", "Space")
    wait(opened, "playing && settled && position() > 0.1")
    opened.press("ArrowRight", "ArrowRight")
    wait(opened, "settled && position() > 5")
    opened.press("1", "Digit1")
    assert opened.run(HEARD) == ["first instrumental"]
    opened.press("!", "Digit1", shift=True)
    assert opened.run(HEARD) == ["first vocals"]
    opened.press("0", "Digit0")
    opened.press("x", "KeyX")
    assert opened.run(HEARD) == ["second vocals", "second instrumental"]
    opened.press("]", "BracketRight")
    assert opened.run("loop.start === 0 && loop.end > 5")
    opened.press("Escape", "Escape")
    assert opened.run("loop") is None
    opened.press(" ", "Space")
    wait(opened, "!playing && settled")


def test_a_loop_goes_back_to_its_start(opened: Browser) -> None:
    opened.run("setLoop(8, 9)")
    opened.run("void play()")
    wait(opened, "settled && position() > 8.5")
    wait(opened, "settled && position() < 8.5 && position() >= 8")
    assert opened.run("playing")


def test_a_drag_across_a_picture_makes_a_loop_and_a_click_seeks(opened: Browser) -> None:
    box: dict[str, Any] = opened.run("rows[0].canvas.getBoundingClientRect().toJSON()")

    def mouse(kind: str, share: float) -> None:
        x, y = box["left"] + share * box["width"], box["top"] + 20
        opened.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    mouse("mousePressed", 0.25)
    mouse("mouseMoved", 0.4)
    mouse("mouseReleased", 0.5)
    assert opened.run("[loop.start, loop.end]") == pytest.approx([5, 10], abs=0.05)  # of 20 s
    opened.run("setLoop(0, 0)")
    mouse("mousePressed", 0.75)
    mouse("mouseReleased", 0.75)
    wait(opened, "settled && Math.abs(position() - 15) < 0.05")


def test_another_model_is_heard_at_the_same_place(opened: Browser) -> None:
    opened.run("void play()")
    wait(opened, "settled && position() > 0.5")
    before = opened.run("position()")
    opened.run("document.querySelectorAll('#takes button')[1].click()")
    assert opened.run(HEARD) == ["second vocals", "second instrumental"]
    assert 0 <= opened.run("position()") - before < 2
    assert opened.run("playing && tracks.every(t => !t.audio.paused)")


def test_a_blind_comparison_hides_names_and_pictures_and_keeps_score(opened: Browser) -> None:
    press(opened, "#blind")
    labels = opened.run("[...document.querySelectorAll('#takes button')].map(b => b.textContent)")
    assert labels == ["Hear 1", "Hear 2"]
    assert (
        opened.run("getComputedStyle(document.querySelector('.stem .picture')).display") == "none"
    )
    for _ in range(6):  # whichever of both is 1 this time
        number = opened.run("blind.pair.indexOf(1) + 1")
        assert "second" not in opened.run("document.querySelector('main').innerText")
        press(opened, f"#better-{number}")
    press(opened, "#better-none")
    press(opened, "#reveal")
    score = opened.run("document.getElementById('score').textContent")
    assert score == "Better in 7 rounds: first 0, second 6; no difference 1."


def test_everything_that_can_be_used_has_a_name_for_a_screen_reader(opened: Browser) -> None:
    tree = opened.send("Accessibility.getFullAXTree")["nodes"]
    used = [
        node for node in tree if node.get("role", {}).get("value") in ("button", "slider", "image")
    ]
    assert len(used) > 12
    assert [node for node in used if not node["name"]["value"]] == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_text_can_be_read_and_nothing_is_wider_than_the_screen(
    opened: Browser, page: Path, width: int, dark: bool
) -> None:
    opened.resize(width, 800, dark, phone=width < 500)
    opened.open(page)
    assert opened.run("document.documentElement.scrollWidth") <= width
    paper = opened.run("getComputedStyle(document.body).backgroundColor")
    ink = opened.run("getComputedStyle(document.body).color")
    assert (_brightness(paper) < 60) == dark
    assert abs(_brightness(paper) - _brightness(ink)) > 150


def _brightness(color: str) -> float:
    return float(np.mean([float(part) for part in color.strip("rgba()").split(",")[:3]]))


def test_pictures_show_sound_where_there_is_some(opened: Browser) -> None:
    lit = (
        "[0.1, 2.5].map(at => { const c = rows[0].canvas, copy = document.createElement('canvas');"
        "[copy.width, copy.height] = [10, c.height - 100];"
        "const context = copy.getContext('2d', {willReadFrequently: true});"
        "context.drawImage(c, -Math.round(at / view.seconds * c.width), -100);"
        "const pixels = context.getImageData(0, 0, copy.width, copy.height).data;"
        "return pixels.filter((v, i) => i % 4 === 0 && v > 128).length; })"
    )
    wait(opened, f"{lit}[0] > 50")
    sung, silent = opened.run(lit)
    assert silent < sung / 10


def test_each_button_has_a_key_and_says_which(opened: Browser) -> None:
    opened.press("B", "KeyB", shift=True)
    for _ in range(3):
        second = opened.run("blind.pair.indexOf(1)")
        opened.press(",."[second], ("Comma", "Period")[second])
    opened.press("/", "Slash")
    opened.press("b", "KeyB")
    score = opened.run("document.getElementById('score').textContent")
    assert score == "Better in 4 rounds: first 0, second 3; no difference 1."
    opened.press(",", "Comma")  # not in a comparison
    unnamed = "[...document.querySelectorAll('button:not([aria-keyshortcuts])')].map(b => b.id)"
    assert [name for name in opened.run(unnamed) if name] == []


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve files as `python -m http.server` does: from their beginning only."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_where_a_server_cannot_seek_a_pause_keeps_the_place_and_seeking_says_why(
    browser: Browser, page: Path
) -> None:
    with serve(page.parent) as address:
        browser.open(f"{address}/listen.html")
        browser.run("void play()")
        wait(browser, "settled && position() > 0.5")
        press(browser, "#play")
        wait(browser, "!playing && settled")
        first = "Math.min(...tracks.map(t => t.audio.currentTime))"
        assert browser.run(first) > 0.4
        press(browser, "#play")
        wait(browser, "playing && settled")
        assert browser.run(first) > 0.4
        assert browser.run("document.getElementById('trouble').hidden")
        browser.run("void seek(30)")
        wait(browser, "settled && !document.getElementById('trouble').hidden")
        assert 0.4 < browser.run("position()") < 20
        assert "range requests" in browser.run("document.body.innerText")
        browser.open("about:blank")  # lets go of the server


def test_a_pause_asks_for_no_sound_again(opened: Browser) -> None:
    opened.run("void play()")
    wait(opened, "settled && position() > 0.3")
    opened.run("window.seeks = 0, tracks[0].audio.onseeking = () => seeks++")
    press(opened, "#play")
    wait(opened, "!playing && settled")
    time.sleep(0.1)
    assert opened.run("seeks") == 0


def test_of_a_stem_that_no_browser_plays_the_format_is_doubted(
    browser: Browser, tmp_path: Path
) -> None:
    sounds.write(tmp_path / "vocals.aiff", sounds.voice(1))
    browser.open(write_page(tmp_path / "listen.html", "Song", [find_takes(tmp_path)[Path()]]))
    wait(browser, "!document.getElementById('trouble').hidden")
    assert "may not know its format" in browser.run("document.body.innerText")


def test_a_stem_that_is_gone_is_said_on_the_page(browser: Browser, tmp_path: Path) -> None:
    sounds.write(tmp_path / "vocals.wav", sounds.voice(1))
    page = write_page(tmp_path / "listen.html", "Song", [find_takes(tmp_path)[Path()]])
    (tmp_path / "vocals.wav").unlink()
    browser.open(page)
    wait(browser, "!document.getElementById('trouble').hidden")
    assert "vocals.wav cannot be played" in browser.run("document.body.innerText")


def test_the_stems_that_are_left_play_on_where_one_is_gone(
    browser: Browser, tmp_path: Path
) -> None:
    for name in ("vocals", "instrumental"):
        sounds.write(tmp_path / f"{name}.wav", sounds.voice(8))
    page = write_page(tmp_path / "listen.html", "Song", [find_takes(tmp_path)[Path()]])
    (tmp_path / "vocals.wav").unlink()  # the first, which the other would follow
    browser.open(page)
    wait(browser, "!document.getElementById('trouble').hidden")
    browser.run("void play()")
    wait(browser, "settled && position() > 1.5")
    assert browser.run("Math.abs(tracks[1].audio.currentTime - position()) < 0.1")


def test_space_plays_after_a_slider_was_touched(opened: Browser) -> None:
    opened.run("document.getElementById('position').focus()")
    opened.press(" ", "Space")
    wait(opened, "playing")


def test_the_focus_stays_with_what_was_pressed(opened: Browser) -> None:
    opened.run("document.querySelectorAll('#takes button')[1].focus()")
    opened.press("x", "KeyX")
    assert opened.run("document.activeElement.textContent") == "second"
    opened.run("document.getElementById('blind').focus()")
    press(opened, "#blind")
    assert opened.run("document.activeElement.textContent") == "Hear 1"
    press(opened, "#reveal")
    assert opened.run("document.activeElement.id") == "blind"


@pytest.mark.slow
def test_a_song_of_an_hour_plays_from_its_middle(browser: Browser, tmp_path: Path) -> None:
    minute = np.concatenate([sounds.song(12, 22050)] * 5, axis=1)
    for name in ("vocals", "instrumental"):
        with soundfile.SoundFile(tmp_path / f"{name}.wav", "w", 22050, 2) as file:
            for _ in range(60):
                file.write(minute.T)
    page = write_page(tmp_path / "listen.html", "An hour", [find_takes(tmp_path)[Path()]])
    assert page.stat().st_size < 20e6
    browser.open(page)
    before = browser.memory()
    browser.run("void play(), void seek(1800)")
    wait(browser, "settled && position() > 1800.5")
    assert browser.run(APART) < STEP
    assert browser.memory() - before < 100e6  # of stems of 635 MB
    assert browser.run("Math.max(...tracks.map(t => t.decoded.size))") <= 6
    assert browser.complaints == []

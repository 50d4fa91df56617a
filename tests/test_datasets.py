import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from splitter import datasets
from splitter.datasets import at_level, find_idle_patterns, find_songs, recognise, select_songs
from splitter.errors import AudioError, DataError, SplitterError
from splitter.training.sources import find_sources
from tests import sounds

RATE = 8000  # Hz
SHARED = Path(__file__).parents[2] / "shared" / "data"


def tone(frequency: float, channels: int = 1, samples: int = 800) -> np.ndarray:
    wave = 0.2 * np.sin(2 * math.pi * frequency * np.arange(samples) / RATE)
    return np.tile(wave.astype(np.float32), (channels, 1))


def write(path: Path, signal: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal.T, rate, subtype="FLOAT")
    return path


VOICE, DRUMS, BASS, OTHER = (tone(f, channels=2) for f in (400, 50, 80, 1000))
MUSIC = DRUMS + BASS + OTHER


def write_sources(folder: Path) -> None:
    for name, signal in zip(
        ("vocals", "drums", "bass", "other"), (VOICE, DRUMS, BASS, OTHER), strict=True
    ):
        write(folder / f"{name}.wav", signal)


def make_musdb18hq(root: Path) -> None:
    for song in ("train/A - One", "test/B - Two"):
        write_sources(root / song)
        write(root / song / "mixture.wav", VOICE + MUSIC)


def make_dsd100(root: Path) -> None:
    for split, song in (("Dev", "A - One"), ("Test", "B - Two")):
        write_sources(root / "Sources" / split / song)
        write(root / "Mixtures" / split / song / "mixture.wav", VOICE + MUSIC)


def make_ccmixter(root: Path) -> None:
    write(root / "A_-_One" / "source-01.wav", MUSIC)
    write(root / "A_-_One" / "source-02.wav", VOICE)
    write(root / "A_-_One" / "mix.wav", VOICE + MUSIC)


def make_mir1k(root: Path) -> None:
    for clip in ("abjones_1_01", "amy_1_01", "leon_3_02"):
        write(root / "Wavfile" / f"{clip}.wav", np.concatenate([MUSIC[:1], VOICE[:1]]))


def make_ikala(root: Path) -> None:
    for clip in ("10161_chorus", "21025_verse"):
        write(root / "Wavfile" / f"{clip}.wav", np.concatenate([MUSIC[:1], VOICE[:1]]))


def make_medleydb(root: Path) -> None:
    stems = {"01": ("drum set", DRUMS + BASS), "02": ("male singer", VOICE), "03": ("flute", OTHER)}
    song = root / "Audio" / "A_One"
    lines = ["stem_dir: A_One_STEMS", "mix_filename: A_One_MIX.wav", "stems:"]
    for number, (instrument, signal) in stems.items():
        write(song / "A_One_STEMS" / f"A_One_STEM_{number}.wav", signal)
        lines += [f"  S{number}:", f"    filename: A_One_STEM_{number}.wav"]
        lines += [f"    instrument: {instrument}"]
    (song / "A_One_METADATA.yaml").write_text("\n".join(lines), encoding="utf-8")
    write(song / "A_One_MIX.wav", tone(3000, channels=2))  # mastered: no sum of its stems


def make_folders(root: Path) -> None:
    for song in ("train/one", "test/deep/two"):
        write(root / song / "vocals.wav", VOICE)
        write(root / song / "instrumental.wav", MUSIC)


def make_musdb18(root: Path) -> None:
    """Write a real stem file: five AAC streams in one mp4, the mixture first."""
    sounds = root.parent / "sounds"
    signals = [VOICE + MUSIC, DRUMS, BASS, OTHER, VOICE]
    paths = [write(sounds / f"{n}.wav", np.tile(s, 10)) for n, s in enumerate(signals)]
    for song in ("train/A - One", "test/B - Two"):
        target = root / f"{song}.stem.mp4"
        target.parent.mkdir(parents=True)
        inputs = [part for path in paths for part in ("-i", str(path))]
        maps = [part for n in range(5) for part in ("-map", f"{n}:a")]
        command = ["ffmpeg", "-v", "error", *inputs, *maps, "-c:a", "aac", "-b:a", "96k"]
        subprocess.run([*command, str(target)], check=True)


MAKERS: dict[str, Callable[[Path], None]] = {
    "musdb18hq": make_musdb18hq,
    "dsd100": make_dsd100,
    "ccmixter": make_ccmixter,
    "mir1k": make_mir1k,
    "ikala": make_ikala,
    "medleydb": make_medleydb,
    "folders": make_folders,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_data_set_is_recognised_and_gives_its_stems(name: str, tmp_path: Path) -> None:
    MAKERS[name](tmp_path)
    assert recognise(tmp_path) == name
    for song in find_songs(tmp_path):
        tracks = song.load()
        channels = len(tracks.mixture)
        assert tracks.rate == RATE
        np.testing.assert_allclose(tracks.vocals, VOICE[:channels], atol=1e-6)
        np.testing.assert_allclose(tracks.instrumental, MUSIC[:channels], atol=1e-6)
        np.testing.assert_allclose(tracks.mixture, (VOICE + MUSIC)[:channels], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("musdb18hq", ["test/B - Two", "train/A - One"]),
        ("dsd100", ["test/B - Two", "train/A - One"]),
        ("ccmixter", ["A_-_One"]),
        ("mir1k", ["test/leon_3_02", "train/abjones_1_01", "train/amy_1_01"]),
        ("ikala", ["10161_chorus", "21025_verse"]),
        ("medleydb", ["A_One"]),
        ("folders", ["test/deep/two", "train/one"]),
    ],
)
def test_songs_are_listed_by_split_and_name(name: str, labels: list[str], tmp_path: Path) -> None:
    MAKERS[name](tmp_path)
    assert [song.label for song in find_songs(tmp_path, name)] == labels


@pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="needs ffmpeg and ffprobe"
)
def test_musdb18_stem_files_are_read_through_musdb(tmp_path: Path) -> None:
    root = tmp_path / "musdb18"
    make_musdb18(root)
    assert recognise(root) == "musdb18"
    songs = find_songs(root)
    assert [song.label for song in songs] == ["test/B - Two", "train/A - One"]
    tracks = songs[0].load()
    assert tracks.rate == RATE
    for ours, original in ((tracks.vocals, VOICE), (tracks.instrumental, MUSIC)):
        start = 1024 * 2  # AAC fades in
        part, whole = ours[:, start : start + 2000], np.tile(original, 10)[:, start : start + 2000]
        np.testing.assert_allclose(part, whole, atol=0.05)  # AAC is lossy


def test_musdb18_without_ffmpeg_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "test" / "B - Two.stem.mp4"
    path.parent.mkdir()
    path.touch()
    monkeypatch.setenv("PATH", "")
    for module in ("musdb", "stempeg", "stempeg.cmds", "stempeg.read", "stempeg.write"):
        monkeypatch.delitem(__import__("sys").modules, module, raising=False)
    with pytest.raises(DataError, match=r"without ffmpeg and ffprobe.*apt install ffmpeg"):
        find_songs(tmp_path)[0].load()


def test_nothing_is_read_before_load(tmp_path: Path) -> None:
    for stem in ("vocals", "instrumental"):
        (tmp_path / "song").mkdir(exist_ok=True)
        (tmp_path / "song" / f"{stem}.wav").write_text("not sound", encoding="utf-8")
    (song,) = find_songs(tmp_path)
    with pytest.raises(AudioError, match=r"vocals\.wav"):
        song.load()


def test_a_mixture_in_the_folder_is_the_mixture(tmp_path: Path) -> None:
    make_folders(tmp_path)
    mastered = tone(3000, channels=2)
    write(tmp_path / "train" / "one" / "mixture.wav", mastered)
    song = find_songs(tmp_path)[-1]
    assert np.array_equal(song.load().mixture, mastered)


@pytest.mark.parametrize(
    ("stem", "signal", "rate", "message"),
    [
        (
            "vocals",
            VOICE[:, :-1],
            RATE,
            r"instrumental.wav: has 800 samples, but vocals.wav has 799",
        ),
        ("vocals", VOICE[:1], RATE, r"instrumental.wav: has 2 channels, but vocals.wav has 1"),
        ("vocals", VOICE, 16000, r"instrumental.wav: has 8000 Hz, but vocals.wav has 16"),
        ("mixture", MUSIC[:, 1:], RATE, r"mixture.wav: has 799 samples, but vocals.wav has 800"),
        ("vocals", VOICE * math.nan, RATE, r"vocals.wav: sample 0 is not a number"),
    ],
)
def test_stems_that_do_not_fit_are_one_clear_error(
    stem: str, signal: np.ndarray, rate: int, message: str, tmp_path: Path
) -> None:
    make_folders(tmp_path)
    write(tmp_path / "train" / "one" / f"{stem}.wav", signal, rate)
    song = find_songs(tmp_path)[-1]
    with pytest.raises(SplitterError, match=message) as caught:
        song.load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("folders", "train/one/instrumental.wav", "train/one: has no instrumental"),
        ("folders", "train/one/vocals.wav", "train/one: has no vocals"),
        ("musdb18hq", "train/A - One/drums.wav", "drums.wav: cannot be opened"),
        ("musdb18hq", "train/A - One/vocals.wav", "train/A - One: has no vocals"),
        ("dsd100", "Sources/Dev/A - One/vocals.wav", "vocals.wav: cannot be opened"),
        ("ccmixter", "A_-_One/source-02.wav", "source-02.wav: cannot be opened"),
    ],
)
def test_a_missing_stem_is_said_and_hides_no_song(
    name: str, missing: str, message: str, tmp_path: Path
) -> None:
    MAKERS[name](tmp_path)
    songs = len(find_songs(tmp_path))
    (tmp_path / missing).unlink()
    assert len(find_songs(tmp_path, name)) == songs
    with pytest.raises(SplitterError, match=message):
        find_songs(tmp_path, name)[-1].load()


def test_a_mono_karaoke_clip_is_said_to_lack_its_voice(tmp_path: Path) -> None:
    write(tmp_path / "Wavfile" / "leon_1_01.wav", VOICE[:1])
    with pytest.raises(DataError, match=r"leon_1_01.wav: has 1 channels; it needs 2, music left"):
        find_songs(tmp_path)[0].load()


def test_a_song_of_medleydb_that_nobody_sings_is_left_out(tmp_path: Path) -> None:
    make_medleydb(tmp_path)
    path = next(tmp_path.glob("**/*.yaml"))
    text = path.read_text(encoding="utf-8").replace("male singer", "oboe")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="no song of MedleyDB"):
        find_songs(tmp_path)


def test_one_split_of_musdb18_is_recognised_by_itself(tmp_path: Path) -> None:
    for song in ("train/A - One", "test/B - Two"):
        (tmp_path / song).parent.mkdir()
        (tmp_path / f"{song}.stem.mp4").touch()
    assert [song.label for song in find_songs(tmp_path)] == ["test/B - Two", "train/A - One"]
    assert [song.label for song in find_songs(tmp_path / "test")] == ["B - Two"]


def test_stems_like_those_of_musdb18_may_have_any_format_and_an_instrumental(
    tmp_path: Path,
) -> None:
    for stem, signal in {"Vocals": VOICE, "drums": DRUMS, "bass": BASS, "other": OTHER}.items():
        write(tmp_path / "one" / f"{stem}.aiff", signal)
    for stem, signal in {"vocals": VOICE, "drums": DRUMS, "instrumental": MUSIC}.items():
        write(tmp_path / "two" / f"{stem}.wav", signal)
    songs = find_songs(tmp_path)
    assert [song.label for song in songs] == ["one", "two"]
    for song in songs:
        np.testing.assert_allclose(song.load().instrumental, MUSIC, atol=1e-3)


def test_a_guitar_and_a_piano_apart_are_parts_of_the_instrumental() -> None:
    """Demucs has a model of six stems, Spleeter one of five: without these a part is lost."""
    six = ("bass", "drums", "guitar", "mixture", "other", "piano", "vocals")
    stems = {name: Path("song", f"{name}.wav") for name in six}
    names = [path.stem for path in datasets.list_instrumental(stems)]
    assert names == ["drums", "bass", "other", "guitar", "piano"]
    assert datasets.list_instrumental({"vocals": stems["vocals"], "piano": stems["piano"]}) == []


def test_two_songs_of_one_name_are_refused(tmp_path: Path) -> None:
    """The scores of one would be taken for those of the other when a run goes on."""
    for place in ("V1", "V2"):
        make_medleydb(tmp_path / place)
    names = r"V1.* and .*V2.*: two songs are called A_One; rename one of them"
    with pytest.raises(DataError, match=names):
        find_songs(tmp_path)


@pytest.mark.parametrize("text", ["stems: [", "stems: 3", "", "stem_dir: x\nstems: {S01: {}}"])
def test_broken_metadata_is_one_clear_error(text: str, tmp_path: Path) -> None:
    make_medleydb(tmp_path)
    next(tmp_path.glob("**/*.yaml")).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"A_One_METADATA.yaml: not readable as MedleyDB metadata"):
        find_songs(tmp_path)


def test_an_unknown_folder_is_told_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"musdb18, dsd100.*<song>/vocals.wav"):
        find_songs(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find_songs(tmp_path / "missing")
    with pytest.raises(DataError, match="no song of ccMixter; choose another --dataset"):
        find_songs(tmp_path, "ccmixter")


def test_songs_are_selected_by_split_and_by_patterns(tmp_path: Path) -> None:
    make_mir1k(tmp_path)
    songs = find_songs(tmp_path)
    names = [song.name for song in select_songs(songs, "train", exclude=["amy_*"])]
    assert names == ["abjones_1_01"]
    chosen = select_songs(songs, include=["leon*", "amy*"])
    assert [song.name for song in chosen] == ["leon_3_02", "amy_1_01"]


def test_a_song_is_selected_by_its_name_or_label_as_they_are(tmp_path: Path) -> None:
    for name in ("one", "one [live]", "two"):
        sounds.write(tmp_path / "test" / name / "vocals.wav", sounds.noise(10))
    songs = find_songs(tmp_path)
    chosen = select_songs(songs, exclude=["one [live]", "test/two"])
    assert [song.name for song in chosen] == ["one"]
    assert find_idle_patterns(songs, ["one [live]", "t*/one", "tow"]) == ["tow"]


def test_a_selection_of_nothing_is_an_error(tmp_path: Path) -> None:
    make_mir1k(tmp_path)
    songs = find_songs(tmp_path)
    with pytest.raises(DataError, match=r"no split 'valid'; choose from test, train"):
        select_songs(songs, "valid")
    with pytest.raises(DataError, match="none of 3 songs is chosen"):
        select_songs(songs, include=["nobody*"])


def test_songs_can_be_sent_to_another_process(tmp_path: Path) -> None:
    import pickle

    make_mir1k(tmp_path)
    make_folders(tmp_path / "plain")
    for song in [*find_songs(tmp_path), *find_songs(tmp_path / "plain")]:
        again = pickle.loads(pickle.dumps(song)).load()
        assert np.array_equal(again.vocals, song.load().vocals)


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_the_clips_of_mir1k_are_all_found() -> None:
    songs = find_songs(SHARED / "mir1k")
    assert len(select_songs(songs, "train")) == 175
    assert len(select_songs(songs, "test")) == 825
    assert {song.name.split("_")[0] for song in select_songs(songs, "train")} == (
        datasets.MIR1K_TRAIN_SINGERS
    )


def test_of_a_damaged_file_it_is_said_what_an_evaluation_can_do(tmp_path: Path) -> None:
    path = write(tmp_path / "song" / "vocals.wav", np.full((1, 9), np.nan, np.float32))
    with pytest.raises(AudioError, match=r"not a number .*; mend it, or leave it out"):
        datasets.read_sound(path)


def test_a_sound_file_without_samples_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "empty.wav", np.zeros((2, 0), np.float32))
    signal, rate = datasets.read_sound(path)
    assert (signal.shape, rate) == ((2, 0), RATE)


@pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="needs ffmpeg and ffprobe"
)
def test_a_broken_stem_file_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "test" / "B - Two.stem.mp4"
    path.parent.mkdir()
    path.write_text("no sound", encoding="utf-8")
    with pytest.raises(DataError, match=r"Two\.stem\.mp4: ffmpeg cannot read it as a stem file"):
        find_songs(tmp_path)[0].load()


@pytest.mark.parametrize("level", [0.0, -6.0])
def test_songs_are_mixed_at_a_level(tmp_path: Path, level: float) -> None:
    write(tmp_path / "song/vocals.wav", 0.1 * VOICE)
    write(tmp_path / "song/instrumental.wav", MUSIC)
    (song,) = find_songs(tmp_path)
    tracks = at_level(song, level).load()
    voice, music = (np.sum(part**2) for part in (tracks.vocals, tracks.instrumental))
    assert 10 * np.log10(voice / music) == pytest.approx(level, abs=1e-4)
    np.testing.assert_allclose(tracks.mixture, tracks.vocals + tracks.instrumental, atol=1e-7)
    np.testing.assert_array_equal(tracks.instrumental, song.load().instrumental)


def test_silence_has_no_level(tmp_path: Path) -> None:
    write(tmp_path / "song/vocals.wav", 0 * VOICE)
    write(tmp_path / "song/instrumental.wav", MUSIC)
    (song,) = find_songs(tmp_path)
    assert np.isfinite(at_level(song, 0.0).load().mixture).all()


def test_songs_behind_links_are_found_once_and_hidden_files_are_none(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for folder in (data / "a", elsewhere / "b"):
        for stem in ("vocals", "instrumental"):
            sounds.write(folder / f"{stem}.wav", sounds.noise(100))
    (data / "b").symlink_to(elsewhere / "b")
    (data / "a" / "again").symlink_to(data)  # and so on for ever
    (data / "a" / "._vocals.wav").write_bytes(b"what a Mac leaves")
    (data / ".hidden").symlink_to(elsewhere)
    assert [song.name for song in find_songs(data)] == ["a", "b"]
    assert [source.name for source in find_sources(data)] == ["a", "b"]


def test_a_song_may_lack_its_mixture(tmp_path: Path) -> None:
    for stem in ("vocals", "drums", "bass", "other"):
        sounds.write(tmp_path / "test/song" / f"{stem}.wav", sounds.noise(100))
    (song,) = find_songs(tmp_path)
    tracks = song.load()
    np.testing.assert_allclose(tracks.mixture, tracks.vocals + tracks.instrumental)

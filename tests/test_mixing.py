from __future__ import annotations

import multiprocessing
import shutil
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from splitter.audio import through_aac, through_mp3
from splitter.datasets import MUSDB18_STEMS
from splitter.errors import AudioError, DataError
from splitter.training.augmentation import Array, code
from splitter.training.chain import AAC_BITS, CODED, KEPT, KEPT_OF_ALL
from splitter.training.mixing import Example, Mixer, Pool
from splitter.training.recipe import Mixing
from splitter.training.sources import (
    Pools,
    find_idle_patterns,
    find_sources,
    load_sources,
    measure_bandwidth,
    sort_pools,
)
from tests import sounds
from tests.trainings import RECIPE


def test_folders_say_what_is_voice_and_what_is_music(pools: Pools) -> None:
    assert [source.name for source in pools.pairs] == ["pairs/a"]
    assert [source.name for source in pools.voices] == ["vocals/singer/low", "vocals/singer/one"]
    assert [source.name for source in pools.music] == ["instrumental/band/two"]
    assert [source.name for source in pools.validation] == ["held/b"]


def test_patterns_of_a_recipe_that_match_nothing_are_found(data: Path) -> None:
    weights = (("vocals/*", 2.0, 1.0), ("vocal/*", 2.0, 1.0))
    recipe = replace(
        RECIPE, validation=("held/*", "hold/*"), weights=weights, bandwidths=(("hold/*", 8000.0),)
    )
    names = (files.name for files in find_sources(data))
    assert find_idle_patterns(names, recipe) == ["hold/*", "vocal/*"]


def test_a_folder_with_nothing_to_train_on_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}: nothing to train on"):
        find_sources(tmp_path)


def test_a_voice_alone_can_be_held_out(data: Path, tmp_path: Path) -> None:
    sources = list(load_sources(find_sources(data), tmp_path, 44100))
    pools = sort_pools(sources, replace(RECIPE, validation=["held/*", "vocals/singer/low"]))
    assert [source.name for source in pools.voices] == ["vocals/singer/one"]
    assert [source.name for source in pools.validation] == ["held/b"]


def test_voices_without_music_are_refused(pools: Pools) -> None:
    with pytest.raises(DataError, match="not enough to train on; add songs with both stems"):
        sort_pools(pools.voices, replace(RECIPE, validation=()))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nosuch"):
        find_sources(tmp_path / "nosuch")


def test_decoding_does_not_change_sound_nor_hold_it_all(tmp_path: Path) -> None:
    """A whole file of noise: in blocks of the reader, and through a resampler."""
    noise = sounds.noise(3_000_000)
    for stem in ("vocals", "instrumental"):
        sounds.write(tmp_path / "song" / f"{stem}.flac", noise)
    tracemalloc.start()
    (source,) = load_sources(find_sources(tmp_path), tmp_path / "cache", 44100)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < noise.nbytes  # of two files; to hold one and its spectra took three times as much
    assert source.vocals and source.vocals.length == noise.shape[1]
    assert np.abs(source.vocals.samples[:] - noise).max() < 2e-4
    assert source.vocals.loudness == pytest.approx(np.sqrt(np.mean(noise**2)), rel=1e-3)
    (half,) = load_sources(find_sources(tmp_path), tmp_path / "cache", 22050)
    assert half.vocals and half.vocals.length == 1_500_000


@pytest.mark.parametrize(
    "names", [("Vocals", "Instrumental"), ("voice", "accompaniment"), ("vocals", "no_vocals")]
)
def test_stems_that_other_programs_name_are_a_pair(names: tuple[str, str], tmp_path: Path) -> None:
    for name in (*names, "mixture"):
        sounds.write(tmp_path / "song" / f"{name}.wav", sounds.noise(1000))
    (files,) = find_sources(tmp_path)
    assert [path.stem for path in (*files.vocals, *files.instrumental)] == [*names]


def test_the_stems_of_musdb18_make_an_aligned_pair(tmp_path: Path) -> None:
    stems = {name: sounds.noise(70_000, seed=seed) for seed, name in enumerate(MUSDB18_STEMS)}
    for name, noise in stems.items():
        sounds.write(tmp_path / "data/train/song" / f"{name}.wav", noise / 4)
    (source,) = load_sources(find_sources(tmp_path / "data"), tmp_path / "cache", 44100)
    assert source.name == "train/song" and source.vocals and source.instrumental
    music = (stems["drums"] + stems["bass"] + stems["other"]) / 4
    np.testing.assert_allclose(source.vocals.samples[:], stems["vocals"] / 4, atol=2e-4)
    np.testing.assert_allclose(source.instrumental.samples[:], music, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("bass", None, "bass.wav: cannot be opened .*; add it, or the sum of all parts as instr"),
        ("bass", {"samples": 900}, "bass.wav: differs from drums.wav in length; make them equal"),
        ("other", {"samples": 2000}, "other.wav: differs from drums.wav in length"),
        ("other", {"samples": 70_000}, "other.wav: differs from drums.wav in length"),
        ("bass", {"channels": 1}, "bass.wav: differs from drums.wav in channels"),
        ("bass", {"rate": 22050}, "bass.wav: differs from drums.wav in rate"),
    ],
)
def test_stems_that_make_no_sum_are_named(
    name: str, change: dict[str, int] | None, message: str, tmp_path: Path
) -> None:
    alike = {"samples": 1000, "channels": 2, "rate": 44100}
    for stem in MUSDB18_STEMS:
        shape = alike if stem != name else change and alike | change
        if shape:
            noise = sounds.noise(shape["samples"], channels=shape["channels"])
            sounds.write(tmp_path / "song" / f"{stem}.wav", noise, shape["rate"])
    with pytest.raises(DataError, match=message):
        list(load_sources(find_sources(tmp_path), tmp_path / "cache", 44100))


def test_songs_of_a_test_set_that_are_learned_from_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for song in ("train/One", "train/test", "Test/Two"):
        for stem in MUSDB18_STEMS:
            sounds.write(tmp_path / "data" / song / f"{stem}.wav", sounds.noise(1000))
    sources = list(load_sources(find_sources(tmp_path / "data"), tmp_path / "cache", 44100))
    assert len(sort_pools(sources, replace(RECIPE, validation=["Test/*"])).pairs) == 2
    assert not caplog.messages
    assert len(sort_pools(sources, RECIPE).pairs) == 3
    (told,) = caplog.messages
    assert told.startswith("songs of a test set are learned from, too (1, such as Test/Two); give")


def test_voices_that_are_called_like_instruments_are_voices(tmp_path: Path) -> None:
    for name in ("vocals", "bass"):
        sounds.write(tmp_path / "vocals/choir" / f"{name}.wav", sounds.noise(1000))
    names = [files.name for files in find_sources(tmp_path) if files.vocals]
    assert names == ["vocals/choir/bass", "vocals/choir/vocals"]


def test_files_are_decoded_once(data: Path, tmp_path: Path) -> None:
    first = list(load_sources(find_sources(data), tmp_path, 44100))
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    list(load_sources(find_sources(data), tmp_path, 44100))
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert first[0].length > 0


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="the system does not list open files")
def test_data_of_any_size_keeps_no_file_open(data: Path, tmp_path: Path) -> None:
    """A system lets 1024 files be open, or 256; a data set of songs soon has more."""
    before = len(list(Path("/dev/fd").iterdir()))
    sources = list(load_sources(find_sources(data), tmp_path, 44100))
    assert len(sources) > 2
    assert len(list(Path("/dev/fd").iterdir())) == before


def _count_sources(data: Path, cache: Path) -> int:
    return len(list(load_sources(find_sources(data), cache, 44100)))


def test_processes_may_fill_one_cache_at_the_same_time(data: Path, tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as processes:
        counts = [processes.submit(_count_sources, data, tmp_path / "cache") for _ in range(3)]
        assert {count.result() for count in counts} == {5}
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("bandwidth", [4000, 8000, 16000])
def test_the_bandwidth_is_measured(bandwidth: int) -> None:
    noise = np.fft.rfft(sounds.noise(2**17))
    frequencies = np.linspace(0, 22050, noise.shape[-1])
    limited = np.fft.irfft(np.where(frequencies < bandwidth, noise, 0))
    # 86 Hz of smoothing, and the slope of the window
    assert measure_bandwidth(limited, 44100) == pytest.approx(bandwidth, abs=300)


def test_the_bandwidth_is_that_of_a_file_and_not_of_what_is_stored(tmp_path: Path) -> None:
    noise = np.fft.rfft(sounds.noise(2**17))
    limited = np.fft.irfft(noise * (np.linspace(0, 22050, noise.shape[-1]) < 8000))
    for stem in ("vocals", "instrumental"):
        sounds.write(tmp_path / "song" / f"{stem}.wav", limited.astype(np.float32), 44100)
    (source,) = load_sources(find_sources(tmp_path), tmp_path / "cache", 44100)
    assert source.vocals and source.vocals.bandwidth == pytest.approx(8000, abs=300)


def test_a_recipe_that_holds_out_everything_says_so(pools: Pools) -> None:
    with pytest.raises(DataError, match=r"not enough to train on \(.* holds out 1 sources\); add"):
        sort_pools(pools.pairs, replace(RECIPE, validation=["pairs/*"]))


def test_an_example_depends_on_seed_and_number_alone(pools: Pools) -> None:
    first, second = Mixer(pools, RECIPE), Mixer(pools, RECIPE)
    second.example(3)
    assert np.array_equal(first.example(7).mixture, second.example(7).mixture)
    assert not np.array_equal(first.example(7).mixture, first.example(8).mixture)
    other = Mixer(pools, replace(RECIPE, seed=1))
    assert not np.array_equal(first.example(7).mixture, other.example(7).mixture)


def test_examples_have_the_shape_and_the_loudness_asked_for(pools: Pools) -> None:
    mixer = Mixer(pools, RECIPE)
    for example in map(mixer.example, range(30)):
        assert example.mixture.shape == example.vocals.shape == (2, RECIPE.crop)
        assert example.mixture.dtype == example.vocals.dtype == np.float32
        loudness = 20 * np.log10(np.sqrt(np.mean(example.mixture**2)) + 1e-9)
        assert -30.1 < loudness < -11.9 or not example.mixture.any()


def test_examples_without_voice_and_without_music_are_drawn(pools: Pools) -> None:
    mixing = Mixing(aligned=0, no_voice=0.3, no_music=0.3)
    mixer = Mixer(pools, replace(RECIPE, mixing=mixing))
    examples = [mixer.example(index) for index in range(60)]
    silent = sum(not example.vocals.any() for example in examples)
    alone = sum(np.array_equal(example.vocals, example.mixture) for example in examples)
    assert 8 <= silent <= 30
    assert 8 <= alone <= 30


def test_the_loss_is_kept_below_what_a_clip_holds(pools: Pools) -> None:
    low = [source for source in pools.voices if source.name.endswith("low")]
    only = Mixer(replace(pools, pairs=[], voices=low), replace(RECIPE, mixing=Mixing(no_voice=0)))
    assert all(only.example(index).bandwidth < 8000 * 1.15 for index in range(10))


def test_a_recipe_knows_better_what_a_clip_holds(data: Path, tmp_path: Path) -> None:
    sources = list(load_sources(find_sources(data), tmp_path, 44100))
    known = [("vocals/*", 3000.0), ("pairs/*", 9000.0)]
    pools = sort_pools(sources, replace(RECIPE, bandwidths=known))
    assert all(source.vocals and source.vocals.bandwidth == 3000 for source in pools.voices)
    assert pools.pairs[0].instrumental and pools.pairs[0].instrumental.bandwidth <= 9000
    assert pools.music[0].instrumental and pools.music[0].instrumental.bandwidth > 9000
    mixer = Mixer(pools, replace(RECIPE, mixing=Mixing(aligned=0, no_voice=0)))
    assert all(mixer.example(index).bandwidth <= 9000 * 1.15 for index in range(20))


def test_a_crop_of_what_is_left_in_a_pause_is_no_voice(tmp_path: Path) -> None:
    voice = sounds.voice(20)
    voice[:, 5 * 44100 :] *= 1e-3  # −60 dB, as a microphone in a pause
    sounds.write(tmp_path / "vocals/singer.wav", voice)
    sounds.write(tmp_path / "instrumental/band.wav", sounds.music(20))
    sources = load_sources(find_sources(tmp_path), tmp_path / "cache", 44100)
    recipe = replace(RECIPE, crop=22050, mixing=Mixing(no_voice=0, no_music=0, second_voice=0))
    mixer = Mixer(sort_pools(sources, recipe), recipe)
    examples = [mixer.example(index) for index in range(40)]
    silent = sum(not example.vocals.any() for example in examples)
    assert 20 <= silent <= 38  # three quarters of the recording
    for example in examples:  # where there is a voice, it is as loud as the recipe says
        if example.vocals.any():
            music = example.mixture - example.vocals
            assert 0.05 < np.std(example.vocals) / np.std(music) < 10


def test_stems_of_one_song_are_changed_apart(pools: Pools) -> None:
    mixing = Mixing(aligned=1, aligned_level=0, pan=1, equalizer=0, reverb_voice=0, reverb_music=0)
    plain, changed = (
        Mixer(pools, replace(RECIPE, mixing=replace(mixing, aligned_changed=share)))
        for share in (0.0, 1.0)
    )
    apart = []
    for index in range(10):
        sides, levels = [], []
        for example in (plain.example(index), changed.example(index)):  # the same crop
            stems = example.vocals, example.mixture - example.vocals
            sides.append([20 * np.log10(np.std(stem[0]) / np.std(stem[1])) for stem in stems])
            levels.append(20 * np.log10(np.std(stems[0]) / np.std(stems[1])))
        moved = np.subtract(*sides)
        apart.append(abs(moved[0] - moved[1]))
        assert levels[0] == pytest.approx(levels[1], abs=0.3)
    assert np.median(apart) > 1  # dB


def test_music_in_key_is_from_another_clip_of_the_same_song(tmp_path: Path) -> None:
    tones = {"anna_1_01": 200, "anna_1_02": 400, "anna_2_01": 800, "ben_1_01": 1600}  # Hz
    time = np.arange(RECIPE.crop) / 44100
    for name, pitch in tones.items():
        for number, stem in enumerate(("vocals", "instrumental")):
            tone = np.tile(np.sin(2 * np.pi * pitch * (number + 1) * 1.1 * time), (2, 1))
            sounds.write(tmp_path / "pairs" / name / f"{stem}.wav", np.float32(0.1 * tone))
    sources = list(load_sources(find_sources(tmp_path), tmp_path / "cache", 44100))
    plain = Mixing(aligned=1, stretch=0, equalizer=0, reverb_voice=0, reverb_music=0, pan=0)

    def pair(example: Example) -> tuple[int, ...]:
        parts = example.vocals, example.mixture - example.vocals
        tops = [np.argmax(np.abs(np.fft.rfft(part[0], n=44100))) for part in parts]
        return tuple(round(top / 1.1 / (place + 1) / 100) for place, top in enumerate(tops))

    for share, pairs in (
        (0.0, {(2, 2), (4, 4), (8, 8), (16, 16)}),
        (1.0, {(2, 2), (2, 4), (4, 2), (4, 4), (8, 8), (16, 16)}),
    ):
        recipe = replace(RECIPE, mixing=replace(plain, in_key=share))
        mixer = Mixer(sort_pools(sources, recipe), recipe)
        assert {pair(mixer.example(index)) for index in range(60)} == pairs
    weights = (("pairs/anna_1_02", 0.0, 0.0),)
    recipe = replace(RECIPE, mixing=replace(plain, in_key=1.0), weights=weights)
    mixer = Mixer(sort_pools(sources, recipe), recipe)
    assert {pair(mixer.example(index)) for index in range(60)} == {(2, 2), (8, 8), (16, 16)}


def test_what_leaked_into_a_voice_is_learned_with_its_own_music_only(tmp_path: Path) -> None:
    sung = sounds.noise(44100 * 8)
    sung[:, RECIPE.crop :] *= np.float32(1e-3)
    for song in ("anna_1_01", "anna_1_02"):
        sounds.write(tmp_path / "pairs" / song / "vocals.wav", sung)
        music = sounds.noise(44100 * 8, seed=1)
        sounds.write(tmp_path / "pairs" / song / "instrumental.wav", music)
    sources = list(load_sources(find_sources(tmp_path), tmp_path / "cache", 44100))
    plain = Mixing(aligned=1, stretch=0, equalizer=0, reverb_voice=0, reverb_music=0, pan=0)
    for mixing, silent in ((plain, False), (replace(plain, in_key=1), True)):
        recipe = replace(RECIPE, mixing=mixing)
        mixer = Mixer(sort_pools(sources, recipe), recipe)
        voices = [mixer.example(index).vocals for index in range(20)]
        assert any(not voice.any() for voice in voices) == silent


def test_a_short_recording_begins_anywhere_in_an_example(tmp_path: Path) -> None:
    for stem in ("vocals", "instrumental"):
        sounds.write(tmp_path / "short" / f"{stem}.wav", sounds.noise(RECIPE.crop // 2, seed=1))
    sources = list(load_sources(find_sources(tmp_path), tmp_path / "cache", 44100))
    mixing = Mixing(aligned=1, stretch=0, equalizer=0, reverb_voice=0, reverb_music=0)
    recipe = replace(RECIPE, mixing=mixing)
    mixer = Mixer(sort_pools(sources, recipe), recipe)
    begins = []
    for index in range(20):
        example = mixer.example(index)
        (sung,) = np.nonzero(example.vocals[0])
        assert 0.99 < np.ptp(sung) / (RECIPE.crop // 2) < 1.01
        assert np.array_equal(sung, np.nonzero((example.mixture - example.vocals)[0])[0])
        begins.append(sung[0])
    assert min(begins) < RECIPE.crop / 8 and max(begins) > RECIPE.crop * 3 / 8


def test_music_may_rest_and_echo_as_voices_do(pools: Pools) -> None:
    plain = Mixing(
        aligned=0,
        no_voice=1,
        equalizer=0,
        reverb_music=0,
        second_music=0,
        pan=0,
        loudness=(-20, -20),
    )

    def music(**chances: float) -> list[Array]:
        mixer = Mixer(pools, replace(RECIPE, mixing=replace(plain, **chances)))
        return [mixer.example(index).mixture for index in range(30)]

    def silent(examples: list[Array]) -> float:
        return float(np.mean([np.mean(example == 0) for example in examples]))

    before = music()
    assert silent(music(rests_music=1.0)) > silent(before) + 0.1
    pairs = zip(before, music(effects_music=1.0), strict=True)
    # an echo may come after the end, a gate be open all the time
    assert sum(not np.allclose(first, second) for first, second in pairs) > 20


def test_examples_may_be_mono_and_narrow(pools: Pools) -> None:
    recipe = replace(RECIPE, mixing=Mixing(mono=1.0, narrow=1.0))
    mixer = Mixer(pools, recipe)
    limits = []
    for index in range(20):
        example = mixer.example(index)
        assert np.array_equal(example.mixture[0], example.mixture[1])
        limits.append(example.bandwidth)
        spectrum = np.abs(np.fft.rfft(example.mixture[0]))
        assert spectrum[np.linspace(0, 22050, len(spectrum)) > 14000].max() < 1e-4 * spectrum.max()
    assert len(set(limits)) > 15 and max(limits) <= 12000


def test_voices_alone_are_compressed(tmp_path: Path) -> None:
    sound = sounds.noise(88200)
    sound[:, 44100:] *= 0.2
    for kind in ("vocals", "instrumental"):
        sounds.write(tmp_path / kind / "noise.wav", sound)
    sources = list(load_sources(find_sources(tmp_path), tmp_path / "cache", 44100))
    mixing = Mixing(no_voice=0, no_music=0, stretch=0, equalizer=0, reverb_voice=0, reverb_music=0)
    recipe = replace(RECIPE, crop=88200, mixing=replace(mixing, compress_voice=1.0))
    example = Mixer(sort_pools(sources, recipe), recipe).example(0)
    stems = example.vocals, example.mixture - example.vocals
    voice, music = (np.std(stem[:, :44100]) / np.std(stem[:, 44100:]) for stem in stems)
    assert voice < 4
    assert music == pytest.approx(5, rel=0.05)


def test_a_recipe_asks_for_other_singers_harmonies_masters_and_opposite_sides(
    pools: Pools,
) -> None:
    plain = Mixing(
        aligned=1, aligned_changed=1, equalizer=0, reverb_voice=0, reverb_music=0, pan=0,
        loudness=(-20, -20),
    )  # fmt: skip
    for name in ("formants", "harmony", "choir", "deess", "master", "opposed"):
        changed = replace(plain, **{name: 1.0})
        pairs = [
            [Mixer(pools, replace(RECIPE, mixing=mixing)).example(index).vocals for index in (0, 3)]
            for mixing in (plain, changed)
        ]
        for before, after in zip(*pairs, strict=True):
            assert before.any() and not np.allclose(before, after)


@pytest.mark.parametrize("aac", [0, 1])
def test_a_sum_that_was_coded_keeps_the_voice_as_it_was(tmp_path: Path, aac: float) -> None:
    for name in ("vocals", "instrumental"):
        sounds.write(tmp_path / "song" / f"{name}.wav", sounds.noise(44100), 44100)
    pools = sort_pools(
        list(load_sources(find_sources(tmp_path), tmp_path / "cache", 44100)), RECIPE
    )
    mixings = [Mixing(aligned=1, stretch=0, coded=chance, aac=aac) for chance in (0, 1)]
    mixers = [Mixer(pools, replace(RECIPE, mixing=mixing)) for mixing in mixings]
    pairs = [[mixer.example(index) for mixer in mixers] for index in range(8)]
    for plain, coded in pairs:
        np.testing.assert_array_equal(coded.vocals, plain.vocals)
        likeness = np.corrcoef(coded.mixture[0], plain.mixture[0])[0, 1]
        assert 0.4 < likeness < 0.999  # one sample late, it would be 0
        assert 15000 < coded.bandwidth < plain.bandwidth


@pytest.mark.parametrize("rate", [16000, 24000, 32000])
def test_a_coded_sum_of_a_low_rate_is_learned_from_where_it_holds_sound(rate: int) -> None:
    white = sounds.noise(3 * rate)
    for compression in (CODED[0], CODED[-1]):
        coded = code(white, rate, partial(through_mp3, compression=compression))
        power = [np.square(np.abs(np.fft.rfft(sound))).mean(axis=0) for sound in (coded, white)]
        end = np.linspace(0, 1, len(power[0]))
        part = (end > KEPT_OF_ALL - 0.1) & (end < KEPT_OF_ALL - 0.02)
        kept = np.interp(compression, CODED, KEPT) > KEPT_OF_ALL * rate / 2
        assert power[0][part].sum() > 0.3 * power[1][part].sum() or not kept


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("aac", [False, True])
def test_a_coded_sum_holds_its_bandwidth_and_little_above(aac: bool, channels: int) -> None:
    white = sounds.noise(3 * 44100)[:channels]
    for compression, kept in zip(CODED, KEPT, strict=True):
        codec = partial(through_mp3, compression=compression)
        if aac:
            codec = partial(through_aac, bits=round(AAC_BITS[1] * channels), bandwidth=kept)
        coded = code(white, 44100, codec)
        power = [np.square(np.abs(np.fft.rfft(sound))).mean(axis=0) for sound in (coded, white)]
        hertz = np.fft.rfftfreq(white.shape[-1], 1 / 44100)
        for low, high, least, most in (
            (kept - 1500, kept - 500, -5, 3),
            (kept + 1000, 22050, -90, -9),
        ):
            part = (hertz > low) & (hertz < high)
            if not part.any():
                continue  # all is kept
            gain = 10 * np.log10(power[0][part].sum() / power[1][part].sum())
            assert least < gain < most, (compression, low, gain)


def test_a_clip_with_an_invented_treble_is_learned_from_at_all_frequencies(pools: Pools) -> None:
    low = [source for source in pools.voices if source.name.endswith("low")]
    mixing = Mixing(no_voice=0, brighten=1.0)
    only = Mixer(replace(pools, pairs=[], voices=low), replace(RECIPE, mixing=mixing))
    examples = [only.example(index) for index in range(20)]
    assert all(example.bandwidth > 10000 for example in examples)
    sung = [example for example in examples if example.vocals.any()]  # the clip has pauses
    assert len(sung) >= 10
    for example in sung:
        spectrum = np.abs(np.fft.rfft(example.vocals))
        treble = np.linspace(0, 22050, spectrum.shape[-1]) > 10000
        assert spectrum[:, treble].max() > 1e-3 * spectrum.max()


def test_voices_rest_while_the_music_goes_on(pools: Pools) -> None:
    def silent(rests: float) -> float:
        mixing = Mixing(aligned=0, no_voice=0, no_music=0, equalizer=0, reverb_voice=0, rests=rests)
        mixer = Mixer(pools, replace(RECIPE, mixing=mixing))
        examples = [mixer.example(index) for index in range(40)]
        assert all(np.abs(example.mixture).max() > 0 for example in examples)
        return float(np.mean([np.mean(example.vocals == 0) for example in examples]))

    assert silent(1.0) > silent(0.0) + 0.1


def test_pairs_may_serve_as_music_alone(pools: Pools) -> None:
    recipe = replace(RECIPE, weights=[("pairs/*", 0.0, 1.0)], mixing=Mixing(aligned=1.0))
    mixer = Mixer(pools, recipe)
    assert not mixer.pairs.drawn and mixer.example(0).mixture.any()
    for kind, factors in (("voices", (0.0, 1.0)), ("music", (1.0, 0.0))):
        with pytest.raises(DataError, match=f"leave out all {kind}; let some in"):
            Mixer(pools, replace(RECIPE, weights=[("*", *factors)]))


def test_two_files_of_one_name_are_told(tmp_path: Path) -> None:
    for name in ("one.wav", "one.flac", "two.wav"):
        sounds.write(tmp_path / "vocals" / name, sounds.noise(1000), 44100)
    with pytest.raises(DataError, match=r"one\.wav: one\.flac beside it has the same name"):
        find_sources(tmp_path)


def test_weights_decide_how_often_a_source_is_drawn(pools: Pools) -> None:
    pool = Pool(pools.voices, [("*/low", 0.0)])
    random = np.random.default_rng(0)
    assert {pool.draw(random).name for _ in range(50)} == {"vocals/singer/one"}
    assert not Pool(pools.voices, [("*", 0.0)]).drawn


def test_surround_stems_are_heard_on_all_their_channels(tmp_path: Path) -> None:
    for part in ("vocals", "instrumental"):
        surround = np.zeros((6, 44100), np.float32)
        surround[2] = sounds.voice(1)[0]  # a voice in the centre
        sounds.write(tmp_path / f"song/{part}.wav", surround)
    (source,) = load_sources(find_sources(tmp_path), tmp_path / "cache", 44100)
    assert source.vocals
    assert source.vocals.samples.shape[0] == 1
    assert np.abs(source.vocals.samples[:]).max() > 0.01


@pytest.mark.parametrize("value", [np.nan, 1e9])
def test_samples_that_are_no_sound_are_refused(value: float, tmp_path: Path) -> None:
    for part in ("vocals", "instrumental"):
        broken = sounds.voice(1)
        broken[0, 100] = value
        sounds.write(tmp_path / f"song/{part}.wav", broken, subtype="FLOAT")
    wrong = r"(sample 100 is not a number .*; mend it, or|holds samples that are no sound;)"
    with pytest.raises(AudioError, match=rf"vocals\.wav: {wrong} leave it out"):
        list(load_sources(find_sources(tmp_path), tmp_path / "cache", 44100))


def test_stereo_is_mixed_down_for_a_mono_network(pools: Pools) -> None:
    example = Mixer(pools, replace(RECIPE, channels=1)).example(3)
    assert example.mixture.shape == (1, RECIPE.crop)


def test_examples_are_the_same_where_a_tensor_lies(pools: Pools) -> None:
    # without MP3: its encoder's decisions turn rounding into noise
    everything = Mixing(
        width=1.0, compress=1.0, drive=1.0, reverb_voice=1.0, double=1.0, brighten=1.0
    )
    recipe = replace(RECIPE, mixing=everything)
    mixers = Mixer(pools, recipe), Mixer(pools, recipe, torch.from_numpy)
    for index in range(12):
        array, tensor = (mixer.example(index) for mixer in mixers)
        assert isinstance(array.mixture, np.ndarray) and isinstance(tensor.mixture, torch.Tensor)
        assert tensor.mixture.dtype == torch.float32 and tensor.bandwidth == array.bandwidth
        for mine, other in ((array.mixture, tensor.mixture), (array.vocals, tensor.vocals)):
            np.testing.assert_allclose(other.numpy(), mine, atol=1e-4 * np.abs(mine).max())


def test_what_is_neither_a_stem_nor_in_a_folder_for_it_is_told(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "data"))
    before = find_sources(folder)
    assert not caplog.messages
    sounds.write(folder / "half/vocals.wav", sounds.voice(1))
    sounds.write(folder / "half/band.wav", sounds.voice(1))
    assert find_sources(folder) == before
    (told,) = caplog.messages
    assert told.startswith(f"passed over 2 files, such as {folder / 'half/band.wav'}: neither")

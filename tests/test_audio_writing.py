"""Stems hold exactly what they were given, in every format, in files and pipes."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from splitter.audio import (
    Block,
    OutputFormat,
    StemWriter,
    Tags,
    fit_format,
    fit_pipe,
    open_song,
    resample_signal,
    resampled_length,
    write_stems,
)
from splitter.errors import AudioError
from tests.codecs import RATE, SAMPLES, Pipe, Sink, chirps, find_lag, read, write

INTEGERS = {16: "int16", 24: "int32"}
LOSSY = ("mp3", "ogg", "opus", "m4a")


def quantise(signal: Block, bits: int) -> Block:
    """Round to what integers of `bits` bits can hold, as float32 still; floats stay."""
    steps = 2 ** (bits - 1)
    rounded = np.clip(np.rint(signal.astype(np.float64) * steps), -steps, steps - 1) / steps
    return signal if bits == 32 else rounded.astype(np.float32)


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("container", ["wav", "flac"])
@pytest.mark.parametrize("samples", [0, 1, 65535, 65536, 65537])
def test_what_is_read_is_written_again_bit_for_bit(
    tmp_path: Path, bits: int, container: str, samples: int
) -> None:
    if (container, bits) == ("flac", 32):
        pytest.skip("flac holds no floats")
    values = np.random.default_rng(0).integers(-(2**31), 2**31, (samples, 2), dtype=np.int32)
    sound = (values / 2**31).astype(np.float32) if bits == 32 else values
    song, copy = tmp_path / "song.wav", tmp_path / f"copy.{container}"
    soundfile.write(song, sound, RATE, {16: "PCM_16", 24: "PCM_24", 32: "FLOAT"}[bits])
    writer = write(copy, read(song), OutputFormat(container, bits))
    assert (writer.clipped, writer.samples) == (0, samples)
    assert np.array_equal(read(copy), read(song))
    with open_song(copy) as reader:
        assert reader.bits == bits or samples == 0
    if samples:
        kind = INTEGERS.get(bits, "float32")
        assert np.array_equal(
            soundfile.read(copy, dtype=kind)[0], soundfile.read(song, dtype=kind)[0]
        )


@pytest.mark.parametrize("bits", [16, 24])
def test_integers_are_the_nearest(tmp_path: Path, bits: int) -> None:
    signal = np.random.default_rng(0).uniform(-0.99, 0.99, (2, 10_000)).astype(np.float32)
    write(tmp_path / "stem.wav", signal, OutputFormat("wav", bits))
    error = read(tmp_path / "stem.wav").astype(np.float64) - signal
    assert np.abs(error).max() <= 0.5 / 2 ** (bits - 1)
    assert np.array_equal(read(tmp_path / "stem.wav"), quantise(signal, bits))


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("container", ["wav", "flac"])
def test_two_stems_sum_to_the_song_within_one_step(
    tmp_path: Path, container: str, bits: int
) -> None:
    random = np.random.default_rng(0)
    song = quantise(random.uniform(-0.9, 0.9, (2, 50_000)).astype(np.float32), bits)
    vocals = (song * random.uniform(0, 1, song.shape)).astype(np.float32)
    stems = {"vocals": vocals, "instrumental": song - vocals}
    for name, stem in stems.items():
        write(tmp_path / f"{name}.{container}", stem, OutputFormat(container, bits))
    total = sum(read(tmp_path / f"{name}.{container}").astype(np.float64) for name in stems)
    assert np.abs(total - song).max() <= 1 / 2 ** (bits - 1)


@pytest.mark.parametrize("bits", [16, 24])
def test_the_rest_of_a_quantised_stem_sums_with_it_exactly(tmp_path: Path, bits: int) -> None:
    random = np.random.default_rng(0)
    song = quantise(random.uniform(-0.9, 0.9, (2, 50_000)).astype(np.float32), bits)
    vocals = quantise((song * random.uniform(0, 1, song.shape)).astype(np.float32), bits)
    write(tmp_path / "vocals.wav", vocals, OutputFormat(bits=bits))
    write(tmp_path / "instrumental.wav", song - vocals, OutputFormat(bits=bits))
    total = read(tmp_path / "vocals.wav") + read(tmp_path / "instrumental.wav")
    assert np.array_equal(total, song)


def test_dither_leaves_the_mean_and_stays_within_the_sum(tmp_path: Path) -> None:
    quiet = np.full((2, 200_000), 0.3 / 32768, np.float32)  # rounds to silence without dither
    targets = {name: tmp_path / f"{name}.wav" for name in ("vocals", "instrumental")}
    settled = fit_format(OutputFormat(dither=1, bits=16), RATE, 2, bits=24)
    with write_stems(targets, RATE, 2, settled) as writers:
        for writer in writers.values():
            writer.write(quiet)
    stems = {name: read(path) * 32768 for name, path in targets.items()}
    for stem in stems.values():
        assert abs(float(stem.mean()) - 0.3) < 0.01
        # TPDF and rounding: variance 1/4 of a step squared, whatever the signal
        assert abs(float(stem.var()) - 0.25) < 0.01
    assert np.abs(sum(stems.values()) - 0.6).max() <= 1


@pytest.mark.parametrize(("source", "target", "kept"), [(16, 16, 0), (24, 16, 1), (16, 24, 0)])
def test_dither_is_only_for_fewer_bits(source: int, target: int, kept: int) -> None:
    assert fit_format(OutputFormat(bits=target, dither=1), RATE, 2, source).dither == kept


@pytest.mark.parametrize("container", ["wav", "flac"])
def test_what_would_wrap_is_clamped_and_counted(tmp_path: Path, container: str) -> None:
    signal = np.asarray([[0.0, 1.0, -1.0, 1.5, -2.0, 0.5]], np.float32)
    writer = write(tmp_path / "stem", signal, OutputFormat(container, 16))
    assert (writer.peak, writer.clipped) == (2.0, 2)
    largest = 32767 / 32768
    assert read(tmp_path / "stem").tolist() == [[0, largest, -1, largest, -1, 0.5]]


def test_clip_float_writes_floats_only_where_something_would_be_cut(tmp_path: Path) -> None:
    wanted = OutputFormat("wav", 16, clip="float")
    loud = write(tmp_path / "loud.wav", chirps() * 4, wanted)
    calm = write(tmp_path / "calm.wav", chirps(), wanted)
    assert (loud.format.bits, calm.format.bits, loud.clipped) == (32, 16, 0)
    assert np.array_equal(read(tmp_path / "loud.wav"), chirps() * 4)
    assert np.array_equal(read(tmp_path / "calm.wav"), quantise(chirps(), 16))


def test_rescaled_stems_sum_to_the_scaled_song(tmp_path: Path) -> None:
    vocals, instrumental = chirps() * 4, -chirps() * 5
    targets = {"vocals": tmp_path / "vocals.wav", "instrumental": tmp_path / "instrumental.wav"}
    with write_stems(targets, RATE, 2, OutputFormat("wav", 16, clip="rescale")) as writers:
        writers["vocals"].write(vocals)
        writers["instrumental"].write(instrumental)
    gains = {writer.gain for writer in writers.values()}
    assert len(gains) == 1
    peak = float(np.abs(instrumental).max())
    assert gains.pop() == pytest.approx(1 / peak, rel=1e-4)
    assert [writer.clipped for writer in writers.values()] == [0, 0]
    total = sum(read(path).astype(np.float64) for path in targets.values())
    expected = (vocals + instrumental) * (32767 / 32768) / peak
    assert np.abs(total - expected).max() <= 1.01 / 32768
    assert sorted(p.name for p in tmp_path.iterdir()) == ["instrumental.wav", "vocals.wav"]


def test_a_stem_that_cannot_have_its_name_takes_the_other_with_it(tmp_path: Path) -> None:
    targets = {"vocals": tmp_path / "vocals.wav", "instrumental": tmp_path / "instrumental.wav"}
    (targets["instrumental"] / "inside").mkdir(parents=True)
    told = r"instrumental\.wav: cannot be written"
    with pytest.raises(AudioError, match=told), write_stems(targets, RATE, 2) as writers:
        for writer in writers.values():
            writer.write(chirps())
    assert [path.name for path in tmp_path.iterdir()] == ["instrumental.wav"]


@pytest.mark.parametrize(("clip", "bits"), [("rescale", 16), ("float", 32), ("clamp", 16)])
def test_what_a_new_rate_makes_louder_is_noticed(tmp_path: Path, clip: str, bits: int) -> None:
    square = np.sign(np.sin(2 * np.pi * 997 * np.arange(RATE) / RATE))  # it rings at another rate
    loud = np.stack([square, square]).astype(np.float32)
    wanted = OutputFormat("wav", 16, clip=clip, rate=48_000)
    writer = write(tmp_path / "stem.wav", loud, wanted)
    expected = resample_signal(loud, RATE, 48_000)
    peak = float(np.abs(expected).max())
    assert peak > 1.05
    assert writer.peak == pytest.approx(peak, rel=1e-5)
    assert writer.format.bits == bits
    assert (writer.clipped > 0) == (clip == "clamp")
    if clip == "rescale":
        assert writer.gain == pytest.approx(32767 / 32768 / peak, rel=1e-5)
    if clip != "clamp":
        np.testing.assert_allclose(read(tmp_path / "stem.wav"), expected * writer.gain, atol=1e-4)


def test_nothing_is_rescaled_that_fits(tmp_path: Path) -> None:
    writer = write(tmp_path / "stem.wav", chirps(), OutputFormat("wav", 16, clip="rescale"))
    assert writer.gain == 1
    assert np.array_equal(read(tmp_path / "stem.wav"), quantise(chirps(), 16))


def test_what_waited_for_the_end_of_a_song_makes_room_as_soon_as_it_is_written(
    tmp_path: Path,
) -> None:
    writer = StemWriter(tmp_path / "stem.wav", RATE, 2, OutputFormat(clip="rescale"))
    writer.write(chirps())
    assert len(list(tmp_path.iterdir())) == 2  # as floats, and what they will become
    writer.finish()
    assert len(list(tmp_path.iterdir())) == 1
    writer.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("container", LOSSY)
@pytest.mark.parametrize("rate", [8000, 44100, 96000])
@pytest.mark.parametrize("samples", [1, 1153, 44103])
def test_lossy_stems_have_their_length_and_place(
    tmp_path: Path, container: str, rate: int, samples: int
) -> None:
    signal = chirps(samples, 2, rate)
    path = tmp_path / f"stem.{container}"
    write(path, signal, OutputFormat(container), rate)
    with open_song(path) as song:
        decoded = np.concatenate(list(song.read_blocks()), axis=1)
        written = song.rate
    known = {"opus": 48000, "mp3": min(rate, 48000)}.get(container, rate)
    assert written == known
    assert decoded.shape == (2, resampled_length(samples, rate, known))
    if samples > 10_000 and known == rate:
        assert find_lag(signal[0], decoded[0]) == 0


@pytest.mark.parametrize("channels", [3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("container", ["wav", "flac", "ogg", "opus", "m4a"])
def test_channels_keep_their_order(tmp_path: Path, container: str, channels: int) -> None:
    time = np.arange(48000) / 48000
    low = [40 + 10 * channel for channel in range(channels)]  # Hz; the fourth of six is a subwoofer
    signal = np.asarray([0.2 * np.sin(2 * np.pi * hertz * time) for hertz in low], np.float32)
    write(tmp_path / "stem", signal, OutputFormat(container), 48000)
    spectra = np.abs(np.fft.rfft(read(tmp_path / "stem"), axis=1))  # bins of 1 Hz
    assert np.argmax(spectra, axis=1).tolist() == low


@pytest.mark.parametrize(("container", "bitrate"), [("mp3", 96_000), ("mp3", 320_000)])
def test_the_bitrate_is_the_one_asked_for(tmp_path: Path, container: str, bitrate: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 5 * RATE)).astype(np.float32)
    write(tmp_path / "stem", noise, OutputFormat(container, bitrate=bitrate))
    measured = (tmp_path / "stem").stat().st_size * 8 / 5
    assert measured == pytest.approx(bitrate, rel=0.02)


@pytest.mark.parametrize("container", ["ogg", "opus", "m4a"])
def test_a_higher_bitrate_makes_a_larger_file(tmp_path: Path, container: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 2 * RATE)).astype(np.float32)
    sizes = []
    for bitrate in (64_000, 128_000, 256_000):
        write(tmp_path / "stem", noise, OutputFormat(container, bitrate=bitrate))
        sizes.append((tmp_path / "stem").stat().st_size)
    assert sizes[0] * 1.3 < sizes[1] < sizes[2] / 1.3


@pytest.mark.parametrize(
    ("container", "rate", "channels", "lowest", "highest"),
    [
        ("mp3", 44100, 2, 64_000, 320_000),
        ("mp3", 32000, 2, 64_000, 320_000),
        ("mp3", 24000, 2, 64_000, 160_000),
        ("mp3", 16000, 1, 64_000, 160_000),
        ("mp3", 12000, 1, 32_000, 64_000),
        ("ogg", 44100, 2, 64_000, 500_000),
        ("opus", 48000, 1, 6_000, 256_000),
        ("opus", 48000, 2, 12_000, 512_000),
        ("m4a", 44100, 2, 16_000, 529_200),
    ],
)
def test_a_bitrate_is_taken_up_to_its_bounds(
    container: str, rate: int, channels: int, lowest: int, highest: int
) -> None:
    for bitrate in (lowest, highest):
        wanted = OutputFormat(container, bitrate=bitrate)
        assert fit_format(wanted, rate, channels, 16).bitrate == bitrate
    for bitrate in (lowest - 1, highest + 1):
        with pytest.raises(AudioError, match=f"{lowest // 1000} to {highest // 1000} kbit/s"):
            fit_format(OutputFormat(container, bitrate=bitrate), rate, channels, 16)


@pytest.mark.parametrize(
    ("wanted", "channels", "complaint"),
    [
        (OutputFormat("flak"), 2, "flak: not a format .* choose wav"),
        (OutputFormat("mp3"), 6, "mp3: holds 2 channels, the song has 6"),
        (OutputFormat("flac", 32), 2, "flac: cannot hold 32 bits; choose 16, 24"),
        (OutputFormat("mp3", 16), 2, "mp3: has no bit depth"),
        (OutputFormat("wav", bitrate=128_000), 2, "wav: has no bitrate"),
        (OutputFormat("mp3", bitrate=512_000), 2, "mp3: holds 64 to 320 kbit/s at 44100 Hz"),
        (OutputFormat("wav", clip="louder"), 2, "choose clamp, float, rescale"),
        (OutputFormat("flac", clip="float"), 2, "flac: cannot hold floats"),
    ],
)
def test_what_a_format_cannot_hold_is_told_before_the_work(
    wanted: OutputFormat, channels: int, complaint: str
) -> None:
    with pytest.raises(AudioError, match=complaint):
        fit_format(wanted, RATE, channels, 16)


def test_a_pipe_cannot_be_rescaled() -> None:
    with pytest.raises(AudioError, match="must know the whole song"):
        fit_pipe(OutputFormat("wav", clip="rescale"))
    settled = fit_pipe(OutputFormat("wav", 16, clip="float"))
    assert (settled.bits, settled.dither) == (32, 0)


@pytest.mark.parametrize("container", ["wav", "flac", "ogg", "opus", "mp3", "m4a"])
def test_a_pipe_gets_sound_while_it_is_written(container: str) -> None:
    sink = Sink()
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 10 * 48000)).astype(np.float32)
    with StemWriter(sink, 48000, 2, OutputFormat(container)) as writer:
        for start in range(0, noise.shape[1], 48000):
            writer.write(noise[:, start : start + 48000])
            if start == 5 * 48000:
                early = len(sink.data)
    assert early > 0.4 * len(sink.data)
    assert not sink.closed
    for source in (Pipe(bytes(sink.data)), io.BytesIO(bytes(sink.data))):
        decoded = read(source)
        if container == "mp3":  # the encoder's delay and padding: a pipe cannot state them
            assert 1105 <= decoded.shape[1] - noise.shape[1] < 1105 + 2 * 1152
            assert find_lag(noise[0], decoded[0]) == 1105
        else:
            assert decoded.shape == noise.shape


@pytest.mark.parametrize(("bits", "kind"), [(16, "<i2"), (24, "<i4"), (32, "<f4")])
def test_raw_is_nothing_but_samples(bits: int, kind: str) -> None:
    sink, signal = Sink(), quantise(chirps(), min(bits, 24))
    with StemWriter(sink, RATE, 2, OutputFormat("raw", bits)) as writer:
        writer.write(signal)
    data = bytes(sink.data)
    if bits == 24:
        triples = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data = np.pad(triples, ((0, 0), (1, 0))).tobytes()  # as the upper bits of 32
    full = {"<i2": 2**15, "<i4": 2**31, "<f4": 1}[kind]
    assert np.array_equal(np.frombuffer(data, kind).reshape(-1, 2).T / full, signal)


def test_a_closed_pipe_is_the_callers_affair() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    pipe = os.fdopen(writing, "wb")
    with pytest.raises(BrokenPipeError), StemWriter(pipe, RATE, 2) as writer:
        writer.write(chirps())
    with pytest.raises(BrokenPipeError):
        pipe.close()


@pytest.mark.skipif(os.name == "nt", reason="open folders cannot be moved there")
def test_a_folder_that_is_moved_while_a_stem_is_written_keeps_no_part(tmp_path: Path) -> None:
    tags = Tags(title="of a song")
    for clip in ("clamp", "rescale"):  # rescale has a part more
        (tmp_path / "out").mkdir()
        with (
            pytest.raises(AudioError, match=r"vocals\.wav: .*its folder has been moved"),
            StemWriter(
                tmp_path / "out/vocals.wav", 44100, 2, OutputFormat(clip=clip), tags
            ) as writer,
        ):
            writer.write(chirps(1))
            (tmp_path / "out").rename(tmp_path / clip)
        assert not list((tmp_path / clip).iterdir())
        assert not (tmp_path / "out").exists()


def test_an_empty_stem_is_empty_in_spite_of_its_tags(tmp_path: Path) -> None:
    with StemWriter(tmp_path / "stem.wav", RATE, 2, OutputFormat(), Tags(title="nothing")):
        pass
    assert read(tmp_path / "stem.wav").shape == (2, 0)


@pytest.mark.parametrize("rate", [None, 16000, 48000])
@pytest.mark.parametrize("mono", [False, True])
@pytest.mark.parametrize("bits", [16, 32])
def test_converted_stems_sum_to_the_song_converted_in_the_same_way(
    tmp_path: Path, rate: int | None, mono: bool, bits: int
) -> None:
    song = chirps()
    vocals = 0.4 * song[::-1]
    wanted = OutputFormat("wav", bits, dither=1, rate=rate, mono=mono)
    settled = fit_format(wanted, RATE, 2, 16)
    targets = {name: tmp_path / f"{name}.wav" for name in ("vocals", "instrumental")}
    with write_stems(targets, RATE, 2, settled) as writers:
        for start in range(0, SAMPLES, 4321):
            part = slice(start, start + 4321)
            writers["vocals"].write(vocals[:, part])
            writers["instrumental"].write((song - vocals)[:, part])
    total = read(targets["vocals"]) + read(targets["instrumental"])
    converted = song.mean(axis=0, keepdims=True) if mono else song
    converted = resample_signal(converted, RATE, rate or RATE)
    assert total.shape == (1 if mono else 2, resampled_length(SAMPLES, RATE, rate or RATE))
    # each stem is rounded by half a step; their noise cancels
    step = 2.0**-15 if bits == 16 else 1e-6
    assert np.abs(total - converted).max() <= 1.01 * step


@pytest.mark.parametrize(
    ("container", "known"), [("mp3", "44100, 48000"), ("opus", "48000"), ("m4a", "96000")]
)
def test_a_rate_that_a_format_does_not_know_is_refused(container: str, known: str) -> None:
    with pytest.raises(AudioError, match=f"{container}: cannot hold 30000 Hz; choose .*{known}"):
        fit_format(OutputFormat(container, rate=30_000), RATE, 2, 16)


@pytest.mark.parametrize("clip", ["clamp", "float"])
def test_memory_does_not_grow_with_the_rate_that_is_asked_for(tmp_path: Path, clip: str) -> None:
    wanted = OutputFormat("wav", rate=384_000, clip=clip)
    tracemalloc.start()
    with StemWriter(tmp_path / "stem.wav", 8000, 2, wanted) as writer:
        writer.write(chirps(65536, rate=8000))
        writer.write(chirps(65536, rate=8000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert soundfile.info(tmp_path / "stem.wav").frames == 48 * 2 * 65536
    assert peak < 12e6  # bytes; a block of 65,536 samples alone would become 25 MB


def test_an_encoder_that_does_not_start_leaves_no_part(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot be written"):
        StemWriter(tmp_path / "stem.flac", 2_000_000, 2, OutputFormat("flac"))
    assert not list(tmp_path.iterdir())

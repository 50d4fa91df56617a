import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitter import metrics
from splitter.errors import MissingExtra

RATE = 8000  # Hz: as good as any other, and the references of museval are slow
VALIDATION = Path(__file__).parents[2] / "shared" / "data" / "validation"


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def coloured(*shape: int, seed: int = 0) -> np.ndarray:
    """Noise that falls with frequency, as music does: its Gram matrix is no unit matrix."""
    return np.cumsum(noise(*shape, seed=seed) - 0.5 * noise(*shape, seed=seed + 1), axis=-1) * 0.01


def leaky(references: np.ndarray, seed: int = 7) -> np.ndarray:
    """Give estimates with all three faults: filtered, with some of the other stem, and noisy."""
    filtered = references + 0.3 * np.roll(references, 3, axis=-1)
    return filtered + 0.2 * references[::-1] + 0.02 * noise(*references.shape, seed=seed)


def museval_scores(references: np.ndarray, estimates: np.ndarray, window: int) -> list[np.ndarray]:
    museval = metrics.import_museval()
    time_first = (np.moveaxis(references, -1, 1), np.moveaxis(estimates, -1, 1))
    return museval.bss_eval(*time_first, window=window, hop=window)[:4]


def mir_eval_scores(references: np.ndarray, estimates: np.ndarray) -> np.ndarray:
    separation = pytest.importorskip("mir_eval.separation")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # mir_eval announces that it will drop these
        return np.array(separation.bss_eval_sources(references, estimates, False)[:3]).T


@pytest.mark.parametrize("samples", [RATE - 1, RATE, RATE + 1, 2 * RATE - 1, 3 * RATE])
@pytest.mark.parametrize("channels", [1, 2])
def test_window_sdr_is_the_sdr_of_museval(samples: int, channels: int) -> None:
    references = coloured(2, channels, samples)
    estimates = leaky(references)
    ours = metrics.window_sdr(references, estimates, RATE)
    theirs = museval_scores(references, estimates, RATE)[0]
    assert ours.shape == theirs.shape
    # museval arrives at the same error through filters, so its rounding is larger than ours
    assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize("silent", ["reference", "estimate"])
def test_windows_that_museval_leaves_out_are_left_out(silent: str) -> None:
    references = coloured(2, 2, 4 * RATE)
    estimates = leaky(references)
    quiet = references if silent == "reference" else estimates
    quiet[1, :, RATE : 2 * RATE] = 0
    quiet[0, 0, 2 * RATE : 3 * RATE] = -quiet[0, 1, 2 * RATE : 3 * RATE]  # the channels cancel
    ours = metrics.window_sdr(references, estimates, RATE)
    theirs = museval_scores(references, estimates, RATE)[0]
    assert np.isnan(ours).tolist() == np.isnan(theirs).tolist()
    assert np.isnan(ours).tolist() == [[False, True, True, False]] * 2
    assert np.nanmax(np.abs(ours - theirs)) < 1e-3


def test_a_perfect_estimate_scores_infinity() -> None:
    references = noise(2, 1, 2 * RATE)
    assert np.isposinf(metrics.window_sdr(references, references, RATE)).all()
    assert metrics.si_sdr(references[0], references[0]) > 250  # the level is found by division


def test_a_song_without_samples_has_no_windows() -> None:
    nothing = np.zeros((2, 1, 0))
    assert metrics.window_sdr(nothing, nothing, RATE).shape == (2, 0)
    assert math.isnan(metrics.median_window(metrics.window_sdr(nothing, nothing, RATE)[0]))
    assert all(map(math.isnan, metrics.SourceProjection(nothing[:, 0]).score(nothing[:, 0])[0]))


def test_single_precision_signals_are_summed_in_double_precision() -> None:
    references = noise(2, 2, 3 * RATE).astype(np.float32)
    estimates = references + np.float32(1e-4) * noise(2, 2, 3 * RATE, seed=5).astype(np.float32)
    ours = metrics.window_sdr(references, estimates, RATE)
    exact = metrics.window_sdr(references.astype(float), estimates.astype(float), RATE)
    assert np.array_equal(ours, exact)


def test_museval_gives_the_images_ratios() -> None:
    references = coloured(2, 2, 2 * RATE)
    estimates = leaky(references)
    ours = metrics.bss_eval_images(references, estimates, RATE)
    theirs = museval_scores(references, estimates, RATE)
    for name, scores in zip(("SDR", "ISR", "SIR", "SAR"), theirs, strict=True):
        assert np.array_equal(ours[name], scores)


def test_a_silent_song_has_no_images_ratios() -> None:
    references = coloured(2, 1, 2 * RATE)
    references[0] = 0
    scores = metrics.bss_eval_images(references, leaky(references), RATE)
    assert {name: s.shape for name, s in scores.items()} == dict.fromkeys(scores, (2, 2))
    assert all(np.isnan(s).all() for s in scores.values())


def test_a_missing_museval_is_said_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install 'songsplitter\[evaluate\]'"):
        metrics.bss_eval_images(noise(2, 1, 9), noise(2, 1, 9), 9)


def test_usdr_is_ten_times_the_logarithm_of_the_energies() -> None:
    reference = np.full((2, 50), 1.0)  # energy 100
    assert metrics.usdr(reference, reference * 0.9) == pytest.approx(20, abs=1e-6)
    assert metrics.usdr(reference, reference * 0) == pytest.approx(0, abs=1e-9)


def test_usdr_of_silence_is_finite() -> None:
    silence = np.zeros((1, 10))
    assert metrics.usdr(silence, silence) == 0
    assert metrics.usdr(silence, silence + 0.1) == pytest.approx(-60, abs=1e-4)  # 1e-7 over 0.1


@given(gain=st.floats(1e-3, 1e3), sign=st.sampled_from([-1, 1]))
@settings(deadline=None, max_examples=25)
def test_si_sdr_does_not_hear_the_level(gain: float, sign: int) -> None:
    reference = noise(2, 500)
    estimate = reference + 0.1 * noise(2, 500, seed=1)
    scaled = metrics.si_sdr(reference, sign * gain * estimate)
    assert scaled == pytest.approx(metrics.si_sdr(reference, estimate), abs=1e-9)


def test_si_sdr_of_orthogonal_noise_is_the_ratio_of_the_energies() -> None:
    reference = np.array([[1.0, 1.0, 1.0, 1.0]])
    orthogonal = np.array([[0.1, -0.1, 0.1, -0.1]])
    assert metrics.si_sdr(reference, reference + orthogonal) == pytest.approx(20, abs=1e-9)
    assert metrics.si_sdr(reference, orthogonal) == -math.inf


def test_si_sdr_of_silence_does_not_exist() -> None:
    assert math.isnan(metrics.si_sdr(np.zeros((1, 9)), noise(1, 9)))
    assert math.isnan(metrics.si_sdr(noise(1, 9), np.zeros((1, 9))))


@pytest.mark.parametrize("samples", [511, 512, 513, RATE, 2 * RATE + 1])
@pytest.mark.parametrize("stems", [2, 3])
def test_source_projection_is_bss_eval_sources_of_mir_eval(samples: int, stems: int) -> None:
    references = coloured(stems, samples)
    estimates = leaky(references)
    ours = np.array(metrics.SourceProjection(references).score(estimates))
    theirs = mir_eval_scores(references, estimates)
    finite = theirs < 100
    assert np.abs(ours - theirs)[finite].max() < 1e-3
    # as many copies as samples explain everything: what is left is the rounding of either
    assert (ours[~finite] > 50).all()


@pytest.mark.skipif(not VALIDATION.exists(), reason="needs real stems")
def test_real_stems_score_as_museval_and_mir_eval_score_them() -> None:
    import soundfile

    paths = [VALIDATION / "falcon69" / f"{stem}.opus" for stem in ("vocals", "instrumental")]
    stems = [soundfile.read(p, frames=4 * 48000, always_2d=True)[0].T for p in paths]
    references = np.stack(stems)
    estimates = leaky(references)
    sdr = metrics.window_sdr(references, estimates, 48000)
    assert np.abs(sdr - museval_scores(references, estimates, 48000)[0]).max() < 1e-3
    mono = references.mean(axis=1), estimates.mean(axis=1)
    v3 = np.array(metrics.SourceProjection(mono[0]).score(mono[1]))
    assert np.abs(v3 - mir_eval_scores(*mono)).max() < 1e-3


def test_the_mixture_has_interference_and_no_artifacts() -> None:
    references = noise(2, RATE)
    mixture = references.sum(axis=0)
    vocals, _ = metrics.SourceProjection(references).score(np.stack([mixture, mixture]))
    assert vocals.sdr == pytest.approx(vocals.sir, abs=1e-9)
    assert vocals.sar > 100


def test_a_filtered_reference_is_forgiven() -> None:
    references = noise(2, RATE)
    references[:, -600:] = 0  # the filter's end is inside
    filtered = np.stack([np.convolve(r, noise(512, seed=3))[:RATE] for r in references])
    assert all(score.sdr > 90 for score in metrics.SourceProjection(references).score(filtered))


def test_references_that_explain_each_other_still_score() -> None:
    time = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * 440 * time)
    scores = metrics.SourceProjection(np.stack([tone, tone])).score(np.stack([tone, 0.5 * tone]))
    assert all(score.sdr > 60 for score in scores)


def test_a_silent_reference_has_no_source_ratios() -> None:
    references = noise(2, 900)
    references[1] = 0
    scores = metrics.SourceProjection(references).score(noise(2, 900))
    assert len(scores) == 2
    assert all(math.isnan(value) for score in scores for value in score)


def test_a_silent_estimate_has_no_source_ratios() -> None:
    references = noise(2, 900)
    scores = metrics.SourceProjection(references).score(np.zeros((2, 900)))
    assert all(math.isnan(value) for score in scores for value in score)


def test_long_clips_weigh_more() -> None:
    assert metrics.weighted_mean([10.0, 4.0], [1, 2]) == 6
    assert math.isnan(metrics.weighted_mean([], []))


def test_the_median_leaves_out_windows_without_a_score() -> None:
    assert metrics.median_window(np.array([math.nan, 1.0, 3.0, 100.0])) == 3
    assert math.isnan(metrics.median_window(np.array([math.nan])))

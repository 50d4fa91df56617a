"""The proofs that take long, in small portions: python scripts/… runs them in full."""

from __future__ import annotations

import ast
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from scripts import folds, licensed, listen, mutants, mutate
from scripts.draw_vocals import Prior, Repeater
from scripts.semi_supervised import deal, find_song
from splitter.loading import load_model, save_model
from splitter.training.sources import Files, Recording, Source, find_sources
from tests import sounds
from tests.commands import ENVIRONMENT, ROOT


def run_script(name: object, *arguments: object, status: int = 0) -> str:
    command = [sys.executable, str(ROOT / "scripts" / str(name)), *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


@pytest.mark.slow
def test_files_of_strangers_neither_harm_nor_hang_nor_pass_for_whole(tmp_path: Path) -> None:
    """A run goes on where another one stopped, and its table counts all."""
    record, targets = tmp_path / "seed0.jsonl", ("songs", "models", "journals", "tags", "weights")
    earlier = {"target": "songs", "kind": "wav", "number": 0, "status": 0}
    record.write_text(json.dumps(earlier) + "\n")
    table = run_script("mutate.py", *targets, "--cases", 12, "--keep", tmp_path)
    cases = [json.loads(line) for line in record.read_text().splitlines()]
    assert len({(case["target"], case["number"]) for case in cases}) == len(cases)
    for name in targets:
        assert re.search(rf"^\| {name} \| \d+ \| 12 \|.*\| 0 \|", table, re.MULTILINE)


def write_karaoke(folder: Path) -> None:
    """Write clips as MIR-1K is distributed: music left, voice right, 16 kHz."""
    for name in ("abjones_1_01", "amy_1_01", "bug_1_01", "bug_1_02"):
        left, right = sounds.music(2, 16000)[0], sounds.voice(2, 16000)[0]
        sounds.write(folder / "Wavfile" / f"{name}.wav", np.stack([left, right]), 16000)


def small_recipe(path: Path, **changes: object) -> Path:
    recipe = {
        "rate": 16000,
        "channels": 1,
        "sizes": sounds.SMALL_SIZES,
        "crop": 16384,
        "batch": 2,
        "steps": 4,
        "validate_every": 2,
        "validation": ["test/*", "held/*"],
    }
    path.write_text(json.dumps({**recipe, **changes}), encoding="utf-8")
    return path


@pytest.mark.slow
def test_mir1k_is_trained_in_parts_and_scored(tmp_path: Path) -> None:
    write_karaoke(tmp_path / "MIR-1K")
    recipes = [small_recipe(tmp_path / f"{seed}.json", seed=seed) for seed in (1, 2)]
    command = ["mir1k.py", tmp_path / "MIR-1K", "-o", tmp_path / "run"]
    command += [word for recipe in recipes for word in ("--recipe", recipe)]
    run_script(*command, "--stop-at", 2)
    assert not (tmp_path / "run/scores.json").exists()
    run_script(*command)
    scores = json.loads((tmp_path / "run/scores.json").read_text(encoding="utf-8"))
    assert {song["song"] for song in scores["songs"]} == {"test/bug_1_01", "test/bug_1_02"}
    assert "GNSDR" in (tmp_path / "run/scores.md").read_text(encoding="utf-8")
    both = "model-1+model-2"
    assert set(scores["systems"]) == {"model-1", both, f"{both}+tta", "mixture"}
    weights = [tmp_path / f"run/model-{number}/weights.safetensors" for number in (1, 2)]
    assert weights[0].read_bytes() != weights[1].read_bytes()
    for run in ("run-1", "run-2"):
        assert (tmp_path / "run" / run / "curves.png").stat().st_size > 1000
        log = (tmp_path / "run" / run / "log.csv").read_text(encoding="utf-8").splitlines()
        steps = [row.split(",")[0] for row in log]
        assert steps == ["step", "2", "4"]  # gone on with, not begun anew
    # what was trained on are the two singers of the training set
    trained = {path.parent.name for path in (tmp_path / "run/data/train").rglob("vocals.wav")}
    assert trained == {"abjones_1_01", "amy_1_01"}


def test_weights_are_averaged(tmp_path: Path) -> None:
    # one says what the other leaves to the default
    for seed, (name, said) in enumerate({"first": {}, "second": {"blocks": 0}}.items()):
        model = load_model(str(sounds.write_small_model(tmp_path / name)))
        torch.manual_seed(seed)
        for weight in model.network.parameters():
            torch.nn.init.normal_(weight)
        config = replace(model.config, sizes={**model.config.sizes, **said})
        save_model(tmp_path / name, config, model.network)
    models = [tmp_path / name for name in ("first", "second", "mean")]
    run_script("average_weights.py", *models[:2], "-o", models[2])
    first, second, mean = (load_model(str(model)).network.state_dict() for model in models)
    for name, value in mean.items():
        expected = (first[name].float() + second[name].float()) / 2
        torch.testing.assert_close(value.float(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("licence", "free"),
    [
        ("CC BY 4.0", True),
        ("CC-BY-SA-4.0", True),
        ("CC BY-SA (list.csv)", True),
        ("GPL-2.0 and CC-BY-SA 2.0 (dual)", True),
        ("MIT (repo LICENSE)", True),
        ("public domain", True),
        ("CC BY-NC-SA 4.0", False),
        ("CC BY-ND 4.0", False),
        ("CC0 code; audio non-commercial", False),
        ("MIT; for research only", False),
        ("GPL-3.0 (repo LICENSE)", False),
        ("CC-BY-SA (version not stated; README: most of data/) / GPL-3.0", False),
        ("the author's terms: redistribution allowed with credit", False),
        ("", False),
    ],
)
def test_a_licence_allows_any_use_or_not(licence: str, free: bool) -> None:
    assert licensed.is_free(licence) is free


def test_only_sound_for_any_use_is_linked_and_listed(tmp_path: Path) -> None:
    data, free = tmp_path / "data", tmp_path / "free"
    files = "vocals/one.wav", "vocals/one.more.wav", "vocals/two [live].wav", "music/three.wav"
    bound = "stems/bound/vocals.wav"
    for name in (*files, "stems/six/vocals.wav", "stems/six/instrumental.wav", bound, "notes.txt"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(name.encode())
    rows = {
        "vocals/one": "CC BY 4.0",  # without its suffix
        "vocals/one.more": "CC BY-NC 4.0",
        "vocals/two [live].wav": "MIT",
        "music/three.wav": "GPL-3.0",
        "stems/six": "CC0 1.0",  # a folder
        "stems": "CC0 1.0",
        "./stems/bound/": "CC BY-NC 4.0",
        "stems/six/instrumental.wav": "CC BY-NC 4.0",
        "gone/seven.wav": "CC0 1.0",
        "../outside.wav": "CC0 1.0",
        "": "CC0 1.0",
    }

    def choose() -> str:
        lines = ["path\trepository\toriginal\tlicence"]
        lines += [
            f"{path}\tmaker+{path[-3:]}\tmusic/{path}.ogg @0123abc\t{licence}"
            for path, licence in rows.items()
        ]
        (data / "SOURCES.tsv").write_text("\n".join(lines), encoding="utf-8")
        return run_script("licensed.py", data, "-o", free)

    def linked() -> set[str]:
        return {path.relative_to(free).as_posix() for path in free.rglob("*") if path.is_symlink()}

    assert "3 files" in choose()
    assert linked() == {"vocals/one.wav", "vocals/two [live].wav", "stems/six/vocals.wav"}
    assert (free / "vocals/one.wav").read_bytes() == b"vocals/one.wav"
    listed = (free / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "| CC BY 4.0 | github.com/maker/one | music/vocals/one.ogg |" in listed
    assert len(listed.splitlines()) == 5
    rows["vocals/one"] = "CC BY-NC 4.0"  # the table was wrong
    assert "2 files" in choose()
    assert "vocals/one.wav" not in linked()
    assert all((data / name).read_bytes() == name.encode() for name in files)  # nothing is lost
    run_script("licensed.py", data, "-o", data, status=2)
    run_script("licensed.py", data, "-o", data / "free", status=2)


@pytest.mark.slow
def test_models_are_compared_on_sources_that_one_never_heard(
    tmp_path: Path, small_model_folder: Path
) -> None:
    data, heard = tmp_path / "data", tmp_path / "heard"
    for name in ("vocals/known/a", "vocals/new/b", "vocals/new/c", "karaoke/clip/vocals"):
        sounds.write(data / f"{name}.wav", sounds.voice(2))
    for name in ("instrumental/game/d", "instrumental/band/e", "karaoke/clip/instrumental"):
        sounds.write(data / f"{name}.wav", sounds.music(2))
    sounds.write(data / "validation/song/vocals.wav", sounds.voice(2))
    sounds.write(data / "validation/song/instrumental.wav", sounds.music(2))
    for name in ("vocals/known/a.wav", "instrumental/game/d.wav"):
        (heard / name).parent.mkdir(parents=True)
        (heard / name).symlink_to(data / name)
    model = ("--model", small_model_folder)
    told = run_script("unheard.py", data, "--heard", heard, *model, "--times", "2").splitlines()
    rows = {cells[1]: cells[2:4] for cells in (re.split(r" ?\| ?", line) for line in told if line)}
    counts = {"vocals/new": "2", "karaoke": "2", "instrumental/band": "4", "all": "4"}
    assert {name: rows[name][0] for name in rows if name in counts} == counts
    assert set(rows) - set(counts) == {"voices", "music", "---"}
    assert rows["instrumental/band"][1] == rows["all"][1]
    told = run_script("unheard.py", data, "--heard", data, *model, status=2)
    assert "holds no voices, or no music" in told
    told = run_script("unheard.py", data, "--fold", "1/2", *model)
    names = [line.split(" | ")[0].strip("| ") for line in told.splitlines() if line]
    assert {"karaoke", "instrumental/band"} < set(names)
    assert not {"vocals/new", "vocals/known", "instrumental/game"} & set(names)


def test_every_source_is_in_one_fold(tmp_path: Path) -> None:
    sizes = {f"vocals/{name}/x": size for size, name in enumerate("abcde", 1)}
    sizes |= {f"instrumental/{name}/sub/x": 10 for name in "fgh"}
    for name, size in sizes.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / f"{name}.wav").write_bytes(bytes(size))
    for song in ("karaoke/one", "karaoke/two", "validation/song"):
        for stem in ("vocals", "instrumental"):
            (tmp_path / song).mkdir(parents=True, exist_ok=True)
            (tmp_path / song / f"{stem}.wav").write_bytes(bytes(3))
    names = ("vocals/a", "vocals/gt/sub/b", "song", "pairs/song", "mir1k/train/clip")
    pairs = [name.endswith(("song", "clip")) for name in names]
    files = [
        Files(name, [tmp_path], [tmp_path] if pair else [])
        for name, pair in zip(names, pairs, strict=True)
    ]
    told = ["vocals", "vocals/gt", ".", "pairs", "mir1k"]
    assert [folds.name_source(each) for each in files] == told
    one, two = folds.deal(find_sources(tmp_path), 2)
    assert one == {"karaoke", "vocals/c", "vocals/b", "instrumental/f"}
    assert two == {"vocals/e", "vocals/d", "vocals/a", "instrumental/g", "instrumental/h"}


@pytest.mark.slow
def test_bands_and_pauses_are_compared(tmp_path: Path) -> None:
    voice, music = sounds.voice(4), sounds.music(4)  # two seconds sung, two silent
    sounds.write(tmp_path / "data/song/vocals.wav", voice, 44100)
    sounds.write(tmp_path / "data/song/instrumental.wav", music, 44100)
    sounds.write(tmp_path / "song.wav", voice + music, 44100)
    told = run_script("listen.py", tmp_path / "data", "--model", "unet").splitlines()
    *_, pauses, longer = told[-2].strip("| ").split(" | ")
    assert float(pauses.split()[0]) < -12
    assert pauses.endswith("(4)")
    assert longer.split()[0] == pauses.split()[0]  # one, as long as all half seconds
    assert longer.endswith("(1)")
    assert told[-1].startswith("| all | unet |")
    assert told[-1].endswith(f"| {longer} |")
    told = run_script("listen.py", tmp_path / "song.wav", "--model", "unet").splitlines()
    name, agreed, mean, longer = told[-1].strip("| ").split(" | ")
    assert name == "unet"
    assert all(float(level.split()[0]) < -12 for level in (agreed, mean, longer))


def test_bands_that_a_rate_lacks_are_left_empty() -> None:
    noise = sounds.noise(16000)
    told = [cell.strip() for cell in listen.tell_bands(noise, 0.5 * noise, 16000).split("|")]
    assert told == ["6.02 (-6.0)", "6.02 (-6.0)", "", ""]


def test_long_pauses_are_those_of_two_seconds_and_more() -> None:
    pauses = np.array([1, 1, 1, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1], bool)  # half seconds
    whole = np.ones(15, np.float32)
    left = np.full(15, 1e-3, np.float32)
    left[10:] = 1e-5
    assert listen.long_pauses(pauses, left, whole) == pytest.approx([-30, -50])
    assert listen.level_in(pauses, left, whole) == "-32.3 (12)"
    assert listen.long_pauses(pauses & False, left, whole) == []
    assert listen.tell_worst([float(-level) for level in range(20, 31)]) == "-21.0 (11)"
    assert listen.tell_worst([]) == "(0)"


@pytest.mark.slow
def test_the_worst_windows_say_where_their_error_lies(
    tmp_path: Path, small_model_folder: Path
) -> None:
    for song in ("a", "b"):
        sounds.write(tmp_path / "data" / song / "vocals.wav", sounds.voice(3))
        sounds.write(tmp_path / "data" / song / "instrumental.wav", sounds.music(3))
    picture = tmp_path / "worst.png"
    words = ["--model", small_model_folder, "--include", "a", "--count", 2, "--picture", picture]
    told = run_script("worst.py", tmp_path / "data", *words)
    rows = [line.strip("| ").split(" | ") for line in told.splitlines() if line.startswith("|")]
    assert [row[0] for row in rows[2:]] == ["a", "a", "all"]
    assert float(rows[2][3]) <= float(rows[3][3])  # the worst comes first
    for row in rows[2:]:
        assert sum(map(float, row[4:7])) == pytest.approx(100, abs=2)  # rounded to percents
    assert "In pauses: " in told
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_ablation_rows_are_kept_and_compared(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for song in ("pairs/a", "held/b"):
        sounds.write(data / song / "vocals.wav", sounds.voice(2, 16000), 16000)
        sounds.write(data / song / "instrumental.wav", sounds.music(2, 16000), 16000)
    recipe = small_recipe(tmp_path / "recipe.json", warmup=1)
    common = [data, "-o", tmp_path / "run", "--recipe", recipe, "--minutes", 0.01]
    run_script("ablate.py", *common, "--row", "baseline")
    run_script("ablate.py", *common, "--row", "baseline", "--row", "loss: complex")
    rows = json.loads((tmp_path / "run/ablation.json").read_text(encoding="utf-8"))["rows"]
    assert list(rows) == ["baseline", "loss: complex"]
    assert load_model(str(tmp_path / "run/baseline/model")).config.rate == 16000
    assert all(row["steps"] >= 1 and math.isfinite(row["improvement"]) for row in rows.values())


@pytest.mark.slow
def test_more_files_of_strangers_neither_harm_nor_hang(tmp_path: Path) -> None:
    run_script("mutate.py", "--cases", 500, "--seed", 1, "--keep", tmp_path)


@pytest.mark.slow
def test_killed_runs_leave_nothing_broken_and_the_next_completes() -> None:
    run_script("kill.py", "--times", 10, "--seconds", 15, "--forked")
    run_script("kill.py", "--times", 1, "--seconds", 15)


@pytest.mark.slow
def test_a_pipe_may_go_on_for_an_hour() -> None:
    run_script("endure.py", "--hours", 1, "--small")


@pytest.mark.slow
def test_voices_are_drawn_from_codes_and_what_was_trained_is_kept(
    data: Path, tmp_path: Path
) -> None:
    sizes = ("--width", 8, "--codes", 16, "--batch", 2, "--crop", 8192, "--seconds", 0.3)
    arguments = ("draw_vocals.py", data, "-o", tmp_path, *sizes, "--steps", 3)
    told = run_script(*arguments)
    assert re.search(r"repeater: step 3 of 3, loss [\d.]+ perplexity \d+ perplexity \d+", told)
    assert "prior: step 3 of 3" in told
    for name in ("vocals", "repeated"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    drawn = (tmp_path / "vocals.wav").read_bytes()
    signal = sounds.read(tmp_path / "vocals.wav")
    assert signal.shape == (1, 2 * 8 * 256)  # two columns of eight hops
    assert 0 < np.abs(signal).max() <= 1
    assert "step" not in run_script(*arguments)
    assert (tmp_path / "vocals.wav").read_bytes() == drawn


def test_codes_are_all_that_a_repeated_voice_is_made_of() -> None:
    torch.manual_seed(0)
    repeater = Repeater(8, 16).eval()
    with torch.inference_mode():
        picture = repeater.draw(torch.randn(2, 8192))
        codes = repeater.encode(picture)
        torch.testing.assert_close(repeater.decode(codes), repeater.unet(picture))
    assert not torch.equal(codes[0], codes[1])


def test_a_prior_draws_a_code_by_what_it_learned_to_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    prior = Prior(codes=6, rows=2, width=8)
    codes = torch.randint(6, (1, 3, prior.column))
    given, surprise = iter(codes.flatten().tolist()), []

    def choose(odds: torch.Tensor, _: int) -> torch.Tensor:
        code = next(given)
        surprise.append(-float(odds[code].log()))
        return torch.tensor([code])

    monkeypatch.setattr(torch, "multinomial", choose)
    with torch.inference_mode():
        assert torch.equal(prior.draw(3), codes)
        assert np.mean(surprise) == pytest.approx(float(prior.lose(codes)), rel=1e-4)


@pytest.mark.slow
def test_pairs_with_critics_are_compared_with_pairs_alone(tmp_path: Path) -> None:
    songs = [f"train/{song}_{number}" for song in "abcd" for number in range(2)]
    for clip in (*songs, "test/one"):
        sounds.write(tmp_path / "data" / clip / "vocals.wav", sounds.voice(1, 16000), 16000)
        sounds.write(tmp_path / "data" / clip / "instrumental.wav", sounds.music(1, 16000), 16000)
    recipe = small_recipe(tmp_path / "recipe.json", crop=8192, batch=1)
    arguments = (tmp_path / "data", "-o", tmp_path / "out", "--recipe", recipe, "--minutes", 0.001)
    arguments = (*arguments, "--seeds", 1)
    command = [sys.executable, "-m", "scripts.semi_supervised", *map(str, arguments)]
    for _ in range(2):  # the second time nothing is left to do
        done = subprocess.run(
            command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        rows = [line.split(" | ") for line in done.stdout.splitlines()[2:]]
        names = ["alone", "alone, also remixed", ", and critics", ", and random mixes"]
        assert [row[0].removeprefix("| pairs").strip() for row in rows] == names
    assert len(json.loads((tmp_path / "out/semi.json").read_text())["rows"]) == 4


def test_no_two_parts_of_semi_supervised_songs_belong_together() -> None:
    names = [f"mir1k/train/{song}_{number:02}" for song in "abcdefgh" for number in range(3)]
    sound = Recording(np.zeros((1, 4), np.float16), 1.0, 0.0)
    pools = deal([Source(name, sound, sound) for name in [*names, "mir1k/test/x_1"]])
    parts = [pools.pairs, pools.voices, pools.music, pools.mixtures]
    songs = [{find_song(clip) for clip in part} for part in parts]
    assert all(songs)
    assert sum(map(len, songs)) == len(set().union(*songs)) == 8
    assert [clip.name for clip in pools.validation] == ["mir1k/test/x_1"]


@pytest.mark.parametrize("samples", [0, 1, 3, 1000])
def test_mutate_counts_the_samples_of_a_wave64_itself(tmp_path: Path, samples: int) -> None:
    path = tmp_path / "song.w64"
    soundfile.write(path, np.zeros((samples, 2)), 44100, format="W64", subtype="PCM_24")
    assert list(mutate._count_w64(path.read_bytes())) == [samples]
    assert list(mutate._count_w64(path.read_bytes() + bytes(600))) == [samples]  # junk behind it


def test_changes_that_are_called_harmless_are_still_there_and_have_a_reason() -> None:
    for module, part, reason in mutants.read_harmless():
        assert part.count("«") == part.count("»") == 1
        assert reason
        for path in [ROOT / module] if module != "*" else []:
            source = path.read_text("utf-8")
            changes = mutants.find_changes(ast.parse(source))
            places = [mutants.mark(source, node) for node, _ in changes]
            assert sum(part in place for place in places) == 1, part


@pytest.mark.parametrize(
    ("source", "changed", "place"),
    [
        ("x = a < 1", "x = a <= 1", "x = «a < 1»"),
        ("x: int = 7", "x: int = 8", "x: int = «7»"),
        ("x = 'ü' + y", "x = 'ü' - y", "x = «'ü' + y»"),
        ("if x:\n    y()", "if not x:\n    y()", "«if x:»"),
        ("run(x)", "None", "«run(x)»"),
        ("x = not y", "x = not not y", "x = «not y»"),
    ],
)
def test_a_mutant_is_one_change(source: str, changed: str, place: str) -> None:
    text, mutant = mutants.mutate(source, mutants.Mutant("module.py", 0))
    assert (text, mutant.place, mutant.line) == (changed, place, 1)

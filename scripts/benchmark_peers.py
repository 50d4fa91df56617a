"""Time splitter beside its peers: the same song, the same cores, whole programs, one after another.

    python scripts/benchmark_peers.py [--seconds 240] [--only demucs] [--same] [--venvs FOLDER]

Each peer gets a virtual environment of its own from PyPI and separates the song by its own code
with its own defaults; start-up, loading, decoding and writing are counted. Where pretrained weights
cannot be fetched, random ones of the same architecture take their place: speed does not depend on
their values. soundfile reads and writes where a peer needs a program that may be missing.

With --same, splitter runs each peer's own network, of random weights and the same size, beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import types
import venv
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

TORCH = "torch==2.13.0"
# peer → what to install, in steps: the first keeps later ones from fetching another PyTorch
PACKAGES = {
    "demucs": [[TORCH], ["demucs", "soundfile"]],
    "openunmix": [[TORCH], ["openunmix", "soundfile"]],
    "audio-separator": [[TORCH], ["audio-separator[cpu]", "onnxscript"]],
    "spleeter": [["spleeter"], ["soundfile"]],
}
SYSTEMS = {
    "demucs": "htdemucs (demucs)",
    "openunmix": "umxl (open-unmix)",
    "audio-separator": "MDX-Net Inst HQ (audio-separator)",
    "spleeter": "2stems (spleeter, TensorFlow)",
}

FOUR = ("drums", "bass", "other", "vocals")
# peer → the same network here: its name, sizes and stems
SAME: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "demucs": ("demucs", {"bottom_channels": 512, "t_layers": 5, "dconv_mode": 3}, FOUR),
    "openunmix": ("open-unmix", {"hidden": 1024}, FOUR),
    "audio-separator": ("mdx-net", {}, ("instrumental",)),
    "spleeter": ("spleeter", {}, ("vocals", "accompaniment")),
}


@dataclass(frozen=True)
class Taken:
    """What a program needed."""

    seconds: float
    megabytes: float  # at most, of memory
    wrong: str = ""  # the last line that it said, if it failed


def write_same(peer: str, folder: Path) -> float:
    """Write a model of random weights with a peer's network; return the millions of them."""
    import torch

    from splitter.loading import Config, build_network, save_model

    torch.manual_seed(0)
    name, sizes, stems = SAME[peer]
    residual = "vocals" if stems == ("instrumental",) else "rest"
    config = Config(name, sizes, stems=stems, residual=residual)
    network = build_network(config, folder)
    save_model(folder, config, network)
    return sum(weight.numel() for weight in network.parameters()) / 1e6


def read(song: Path) -> Any:
    """Read a song as (samples, channels)."""
    import soundfile

    return soundfile.read(song, dtype="float32", always_2d=True)[0]


def write(folder: Path, stems: dict[str, Any]) -> None:
    import soundfile

    for name, signal in stems.items():
        soundfile.write(folder / f"{name}.wav", signal, 44100)


def run_demucs(song: Path, folder: Path, _: Path) -> None:
    import torch
    from demucs.apply import apply_model
    from demucs.htdemucs import HTDemucs

    sources = ["drums", "bass", "other", "vocals"]
    # as the weights that the program would fetch
    model = HTDemucs(sources, bottom_channels=512, dconv_mode=3, segment=7.8, t_layers=5).eval()
    mix = torch.from_numpy(read(song).T.copy())[None]
    stems = apply_model(model, mix, device="cpu")[0].numpy()
    write(folder, {"vocals": stems[3].T, "instrumental": stems[:3].sum(axis=0).T})


def run_openunmix(song: Path, folder: Path, _: Path) -> None:
    # no build of torchaudio for the processor alone is on PyPI; only the STFT's twin needs it
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    import openunmix
    import torch
    from openunmix.model import OpenUnmix, Separator

    top = openunmix.utils.bandwidth_to_max_bin(rate=44100.0, n_fft=4096, bandwidth=16000)
    names = ["vocals", "drums", "bass", "other"]
    targets = {name: OpenUnmix(2049, 2, hidden_size=1024, max_bin=top).eval() for name in names}
    separator = Separator(targets, niter=1, residual=None).eval()
    with torch.inference_mode():
        stems = separator(torch.from_numpy(read(song).T.copy())[None])[0].numpy()
    write(folder, {"vocals": stems[0].T, "instrumental": stems[1:].sum(axis=0).T})


def prepare_spleeter(weights: Path) -> None:
    """Write a checkpoint of random weights where the program looks for its own."""
    import tensorflow as tf
    from spleeter.model import EstimatorSpecBuilder, InputProviderFactory
    from spleeter.utils.configuration import load_configuration

    parameters = load_configuration("spleeter:2stems")
    with tf.Graph().as_default():
        tf.compat.v1.train.get_or_create_global_step()
        features = InputProviderFactory.get(parameters).get_input_dict_placeholders()
        parameters["MWF"] = False
        EstimatorSpecBuilder(features, parameters).build_predict_model()
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            tf.compat.v1.train.Saver().save(session, str(weights / "2stems" / "model"))
    (weights / "2stems" / ".probe").write_text("OK")


def run_spleeter(song: Path, folder: Path, weights: Path) -> None:
    os.environ["MODEL_PATH"] = str(weights)
    from spleeter.separator import Separator

    write(folder, Separator("spleeter:2stems", multiprocess=False).separate(read(song), "song"))


def prepare_mdx(weights: Path) -> None:
    """Write an ONNX file of random weights; its sizes give the 66 MB of the published ones."""
    import torch

    # the network's file wants it for training, but the package does not install it
    lightning: Any = types.ModuleType("pytorch_lightning")
    lightning.LightningModule = torch.nn.Module
    sys.modules["pytorch_lightning"] = lightning
    from audio_separator.separator.uvr_lib_v5.mdxnet import ConvTDFNet

    network = ConvTDFNet(
        "Instrumental", 1e-4, "rmsprop", 4, 3072, 256, 6144, 1024, 11, 3, 48, 3, 8, False, 0
    ).eval()
    target, picture = weights / "mdx.onnx", torch.zeros(1, 4, 3072, 256)
    torch.onnx.export(
        network, (picture,), target, dynamo=False, input_names=["input"], output_names=["output"]
    )


def run_mdx(song: Path, folder: Path, weights: Path) -> None:
    import logging

    import torch
    from audio_separator.separator.architectures.mdx_separator import MDXSeparator

    shape = {"compensate": 1.0, "mdx_dim_f_set": 3072, "mdx_dim_t_set": 8}
    data = {**shape, "mdx_n_fft_scale_set": 6144, "primary_stem": "Instrumental"}
    device = torch.device("cpu")
    common = {
        "logger": logging.getLogger("mdx"),
        "log_level": logging.ERROR,
        "torch_device": device,
        "torch_device_cpu": device,
        "torch_device_mps": None,
        "onnx_execution_provider": ["CPUExecutionProvider"],
        "model_name": "mdx",
        "model_path": str(weights / "mdx.onnx"),
        "model_data": data,
        "output_format": "WAV",
        "output_bitrate": None,
        "output_dir": str(folder),
        "normalization_threshold": 0.9,
        "amplification_threshold": 0.0,
        "output_single_stem": None,
        "invert_using_spec": False,
        "sample_rate": 44100,
        "use_soundfile": True,
    }
    # the program's defaults
    defaults = {"hop_length": 1024, "segment_size": 256, "overlap": 0.25, "batch_size": 1}
    # it would write stems in the encoding of the song, which wav files of an mp3 cannot have
    write(folder, {"song": read(song)})
    whole = folder / "song.wav"
    MDXSeparator(common, {**defaults, "enable_denoise": False}).separate(str(whole))


PREPARE = {"spleeter": prepare_spleeter, "audio-separator": prepare_mdx}
RUN = {
    "demucs": run_demucs,
    "openunmix": run_openunmix,
    "audio-separator": run_mdx,
    "spleeter": run_spleeter,
}


def install(name: str, folder: Path) -> Path:
    """Make the virtual environment of a peer, unless it is there; return its Python."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        venv.create(folder / name, with_pip=True)
        for packages in PACKAGES[name]:
            subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    return python


def take(command: list[str], folder: Path) -> Taken:
    """Run a program; say what it needed, and what went wrong."""
    begun = time.perf_counter()
    with TemporaryFile() as said:
        program = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(program.pid, 0)
        seconds = time.perf_counter() - begun
        program.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines() or ["?"]
    return Taken(seconds, usage.ru_maxrss / 1024, lines[-1] if program.returncode else "")


def make_song(path: Path, seconds: float) -> Path:
    import numpy as np
    import soundfile

    samples = round(seconds * 44100)
    random = np.random.default_rng(0).standard_normal((samples, 2))
    beat = np.exp(-8 * (np.arange(samples) / 44100 % 0.5))[:, None]
    soundfile.write(path, (0.1 * random * beat).astype(np.float32), 44100)
    return path


def compare(song: Path, names: list[str], venvs: Path, same: bool) -> dict[str, Taken]:
    """Time splitter and then each peer, in this one run."""
    here = song.parent
    results = {} if same else {"splitter": separate(song)}
    for name in names:
        python = install(name, venvs)
        script = [str(python), str(Path(__file__).resolve())]
        weights = here / f"{name}-weights"
        weights.mkdir()
        if same:
            millions = write_same(name, here / f"{name}-same")
            label = f"{SAME[name][0]}, {millions:.1f} M (splitter)"
            results[label] = separate(song, "-m", str(here / f"{name}-same"))
        if name in PREPARE:
            prepared = take([*script, "--prepare", name, str(weights)], here)
            if prepared.wrong:
                results[SYSTEMS[name]] = prepared
                continue
        (here / name).mkdir()
        command = [*script, "--run", name, str(song), str(here / name), str(weights)]
        results[SYSTEMS[name]] = take(command, here)
    return results


def separate(song: Path, *options: str) -> Taken:
    """Run splitter, twice if it is to be compared by its default model, and keep the better run."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    command = [sys.executable, "-m", "splitter", "separate", str(song), "-o", "ours", "--overwrite"]
    runs = [take([*command, *options], song.parent) for _ in range(1 if options else 2)]
    del os.environ["PYTHONPATH"]
    return min(runs, key=lambda run: run.seconds)


def show(results: dict[str, Taken], seconds: float) -> None:
    """Print a table in Markdown."""
    print("| system | seconds | × real time | memory, MB |\n|---|--:|--:|--:|")
    for name, taken in results.items():
        if taken.wrong:
            print(f"| {name} | failed: {taken.wrong} | | |")
            continue
        speed = seconds / taken.seconds
        print(f"| {name} | {taken.seconds:.1f} | {speed:.1f} | {taken.megabytes:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--song", type=Path, help="instead of one that is made")
    parser.add_argument("--only", default=",".join(PACKAGES), help="peers")
    parser.add_argument("--same", action="store_true", help="run the peers' own networks")
    parser.add_argument("--venvs", type=Path, default=Path.home() / ".cache" / "splitter-peers")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--prepare", nargs=2, metavar=("PEER", "WEIGHTS"))
    parser.add_argument("--run", nargs=4, metavar=("PEER", "SONG", "FOLDER", "WEIGHTS"))
    given = parser.parse_args()
    if given.prepare:
        PREPARE[given.prepare[0]](Path(given.prepare[1]))
        return
    if given.run:
        RUN[given.run[0]](*map(Path, given.run[1:]))
        return
    with TemporaryDirectory() as name:
        song = given.song or make_song(Path(name) / "song.mp3", given.seconds)
        import soundfile

        seconds = soundfile.info(song).duration
        target = Path(name) / song.name
        if target != song:
            target.write_bytes(song.read_bytes())
        results = compare(target, given.only.split(","), given.venvs, given.same)
    show(results, seconds)
    if given.json:
        plain = {name: asdict(taken) for name, taken in results.items()}
        given.json.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Time splitter beside its peers: the same song, the same cores, whole programs, one after another.

    python scripts/benchmark_peers.py [--seconds 240] [--only splitter,demucs] [--venvs FOLDER]

Each peer gets a virtual environment of its own from PyPI and separates the song by its own code
with its own defaults; start-up, loading, decoding and writing are counted. Where pretrained weights
cannot be fetched, random ones of the same architecture take their place: speed does not depend on
their values. soundfile reads and writes where a peer needs a program that may be missing.
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
from pathlib import Path
from tempfile import TemporaryDirectory
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


def take_time(command: list[str], folder: Path) -> tuple[float, str]:
    """Run a program; return the seconds that it took, and what went wrong."""
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    wrong = (done.stderr.strip() or "?").splitlines()[-1] if done.returncode else ""
    return time.perf_counter() - begun, wrong


def make_song(path: Path, seconds: float) -> Path:
    import numpy as np
    import soundfile

    samples = round(seconds * 44100)
    random = np.random.default_rng(0).standard_normal((samples, 2))
    beat = np.exp(-8 * (np.arange(samples) / 44100 % 0.5))[:, None]
    soundfile.write(path, (0.1 * random * beat).astype(np.float32), 44100)
    return path


def compare(song: Path, seconds: float, names: list[str], venvs: Path) -> dict[str, object]:
    """Time splitter and then each peer, in this one run."""
    results: dict[str, object] = {}
    here = song.parent
    ours = [sys.executable, "-m", "splitter", "separate", str(song), "-o", "ours", "--overwrite"]
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    taken, wrong = min(take_time(ours, here) for _ in range(2))
    results["splitter"] = wrong or taken
    del os.environ["PYTHONPATH"]
    for name in names:
        python = install(name, venvs)
        script = [str(python), str(Path(__file__).resolve())]
        weights = here / f"{name}-weights"
        weights.mkdir()
        if name in PREPARE:
            _, wrong = take_time([*script, "--prepare", name, str(weights)], here)
            if wrong:
                results[SYSTEMS[name]] = wrong
                continue
        (here / name).mkdir()
        command = [*script, "--run", name, str(song), str(here / name), str(weights)]
        taken, wrong = take_time(command, here)
        results[SYSTEMS[name]] = wrong or taken
    return results


def show(results: dict[str, object], seconds: float) -> None:
    """Print a table in Markdown."""
    ours = results["splitter"]
    print("| system | seconds | × real time | splitter is faster by |\n|---|---|---|---|")
    for name, taken in results.items():
        if isinstance(taken, float) and isinstance(ours, float):
            print(f"| {name} | {taken:.1f} | {seconds / taken:.1f} | {taken / ours:.1f} × |")
        else:
            print(f"| {name} | failed: {taken} | | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--song", type=Path, help="instead of one that is made")
    parser.add_argument("--only", default=",".join(PACKAGES), help="peers")
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
        results = compare(target, seconds, given.only.split(","), given.venvs)
    show(results, seconds)
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

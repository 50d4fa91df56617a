"""Time splitter beside its peers: the same song, the same cores, whole programs, one after another.

    python scripts/benchmark_peers.py [--seconds 240] [--only demucs] [--same] [--venvs FOLDER]

Each peer's program gets a virtual environment from PyPI and separates the song by its own code with
its own defaults; start-up, loading, decoding and writing are counted. Where pretrained weights
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
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

TORCH = "torch==2.13.0"
# program → what to install, in steps: the first keeps later ones from fetching another PyTorch
PACKAGES = {
    "demucs": [[TORCH], ["demucs", "soundfile"]],
    "openunmix": [[TORCH], ["openunmix", "soundfile"]],
    "roformer": [[TORCH], ["BS-RoFormer==0.3.8", "soundfile"]],
    # it asks for packages that exclude each other, or have no build; these do
    "audio-separator": [
        [TORCH],
        ["--no-deps", "audio-separator==0.47.1"],
        ["librosa", "ml_collections", "einops", "six", "resampy", "samplerate", "pydub", "onnx"],
        ["onnxruntime", "onnxscript", "soundfile", "tqdm", "requests", "pyyaml", "julius"],
        ["beartype==0.18.5", "rotary-embedding-torch==0.6.5"],
    ],
    # the resolver does not end; these are what it would have to find
    "spleeter": [
        ["--no-deps", "spleeter==2.4.2", "tensorflow-cpu==2.12.1", "keras==2.12.0"],
        ["--no-deps", "tensorflow-estimator==2.12.0", "tensorboard==2.12.3", "numpy==1.24.3"],
        ["--no-deps", "pandas==1.5.3", "scipy==1.11.4", "h5py==3.11.0", "httpx==0.19.0"],
        ["--no-deps", "httpcore==0.13.7", "typer==0.3.2", "click==7.1.2", "protobuf==4.25.9"],
        ["--no-deps", "jax==0.4.14", "ml-dtypes==0.2.0", "wrapt==1.14.2", "gast==0.4.0"],
        ["--no-deps", "typing_extensions==4.5.0", "tensorflow-io-gcs-filesystem==0.32.0"],
        ["absl-py", "anyio<4", "astunparse", "ffmpeg-python", "flatbuffers", "google-pasta", "h2"],
        ["libclang", "norbert", "opt_einsum", "python-dateutil", "pytz", "requests", "rfc3986<2"],
        ["requests-oauthlib", "google-auth", "google-auth-oauthlib<1.1", "grpcio", "termcolor"],
        ["Werkzeug", "Markdown", "tensorboard-data-server", "h11<0.13", "soundfile", "packaging"],
    ],
}


@dataclass(frozen=True)
class Peer:
    """A network, and a program that runs it."""

    label: str
    program: str  # of PACKAGES
    # the same network here: its name, sizes and stems; without them the peer's file is added
    same: tuple[str, dict[str, Any], tuple[str, ...]] | None


FOUR = ("drums", "bass", "other", "vocals")
TWO = ("vocals", "instrumental")
HALF = {"overlap": 0.5}  # of MDX23C, in place of 7/8, and as Kim has it: both sides do the same
RO_WINDOW = 88200  # samples, in place of 352800: a short song has several, as a song has
PEERS = {
    "demucs": Peer(
        "htdemucs (demucs)",
        "demucs",
        ("demucs", {"bottom_channels": 512, "t_layers": 5, "dconv_mode": 3}, FOUR),
    ),
    "openunmix": Peer("umxl (open-unmix)", "openunmix", ("open-unmix", {"hidden": 1024}, FOUR)),
    "audio-separator": Peer(
        "MDX-Net Inst HQ (audio-separator)", "audio-separator", ("mdx-net", {}, TWO[1:])
    ),
    "spleeter": Peer(
        "2stems (spleeter, TensorFlow)", "spleeter", ("spleeter", {}, ("vocals", "accompaniment"))
    ),
    "mdx23c": Peer("MDX23C InstVoc HQ (audio-separator)", "audio-separator", ("mdx23c", HALF, TWO)),
    "vr": Peer("1_HP-UVR (audio-separator)", "audio-separator", None),
    "mel-roformer": Peer(
        "Mel-Band RoFormer by Kim (BS-RoFormer 0.3.8)",
        "roformer",
        (
            "roformer",
            {"normed": "each", "mask_layers": 3, "depth": 6, "tile": RO_WINDOW, **HALF},
            TWO[:1],
        ),
    ),
    "bs-roformer": Peer(
        "BS-RoFormer 1297 (BS-RoFormer 0.3.8)",
        "roformer",
        ("roformer", {"width": 512, "mask_width": 2048, "tile": RO_WINDOW, **HALF}, TWO[:1]),
    ),
}
WHOLE = ("demucs", "openunmix", "audio-separator", "spleeter")  # beside splitter's own models


OURS = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


@dataclass(frozen=True)
class Taken:
    """What a program needed."""

    seconds: float
    megabytes: float  # at most, of memory
    wrong: str = ""  # the last line that it said, if it failed


def write_same(peer: str, folder: Path, prepared: Path) -> str:
    """Write a model with a peer's network: the weights that were prepared for it, or random ones.

    Returns the network's name, and the millions of its weights.
    """
    import torch

    from splitter.loading import build_network, load_model, save_model
    from splitter.registry import Config
    from splitter.weights.roformer import mel_bands

    torch.manual_seed(0)
    if (same := PEERS[peer].same) is None:
        from splitter.weights.adding import add_model

        add_model(folder, [prepared / "model.pth"], prepared / "model.json")
        network = load_model(str(folder)).network
        name = peer
    else:
        name, sizes, stems = same
        if name == "roformer":
            bands = mel_bands(60, 44100, 2048) if "normed" in sizes else BANDS
            sizes = {**sizes, "bands": bands}
        residual = "vocals" if stems == ("instrumental",) else "rest"
        config = Config(name, sizes, stems=stems, residual=residual)
        network = build_network(config, folder)
        save_model(folder, config, network)
    return f"{name}, {sum(weight.numel() for weight in network.parameters()) / 1e6:.1f} M"


WIDTHS = [2] * 24 + [4] * 12 + [12] * 8 + [24] * 8 + [48] * 8 + [128, 129]  # bins of a BS-RoFormer
BANDS = list(pairwise(accumulate(WIDTHS, initial=0)))


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
    shape = {"compensate": 1.0, "mdx_dim_f_set": 3072, "mdx_dim_t_set": 8}
    data = {**shape, "mdx_n_fft_scale_set": 6144, "primary_stem": "Instrumental"}
    (weights / "model.json").write_text(json.dumps(data))


def separator_options(weights: Path, name: str, folder: Path) -> dict[str, Any]:
    """Return what audio-separator's program hands to each of its architectures."""
    import logging

    import torch

    # it turns an ONNX file of another length into PyTorch, but the package needs another PyTorch
    converter: Any = types.ModuleType("onnx2torch")
    sys.modules["onnx2torch"] = converter
    device = torch.device("cpu")
    return {
        "logger": logging.getLogger("audio-separator"),
        "log_level": logging.ERROR,
        "torch_device": device,
        "torch_device_cpu": device,
        "torch_device_mps": None,
        "onnx_execution_provider": ["CPUExecutionProvider"],
        "model_name": name.partition(".")[0],
        "model_path": str(weights / name),
        "model_data": json.loads((weights / "model.json").read_text()),
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


def as_wav(song: Path, folder: Path) -> str:
    """Write a song as wav: audio-separator writes stems in a song's encoding, which wav has not."""
    write(folder, {"song": read(song)})
    return str(folder / "song.wav")


def run_mdx(song: Path, folder: Path, weights: Path) -> None:
    options = separator_options(weights, "mdx.onnx", folder)
    from audio_separator.separator.architectures.mdx_separator import MDXSeparator

    # the program's defaults
    defaults = {"hop_length": 1024, "segment_size": 256, "overlap": 0.25, "batch_size": 1}
    MDXSeparator(options, {**defaults, "enable_denoise": False}).separate(as_wav(song, folder))


MDX23C: dict[str, dict[str, Any]] = {
    "audio": {"dim_f": 4096, "dim_t": 256, "hop_length": 1024, "n_fft": 8192, "num_channels": 2,
              "chunk_size": 261120, "sample_rate": 44100},
    "model": {"act": "gelu", "bottleneck_factor": 4, "growth": 128, "norm": "InstanceNorm",
              "num_blocks_per_scale": 2, "num_channels": 128, "num_scales": 5, "num_subbands": 4,
              "scale": [2, 2]},
    "training": {"instruments": ["Vocals", "Instrumental"], "target_instrument": None},
    "inference": {"batch_size": 1, "dim_t": 256, "num_overlap": 2},
}  # fmt: skip


def prepare_mdx23c(weights: Path) -> None:
    import torch
    from audio_separator.separator.uvr_lib_v5.tfc_tdf_v3 import TFC_TDF_net
    from ml_collections import ConfigDict

    network = TFC_TDF_net(ConfigDict(MDX23C), torch.device("cpu"))
    torch.save(network.state_dict(), weights / "model.ckpt")
    (weights / "model.json").write_text(json.dumps(MDX23C))


def run_mdx23c(song: Path, folder: Path, weights: Path) -> None:
    options = separator_options(weights, "model.ckpt", folder)
    from audio_separator.separator.architectures.mdxc_separator import MDXCSeparator

    MDXCSeparator(options, {}).separate(as_wav(song, folder))


def prepare_vr(weights: Path) -> None:
    import torch
    from audio_separator.separator.uvr_lib_v5.vr_network import nets

    network = nets.determine_model_capacity(2 * 672, 123821)
    torch.save(network.state_dict(), weights / "model.pth")
    facts = {"vr_model_param": "4band_v2", "primary_stem": "Instrumental"}
    (weights / "model.json").write_text(json.dumps(facts))


def run_vr(song: Path, folder: Path, weights: Path) -> None:
    options = separator_options(weights, "model.pth", folder)
    from audio_separator.separator.architectures.vr_separator import VRSeparator

    VRSeparator(options, {}).separate(as_wav(song, folder))


def make_roformer(mel: bool) -> Any:
    """Make a network of bs-roformer's 0.3.8, the last whose files are those that are published."""
    from bs_roformer import BSRoformer, MelBandRoformer

    common = {"stereo": True, "num_stems": 1, "heads": 8, "dim_head": 64, "flash_attn": True,
              "time_transformer_depth": 1, "freq_transformer_depth": 1, "stft_hop_length": 441,
              "mask_estimator_depth": 2}  # fmt: skip
    if mel:
        return MelBandRoformer(dim=384, depth=6, num_bands=60, **common)
    return BSRoformer(dim=512, depth=12, freqs_per_bands=tuple(WIDTHS), **common)


def prepare_roformer(weights: Path, mel: bool) -> None:
    import torch

    torch.save(make_roformer(mel).state_dict(), weights / "model.ckpt")


def run_roformer(song: Path, folder: Path, weights: Path, mel: bool) -> None:
    """Go through a song as Kim's program does: windows, half overlapping, and mirrored ends."""
    import torch
    import torch.nn.functional as F

    network = make_roformer(mel).eval()
    network.load_state_dict(torch.load(weights / "model.ckpt"))
    size, fade = RO_WINDOW, RO_WINDOW // 10
    border = step = size // 2
    mix = torch.from_numpy(read(song).T.copy())
    samples = mix.shape[-1]
    padded = samples > 2 * border
    mix = F.pad(mix, (border, border), mode="reflect") if padded else mix
    total, weight = torch.zeros_like(mix), torch.zeros(mix.shape[-1])
    for start in range(0, mix.shape[-1], step):
        window = torch.ones(size)
        if start:
            window[:fade] = torch.linspace(0, 1, fade)
        if start + step < mix.shape[-1]:
            window[-fade:] = torch.linspace(1, 0, fade)
        part = mix[:, start : start + size]
        length = part.shape[-1]
        mode = "reflect" if length > size // 2 + 1 else "constant"
        with torch.inference_mode():
            made = network(F.pad(part, (0, size - length), mode=mode)[None])[0]
        total[:, start : start + length] += (made * window)[:, :length]
        weight[start : start + length] += window[:length]
    vocals = (total / weight)[:, border * padded :][:, :samples].T.numpy()
    write(folder, {"vocals": vocals, "instrumental": read(song) - vocals})


PREPARE: dict[str, Callable[[Path], None]] = {
    "spleeter": prepare_spleeter,
    "audio-separator": prepare_mdx,
    "mdx23c": prepare_mdx23c,
    "vr": prepare_vr,
    "mel-roformer": partial(prepare_roformer, mel=True),
    "bs-roformer": partial(prepare_roformer, mel=False),
}
RUN: dict[str, Callable[[Path, Path, Path], None]] = {
    "demucs": run_demucs,
    "openunmix": run_openunmix,
    "audio-separator": run_mdx,
    "spleeter": run_spleeter,
    "mdx23c": run_mdx23c,
    "vr": run_vr,
    "mel-roformer": partial(run_roformer, mel=True),
    "bs-roformer": partial(run_roformer, mel=False),
}


def install(name: str, folder: Path) -> Path:
    """Make the virtual environment of a program, unless it is there; return its Python."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        venv.create(folder / name, with_pip=True)
        for packages in PACKAGES[name]:
            subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    return python


def take(command: list[str], folder: Path, env: dict[str, str] | None = None) -> Taken:
    """Run a program; say what it needed, and what went wrong."""
    begun = time.perf_counter()
    with TemporaryFile() as said:
        program = subprocess.Popen(
            command, cwd=folder, stdout=said, stderr=subprocess.STDOUT, env=env
        )
        _, status, usage = os.wait4(program.pid, 0)
        seconds = time.perf_counter() - begun
        program.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines() or ["?"]
    return Taken(seconds, usage.ru_maxrss / 1024, lines[-1] if program.returncode else "")


def make_song(path: Path, seconds: float) -> Path:
    """Write noise with a beat, in parts: what is held here would count as a program's memory."""
    import numpy as np
    import soundfile

    random = np.random.default_rng(0)
    beat = np.exp(-8 * (np.arange(44100) / 44100 % 0.5))[:, None]
    left = round(seconds * 44100)
    with soundfile.SoundFile(path, "w", 44100, 2) as file:
        while left > 0:
            second = 0.1 * random.standard_normal((44100, 2)) * beat
            file.write(second[:left].astype(np.float32))
            left -= 44100
    return path


def compare(song: Path, names: list[str], venvs: Path, same: bool) -> dict[str, Taken]:
    """Time splitter and then each peer, in this one run."""
    here = song.parent
    results = {} if same else {"splitter": separate(song)}
    for name in names:
        peer = PEERS[name]
        script = [str(install(peer.program, venvs)), str(Path(__file__).resolve())]
        weights = here / f"{name}-weights"
        weights.mkdir()
        if name in PREPARE:
            prepared = take([*script, "--prepare", name, str(weights)], here)
            if prepared.wrong:
                results[peer.label] = prepared
                continue
        if same:
            # by another process: what this one once took would count as the programs' memory
            writing = [sys.executable, script[1], "--write", name, f"{here / name}-same"]
            label = subprocess.check_output([*writing, str(weights)], text=True, env=OURS).strip()
            results[f"{label} (splitter)"] = separate(song, "-m", str(here / f"{name}-same"))
        (here / name).mkdir()
        command = [*script, "--run", name, str(song), str(here / name), str(weights)]
        results[peer.label] = take(command, here)
    return results


def separate(song: Path, *options: str) -> Taken:
    """Run splitter, twice if it is to be compared by its default model, and keep the better run."""
    command = [sys.executable, "-m", "splitter", "separate", str(song), "-o", "ours", "--overwrite"]
    runs = [take([*command, *options], song.parent, OURS) for _ in range(1 if options else 2)]
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
    parser.add_argument("--only", default=",".join(WHOLE), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--same", action="store_true", help="run the peers' own networks")
    parser.add_argument("--venvs", type=Path, default=Path.home() / ".cache" / "splitter-peers")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--prepare", nargs=2, metavar=("PEER", "WEIGHTS"))
    parser.add_argument("--write", nargs=3, metavar=("PEER", "FOLDER", "WEIGHTS"))
    parser.add_argument("--run", nargs=4, metavar=("PEER", "SONG", "FOLDER", "WEIGHTS"))
    given = parser.parse_args()
    if given.prepare:
        PREPARE[given.prepare[0]](Path(given.prepare[1]))
        return
    if given.write:
        name, *folders = given.write
        print(write_same(name, *map(Path, folders)))
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

"""Make small random checkpoints by other programs' own code, and what that code makes of a song.

    VENV/bin/python scripts/make_references.py FAMILY [--msst FOLDER]

FAMILY's package must be installed in VENV (see docs/models.md). What is written to tests/references
lets the tests hold splitter's networks to these programs, without any of them installed.
--msst is a checkout of Music-Source-Separation-Training, whose `demix` cuts and fades songs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.foreign import HEARD, REFERENCES, STRIDE, reference_song  # noqa: E402

Arrays = dict[str, Any]
DEMUCS = ("drums", "bass", "other", "vocals")


def save(name: str, network: Any, song: Arrays) -> None:
    """Write what a network makes of the song's first samples, and some samples of whole stems."""
    folder = REFERENCES / name
    folder.mkdir(parents=True, exist_ok=True)
    stems = {f"song_{stem}": np.float32(sound[..., ::STRIDE]) for stem, sound in song.items()}
    np.savez_compressed(folder / "reference.npz", network=np.float32(network), **stems)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: network {np.shape(network)}, {', '.join(song)}, {size} bytes")


def randomise(network: Any, spread: float = 0.5) -> Any:
    """Give gains, norms and running statistics random values: the usual ones would hide errors."""
    import torch

    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith(("running_var",)):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif tensor.ndim == 1 and name.endswith(("gamma", "weight", "scale")):
                tensor.uniform_(1 - spread, 1 + spread)
    return network.eval()


def save_halved(network: Any, path: Path) -> None:
    """Save a network's tensors as float16, for the size of the file; round the network's, too."""
    import torch

    torch.save(network.half().state_dict(), path)
    network.float()


def make_roformers(arguments: argparse.Namespace) -> None:
    import torch
    from bs_roformer import BSRoformer, MelBandRoformer

    common = {"dim": 8, "depth": 2, "stereo": True, "heads": 2, "dim_head": 8,
              "time_transformer_depth": 1, "freq_transformer_depth": 1, "flash_attn": False,
              "stft_n_fft": 1024, "stft_hop_length": 512, "stft_win_length": 1024}  # fmt: skip
    bands = {"freqs_per_bands": (64,) * 7 + (65,)}
    torch.manual_seed(0)
    make_roformer(
        "bs-roformer", BSRoformer, {**common, **bands, "num_stems": 1, "mask_estimator_depth": 2},
        ["Vocals", "Instrumental"], "Vocals", arguments.msst,
    )  # fmt: skip
    make_roformer(
        "mel-band-roformer", MelBandRoformer,
        {**common, "num_bands": 8, "num_stems": 2, "mask_estimator_depth": 1},
        ["vocals", "other"], None, arguments.msst,
    )  # fmt: skip


def make_roformer(
    name: str, kind: Any, sizes: Arrays, instruments: list[str], target: str | None, msst: Path
) -> None:
    import torch
    import yaml

    network = randomise(kind(**sizes))
    facts = {
        "audio": {"chunk_size": 88064, "sample_rate": 44100, "num_channels": 2},
        "model": sizes,
        "training": {"instruments": instruments, "target_instrument": target, "use_amp": False},
        "inference": {"num_overlap": 2, "batch_size": 1},
    }
    folder = REFERENCES / name
    folder.mkdir(parents=True, exist_ok=True)
    save_halved(network, folder / "model.ckpt")
    (folder / "model.yaml").write_text(yaml.dump(facts))  # with its tuples
    song = reference_song()
    with torch.inference_mode():
        heard = network(torch.from_numpy(song[None, :, :HEARD]))[0]
    save(name, heard.reshape(-1, 2, heard.shape[-1]), demix(msst, facts, network, song))


def demix(msst: Path, facts: Arrays, network: Any, song: Any) -> Arrays:
    """Separate a whole song as Music-Source-Separation-Training does."""
    import torch
    from ml_collections import ConfigDict

    sys.path.insert(0, str(msst))
    import utils.model_utils as program

    stems: Arrays = program.demix(
        ConfigDict(facts), network, song, torch.device("cpu"), "mel_band_roformer"
    )
    return stems


def make_demucs(_: argparse.Namespace) -> None:
    from fractions import Fraction

    import torch
    from demucs.apply import BagOfModels
    from demucs.demucs import Demucs
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs

    sources = list(DEMUCS)
    torch.manual_seed(0)
    transformer = {"channels": 8, "bottom_channels": 16, "t_layers": 3, "t_heads": 2,
                   "t_hidden_scale": 2, "dconv_mode": 3}  # fmt: skip
    hybrid = HTDemucs(sources, **transformer, segment=Fraction(39, 10), samplerate=44100)
    make_one_demucs("htdemucs", hybrid)
    make_one_demucs("hdemucs", HDemucs(sources, channels=4, segment=4))
    make_one_demucs("wave-demucs", Demucs(sources, channels=4, segment=4, depth=5))
    small = {"channels": 4, "nfft": 1024, "depth": 5, "segment": 4}
    make_one_demucs("hdemucs-masks", HDemucs(sources, **small, cac=False))
    refined = {"wiener_iters": 1, "end_iters": 1, "wiener_residual": True}
    first = randomise_demucs(Demucs(sources, channels=4, depth=5, segment=4, lstm_layers=1))
    second = randomise_demucs(HDemucs(sources, **small, cac=False, hybrid_old=True, **refined))
    weights, seconds = [[1, 1, 0, 1], [0, 1, 1, 3]], 6
    bag = BagOfModels([first, second], weights, seconds)
    save_demucs("demucs-bag", [first, second], {"weights": weights, "segment": seconds})
    stems = run_demucs(bag, reference_song(), split=True)
    save("demucs-bag", np.zeros(0), dict(zip(sources, stems, strict=True)))


def make_second_demucs(_: argparse.Namespace) -> None:
    import types

    import torch

    sys.modules["diffq"] = quantisers = types.ModuleType("diffq")  # for training alone
    quantisers.DiffQuantizer = quantisers.UniformQuantizer = None  # type: ignore[attr-defined]
    from demucs.model import Demucs
    from demucs.utils import apply_model

    torch.manual_seed(0)
    network = randomise(Demucs(DEMUCS, channels=4, depth=5))
    folder = REFERENCES / "demucs-2"
    folder.mkdir(parents=True, exist_ok=True)
    save_halved(network, folder / "model.th")
    song = torch.from_numpy(reference_song())  # shorter than a tile, whose level is that of all
    heard, whole = (
        with_level(lambda sound: apply_model(network, sound, split=True), part)
        for part in (song[:, :HEARD], song)
    )
    save("demucs-2", heard, dict(zip(DEMUCS, whole, strict=True)))


def make_one_demucs(name: str, network: Any) -> None:
    network = randomise_demucs(network)
    save_demucs(name, [network], None)
    song = reference_song()
    whole = dict(zip(network.sources, run_demucs(network, song, split=True), strict=True))
    save(name, run_demucs(network, song[:, :HEARD], split=False), whole)


def randomise_demucs(network: Any) -> Any:
    """Make the branches heard that begin at a thousandth; round as files are rounded."""
    import torch

    with torch.no_grad():
        for name, tensor in randomise(network).named_parameters():
            if name.endswith(".scale"):
                tensor.uniform_(0.3, 0.8)
    return network.half().float()


def save_demucs(name: str, networks: list[Any], bag: Arrays | None) -> None:
    import yaml
    from demucs import states

    folder = REFERENCES / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    signatures = [f"{number}" * 8 for number in range(len(networks))]
    for network, signature in zip(networks, signatures, strict=True):
        args, kwargs = network._init_args_kwargs
        state = states.get_state(network, None, half=True)
        package = {"klass": type(network), "args": args, "kwargs": kwargs, "state": state,
                   "training_args": {"lr": 1}}  # fmt: skip
        states.save_with_checksum(package, folder / f"{signature}.th")
    if bag:
        (folder / "bag.yaml").write_text(yaml.dump({"models": signatures, **bag}))


def run_demucs(network: Any, song: Any, split: bool) -> Any:
    """Separate as demucs.api does, but for its random shift: (stems, channels, samples)."""
    import torch
    from demucs.apply import apply_model

    return with_level(
        lambda sound: apply_model(network, sound[None], shifts=0, split=split, overlap=0.25)[0],
        torch.from_numpy(song),
    )


def with_level(separate: Callable[[Any], Any], song: Any) -> Any:
    """Separate a song of zero mean and unit deviation, and give both back."""
    import torch

    mono = song.mean(0)
    mean, deviation = mono.mean(), mono.std() + 1e-8
    with torch.inference_mode():
        return (separate((song - mean) / deviation) * deviation + mean).numpy()


def make_openunmix(_: argparse.Namespace) -> None:
    import types

    import torch

    # there is no torchaudio for this PyTorch; what is used here does not need it
    for module in ("torchaudio", "torchaudio.transforms"):
        sys.modules[module] = types.ModuleType(module)
    from openunmix.model import OpenUnmix
    from openunmix.utils import load_separator

    folder = REFERENCES / "openunmix"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    targets = ["drums", "vocals"]
    sizes = {"nb_bins": 513, "nb_channels": 2, "hidden_size": 16, "max_bin": 372}
    for target in targets:
        network = randomise(OpenUnmix(**sizes))
        with torch.no_grad():
            network.input_mean.uniform_(-1, 0)
            network.input_scale.uniform_(0.2, 1)
        torch.save(network.state_dict(), folder / f"{target}.pth")
        arguments = {"nfft": 1024, "nb_channels": 2, "hidden_size": 16, "bandwidth": 16000}
        (folder / f"{target}.json").write_text(json.dumps({"args": arguments}))
    facts = {"sample_rate": 44100, "nfft": 1024, "nhop": 512, "nb_channels": 2}
    (folder / "separator.json").write_text(json.dumps(facts))
    separator = load_separator(str(folder), targets=targets, niter=1)
    separator.eval()
    song = torch.from_numpy(reference_song())[None]
    with torch.inference_mode():
        heard, stems = (separator(part)[0].numpy() for part in (song[..., :HEARD], song))
    save("openunmix", heard, dict(zip(targets, stems, strict=True)))


def make_spleeter(_: argparse.Namespace) -> None:
    make_one_spleeter("spleeter-2stems", "spleeter:2stems")
    make_one_spleeter("spleeter-5stems", "spleeter:5stems")


def make_one_spleeter(name: str, published: str) -> None:
    import tensorflow as tf
    from spleeter.model import EstimatorSpecBuilder, InputProviderFactory
    from spleeter.utils.configuration import load_configuration

    folder = REFERENCES / name
    folder.mkdir(parents=True, exist_ok=True)
    parameters = load_configuration(published)
    parameters |= {"T": 64, "F": 192, "frame_length": 1024, "frame_step": 256, "MWF": False}
    parameters["model"]["params"]["conv_n_filters"] = [2, 4, 4, 8, 8, 8]
    (folder / "model.json").write_text(json.dumps(parameters, indent=1))
    random, song = np.random.default_rng(2), reference_song()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.train.get_or_create_global_step()
        features = InputProviderFactory.get(parameters).get_input_dict_placeholders()
        outputs = EstimatorSpecBuilder(features, parameters).outputs
        session.run(tf.compat.v1.global_variables_initializer())
        for variable in tf.compat.v1.global_variables():
            if variable.dtype.base_dtype == tf.float32:
                shape = variable.shape.as_list()
                spread = 1.5 / np.sqrt(np.prod(shape[:-1]) / 2) if len(shape) > 1 else 0.1
                centre = 1 if "gamma" in variable.name or "variance" in variable.name else 0
                variable.load(random.normal(centre, spread, shape).astype(np.float32), session)
        tf.compat.v1.train.Saver().save(session, str(folder / "model"), write_meta_graph=False)
        heard, whole = (
            session.run(outputs, {features["waveform"]: part.T, features["audio_id"]: "song"})
            for part in (song[:, :HEARD], song)
        )
    stems = list(parameters["instrument_list"])
    network = np.stack([heard[stem].T for stem in stems])
    save(name, network, {stem: whole[stem].T for stem in stems})


def make_mdx23c(arguments: argparse.Namespace) -> None:
    import torch
    import yaml
    from audio_separator.separator.uvr_lib_v5.tfc_tdf_v3 import TFC_TDF_net
    from ml_collections import ConfigDict

    audio = {"n_fft": 1024, "hop_length": 512, "dim_f": 512, "num_channels": 2,
             "chunk_size": 512 * 127, "sample_rate": 44100}  # fmt: skip
    model = {"num_channels": 8, "growth": 4, "num_scales": 2, "scale": [2, 2], "norm":
             "InstanceNorm", "act": "gelu", "num_blocks_per_scale": 2, "bottleneck_factor": 4,
             "num_subbands": 4}  # fmt: skip
    training = {"instruments": ["Vocals", "Instrumental"], "target_instrument": None,
                "use_amp": False}  # fmt: skip
    facts = {"audio": audio, "model": model, "training": training,
             "inference": {"num_overlap": 2, "batch_size": 1}}  # fmt: skip
    torch.manual_seed(0)
    network = randomise(TFC_TDF_net(ConfigDict(facts), "cpu"))
    folder = REFERENCES / "mdx23c"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.yaml").write_text(yaml.dump(facts))
    save_halved(network, folder / "model.ckpt")
    song = reference_song()
    with torch.inference_mode():
        heard = network(torch.from_numpy(song[None, :, : 512 * 19]))[0].numpy()
    save("mdx23c", heard, demix(arguments.msst, facts, network, song))


def make_mdxnet(_: argparse.Namespace) -> None:
    import types

    import onnxruntime
    import torch

    # the network's file wants it for training, but the package does not install it
    lightning: Any = types.ModuleType("pytorch_lightning")
    lightning.LightningModule = torch.nn.Module
    sys.modules["pytorch_lightning"] = lightning
    from audio_separator.separator.uvr_lib_v5.mdxnet import ConvTDFNet
    from audio_separator.separator.uvr_lib_v5.stft import STFT

    bins, frames, window, hop = 512, 32, 2048, 1024
    torch.manual_seed(0)
    network = randomise(ConvTDFNet(
        "vocals", 1e-4, "rmsprop", 4, bins, frames, window, hop, 5, 2, 8, 3, 8, False, 0
    ))  # fmt: skip
    folder = REFERENCES / "mdx-net"
    folder.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        network, (torch.zeros(1, 4, bins, frames),), str(folder / "model.onnx"), dynamo=False,
        opset_version=13, input_names=["input"], output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
    )  # fmt: skip
    facts = {"mdx_dim_f_set": bins, "mdx_dim_t_set": 5, "mdx_n_fft_scale_set": window,
             "compensate": 1.05, "primary_stem": "Vocals"}  # fmt: skip
    (folder / "model.json").write_text(json.dumps(facts))
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    import logging

    stft = STFT(logging.getLogger("stft"), window, hop, bins, torch.device("cpu"))

    def separate(tile: Any) -> Any:
        spectrogram = stft(torch.from_numpy(tile[None]))
        spectrogram[:, :, :3] *= 0
        made = session.run(None, {"input": spectrogram.numpy()})[0]
        return stft.inverse(torch.from_numpy(made)).numpy()[0]

    # as UVR and the network's first program: half a window at both ends of a tile is not kept
    song, tile, trim = reference_song(), hop * (frames - 1), window // 2
    step, samples = tile - 2 * trim, song.shape[1]
    padded = np.pad(song, ((0, 0), (trim, trim + step)))
    pieces = [
        separate(padded[:, start : start + tile])[:, trim : tile - trim]
        for start in range(0, samples, step)
    ]
    vocals = 1.05 * np.concatenate(pieces, axis=1)[:, :samples]
    save("mdx-net", 1.05 * separate(song[:, :tile])[None], {"Vocals": vocals})


def make_vr(_: argparse.Namespace) -> None:
    import torch
    from audio_separator.separator.uvr_lib_v5.vr_network.nets import CascadedASPPNet
    from audio_separator.separator.uvr_lib_v5.vr_network.nets_new import CascadedNet

    torch.manual_seed(0)
    plain, rows = (2, 2), 2 * 640
    capacity = [plain, plain, (4, 1, 1, 1, 0), (1, 2), (6, 2, 1, 1, 0), (2, 4), (4, 2, 1),
                (2, 2, 1), (2, 2, 1)]  # fmt: skip
    cascade = CascadedASPPNet(rows, capacity, 33966)
    # windows that hold the whole song, since the level is that of a window here
    facts = {"vr_model_param": "3band_44100_msb2", "primary_stem": "Vocals", "window_size": 2304}
    make_one_vr("vr", cascade, facts)
    facts = {"vr_model_param": "4band_v2_sn", "primary_stem": "Instrumental", "window_size": 2048}
    make_one_vr("vr-5.1", CascadedNet(2 * 672, nout=8, nout_lstm=8), facts)


def make_one_vr(name: str, network: Any, facts: Arrays) -> None:
    import tempfile

    import audio_separator
    import soundfile
    import torch
    from audio_separator.separator.architectures.vr_separator import VRSeparator
    from audio_separator.separator.uvr_lib_v5 import spec_utils
    from audio_separator.separator.uvr_lib_v5.vr_network.model_param_init import ModelParameters

    spec_utils.wav_resolution = "polyphase"  # as on an ARM Mac
    folder = REFERENCES / name
    folder.mkdir(parents=True, exist_ok=True)
    save_halved(randomise(network), folder / "model.pth")
    (folder / "model.json").write_text(json.dumps(facts))
    tables = Path(audio_separator.__file__).parent / "separator/uvr_lib_v5/vr_network/modelparams"
    program = VRSeparator.__new__(VRSeparator)
    program.logger = __import__("logging").getLogger("vr")
    program.model_params = ModelParameters(str(tables / f"{facts['vr_model_param']}.json"))
    program.is_vr_51_model = name == "vr-5.1"
    program.torch_device_mps = "polyphase"
    program.wav_subtype, program.high_end_process = "FLOAT", False
    program.enable_tta = program.enable_post_process = False
    program.window_size, program.batch_size = facts["window_size"], 1
    program.primary_stem_name, program.model_run = facts["primary_stem"], network
    split = program.model_params.param["band"][1]["crop_stop"]
    aggression = {"value": 0.05, "split_bin": split, "aggr_correction": None}

    def separate(sound: Any, alone: bool) -> Any:
        with tempfile.TemporaryDirectory() as place:
            program.audio_file_path = str(Path(place) / "song.wav")
            soundfile.write(program.audio_file_path, sound.T, 44100, "FLOAT")
            spectrum = program.loading_mix()
        if alone:
            # the network without what UVR lays around a window
            padded = np.pad(np.abs(spectrum), ((0, 0), (0, 0), (0, -spectrum.shape[2] % 16)))
            with torch.inference_mode():
                mask = network(torch.from_numpy(padded / padded.max())[None])[0].numpy()
            single = facts["primary_stem"] == "Vocals"
            made = spec_utils.adjust_aggr(mask[..., : spectrum.shape[2]], single, aggression)
            estimate = made * spectrum
        else:
            estimate, _ = program.inference_vr(spectrum, torch.device("cpu"), aggression)
        return program.spec_to_wav(estimate)  # shorter than the song by part of a hop

    song = reference_song()
    whole = separate(song, alone=False)
    heard = separate(song[:, :HEARD], alone=True)
    network_alone = np.pad(heard, ((0, 0), (0, HEARD - heard.shape[1])))
    save(name, network_alone[None], {facts["primary_stem"]: whole})


FAMILIES: dict[str, Callable[[argparse.Namespace], None]] = {
    "roformer": make_roformers,
    "demucs": make_demucs,
    "demucs-2": make_second_demucs,
    "openunmix": make_openunmix,
    "mdx23c": make_mdx23c,
    "mdx-net": make_mdxnet,
    "spleeter": make_spleeter,
    "vr": make_vr,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--msst", type=Path)
    arguments = parser.parse_args()
    FAMILIES[arguments.family](arguments)


if __name__ == "__main__":
    main()

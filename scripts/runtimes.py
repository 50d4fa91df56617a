"""Time a model's network on the runtimes that a processor may have, and say how exact each is.

    pip install onnx onnxruntime
    python -m scripts.runtimes SONG --model unet

The network looks at a stretch of a song, whole, in PyTorch, onnxruntime and OpenVINO: in float32,
in bfloat16, and in integers of 8 bits, for which onnxruntime finds the ranges on other stretches.
The decibels say how far its vocals, in the spectrum, lie from those of PyTorch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino
import torch

from splitter.audio import open_song, resample_signal
from splitter.loading import load_model
from splitter.networks import MaskModel
from splitter.runtime.tracing import MaskOf

FRAMES = 512  # of a stretch
STRETCHES = 5  # the last is looked at, the others show the ranges
TIMES = 5
Spectrum = npt.NDArray[np.complex64]  # (1, channels, frames, bins)
Look = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


def cut_stretches(song: Path, network: MaskModel, rate: int) -> list[Spectrum]:
    """Cut spectra of stretches out of a song."""
    with open_song(song) as reader:
        signal = np.concatenate([*reader.read_blocks()], axis=-1)
        signal = resample_signal(signal, reader.rate, rate)
    size, hop = network.stft.size, network.stft.hop
    length = (FRAMES - 1) * hop + size
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    spectra = []
    for start in np.linspace(0, signal.shape[-1] - length, STRETCHES).astype(int):
        part = signal[:, start : start + length]
        frames = np.lib.stride_tricks.sliding_window_view(part, size, -1)[:, ::hop]
        spectra.append(np.fft.rfft(frames * window)[None].astype(np.complex64))
    return spectra


def export(network: MaskModel, example: npt.NDArray[np.float32], path: Path) -> None:
    """Write a network as ONNX."""
    import onnx

    inputs = (torch.from_numpy(example),)
    torch.onnx.export(MaskOf(network).eval(), inputs, path, opset_version=17, dynamo=False)
    model = onnx.load(path)
    for node in model.graph.node:  # the exporter counts axes from the last, which nobody else reads
        for given in node.attribute:
            if node.op_type == "Transpose" and given.name == "perm":
                given.ints[:] = [axis % len(given.ints) for axis in given.ints]
    onnx.save(model, path)


def quantise(path: Path, spectra: Sequence[Spectrum], target: Path) -> None:
    """Write a network whose convolutions multiply integers of 8 bits."""
    from onnxruntime import quantization

    class Examples(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self.left = [{name: np.abs(spectrum)} for spectrum in spectra]

        def get_next(self) -> dict[str, Any] | None:
            return self.left.pop() if self.left else None

    ready = path.with_suffix(".ready.onnx")
    quantization.shape_inference.quant_pre_process(path, ready, skip_symbolic_shape=True)
    name = openvino.Core().read_model(ready).inputs[0].any_name
    kinds = ["Conv", "ConvTranspose"]
    quantization.quantize_static(
        ready, target, Examples(name), op_types_to_quantize=kinds, per_channel=True
    )


def on_openvino(path: Path, precision: str, threads: int) -> Look:
    """Return the network on OpenVINO."""
    core = openvino.Core()
    wanted = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
    compiled = core.compile_model(core.read_model(path), "CPU", wanted)
    request = compiled.create_infer_request()
    return lambda given: request.infer({0: given})[compiled.output(0)].copy()


def on_onnxruntime(path: Path, threads: int) -> Look:
    """Return the network on onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda given: session.run(None, {name: given})[0]


@torch.inference_mode()
def look(network: MaskModel, given: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Look at magnitudes on PyTorch."""
    answer: npt.NDArray[np.float32] = MaskOf(network)(torch.from_numpy(given)).numpy()
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("song", type=Path)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = load_model(asked.model, folded=True)
    network = model.network
    assert isinstance(network, MaskModel)
    *others, heard = cut_stretches(asked.song, network, model.config.rate)
    magnitude = np.abs(heard)
    with TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "small.onnx"
        export(network, magnitude, plain)
        quantise(plain, others, small)
        ways: dict[str, Look] = {
            "PyTorch, float32": partial(look, network),
            "onnxruntime, float32": on_onnxruntime(plain, asked.threads),
            "onnxruntime, 8 bits": on_onnxruntime(small, asked.threads),
            "OpenVINO, float32": on_openvino(plain, "f32", asked.threads),
            "OpenVINO, bfloat16": on_openvino(plain, "bf16", asked.threads),
            "OpenVINO, 8 bits": on_openvino(small, "f32", asked.threads),
        }
        expected = look(network, magnitude)
        print(f"| {FRAMES} frames, {asked.threads} threads | ms | vocals |\n|---|--:|--:|")
        for name, act in ways.items():
            error, taken = (act(magnitude) - expected) * heard, []
            for _ in range(TIMES):
                started = time.perf_counter()
                act(magnitude)
                taken.append(time.perf_counter() - started)
            ratio = np.sum(np.abs(expected * heard) ** 2) / max(np.sum(np.abs(error) ** 2), 1e-30)
            print(
                f"| {name} | {1000 * min(taken):.0f} | {10 * np.log10(ratio):.0f} dB |", flush=True
            )


if __name__ == "__main__":
    main()

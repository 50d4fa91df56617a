"""Where a network runs: threads of this processor, streams of a GPU.

On a processor every lane has its own tile and few threads: lanes of one thread each do twice the
work of one lane with them all, since nothing waits at the end of each layer. A tile that is alone,
the only one of a short song say, gets all threads. A GPU has two lanes, each with a stream, so that
one copies while the other computes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from splitter.devices import pick_device
from splitter.engines.sharing import Lane, Signals
from splitter.errors import DeviceError, saying_shortage
from splitter.loading import Model, load_model
from splitter.processors import count_processors
from splitter.registry import ModelChoice
from splitter.runtime.computing import Computing
from splitter.runtime.tiles import compute

MOST_LANES = 8  # on a processor; each has a tile in memory
GPU_LANES = 2
MOST_TILES = 16  # in a batch; a tile alone has work for most of a GPU
MEMORY_SHARE = 0.8  # of a GPU's free memory that batches may fill


class ProcessorLane:
    """Runs a network in the thread that calls."""

    def __init__(self, model: Model, computing: Computing, batch: int) -> None:
        self.model = model
        self.computing = computing
        self.batch = batch
        self.alone = False
        self.part = 0

    def __call__(self, signals: Signals, context: int) -> Signals:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples of core)."""
        model = self.model.parts[self.part]
        if not self.alone:
            return compute(signals, model, self.computing, context)
        threads = torch.get_num_threads()
        torch.set_num_threads(count_processors())  # of this thread's work, and of new threads'
        try:
            return compute(signals, model, self.computing, context)
        finally:
            torch.set_num_threads(threads)


class StreamLane(ProcessorLane):
    """Runs a network on a stream of its own of a GPU."""

    def __init__(self, model: Model, computing: Computing, batch: int) -> None:
        super().__init__(model, computing, batch)
        self.stream = torch.cuda.Stream(model.device)
        # the weights may still be on their way there
        self.stream.wait_stream(torch.cuda.current_stream(model.device))

    def __call__(self, signals: Signals, context: int) -> Signals:
        """Separate (batch, channels, samples) into (batch, stems, channels, samples of core)."""
        with torch.cuda.stream(self.stream):
            return super().__call__(signals, context)


def share_processor() -> int:
    """Split the processor's threads over lanes; return how many lanes there should be.

    This concerns the whole process, so only a program may call it, once, at its start, before it
    computes: threads that this one would have begun do not end, and OpenMP lets none wait busily
    for work once there are more of them than processors. OMP_NUM_THREADS bounds them, as ever.
    """
    threads = torch.get_num_threads()
    lanes = min(threads, MOST_LANES)
    torch.set_num_threads(threads // lanes)
    return lanes


def load_models(choice: ModelChoice, devices: Sequence[str]) -> list[Model]:
    """Load a model onto each of some devices, for lanes."""
    models = []
    for device in map(pick_device, devices):
        with saying_shortage(str(device), DeviceError):
            models.append(load_model(choice, device, folded=True))
    return models


def make_lanes(models: Sequence[Model], computing: Computing, processor_lanes: int) -> list[Lane]:
    """Make the lanes for a model that was loaded onto each of some devices.

    A batch of 0 becomes what each device's memory holds.
    """
    lanes: list[Lane] = []
    for model in models:
        batch = computing.batch or fit_batch(model, computing)
        if model.device.type == "cuda":
            lanes += [StreamLane(model, computing, batch) for _ in range(GPU_LANES)]
        else:
            count = processor_lanes if model.device.type == "cpu" else 1
            lanes += [ProcessorLane(model, computing, batch) for _ in range(count)]
    return lanes


def fit_batch(model: Model, computing: Computing) -> int:
    """Return how many tiles a lane may take at once, from the free memory of a GPU.

    On a processor one tile fills a lane, and more only fall out of its cache.
    """
    if model.device.type != "cuda":
        return 1
    torch.cuda.reset_peak_memory_stats(model.device)
    before = torch.cuda.memory_allocated(model.device)
    with saying_shortage(str(model.device), DeviceError):
        for part in model.parts:
            shape = computing.tile_shape(part.network)
            samples = shape.core + 2 * shape.context
            silence = np.zeros((1, model.config.channels, samples), np.float32)
            compute(silence, part, computing, shape.context)
    tile = torch.cuda.max_memory_allocated(model.device) - before  # bytes, of the largest
    torch.cuda.empty_cache()  # what is kept for this stream is of no use to those of lanes
    free, _ = torch.cuda.mem_get_info(model.device)
    return max(1, min(MOST_TILES, int(free * MEMORY_SHARE / GPU_LANES / max(tile, 1))))

"""What a network takes and gives, told from its sizes alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from splitter.networks.mask import MaskModel
from splitter.networks.presets import PRESETS

SECONDS = 18  # of a song that is counted


@dataclass(frozen=True)
class Cost:
    """The sizes of a network."""

    weights: int
    operations: float  # a second of song; those of a spectrogram's transforms are not counted
    context: float  # seconds to either side that it sees
    exact: bool  # tiles are what the whole song would have given


def measure(name: str, sizes: dict[str, object], rate: int = 44100, channels: int = 2) -> Cost:
    """Count what a preset needs at some sizes; nothing is computed and no memory taken."""
    with torch.device("meta"):
        network = PRESETS[name].sizes(**sizes).build(channels, 1).eval()
        tiles = network.own_tiles
        samples = -(-SECONDS * rate // network.grid) * network.grid if tiles is None else tiles.core
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            if isinstance(network, MaskModel):
                inputs = channels * (1 + len(network.views.lengths))
                frames = samples // network.stft.hop
                network.unet(torch.zeros(1, inputs, network.bands.bands, frames))
            else:
                network(torch.zeros(1, channels, samples))
    weights = sum(weight.numel() for weight in network.parameters())
    kept = samples if tiles is None else tiles.step  # what overlaps is computed twice
    seen = network.context if tiles is None else tiles.core
    return Cost(weights, counter.get_total_flops() * rate / kept, seen / rate, tiles is None)

"""From a model's config to its graph; this needs PyTorch, and is done once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from splitter.graphs import Graph, GraphError, Node, Traced
from splitter.loading import build_network
from splitter.networks import ARCHITECTURES, MaskModel
from splitter.networks.sizes import MaskSizes
from splitter.networks.tracing import trace
from splitter.registry import Config


def trace_model(config: Config, path: Path) -> Traced:
    """Trace a model's network; raise GraphError if it is none that masks spectra."""
    # large networks of other programs are not built to learn that
    masks = issubclass(ARCHITECTURES.get(config.network, MaskSizes), MaskSizes)
    network = build_network(config, path) if masks else None
    if not isinstance(network, MaskModel) or network.own_tiles or network.views.lengths:
        raise GraphError(f"{path}: only networks that mask magnitudes frame by frame can")
    stft, frames = network.stft, 2 * network.unet.stride

    def make_input(frames: int) -> Tensor:
        return torch.zeros(1, config.channels, frames, stft.bins)

    graph = trace(MaskOf(network).eval(), make_input, frames)
    return Traced(stft.size, stft.hop, Graph([_rename(node) for node in graph.nodes]))


def _rename(node: Node) -> Node:
    """Call a weight as it is called in the model's file."""
    if node.op != "weight":
        return node
    return replace(node, given={"name": node.given["name"].removeprefix("network.")})


class MaskOf(nn.Module):
    """From magnitudes to a mask, frames before bins on both sides, as spectra lie in memory."""

    def __init__(self, network: MaskModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, magnitude: Tensor) -> Tensor:
        """Look at (1, channels, frames, bins); return (stems, channels, frames, bins)."""
        mask = self.network.look(magnitude.transpose(-1, -2)).flatten(0, 1)  # stems
        return mask.transpose(-1, -2)

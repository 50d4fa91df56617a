from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splitter.graphs import (
    Graph,
    GraphError,
    Stream,
    find_early,
    find_reach,
    find_stride,
    make_stream,
    read_graph,
    write_graph,
)
from splitter.networks.blocks import BandNorm
from splitter.networks.mask import Level
from splitter.networks.picture import Parts, PictureUNet
from splitter.networks.tfctdf import TfcTdf
from splitter.networks.tracing import trace
from splitter.networks.unet import UNet
from tests.torch_steps import TorchSteps

BANDS = 32


class Whole(nn.Module):
    """Everything between a spectrogram's bands and a mask."""

    def __init__(self, unet: nn.Module, span: int) -> None:
        super().__init__()
        self.level, self.norm, self.unet = Level(span), BandNorm(BANDS), unet

    def forward(self, picture: Tensor) -> Tensor:
        mask: Tensor = torch.sigmoid(self.unet(self.norm(torch.log1p(4 * self.level(picture)))))
        return mask


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "unet": lambda: UNet(2, 2, 4, 3),
    "unet with blocks": lambda: UNet(2, 4, 3, 3, blocks=2, blocks_up=1, bands=BANDS),
    "tfc-tdf": lambda: TfcTdf(2, 2, BANDS, 4, 2, 2),
    "level and unet": lambda: Whole(UNet(2, 2, 4, 2), 5),
    "parts that pool": lambda: PictureUNet(Parts(width=4, levels=2), 2, 2, BANDS),
    "valid parts": lambda: PictureUNet(Parts(block="valid", width=4, levels=2), 2, 2, BANDS),
    "packed parts": lambda: PictureUNet(
        Parts(block="depthwise", up="sub-pixel", pack=2, width=8, levels=1), 2, 2, BANDS
    ),
    "parts that skip frames": lambda: PictureUNet(
        Parts(block="residual", down="in-block", up="bilinear", width=4, levels=2), 2, 2, BANDS
    ),
    "parts that repeat frames": lambda: PictureUNet(
        Parts(block="leaky", up="repeated", skip="attention", width=4, levels=2), 2, 2, BANDS
    ),
    "averaged": lambda: nn.AvgPool2d((3, 1)),  # two rows are left over
    "dilated": lambda: nn.Conv2d(2, 2, 3, dilation=(1, 4), padding=(1, 4)),
    "one-sided": lambda: nn.ConvTranspose2d(2, 2, (3, 4), (1, 2), padding=(1, 1)),
}


def build(name: str) -> nn.Module:
    torch.manual_seed(3)
    network = NETWORKS[name]()
    if name == "one-sided":
        network = nn.Sequential(nn.Conv2d(2, 2, (1, 2), (1, 2)), network)
    for part in network.modules():  # as after training
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(part.running_mean, 0, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 2)  # type: ignore[arg-type]
        if type(part).__name__ == "Added":
            nn.init.normal_(part.gain)  # type: ignore[arg-type]
    return network.eval()


def picture(frames: int) -> Tensor:
    return torch.rand(1, 2, BANDS, frames, generator=torch.Generator().manual_seed(0))


@cache
def graph_of(name: str) -> Graph:
    return trace(build(name), picture, 16)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def decibels(signal: Tensor, error: Tensor) -> float:
    return float(10 * torch.log10(signal.square().sum() / (error.square().sum() + 1e-30)))


# those whose frames stay where they are
UNMOVED = sorted(NETWORKS.keys() - {"valid parts", "parts that skip frames"})


@pytest.mark.parametrize("name", UNMOVED)
def test_a_graph_computes_what_its_network_does(name: str) -> None:
    network = build(name)
    graph = graph_of(name)
    with torch.inference_mode():
        expected = network(picture(48))
    given = TorchSteps(Stream(graph, 0, 1), weights_of(network))(picture(48))
    inner = slice(None) if name != "level and unet" else slice(30, -30)  # where Level is cut off
    torch.testing.assert_close(given[..., inner], expected[..., inner], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_song_in_chunks_gives_what_it_gives_at_once(name: str) -> None:
    network = build(name)
    graph = graph_of(name)
    stream, reach = make_stream(graph), find_reach(graph)
    frames = 32 * (2 * reach // 32 + 4)
    with torch.inference_mode():
        expected = network(picture(frames))
    for chunk in (find_stride(graph), 32):
        steps = TorchSteps(stream, weights_of(network))
        parts = [steps(part) for part in picture(frames).split(chunk, dim=-1)]
        late = torch.cat(parts, dim=-1)[..., stream.late :]
        inner = slice(reach, frames - max(reach, stream.late))
        error = late[..., inner] - expected[..., inner]
        assert decibels(expected[..., inner], error) > 100  # float32, summed in another order


def test_what_sees_no_further_than_a_chunk_is_not_needed_early() -> None:
    stream = make_stream(graph_of("unet"))
    nodes = stream.graph.nodes
    needed = {frames: find_early(stream, frames) for frames in (0, 16, 10000)}
    assert needed[0] >= needed[16] > needed[10000] == {0}  # the input
    for early in needed.values():
        assert len(nodes) - 1 not in early
        assert all(source in early for place in early for source in nodes[place].inputs)


@pytest.mark.parametrize(
    "name", ["unet", "unet with blocks", "tfc-tdf", *(name for name in NETWORKS if "parts" in name)]
)
def test_reach_and_stride_are_those_that_networks_state(name: str) -> None:
    network: Any = build(name)
    stride, reach = find_stride(graph_of(name)), find_reach(graph_of(name))
    if name == "parts that skip frames":  # states a few that a stride passes over
        assert reach < network.reach < reach + stride
        network.reach = reach
    assert (stride, reach) == (network.stride, network.reach)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_output_sees_no_further_than_the_reach(name: str) -> None:
    network = build(name)
    reach = find_reach(graph_of(name))
    frames = 32 * (2 * reach // 32 + 4)
    heard = picture(frames).requires_grad_()
    middle = frames // 2
    network(heard)[..., middle].square().sum().backward()
    assert heard.grad is not None
    seen = heard.grad.abs().amax((0, 1, 2)).nonzero()
    assert middle - reach <= int(seen.min()) and int(seen.max()) <= middle + reach


def test_reach_is_that_of_the_longer_side() -> None:
    wide = nn.Conv2d(2, 2, (1, 5), padding=(0, 4))  # four frames before, of two each
    network = nn.Sequential(nn.Conv2d(2, 2, (1, 2), (1, 2)), wide).eval()
    assert find_reach(trace(network, picture, 16)) == 8


def test_a_graph_is_written_and_read() -> None:
    graph = graph_of("unet with blocks")
    assert read_graph(write_graph(graph)) == graph


class Mean(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return picture - picture.mean(-1, keepdim=True)


class Last(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return picture.cumsum(-1)


class Across(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return picture.softmax(-1) * picture


@pytest.mark.parametrize("network", [Mean(), Last(), Across()])
def test_a_network_that_sees_all_time_has_no_reach(network: nn.Module) -> None:
    with pytest.raises(GraphError):
        find_reach(trace(network.eval(), picture, 16))


class Half(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return picture[..., : picture.shape[-1] // 2]


class End(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return picture[..., picture.shape[-1] // 2 :]


class Longer(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return nn.functional.pad(picture, (0, picture.shape[-1]))


class Stretched(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return nn.functional.interpolate(picture, scale_factor=3, mode="bilinear")


@pytest.mark.parametrize("network", [Half(), End(), Longer(), Stretched()])
def test_frames_that_are_moved_in_another_way_are_refused(network: nn.Module) -> None:
    with pytest.raises(GraphError):
        trace(network.eval(), picture, 16)


def test_pictures_are_padded_and_cut_at_any_side() -> None:
    class Framed(nn.Module):
        def forward(self, picture: Tensor) -> Tensor:
            cut = nn.functional.pad(picture, (0, 0, -3, -2)).clamp(0.2, 0.7)
            return nn.functional.pad(nn.functional.pad(cut, (0, 0, 4, 2), "reflect"), (0, 0, 1, -3))

    network = Framed().eval()
    given = TorchSteps(Stream(trace(network, picture, 16), 0, 1), {})(picture(32))
    assert torch.equal(given, network(picture(32)))


@pytest.mark.parametrize("text", ["", "{}", '{"version": 99, "nodes": []}', '{"version": 1}'])
def test_what_is_no_graph_is_refused(text: str) -> None:
    with pytest.raises(GraphError):
        read_graph(text)

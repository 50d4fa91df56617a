from __future__ import annotations

import pytest
import torch
from torch import nn

from splitter.networks import ARCHITECTURES
from splitter.training.optimizers import OPTIMIZERS, Muon, muon, orthogonalise
from tests import sounds


@pytest.mark.parametrize("shape", [(24, 100), (100, 24), (40, 40), (1, 8)])
def test_singular_values_are_made_equal_and_directions_are_kept(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrix = left @ torch.diag(torch.logspace(0, -1.5, min(shape))) @ right * 1e-4
    seen = left.T @ orthogonalise(matrix) @ right.T
    values = seen.diagonal()
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (seen - values.diag()).abs().max() < 1e-3


def test_no_gradient_is_no_step() -> None:
    assert not orthogonalise(torch.zeros(3, 5)).any()


@pytest.mark.parametrize("shape", [(16, 8, 5, 5), (64, 8), (8, 64)])
@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_a_step_of_muon_is_as_large_as_the_learning_rate(
    shape: tuple[int, ...], scale: float
) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(shape))
    before = weight.detach().clone()
    optimizer = Muon([weight], 1e-2, weight_decay=0.0)
    weight.grad = scale * torch.randn(shape)
    optimizer.step()
    step = weight.detach() - before
    assert step.square().mean().sqrt().item() == pytest.approx(1e-2, rel=0.3)
    assert (step * weight.grad).sum() < 0


def test_weight_decay_shrinks_what_no_gradient_moves() -> None:
    weight = nn.Parameter(torch.ones(8, 8))
    weight.grad = torch.zeros(8, 8)
    Muon([weight], 0.1, weight_decay=0.5).step()
    assert torch.allclose(weight, torch.tensor(0.95))


def test_muon_gets_the_wide_weights_and_adamw_all_others() -> None:
    sizes = {**sounds.SMALL_SIZES, "blocks": 1}
    network = ARCHITECTURES["mask-unet"](**sizes).build(channels=2, stems=1)
    names = {weight: name for name, weight in network.named_parameters()}
    rest, matrices = (
        {names[weight] for group in optimizer.param_groups for weight in group["params"]}
        for optimizer in muon(network, 1e-3, 0.0)
    )
    assert rest | matrices == set(names.values())
    assert not rest & matrices
    assert {"unet.down.2.0.weight", "unet.added.0.block.narrow.weight"} <= matrices
    assert {"unet.down.0.0.weight", "unet.head.weight", "unet.added.0.gain"} <= rest
    assert not any(names_norm in name for name in matrices for names_norm in ("norm", "bias"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_network_without_wide_weights_is_trained_too(name: str) -> None:
    network = nn.Conv2d(1, 2, 3)
    before = network.weight.detach().clone()
    network(torch.randn(1, 1, 8, 8)).sum().backward()
    for optimizer in OPTIMIZERS[name](network, 1e-2, 0.0):
        optimizer.step()
    assert not torch.equal(before, network.weight)

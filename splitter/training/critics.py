"""Learning from songs without stems: critics tell estimated stems from true ones.

After Stoller, Ewert and Dixon 2018. Each stem has a critic, which gives spectrograms of true stems
high scores and those of estimates low ones. It is trained as a Wasserstein GAN's (Arjovsky et al.
2017), with a penalty on gradients whose norm is not 1 (Gulrajani et al. 2017). The network's loss
gets what its estimates lack in score, on songs whose stems nobody knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from splitter.training.recipe import Adversarial

WIDTHS = (16, 32, 64, 128)  # features of a critic's layers, each of which halves both axes
LOUD = 4.0  # log1p(LOUD · |X|) is what critics see
BETAS = (0.5, 0.9)  # of Adam


@dataclass(frozen=True)
class Loose:
    """Songs without stems, and voices and music that have nothing to do with each other."""

    mixture: Tensor  # (batch, channels, samples)
    stems: tuple[Tensor, ...]  # vocals, instrumental, like the mixture
    bandwidth: Tensor  # (batch,), Hz, above which one or the other holds nothing


class Critic(nn.Module):
    """Map spectrograms (batch, channels, bins, frames) to scores (batch,), of any size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((channels, *WIDTHS), WIDTHS, strict=False):
            # no batch norm: the penalty is one of each example
            layers += [nn.Conv2d(inputs, outputs, 5, 2, 2), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(WIDTHS[-1], 1, 1))

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Score magnitudes: the mean of the scores of all places."""
        scores: Tensor = self.layers(torch.log1p(LOUD * spectrogram))
        return scores.mean((1, 2, 3))


class Critics(nn.Module):
    """A critic for each stem, and how they learn."""

    def __init__(self, channels: int, stems: int, how: Adversarial) -> None:
        super().__init__()
        self.each = nn.ModuleList(Critic(channels) for _ in range(stems))
        self.how = how
        self.optimizer = torch.optim.Adam(self.parameters(), how.learning_rate, BETAS)

    def judge(
        self,
        estimates: list[Tensor],
        truths: list[Tensor],
        share: Callable[[nn.Module], None] = lambda _: None,
    ) -> Tensor:
        """Train the critics; return what the network's loss gets for its estimates.

        Both are magnitudes of all stems, (batch, channels, bins, frames). `share` is called when
        there are gradients: to average them over processes.
        """
        for _ in range(self.how.critic_steps):
            loss = self.lose([guess.detach() for guess in estimates], truths)
            self.optimizer.zero_grad()
            loss.backward()
            share(self)
            # what is no number never gets into the critics
            if torch.isfinite(nn.utils.clip_grad_norm_(self.parameters(), math.inf)):
                self.optimizer.step()
        self.requires_grad_(False)
        scores = [critic(guess).mean() for critic, guess in self._pairs(estimates)]
        self.requires_grad_(True)
        return -self.how.weight * torch.stack(scores).sum()

    def lose(self, estimates: list[Tensor], truths: list[Tensor]) -> Tensor:
        """Return the critics' loss: how little truths score above estimates, and the penalty."""
        losses = []
        for (critic, guess), truth in zip(self._pairs(estimates), truths, strict=True):
            gap = critic(guess).mean() - critic(truth).mean()
            losses.append(gap + self.how.penalty * penalise(critic, guess, truth))
        return torch.stack(losses).sum()

    def _pairs(self, signals: list[Tensor]) -> list[tuple[nn.Module, Tensor]]:
        return [*zip(self.each, signals, strict=True)]


def penalise(critic: nn.Module, guess: Tensor, truth: Tensor) -> Tensor:
    """Return the mean of (‖gradient‖ − 1)², somewhere between each estimate and a truth."""
    share = torch.rand(len(guess), 1, 1, 1, device=guess.device)
    between = (share * guess + (1 - share) * truth).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    lengths: Tensor = gradient.flatten(1).norm(dim=1)
    return (lengths - 1).square().mean()

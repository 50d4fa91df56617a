"""How good a network is at songs that it never hears in training."""

from __future__ import annotations

import numpy as np
import torch

from splitter.loading import Model
from splitter.metrics import usdr
from splitter.networks import Network
from splitter.registry import Config
from splitter.separation import Computing, separate
from splitter.training.mixing import fit_channels
from splitter.training.recipe import Recipe
from splitter.training.sources import Pools


class Validation:
    """Measure a network on held-out songs: signal-to-distortion ratio of the vocals."""

    def __init__(self, pools: Pools, recipe: Recipe, device: torch.device) -> None:
        held_out = pools.validation
        count = min(len(held_out), recipe.validation_songs)
        self.songs = [held_out[i] for i in np.linspace(0, len(held_out) - 1, count).astype(int)]
        self.recipe = recipe
        self.device = device

    def __call__(self, network: Network) -> tuple[float, float] | None:
        """Return the median SDR in dB, and the median improvement over the mixture.

        The ratio is one for the whole song (`metrics.usdr`). None if no song is held out.
        """
        scores = np.array([self._score(network, index) for index in range(len(self.songs))])
        if not len(scores):
            return None
        return float(np.median(scores[:, 0])), float(np.median(scores[:, 0] - scores[:, 1]))

    def _score(self, network: Network, index: int) -> tuple[float, float]:
        song = self.songs[index]
        assert song.vocals and song.instrumental
        length = song.length
        recipe = self.recipe
        vocals = fit_channels(song.vocals.samples[:, :length], recipe.channels)
        mixture = vocals + fit_channels(song.instrumental.samples[:, :length], recipe.channels)
        config = Config(recipe.network, recipe.sizes, recipe.rate, recipe.channels)
        model = Model(recipe.network, config, network, self.device, "")
        stems = separate(mixture, recipe.rate, model, Computing(precision="float32"))
        return usdr(vocals, stems[config.stems[0]]), usdr(vocals, mixture)

"""Average the weights of models of one architecture, which came from one training (model soups).

    python scripts/average_weights.py FIRST SECOND -o OUTPUT

What a network has learned at different ends of one training lies close together, and the mean of
the weights often keeps what either does better (Wortsman et al. 2022). It costs nothing to run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from splitter.loading import load_model, save_model
from splitter.networks import ARCHITECTURES
from splitter.registry import CONFIG, ModelChoice, find_model, read_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    choice = ModelChoice(tuple(arguments.models))
    if len(choice.folders) > len(arguments.models):
        raise SystemExit("average_weights.py: one of these models is an average already")
    last = load_model(arguments.models[-1])
    configs = [read_config(find_model(model) / CONFIG) for model in arguments.models]
    config = configs[-1]
    told = [(one.rate, one.channels, one.stems, one.residual) for one in configs]
    if any(other != told[0] for other in told):
        raise SystemExit("average_weights.py: these models have other rates, channels or stems")
    architectures = [ARCHITECTURES[each.network](**each.sizes) for each in configs]
    if any(other != architectures[0] for other in architectures):
        raise SystemExit("average_weights.py: these models are not of one architecture")
    states = [load_model(model).network.state_dict() for model in arguments.models]
    mean = {
        name: torch.stack([state[name] for state in states]).float().mean(0).to(value.dtype)
        for name, value in states[0].items()
    }
    last.network.load_state_dict(mean)
    save_model(arguments.output, config, last.network)


if __name__ == "__main__":
    main()

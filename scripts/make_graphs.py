"""Trace the models that come with splitter, so that nobody else need to: models/<name>/graph.json.

    python scripts/make_graphs.py

To be run when a config, or what networks compute, has changed; a test says so.
"""

from __future__ import annotations

import argparse

from splitter.graphs import write_traced
from splitter.registry import AVERAGE, CONFIG, find_model, list_models, read_config
from splitter.runtime.traced import GRAPH, describe
from splitter.runtime.tracing import trace_model


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for name in list_models():
        folder = find_model(name)
        config = read_config(folder / CONFIG)
        if config.network != AVERAGE:
            traced = trace_model(config, folder / CONFIG)
            (folder / GRAPH).write_text(write_traced(traced, describe(config)), encoding="utf-8")


if __name__ == "__main__":
    main()

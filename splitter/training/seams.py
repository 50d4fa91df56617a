"""How far tiles are from a whole song, where a network hears without bounds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from splitter.atomic import write_atomically
from splitter.audio import Block
from splitter.loading import Model, load_model
from splitter.metrics import usdr
from splitter.registry import CARD
from splitter.separation import Computing, separate
from splitter.training.mixing import fit_channels
from splitter.training.recipe import Recipe
from splitter.training.sources import Pools

SONG = 60.0  # seconds at most, by which a seam is measured
# a card from here
OURS = re.compile(
    r"# .*\n\nSummary: \S+; tiles are faded: .*\n\nMeasured on .*, after training\.\n"
)


def take_song(pools: Pools, recipe: Recipe) -> Block:
    """Join held-out songs, or others if none is held out, until there is enough to measure."""
    samples, parts = round(SONG * recipe.rate), []
    sources = pools.validation or pools.pairs or [*pools.voices[:1], *pools.music[:1]]
    for source in sources:
        stems = [part for part in (source.vocals, source.instrumental) if part]
        crops = [stem.samples[:, : min(samples, source.length)] for stem in stems]
        mixed = sum(fit_channels(crop, recipe.channels) for crop in crops)
        parts.append(np.asarray(mixed, np.float32))
        if sum(part.shape[-1] for part in parts) >= samples:
            break
    return np.concatenate(parts, axis=-1)[:, :samples]


def find_seam(song: Block, model: Model) -> float:
    """Return how far tiles' vocals differ from those of the whole song: dB below these."""
    tiled = separate(song, model.config.rate, model, Computing(precision="float32"))
    with torch.inference_mode():
        whole = model.network(torch.from_numpy(song)[None])[0, 0].numpy()
    return usdr(whole, tiled[model.config.stems[0]])


def tell_seam(folder: Path, pools: Pools, recipe: Recipe) -> None:
    """Write a card that states the seam of a model just trained, unless its tiles are exact.

    A card that somebody wrote is left as it is; one from here, of earlier weights, is not.
    """
    model, card = load_model(str(folder)), folder / CARD
    if card.exists() and not OURS.fullmatch(card.read_text("utf-8", "replace")):
        return
    card.unlink(missing_ok=True)
    if model.network.own_tiles is None:
        return
    song = take_song(pools, recipe)
    far = f"{-find_seam(song, model):.0f} dB".replace("-", "−")
    seam = f"tiles are faded: they differ from the whole song by {far}"
    measured = f"Measured on {song.shape[-1] / recipe.rate:.0f} s of songs, after training."
    text = f"# {folder.name}\n\nSummary: {recipe.network}; {seam}\n\n{measured}\n"
    write_atomically(card, text.encode("utf-8"))

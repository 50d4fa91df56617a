"""Networks on PyTorch: a song is cut into tiles, and each is computed with its context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch

from splitter.devices import fast_dtype
from splitter.loading import Model, survive_forks
from splitter.runtime.channels import channel_pairs, give_pair, take_pair
from splitter.runtime.computing import Computing, Piece
from splitter.tiling import (
    Block,
    Tile,
    batched,
    cut,
    in_step,
    join,
    share_blocks,
    stack_signals,
)


def estimate(blocks: Iterable[Block], model: Model, computing: Computing) -> Iterator[Piece]:
    """Yield the estimates (stems, channels, samples) of a song's blocks at the model's rate."""
    parts = model.parts
    if len(parts) == 1:
        return _estimate_part(blocks, model, computing)
    heard = share_blocks(blocks, len(parts))
    streams = [_estimate_part(heard[n], part, computing, n) for n, part in enumerate(parts)]
    return _average(streams, [part.share for part in parts])


def _estimate_part(
    blocks: Iterable[Block], model: Model, computing: Computing, part: int = 0
) -> Iterator[Piece]:
    """Yield the estimates of one of the models that are averaged, or of the only one."""
    shape = computing.tile_shape(model.network)
    tiles: Iterable[Tile] = cut(blocks, shape)
    if part:  # whoever runs all of them must know whose it is
        tiles = (replace(tile, part=part) for tile in tiles)
    run = computing.runner
    return join(run(tiles) if run else infer(tiles, model, computing), shape)


def _average(streams: Sequence[Iterator[Piece]], shares: Sequence[float]) -> Iterator[Piece]:
    """Average streams of estimates as they come."""
    whole = sum(shares)
    for pieces in in_step(streams):
        counted = zip(pieces, shares, strict=True)
        yield np.asarray(sum(piece * (share / whole) for piece, share in counted), np.float32)


def infer(tiles: Iterable[Tile], model: Model, computing: Computing) -> Iterator[Piece]:
    """Run the network on tiles; yield the piece of each, in their order.

    Tiles of one batch that differ in shape are computed one shape after the other.
    """
    for batch in batched(tiles, computing.batch):
        for _, same in groupby(batch, key=lambda tile: tile.kind):
            group = list(same)
            outputs = compute(stack_signals(group), model, computing, group[0].context)
            for tile, output in zip(group, outputs, strict=True):
                yield tile.keep(output)


@torch.inference_mode()
def compute(
    signals: npt.NDArray[np.float32], model: Model, computing: Computing, trim: int
) -> npt.NDArray[np.float32]:
    """Run the network on (batch, channels, samples): (batch, stems, channels, samples − 2 · trim).

    `trim` samples at both ends are context, which the network hears and does not give back. It gets
    one pair of channels at a time: what it needs of memory does not grow with their number.
    """
    survive_forks()
    exact = "float32" in (computing.precision, model.precision)
    if exact and model.device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # it would round factors to 11 bits
    dtype = torch.float32 if exact else fast_dtype(model.device)
    answers = []
    for pair in channel_pairs(signals.shape[1], model.config.channels):
        heard = torch.from_numpy(take_pair(signals, pair, model.config.channels))
        # without the cache of weights: all threads of a process share it, and one lane's stream
        # would read what another's has not written yet
        with torch.autocast(
            model.device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False
        ):
            answer = model.network(_send(heard, model.device), trim)
        answers.append(give_pair(_fetch(answer.float()).numpy(), pair))
    return answers[0] if len(answers) == 1 else np.concatenate(answers, axis=2)


def _send(signals: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to a device; to a GPU from pinned memory, so that its other stream need not wait."""
    if device.type != "cuda":
        return signals.to(device)
    return signals.pin_memory().to(device, non_blocking=True)


def _fetch(answer: torch.Tensor) -> torch.Tensor:
    """Copy back; from a GPU into pinned memory, and wait for this stream alone."""
    if answer.device.type != "cuda":
        return answer.cpu()
    pinned = torch.empty(answer.shape, dtype=answer.dtype, pin_memory=True)
    pinned.copy_(answer, non_blocking=True)
    torch.cuda.current_stream(answer.device).synchronize()
    return pinned

"""Several processes that train one network, each on its share of every batch.

`torchrun --nproc-per-node N -m -- splitter train …` starts N of them. All hold the same weights:
after each step's backward pass the gradients and the running statistics of norms are averaged.
What parts with a loss of their own keep, such as the codes of a codebook, is the first one's: a
code that began anew where a vector lies would lie nowhere, if it were a mean of several.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed
from torch import Tensor, nn

from splitter.networks.contract import find_auxiliaries

PATIENCE = timedelta(hours=6)  # the others wait while one validates


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is."""

    number: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Tell whether this process writes files."""
        return self.number == 0

    def share(self, indices: Sequence[int]) -> Sequence[int]:
        """Return this process's part of a batch."""
        return indices[self.number :: self.count]

    def average(self, network: nn.Module) -> None:
        """Average gradients and running statistics over all processes, in one message.

        What auxiliary parts keep becomes the first process's.
        """
        if self.count == 1:
            return
        kept = [buffer for part in find_auxiliaries(network) for buffer in part.buffers()]
        for buffer in kept:
            torch.distributed.broadcast(buffer, 0)
        firsts = set(map(id, kept))
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        statistics = [
            buffer
            for buffer in network.buffers()
            if buffer.is_floating_point() and id(buffer) not in firsts
        ]
        parts = [*gradients, *statistics]
        together = torch.cat([part.flatten() for part in parts])
        torch.distributed.all_reduce(together)
        together /= self.count
        sizes = [part.numel() for part in parts]
        for part, mean in zip(parts, together.split(sizes), strict=True):
            part.copy_(mean.view_as(part))

    def mean(self, value: Tensor) -> float:
        """Return the mean of a number over all processes."""
        if self.count > 1:
            value = value.clone()
            torch.distributed.all_reduce(value)
            value /= self.count
        return float(value)

    def agree(self, fine: Tensor) -> bool:
        """Tell whether all processes say yes."""
        if self.count > 1:
            votes = fine.to(torch.int32)
            torch.distributed.all_reduce(votes, torch.distributed.ReduceOp.MIN)
            fine = votes
        return bool(fine)


def join_ranks(device: torch.device) -> tuple[Ranks, torch.device]:
    """Meet the other processes, if torchrun started some; return the device that is ours."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks(), device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=PATIENCE)
    return Ranks(torch.distributed.get_rank(), count), device


def leave_ranks(ranks: Ranks) -> None:
    """Wait for the others and part."""
    if ranks.count > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()

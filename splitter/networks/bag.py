"""Several Demucs, of any kind, whose estimates are averaged stem by stem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from splitter.networks.contract import Network
from splitter.networks.demucs import DemucsSizes
from splitter.networks.ensemble import Average
from splitter.networks.wavedemucs import WaveDemucsSizes
from splitter.schema import Length, Range


@dataclass(frozen=True)
class BagSizes:
    """Sizes of several, whose estimates are averaged."""

    members: Annotated[Sequence[DemucsSizes | WaveDemucsSizes], Length(1, 16)]
    # of each member, for each of its stems
    weights: Annotated[
        Sequence[Annotated[Sequence[Annotated[float, Range(0, 1e6)]], Length(1, 16)]], Length(1, 16)
    ]

    def build(self, channels: int, stems: int) -> Network:
        """Make the networks with random weights."""
        if len(self.weights) != len(self.members) or {len(row) for row in self.weights} != {stems}:
            raise ValueError("weights are not one for each stem of each member")
        if not all(sum(column) > 0 for column in zip(*self.weights, strict=True)):
            raise ValueError("a stem has no weight in any member")
        networks = [member.build(channels, stems) for member in self.members]
        return Average(networks, weights=[tuple(map(float, row)) for row in self.weights])

"""Deal the folders of what there is to train on into folds, for cross-validation over sources.

A source is a folder of voices or of music, a whole data set of aligned pairs, or all songs beside
each other: what was recorded by the same people in the same way. A network that is trained without
one fold has heard none of its sources.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections import defaultdict
from collections.abc import Sequence

from splitter.training.sources import Files


def name_source(files: Files) -> str:
    """Return the folder that stands for a source: vocals/gtsinger, or mir1k of mir1k/train/x."""
    depth = 1 if files.vocals and files.instrumental else 2
    return "/".join(files.name.split("/")[:-1][:depth]) or "."


def deal(found: Sequence[Files], count: int) -> list[set[str]]:
    """Deal the sources into `count` folds, largest first, to and fro, voices and music apart.

    Pairs are dealt with the voices, as they hold the most of them.
    """
    sizes: dict[bool, dict[str, int]] = {True: defaultdict(int), False: defaultdict(int)}
    for files in found:
        if not files.name.startswith("validation/"):
            parts = [*files.vocals, *files.instrumental]
            size = sum(path.stat().st_size for path in parts)
            sizes[bool(files.vocals)][name_source(files)] += size
    folds: list[set[str]] = [set() for _ in range(count)]
    there_and_back = [*folds, *reversed(folds)]
    for kind in sizes.values():
        for number, name in enumerate(sorted(kind, key=lambda name: (-kind[name], name))):
            there_and_back[number % len(there_and_back)].add(name)
    return folds


def choose_fold(found: Sequence[Files], fold: tuple[int, int]) -> set[str]:
    """Return the sources of one of so many folds, counted from 1."""
    number, count = fold
    return deal(found, count)[number - 1]


def read_fold(text: str) -> tuple[int, int]:
    """Read 1/4, the first of four folds, for argparse."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ArgumentTypeError(f"{text}: give one such as 1/4, the first of four")
    return int(number), int(count)

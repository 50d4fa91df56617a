"""Ways to spoil bytes, JSON and names, as a damaged disk or a bad mind does.

All take a random generator and depend on nothing else, so that a case can be made again.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

Random = np.random.Generator
Item = TypeVar("Item")

NAMES = (
    "../../escaped", "/escaped", "..", ".", "", " ", "a/b", "a\\b", "a\0b", "a\nb", "\x1b[31mred",
    "\u202egpj", "\ud800", "CON", "x" * 300, "歌" * 90, "-rf", "{stem}", "{0.__class__}", "~", "*",
    "$(touch escaped)", "song.wav", "instrumental", "INSTRUMENTAL", "vocals",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 3, 255, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**40, 2**63, -(2**63), 10**300,
    0.5, -0.0, 1e-300, 1e308, float("nan"), float("inf"), -float("inf"),
)  # fmt: skip
WIDTHS = ((1, "B"), (2, "<H"), (2, ">H"), (4, "<I"), (4, ">I"), (8, "<Q"), (8, ">Q"))


def pick(items: tuple[Item, ...] | list[Item], random: Random) -> Item:
    """Draw one of several."""
    return items[int(random.integers(len(items)))]


def _place(data: bytearray, random: Random) -> int:
    """Draw a place, every second time near the beginning, where heads are."""
    near = len(data) if random.integers(2) else min(len(data), 256)
    return int(random.integers(max(1, near)))


def _flip(data: bytearray, random: Random) -> None:
    for _ in range(int(random.integers(1, 30))):
        data[_place(data, random)] ^= 1 << int(random.integers(8))


def _scatter(data: bytearray, random: Random) -> None:
    for _ in range(int(random.integers(1, 30))):
        data[_place(data, random)] = int(random.integers(256))


def _exaggerate(data: bytearray, random: Random) -> None:
    """Put an extreme number where a size or a count may be."""
    width, form = pick(WIDTHS, random)
    place, top = _place(data, random), 2 ** (8 * width)
    extremes = [0, 1, top - 1, top // 2, top // 2 - 1, top // 16, len(data), len(data) + 1]
    data[place : place + width] = struct.pack(form, pick(extremes, random) % top)


def _nudge(data: bytearray, random: Random) -> None:
    """Change a number a little, as a size that is off by some bytes."""
    width, form = pick(WIDTHS, random)
    place = _place(data, random) & ~1
    if place + width <= len(data):
        (number,) = struct.unpack_from(form, data, place)
        step = int(random.integers(-16, 17))
        struct.pack_into(form, data, place, (number + step) % 2 ** (8 * width))


def _cut(data: bytearray, random: Random) -> None:
    del data[_place(data, random) :]


def _remove(data: bytearray, random: Random) -> None:
    start = _place(data, random)
    del data[start : start + int(random.integers(1, 2000))]


def _repeat(data: bytearray, random: Random) -> None:
    start = _place(data, random)
    data[start:start] = data[start : start + int(random.integers(1, 2000))]


def _insert(data: bytearray, random: Random) -> None:
    start = _place(data, random)
    data[start:start] = random.bytes(int(random.integers(1, 500)))


def _blank(data: bytearray, random: Random) -> None:
    start = _place(data, random)
    size = len(data[start : start + int(random.integers(1, 3000))])
    data[start : start + size] = bytes(size)


def _swap(data: bytearray, random: Random) -> None:
    """Let two parts change places, as chunks or pages out of order do."""
    first, second = sorted(_place(data, random) for _ in range(2))
    data[:] = data[second:] + data[first:second] + data[:first]


def _nest(data: bytearray, random: Random) -> None:
    """Put a part of the file into itself, many times."""
    start = _place(data, random)
    part = data[start : start + int(random.integers(8, 64))]
    data[start:start] = part * int(random.integers(2, 200))


BYTES: tuple[Callable[[bytearray, Random], None], ...] = (
    _flip, _scatter, _exaggerate, _exaggerate, _nudge, _cut, _remove, _repeat, _insert, _blank,
    _swap, _nest,
)  # fmt: skip


def mutate_bytes(whole: bytes, random: Random) -> bytes:
    """Spoil bytes in one to three ways."""
    data = bytearray(whole)
    for _ in range(int(random.integers(1, 4))):
        if data:
            pick(BYTES, random)(data, random)
    return bytes(data)


def _nested(random: Random) -> Any:
    value: Any = 1
    for _ in range(pick([2, 30, 900], random)):
        value = [value] if random.integers(2) else {"a": value}
    return value


def make_value(random: Random) -> Any:
    """Make a value that may be of any type and size."""
    makers: list[Callable[[], Any]] = [
        lambda: pick(NAMES, random),
        lambda: pick(NUMBERS, random),
        lambda: pick([None, True, False, [], {}, "x", [1], ["x"], {"x": 1}], random),
        lambda: [pick(NUMBERS, random)] * pick([1, 2, 300, 10_000], random),
        lambda: [pick(NAMES, random) for _ in range(pick([1, 2, 20], random))],
        lambda: _nested(random),
        lambda: "x" * pick([10, 10_000], random),
    ]
    return pick(makers, random)()


def mutate_json(value: Any, random: Random) -> Any:
    """Replace, remove, add or repeat something somewhere inside of parsed JSON."""
    if isinstance(value, dict) and value and random.integers(6):
        key = pick(list(value), random)
        action = int(random.integers(8))
        rest = {name: item for name, item in value.items() if name != key}
        if action == 0:
            return rest
        if action == 1:
            return {**value, str(pick(NAMES, random)): make_value(random)}
        if action == 2:
            return {**rest, f"{key}s": value[key]}
        return {**value, key: mutate_json(value[key], random)}
    if isinstance(value, list) and value and random.integers(3):
        place = int(random.integers(len(value)))
        changed = mutate_json(value[place], random)
        return [*value[:place], changed, *value[place + int(random.integers(2)) :]]
    if isinstance(value, int | float) and not random.integers(3):
        return value * pick([2, -1, 10], random) + pick([0, 1, -1], random)
    return make_value(random)


def dump(value: Any) -> bytes:
    """Write JSON, also what no JSON should hold."""
    return json.dumps(value).encode("utf-8")


def mutate_text(value: Any, random: Random) -> bytes:
    """Spoil JSON: what it says mostly, or the bytes that it is written in."""
    action = int(random.integers(10))
    if action == 0:
        return mutate_bytes(dump(value), random)
    if action == 1:
        return pick([b"[", b'{"a":'], random) * pick([10, 1000, 200_000], random)
    for _ in range(int(random.integers(1, 3))):
        value = mutate_json(value, random)
    return dump(value)

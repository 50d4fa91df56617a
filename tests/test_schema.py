from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from splitter.schema import MAX_BYTES, Length, Range, describe_fields, parse, parse_json, read_json


@dataclass(frozen=True)
class Inner:
    share: Annotated[float, Range(0, 1)] = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    width: Annotated[int, Range(1, 64)] = 4
    pairs: Annotated[Sequence[tuple[int, str]], Length(1, 2)] = ((1, "a"),)
    limit: Annotated[int, Range(1, 5)] | None = None
    kind: Literal["a", "b"] = "a"
    rest: Mapping[str, Any] = field(default_factory=dict)
    inner: Inner = Inner()
    loud: bool = False


def test_what_is_as_declared_becomes_the_dataclass() -> None:
    raw = {"name": "n", "pairs": [[2, "b"], [3, "c"]], "limit": None, "inner": {"share": 1}}
    assert parse(Outer, raw) == Outer("n", pairs=((2, "b"), (3, "c")), inner=Inner(1))
    assert parse(Outer, {"name": "n", "rest": {"x": 1}, "loud": True}).rest == {"x": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width is 0; it must be a whole number from 1 to 64"),
        ({"width": 65}, "width is 65;"),
        ({"width": 2**40}, "width is 1099511627776;"),
        ({"width": True}, "width is True;"),
        ({"width": 1.0}, "width is 1.0;"),
        ({"width": "4"}, "width is '4';"),
        ({"width": None}, "width is None;"),
        ({"name": 5}, "name is 5; it must be text"),
        ({"pairs": 5}, "pairs is 5; it must be a list, each [a whole number, text] (1 to 2)"),
        ({"pairs": []}, "pairs is [];"),
        ({"pairs": [[1, "a"]] * 3}, "pairs is [[1, 'a'], [1, 'a'], [1, 'a']];"),
        ({"pairs": [[1, "a", 2]]}, "pairs[0] is [1, 'a', 2]; it must be [a whole number, text]"),
        ({"pairs": [[1, "a"], ["a", 1]]}, "pairs[1][0] is 'a'; it must be a whole number"),
        ({"pairs": "ab"}, "pairs is 'ab';"),
        ({"limit": 6}, "limit is 6; it must be a whole number from 1 to 5 or null"),
        ({"kind": "c"}, "kind is 'c'; it must be one of a, b"),
        ({"kind": []}, "kind is [];"),
        ({"rest": 1}, "rest is 1; it must be a JSON object"),
        ({"inner": 1}, "inner must be a JSON object, not 1"),
        ({"inner": {"share": float("nan")}}, "inner.share is nan; it must be a number from 0 to 1"),
        ({"inner": {"share": 1.01}}, "inner.share is 1.01;"),
        ({"inner": {"share": -(10**400)}}, "inner.share is -1000"),
        ({"inner": {"shar": 1}}, "unknown key 'shar'; choose from share"),
        ({"loud": 1}, "loud is 1; it must be true or false"),
    ],
)
def test_what_is_not_as_declared_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(Outer, {"name": "n", **changes})
    assert message in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("raw", [[], None, "x", 5])
def test_what_is_no_object_is_refused(raw: Any) -> None:
    with pytest.raises(ValueError, match="must be a JSON object"):
        parse(Outer, raw)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ValueError, match="key 'name' is missing"):
        parse(Outer, {})


def test_fields_are_described_in_words() -> None:
    described = {name: (words, default) for name, words, default in describe_fields(Outer)}
    assert described["width"] == ("a whole number from 1 to 64", 4)
    assert described["kind"] == ("one of a, b", "a")


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 200_000, b"9" * 5000, b"\xff", b'"\n"'])
def test_what_is_no_json_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(content)


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(OSError, match="not a plain file"):
        read_json(tmp_path / "pipe.json")
    with (tmp_path / "big.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ValueError, match="larger than 1 MB"):
        read_json(tmp_path / "big.json")


@pytest.mark.parametrize("depth", [65, 400, 100_000])
def test_json_that_is_nested_too_deeply_is_refused(depth: int) -> None:
    assert parse_json(b'{"a": [[1]], "b": {}}') == {"a": [[1]], "b": {}}
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(opening * depth + b"1" + closing * depth)

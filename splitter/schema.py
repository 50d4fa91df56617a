"""JSON from strangers into dataclasses, by the types and ranges that their fields declare.

    @dataclass(frozen=True)
    class Sizes:
        width: Annotated[int, Range(1, 1024)] = 16
        bands: Annotated[Sequence[tuple[Whole, Whole]], Length(1, 64)] = ((384, 1), (192, 2))

    parse(Sizes, {"width": 0})   ValueError: width is 0; it must be a whole number from 1 to 1024
    describe_fields(Sizes)       what each field takes, for people

A declaration is the only place where a range stands; whatever reads, documents or fills these
dataclasses asks it. Nothing is guessed: text is no number, true is no 1, and NaN is in no range.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from reprlib import Repr
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

from splitter.paths import check_plain_file

DEEPEST = 64  # levels of JSON
MAX_BYTES = 2**20  # of a JSON file that people write
Kind = TypeVar("Kind")

_SCALARS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_TOO_DEEP = "it is nested too deeply"
_short = Repr()
_short.maxother = _short.maxstring = 60


@runtime_checkable
class Rule(Protocol):
    """What a value must be beside its type: stands behind it in Annotated[…]."""

    def fits(self, value: Any) -> bool:
        """Tell whether a value of the right type is taken."""

    def __str__(self) -> str:
        """Return words that follow the name of the type."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float

    def fits(self, value: float) -> bool:
        """Tell whether a number lies in the range; NaN does not."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"from {self.low} to {self.high}"


@dataclass(frozen=True)
class Length:
    """Lists (or texts) of `low` to `high` items."""

    low: int
    high: int

    def fits(self, value: Sequence[Any]) -> bool:
        """Tell whether there are as many items as there may be."""
        return self.low <= len(value) <= self.high

    def __str__(self) -> str:
        return f"({self.low} to {self.high})"


@dataclass(frozen=True)
class Words:
    """What a function takes, said in words that follow the name of the type."""

    takes: Callable[[Any], bool]
    words: str

    def fits(self, value: Any) -> bool:
        """Tell whether the function takes a value."""
        return self.takes(value)

    def __str__(self) -> str:
        return self.words


def read_json(path: Path) -> Any:
    """Read JSON; raise ValueError or OSError for what is none, too long or nested too deep."""
    check_plain_file(path)
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 20} MB")
    return parse_json(content)


def parse_json(content: bytes) -> Any:
    """Parse JSON; raise ValueError for what is none, or nested too deep."""
    try:
        parsed = json.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    level = [parsed]
    for _ in range(DEEPEST):
        level = [inner for value in level for inner in _list_inner(value)]
    if level:  # it could be read, but what goes through it may not come as deep
        raise ValueError(_TOO_DEEP)
    return parsed


def _list_inner(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def parse(kind: type[Kind], raw: Any, key: str = "") -> Kind:
    """Make a dataclass from parsed JSON; lists become tuples.

    Raises ValueError, which names the key, for one that is unknown, missing, or not as declared.
    `key` is where `raw` stands in the whole.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"{key or 'the whole file'} must be a JSON object, not {_short.repr(raw)}")
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    unknown = raw.keys() - known.keys()
    if unknown:
        names = ", ".join(known)
        raise ValueError(f"unknown key {_short.repr(min(unknown))}; choose from {names}")
    for name, item in known.items():
        if name not in raw and not _has_default(item):
            raise ValueError(f"key {name!r} is missing")
    hints = get_type_hints(kind, include_extras=True)
    prefix = f"{key}." if key else ""
    return kind(**{name: _fit(hints[name], raw[name], prefix + name) for name in raw})


def describe_fields(kind: type) -> Iterator[tuple[str, str, Any]]:
    """Yield the name of each field of a dataclass, what it takes, and its default or MISSING."""
    hints = get_type_hints(kind, include_extras=True)
    for item in fields(kind):
        yield item.name, describe(hints[item.name]), item.default


def describe(hint: Any) -> str:
    """Say in words what a type hint takes."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " ".join([describe(arguments[0]), *map(str, _rules(arguments))])
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " or ".join(map(describe, arguments))
    if origin is tuple and ... not in arguments:
        return f"[{', '.join(map(describe, arguments))}]"
    if _is_list(hint):
        return f"a list, each {describe(arguments[0])}"
    return "null" if hint is NoneType else _SCALARS.get(hint, "a JSON object")


def _fit(hint: Any, value: Any, key: str) -> Any:
    """Return a value as the type hint has it; raise ValueError for one that it does not take."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return parse(hint, value, key)  # type: ignore[arg-type]
    if origin is Annotated:
        base = arguments[0]
        if not (_is_scalar(base, value) or (_is_list(base) and isinstance(value, list | tuple))):
            raise _refuse(hint, value, key)  # says the range, too
        fitted = _fit(base, value, key)
        if not all(rule.fits(fitted) for rule in _rules(arguments)):
            raise _refuse(hint, value, key)
        return fitted
    if origin in (Union, UnionType):
        return _fit_any(arguments, value, key, hint)
    if _is_list(hint) and isinstance(value, list | tuple):
        items = _items(hint, len(value))
        if len(items) == len(value):
            pairs = zip(items, value, strict=True)
            return tuple(_fit(item, one, f"{key}[{at}]") for at, (item, one) in enumerate(pairs))
    if _is_scalar(hint, value) or (origin is Literal and value in arguments):
        return value
    if origin is Mapping and isinstance(value, Mapping):
        return value
    raise _refuse(hint, value, key)


def _fit_any(hints: Sequence[Any], value: Any, key: str, whole: Any) -> Any:
    for hint in hints:
        try:
            return _fit(hint, value, key)
        except ValueError:
            continue
    raise _refuse(whole, value, key)


def _is_scalar(hint: Any, value: Any) -> bool:
    if hint is NoneType:
        return value is None
    if hint is float:
        return type(value) in (int, float) and abs(value) < math.inf
    return hint in _SCALARS and type(value) is hint


def _is_list(hint: Any) -> bool:
    return get_origin(hint) in (Sequence, tuple)


def _items(hint: Any, count: int) -> Sequence[Any]:
    """Return the hints of a list's `count` items; of a tuple, of as many as it has."""
    arguments = get_args(hint)
    alike = get_origin(hint) is not tuple or ... in arguments
    return [arguments[0]] * count if alike else arguments


def _rules(arguments: Sequence[Any]) -> list[Rule]:
    return [rule for rule in arguments[1:] if isinstance(rule, Rule)]


def _refuse(hint: Any, value: Any, key: str) -> ValueError:
    return ValueError(f"{key} is {_short.repr(value)}; it must be {describe(hint)}")


def _has_default(item: Field[Any]) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING

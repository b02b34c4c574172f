"""Every numeric argument of the catalogue refuses what its docstring does not allow."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from clipax.catalogue import ENTRIES

NUMERIC = re.compile(r"\b(Scalar|ScalarOrSchedule|int|float)\b")
NUMBER = r"(-?\d*\.?\d+(?:e-?\d+)?)"
INTERVAL = re.compile(rf"\bin ([\[(]){NUMBER}, {NUMBER}([\])])")
LEAST = re.compile(rf"\b(at least|from|above) {NUMBER}\b")
POSITIVE, NON_NEGATIVE = re.compile(r"\b[pP]ositive\b"), re.compile(r"\b[nN]on-negative\b")
ELSEWHERE = re.compile(r"\b[aA]s (?:`(\w+)` )?for `([\w.]+)`")


def _arguments() -> Iterator[tuple[str, str]]:
    """Method and argument, for each that takes a number."""
    for name, entry in ENTRIES.items():
        for argument in inspect.signature(entry.factory).parameters.values():
            if NUMERIC.search(str(argument.annotation)):
                yield name, argument.name


ARGUMENTS = list(_arguments())
EACH = pytest.mark.parametrize(("name", "argument"), ARGUMENTS)


def _make(name: str, argument: str, value: Any) -> Any:
    entry = ENTRIES[name]
    return entry.factory(**{**entry.example, argument: value})


def _assert_refused(name: str, argument: str, value: Any, error: Any = ValueError) -> None:
    with pytest.raises(error, match=f"`{argument}`"):
        _make(name, argument, value)


def _described(name: str, argument: str) -> str:
    """What the docstring says of the argument, and the one that it refers to."""
    text = inspect.getdoc(ENTRIES[name].factory) or ""
    found = re.search(rf"^  {argument}: (.*?)(?=^  \w|^\S|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"the docstring of {name} does not describe `{argument}`"
    words = " ".join(found[1].split())
    if other := ELSEWHERE.search(words):
        same, method = other[1] or argument, other[2]
        for place in (method, f"norms.{method}"):
            if (place, same) in ARGUMENTS:
                return f"{words} {_described(place, same)}"
    return words


@EACH
def test_numbers_that_no_argument_allows(name: str, argument: str) -> None:
    numbers: list[Any] = [math.nan, np.float32(math.nan), -1.0, -math.inf, -1, np.ones(3)]
    for value in numbers:
        # An integer is asked for by its type first.
        _assert_refused(name, argument, value, (ValueError, TypeError))
    others: list[Any] = [True, "1", [1.0]]
    for value in others:
        _assert_refused(name, argument, value, TypeError)


@EACH
def test_the_range_that_the_docstring_gives(name: str, argument: str) -> None:
    text = _described(name, argument)
    integer = isinstance(_default(name, argument), int)
    if found := INTERVAL.search(text):
        left, low, high, right = found.groups()
        _check_edge(name, argument, float(low), -1, inside=left == "[", integer=integer)
        _check_edge(name, argument, float(high), +1, inside=right == "]", integer=integer)
    elif POSITIVE.search(text):
        _assert_refused(name, argument, 0.0, (ValueError, TypeError))
    elif NON_NEGATIVE.search(text):
        _make(name, argument, 0.0)
    elif found := LEAST.search(text):
        word, low = found.groups()
        inside = word != "above"
        _check_edge(name, argument, float(low), -1, inside=inside, integer=integer)
    if not re.search(r"infin|[tT]hreshold|norm", text):
        _assert_refused(name, argument, math.inf, (ValueError, TypeError))


def _default(name: str, argument: str) -> Any:
    entry = ENTRIES[name]
    given = entry.example.get(argument, entry.defaults.get(argument))
    annotation = str(inspect.signature(entry.factory).parameters[argument].annotation)
    return given if given is not None else (0 if "int" in annotation else 0.0)


def _check_edge(
    name: str, argument: str, edge: float, outwards: int, *, inside: bool, integer: bool
) -> None:
    """What lies beyond the edge is refused, and so is the edge where it is not in the range."""
    number = int(edge) if integer else edge
    beyond = number + outwards if integer else math.nextafter(edge, outwards * math.inf)
    _assert_refused(name, argument, beyond)
    if inside:
        _make(name, argument, number)
    else:
        _assert_refused(name, argument, number)


def test_ranges_are_read_off_most_docstrings() -> None:
    read = [
        (name, argument)
        for name, argument in ARGUMENTS
        if any(
            pattern.search(_described(name, argument))
            for pattern in (INTERVAL, POSITIVE, NON_NEGATIVE, LEAST)
        )
    ]
    missing = [argument for argument in ARGUMENTS if argument not in read]
    assert len(read) > 0.7 * len(ARGUMENTS), missing

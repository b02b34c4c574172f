"""Reads the text that names a method, such as `clip_by_percentile:percentile=20+adamw`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, NamedTuple

from clipax import catalogue
from clipax.lab._errors import InputError

__all__ = ["Part", "parse_method", "split_methods"]

_OPEN, _CLOSE = "([{", ")]}"


class Part(NamedTuple):
    """One part of a method: its name, and its arguments with the text of each."""

    name: str
    arguments: dict[str, tuple[Any, str]]

    def __str__(self) -> str:
        return self.name + "".join(f":{key}={text}" for key, (_, text) in self.arguments.items())


def split_methods(text: str) -> list[str]:
    """Split a list of methods at its commas, those inside brackets left alone."""
    return [word.strip() for word in _split(text, ",") if word.strip()]


def parse_method(text: str) -> list[Part]:
    """Read the parts of a method.

    Args:
      text: parts with `+` between them; a part is a name and `:argument=value`s. A value is a
        Python literal, a word, or a threshold with its arguments, as in `quantile(0.9)`.

    Returns:
      The parts, at least one.

    Raises:
      InputError: it cannot be read.
    """
    return [_parse_part(part.strip(), text) for part in _split(text, "+")]


def _parse_part(text: str, method: str) -> Part:
    name, *words = (word.strip() for word in _split(text, ":"))
    if not name:
        raise InputError(f"method {method!r} has a part without a name.")
    arguments = {}
    for word in words:
        key, sign, value = (piece.strip() for piece in word.partition("="))
        if not (key.isidentifier() and sign and value):
            raise InputError(
                f"method {method!r}: {word!r} must be argument=value, as in "
                f"clip_by_percentile:percentile=20."
            )
        if key in arguments:
            raise InputError(f"method {method!r} gives {key} twice.")
        arguments[key] = _read_value(value, method)
    return Part(name, arguments)


def _read_value(text: str, method: str) -> tuple[Any, str]:
    """Read a value; its text is as it stands in Python."""
    try:
        return ast.literal_eval(text), text
    except (ValueError, SyntaxError):
        pass
    if "(" not in text:
        return text, repr(text)
    try:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        name = f"thresholds.{call.func.id}"
        assert name in catalogue.ENTRIES
        positional = [ast.literal_eval(value) for value in call.args]
        named = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (AssertionError, ValueError, SyntaxError):
        known = [name for name, entry in catalogue.ENTRIES.items() if entry.kind == "threshold"]
        short = ", ".join(name.partition(".")[2] for name in known)
        raise InputError(
            f"method {method!r}: {text!r} is no threshold with its arguments, such as "
            f"quantile(0.9); there are {short}."
        ) from None
    try:
        return catalogue.ENTRIES[name].factory(*positional, **named), f"clipax.thresholds.{text}"
    except (TypeError, ValueError) as error:
        raise InputError(f"method {method!r}: {error}") from None


def _split(text: str, sign: str) -> Iterator[str]:
    """Split at a sign outside of brackets; the plus of `1e+3` is no sign."""
    depth, start = 0, 0
    for place, letter in enumerate(text):
        depth += (letter in _OPEN) - (letter in _CLOSE)
        exponent = (
            sign == "+"
            and text[max(0, place - 2) : place].endswith(("e", "E"))
            and (text[max(0, place - 2)].isdigit())
        )
        if letter == sign and depth == 0 and not exponent:
            yield text[start:place]
            start = place + 1
    yield text[start:]

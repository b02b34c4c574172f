"""How numbers, places and lists are written in a finding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

__all__ = ["count", "number", "percent", "places", "quoted", "shares", "span", "verb"]

_FEW = 5
"""Places and names that are listed one by one."""


def percent(share: float) -> str:
    """Write a share; less than all is never 100 %."""
    return f"{percentage(share)} %"


def percentage(share: float) -> str:
    """Write a share as a number of percent, without the sign."""
    text = f"{100 * share:.3g}"
    return "99.9" if text == "100" and share < 1 else text


def shares(values: Iterable[float]) -> str:
    """Write a row of shares; a dash where there is none."""
    return ", ".join("-" if np.isnan(one) else percentage(one) for one in values) + " %"


def number(value: float) -> str:
    """Write a norm with three digits."""
    return f"{float(f'{value:.2e}'):g}"


def places(found: Iterable[float], word: str) -> str:
    """Write where something was: each place where there are few, else the first and the last."""
    written = [_place(place) for place in found]
    if len(written) == 1:
        return f"{word} {written[0]}"
    if len(written) <= _FEW:
        return f"{word}s {', '.join(written[:-1])} and {written[-1]}"
    return f"{word}s {', '.join(written[:3])}, ..., {written[-1]}"


def span(first: float, last: float, word: str) -> str:
    """Write the first and last of steps in a row."""
    if first == last:
        return f"{word} {_place(first)}"
    return f"{word}s {_place(first)} to {_place(last)}"


def _place(step: float) -> str:
    return f"{int(step):,}" if step == int(step) else f"{step:g}"


def count(value: int, word: str) -> str:
    """Write a number of things."""
    return f"{value:,} {word}" if value == 1 else f"{value:,} {word}s"


def verb(value: int, one: str, many: str = "") -> str:
    """Return the form of a verb behind a number of things."""
    return one if value == 1 else many or {"is": "are"}.get(one, one.removesuffix("s"))


def quoted(names: Sequence[str]) -> str:
    """Write names in code, the first few of many."""
    few = ", ".join(f"`{name}`" for name in names[:_FEW])
    return few if len(names) <= _FEW else f"{few} and {len(names) - _FEW} more"

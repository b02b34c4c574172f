"""Finds the columns of norms and of steps by their names in the logs of many trainers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["NormColumn", "find_norms", "find_steps", "name_column"]

# `grad_norm`, `train_grad_norm`, `gradient/global_norm`, `grad_2.0_norm_total`, `gnorm`, ...
_NORM = re.compile(
    r"(?:\w+_)?(?:grad(?:ient)?s?_?(?:\w+_)?norms?|gnorm|global_norm|total_norm)"
    r"(?:_(?:total|global|all|l2|2|2_0|raw|unclipped|pre_?clip|before_clip(?:ping)?|value))*"
)
_BARE = re.compile(r"norms?|values?")
_OTHER = frozenset(
    re.findall(
        r"\w+",
        "top max min target threshold limit clip param params parameter weight weights update "
        "updates ratio mean std var fraction",
    )
)
"""Words of columns that hold something else: `max_grad_norm` is a setting."""
_BEHIND = frozenset({"clipped", "postclip", "post", "after"})
"""Words of norms behind a clip: they are read where there are no others."""
_STEP = re.compile(r"(?:\w+_)?step|iteration|iter|(?:num_|n_)?updates?")
_FIRST = ("global_step", "optimizer_step", "step", "train_step", "iteration", "iter", "num_updates")
_NO_STEP = frozenset({"eval", "time", "per", "max", "val", "test", "num"})


class NormColumn(NamedTuple):
    """A column of norms.

    Attributes:
      name: Its name, levels joined by "/".
      prefix: The levels in front of `grad_norm`, with a "/" behind.
      suffix: The levels behind it, with a "/" in front: a layer or block.
      is_raw: Whether it names no norm behind a clip.
    """

    name: str
    prefix: str
    suffix: str
    is_raw: bool


def find_norms(names: Iterable[str]) -> list[NormColumn]:
    """Find the columns of norms, best kind only: raw, else behind a clip, else of any norm."""
    found = [(rank, column) for name in names if (pair := _match(name)) for rank, column in [pair]]
    best = min((rank for rank, _ in found), default=0)
    return [column for rank, column in found if rank == best]


def name_column(name: str) -> NormColumn:
    """Take a column for one of norms, whatever it is called."""
    prefix, slash, _ = name.rpartition("/")
    return NormColumn(name, prefix + slash, "", is_raw=True)


def _match(name: str) -> tuple[int, NormColumn] | None:
    parts = name.split("/")
    # From the end: in `grad_norm/global_norm` the last is the norm, the first a section.
    for place in reversed(range(len(parts))):
        plain = _normalize(parts[place])
        words = set(re.sub("(pre|before)_?clip(ping)?", "", plain).split("_"))
        if _NORM.fullmatch(plain) and not words & _OTHER:
            is_raw = not words & _BEHIND
            rank = 0 if is_raw else 1
        elif _BARE.fullmatch(plain) and place == len(parts) - 1:
            is_raw, rank = True, 2
        else:
            continue
        prefix = "".join(f"{part}/" for part in parts[:place])
        suffix = "".join(f"/{part}" for part in parts[place + 1 :])
        return rank, NormColumn(name, prefix, suffix, is_raw)
    return None


def find_steps(names: Iterable[str]) -> list[str]:
    """Find the columns that may count steps, the likeliest first.

    A leading underscore (`_step`) is a logger's own count of calls: it comes last.
    """
    found = []
    for name in names:
        last = name.split("/")[-1]
        plain = _normalize(last)
        is_count = plain == "num_updates" or not set(plain.split("_")) & _NO_STEP
        if is_count and _STEP.fullmatch(plain):
            rank = _FIRST.index(plain) if plain in _FIRST else len(_FIRST)
            found.append((last.startswith("_"), rank, name))
    return [name for *_, name in sorted(found, key=lambda one: one[:2])]


def _normalize(part: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", part.lower()).strip("_")

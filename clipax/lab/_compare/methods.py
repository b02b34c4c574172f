"""The optimizers that can be compared: those of the catalogue, and optax's as baselines."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import optax

from clipax import catalogue
from clipax.lab._compare.plan import Method
from clipax.lab._errors import InputError

__all__ = ["BASELINES", "DEFAULT_METHODS", "list_available", "list_untunable", "resolve"]

# Name -> (factory, formula); they are optax's, so the catalogue does not list them.
BASELINES: dict[str, tuple[Any, str]] = {
    "sgd": (optax.sgd, "x <- x - eta g"),
    "adam": (optax.adam, "x <- x - eta m/(sqrt(v) + eps), of each coordinate"),
}

DEFAULT_METHODS = (
    "sgd",
    "adam",
    "clip_sgd",
    "normalized_sgd",
    "regularized_clip_sgd",
    "clip_adagrad_norm",
    "clip_adam_norm",
    "delayed_clip_adagrad_norm",
    "delayed_clip_adam_norm",
    "clip_adagrad",
    "clip_adam",
)

# The rates tried for each method. Steps of plain SGD are in units of the gradient, those of clipped
# methods in units of the threshold, and a method that divides by what it accumulated needs larger
# rates the longer it runs. The default comparison finds its best rates inside these grids.
_GRIDS: dict[str, tuple[float, ...]] = {
    "sgd": (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3),
    "adam": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "clip_sgd": (3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0),
    "normalized_sgd": (1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0),
    "regularized_clip_sgd": (3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0),
    "clip_adagrad_norm": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    "clip_adam_norm": (1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0),
    "clip_adagrad": (3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0),
    "clip_adam": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "stable_adamw": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "spam": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "stable_spam": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
}
# For methods whose scale of rates is not known here.
_WIDE = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)


def _list_entries() -> dict[str, tuple[catalogue.Entry, Mapping[str, Any]]]:
    """List every optimizer of the catalogue, variants included, with its arguments."""
    entries: dict[str, tuple[catalogue.Entry, Mapping[str, Any]]] = {}
    for entry in catalogue.ENTRIES.values():
        if entry.kind == "optimizer":
            entries[entry.name] = (entry, entry.example)
            for variant, extra in entry.variants.items():
                entries[variant] = (entry, {**entry.example, **extra})
    return entries


def _takes(factory: Any, argument: str) -> bool:
    return argument in inspect.signature(factory).parameters


def list_untunable() -> tuple[str, ...]:
    """List the optimizers that `resolve` leaves out, as they take no learning rate."""
    return tuple(
        name
        for name, (entry, _) in _list_entries().items()
        if not _takes(entry.factory, "learning_rate")
    )


def list_available() -> tuple[str, ...]:
    """List the names of all methods that can be compared, baselines first."""
    left_out = list_untunable()
    return (*BASELINES, *(name for name in _list_entries() if name not in left_out))


def resolve(
    names: Sequence[str],
    threshold: float,
    learning_rates: Sequence[float] | None = None,
) -> list[Method]:
    """Make methods from their names.

    Args:
      names: names from `list_available`, or `all` for every one of them.
      threshold: the threshold for methods that take one.
      learning_rates: the rates to try for all methods; None for each method's own grid.

    Returns:
      The methods in the order of the names, each once.

    Raises:
      InputError: if a name is unknown (the nearest names are offered) or its method has no
        learning rate to choose.
    """
    wanted = list(dict.fromkeys(names))
    if "all" in wanted:
        wanted = list(list_available())
    if not wanted:
        raise InputError("no method given; `clipax methods` lists them.")
    return [_resolve_one(name, threshold, learning_rates) for name in wanted]


def _resolve_one(name: str, threshold: float, learning_rates: Sequence[float] | None) -> Method:
    entries = _list_entries()
    options: dict[str, Any] = {}
    if name in BASELINES:
        factory, base = BASELINES[name][0], name
    elif name in entries:
        entry, example = entries[name]
        factory, base, options = entry.factory, entry.name, dict(example)
        if not _takes(factory, "learning_rate"):
            raise InputError(f"method {name} takes no learning rate, so it cannot be compared.")
        del options["learning_rate"]
        if _takes(factory, "threshold"):
            options["threshold"] = threshold
    elif name in catalogue.ENTRIES:
        kind = catalogue.ENTRIES[name].kind
        raise InputError(f"method {name} is a {kind}, no optimizer, so it cannot be compared.")
    else:
        near = difflib.get_close_matches(name, list_available(), n=3, cutoff=0.5)
        hint = f"nearest: {', '.join(near)}" if near else "`clipax methods` lists them"
        raise InputError(f"unknown method {name!r}; {hint}.")
    rates = tuple(sorted(set(learning_rates or _GRIDS.get(base, _WIDE))))
    return Method(name, functools.partial(factory, **options), rates)

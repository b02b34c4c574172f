"""The methods that can be compared: any clip in front of any optimizer, by names."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from clipax import catalogue
from clipax._twins import TWINS
from clipax.catalogue import Entry
from clipax.lab._compare.grids import BASELINES, Searched, find_rates, find_searched
from clipax.lab._compare.words import Part, parse_method
from clipax.lab._errors import InputError

__all__ = ["DEFAULT_METHODS", "Build", "Method", "list_optimizers", "list_untunable", "resolve"]

# The clips that people run in front of AdamW, and AdamW without one.
DEFAULT_METHODS = (
    "adamw",
    "clip_by_global_norm+adamw",
    "clip_by_zscore+adamw",
    "clip_by_percentile+adamw",
    "clip_by_ema+adamw",
    "skip_spikes+adamw",
    "clip_adam_norm",
)

# Arguments that a method's parts and its search decide.
_SET_HERE = ("inner", "learning_rate")

# From a learning rate and a threshold (None where none is searched) to an optimizer. Both may be
# traced.
Build = Callable[[Any, Any], optax.GradientTransformation]


@dataclasses.dataclass(frozen=True)
class Method:
    """A clip and an optimizer to compare.

    Attributes:
      name: what tables call it, by which `resolve` finds it again.
      build: makes it from a learning rate and a threshold.
      rates: the learning rates to try first, ascending.
      refine: whether further rates are tried around the best of them.
      searched: the argument that is searched beside the rate; None where there is none.
      plain: the name of the same optimizer without what stands in front; None where nothing does.
      write: writes it as Python, for a setting.
    """

    name: str
    build: Build
    rates: tuple[float, ...]
    refine: bool
    searched: Searched | None
    plain: str | None
    write: Callable[[float, float | None], str]


def _list_entries() -> dict[str, tuple[Entry, Mapping[str, Any]]]:
    """List the catalogue, variants included, with the arguments that make a variant."""
    entries: dict[str, tuple[Entry, Mapping[str, Any]]] = {}
    for entry in catalogue.ENTRIES.values():
        if entry.kind in ("transformation", "optimizer"):
            entries[entry.name] = (entry, {})
            entries.update({variant: (entry, extra) for variant, extra in entry.variants.items()})
    return entries


def _takes(factory: Any, argument: str) -> bool:
    return argument in inspect.signature(factory).parameters


def list_optimizers() -> tuple[str, ...]:
    """List the names of the optimizers that can end a method, optax's first."""
    entries = _list_entries()
    left_out = list_untunable()
    own = (
        name
        for name, (entry, _) in entries.items()
        if entry.kind == "optimizer" and name not in left_out
    )
    return (*BASELINES, *own)


def list_untunable() -> tuple[str, ...]:
    """List the optimizers that `resolve` leaves out, as they take no learning rate."""
    return tuple(
        name
        for name, (entry, _) in _list_entries().items()
        if entry.kind == "optimizer" and not _takes(entry.factory, "learning_rate")
    )


def resolve(names: Sequence[str], learning_rates: Sequence[float] | None = None) -> list[Method]:
    """Make methods from their names.

    Args:
      names: each `optimizer`, or `clip+optimizer` with any number of transformations in front,
        with arguments as in `clip_by_percentile:percentile=20+adamw:b2=0.95`; or `all` for every
        optimizer.
      learning_rates: the rates to try for all methods; None for each method's own.

    Returns:
      The methods in the order of the names, each once.

    Raises:
      InputError: a name is unknown (the nearest ones are offered), an argument is, or the last one
        is no optimizer with a learning rate.
    """
    wanted = list(dict.fromkeys(names))
    if "all" in wanted:
        place = wanted.index("all")
        wanted[place : place + 1] = list_optimizers()
    if not wanted:
        raise InputError("no method given; `clipax methods` lists them.")
    methods = {}
    for name in wanted:
        method = _resolve_one(name, learning_rates)
        methods[method.name] = method
    return list(methods.values())


class _Link:
    """One part of a method: a factory and its arguments.

    Args:
      part: its name and the arguments given.

    Raises:
      InputError: the name or an argument is unknown.
    """

    def __init__(self, part: Part):
        self.part = part
        entries = _list_entries()
        name = _find_name(part.name, (*BASELINES, *entries))
        self.is_optimizer = name in BASELINES or entries[name][0].kind == "optimizer"
        if name in BASELINES:
            self.factory: Callable[..., Any] = BASELINES[name]
            self.base, self.written = name, _write_name(BASELINES[name])
            required: Mapping[str, Any] = {}
            extra: Mapping[str, Any] = {}
        else:
            entry, extra = entries[name]
            self.factory, self.base, self.written = (
                entry.factory,
                entry.name,
                f"clipax.{entry.name}",
            )
            required = {
                argument: value
                for argument, value in entry.example.items()
                if argument not in (*entry.defaults, *_SET_HERE)
            }
        self.name = name
        known = inspect.signature(self.factory).parameters
        for argument in part.arguments:
            if argument not in known or argument in _SET_HERE:
                raise InputError(
                    f"method {part}: {name} takes no argument {argument!r}; it takes "
                    f"{', '.join(a for a in known if a not in _SET_HERE)}."
                )
        self.searched = find_searched(self.base)
        if self.searched and self.searched.argument in part.arguments:
            self.searched = None
        given = {argument: value for argument, (value, _) in part.arguments.items()}
        self.arguments = {**required, **extra, **given}
        self._texts = {
            argument: part.arguments[argument][1] if argument in part.arguments else _write(value)
            for argument, value in self.arguments.items()
        }
        self.wraps = _takes(self.factory, "inner")

    def search(self) -> Searched | None:
        """Leave the argument that is searched to the search."""
        if self.searched:
            self.arguments.pop(self.searched.argument, None)
            self._texts.pop(self.searched.argument, None)
        return self.searched

    def build(self, *positional: Any, **more: Any) -> Any:
        return self.factory(*positional, **self.arguments, **more)

    def write(self, *positional: str, **more: str) -> str:
        words = [*positional, *(f"{name}={text}" for name, text in {**self._texts, **more}.items())]
        return f"{self.written}({', '.join(words)})"

    def describe(self) -> str:
        """Write the name as `resolve` reads it."""
        given = "".join(f":{name}={text}" for name, (_, text) in self.part.arguments.items())
        return self.name + given


def _resolve_one(text: str, learning_rates: Sequence[float] | None) -> Method:
    links = [_Link(part) for part in parse_method(text)]
    *front, last = links
    if last.base not in BASELINES and not last.is_optimizer:
        raise InputError(
            f"method {text}: {last.name} is no optimizer; put one behind it, as in "
            f"{last.name}+adamw."
        )
    if not _takes(last.factory, "learning_rate"):
        raise InputError(f"method {text}: {last.name} takes no learning rate to choose.")
    for link in front:
        if link.is_optimizer:
            raise InputError(
                f"method {text}: {link.name} is an optimizer, which must be the last part."
            )
    # One argument is searched: that of the first part that has one. Others have their defaults, or
    # what the catalogue shows.
    owner = next((link for link in links if link.searched), None)
    searched = owner.search() if owner else None

    def build(rate: Any, threshold: Any = None) -> optax.GradientTransformation:
        def make(link: _Link, *inner: Any) -> Any:
            more: dict[str, Any] = {}
            if link is last:
                more["learning_rate"] = rate
            if link is owner and searched is not None:
                more[searched.argument] = searched.make(threshold)
            return link.build(*inner, **more)

        return _nest(links, make, optax.chain)

    def write(rate: float, threshold: float | None = None) -> str:
        def make(link: _Link, *inner: str) -> str:
            more = {}
            if link is last:
                more["learning_rate"] = f"{rate:.3g}"
            if link is owner and searched is not None and threshold is not None:
                more[searched.argument] = searched.text.format(threshold)
            return link.write(*inner, **more)

        return _nest(links, make, lambda *parts: f"optax.chain({', '.join(parts)})")

    _try_arguments(text, build, searched)
    rates = learning_rates or find_rates(last.base)
    return Method(
        name="+".join(link.describe() for link in links),
        build=build,
        rates=tuple(sorted(set(rates))),
        refine=learning_rates is None,
        searched=searched,
        plain=last.describe() if any(link.name != "monitor_norms" for link in front) else None,
        write=write,
    )


def _nest(links: Sequence[_Link], make: Callable[..., Any], chain: Callable[..., Any]) -> Any:
    """Chain the parts; a guard holds all that follow it, another wrapper the next one."""
    made: list[Any] = []
    for link in reversed(links):
        if not link.wraps:
            made.insert(0, make(link))
        elif link.name.startswith("skip_"):
            made = [make(link, made[0] if len(made) == 1 else chain(*made))]
        else:
            made[0] = make(link, made[0])
    return made[0] if len(made) == 1 else chain(*made)


def _try_arguments(text: str, build: Build, searched: Searched | None) -> None:
    """Trace a step of the method, so that a wrong argument is an error before all training."""
    threshold = None if searched is None else searched.values[0]

    def step() -> Any:
        params = {"matrix": jnp.ones((2, 2)), "vector": jnp.ones(2)}
        optimizer = optax.with_extra_args_support(build(0.1, threshold))
        return optimizer.update(params, optimizer.init(params), params, value=jnp.ones(()))

    try:
        jax.eval_shape(step)
    # What the arguments of a user make an optimizer raise may be anything.
    except Exception as error:
        raise InputError(f"method {text}: {error}") from error


def _find_name(name: str, known: Sequence[str]) -> str:
    if name in known:
        return name
    usual = name.lower().replace("-", "_")
    for other in (usual, TWINS.get(usual, "")):
        if other in known:
            return other
    if name in catalogue.ENTRIES:
        kind = catalogue.ENTRIES[name].kind
        raise InputError(
            f"method {name} is a {kind}, which stands in no chain; pass it as an argument."
        )
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"nearest: {', '.join(near)}" if near else "`clipax methods` lists them"
    raise InputError(f"unknown method {name!r}; {hint}.")


def _write(value: Any) -> str:
    return "float('inf')" if value == float("inf") else repr(value)


def _write_name(factory: Callable[..., Any]) -> str:
    """Write where optax has a function."""
    contrib = "contrib." if ".contrib." in factory.__module__ else ""
    return f"optax.{contrib}{factory.__name__}"

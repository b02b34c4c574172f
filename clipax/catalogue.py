"""The registry of public methods: it drives the README's table, the command line and the tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import optax

from clipax import norms, optimizers, thresholds, transforms

__all__ = ["ENTRIES", "Entry", "markdown_table"]

Kind = Literal["threshold", "norm", "transformation", "optimizer"]
RECOVERS = "recovers"
DIES = "dies, by its definition"


@dataclass(frozen=True)
class Entry:
    """What the project knows of one public method.

    Attributes:
      name: Public name below `clipax`.
      factory: What makes the method from arguments.
      kind: `"threshold"`, `"norm"`, `"transformation"` or `"optimizer"`.
      formula: The method in one line.
      paper: Authors and year, or where the method comes from.
      arxiv: Identifier of the paper, None where there is none.
      example: Arguments with which the factory works.
      static_args: Arguments that `optax.inject_hyperparams` must not trace.
      variants: Names of further methods of the same factory, with the arguments that make them.
      verdict: What is to be expected of the 200 ordinary steps after one huge finite gradient:
        `"recovers"`, or `"dies, by its definition"` (the stepsize of AdaGrad-Norm without a clip,
        and of Adam-Norm, which forgets in `1/(1 - b2)` steps).
    """

    name: str
    factory: Callable[..., Any]
    kind: Kind
    formula: str
    paper: str
    arxiv: str | None
    example: Mapping[str, Any]
    static_args: tuple[str, ...] = ()
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    verdict: str = RECOVERS

    @property
    def defaults(self) -> dict[str, Any]:
        """The factory's arguments that have a default, with it."""
        arguments = inspect.signature(self.factory).parameters.values()
        return {one.name: one.default for one in arguments if one.default is not one.empty}

    @property
    def summary(self) -> str:
        """First line of the factory's docstring."""
        return (self.factory.__doc__ or "").strip().splitlines()[0]


_ZHANG = ("Zhang, He, Sra & Jadbabaie 2020", "1905.11881")
_CHEZHEGOV = ("Chezhegov et al. 2025", "2406.04443")
_TUCAT = ("Tucat, Mukherjee et al. 2025", "2404.08624")
_MAI = ("Mai & Johansson 2021", "2102.06489")
_NONE = ("building block", None)


def _entry(
    name: str,
    factory: Callable[..., Any],
    kind: Kind,
    formula: str,
    source: tuple[str, str | None],
    example: Mapping[str, Any],
    **more: Any,
) -> Entry:
    paper, arxiv = source
    return Entry(name, factory, kind, formula, paper, arxiv, example, **more)


_ALL = (
    _entry(
        "thresholds.power",
        thresholds.power,
        "threshold",
        "c_t = sigma * t^(1/(2 alpha)), 1/alpha or 1/(3 alpha - 2)",
        ("Sadiev et al. 2023; Nguyen et al. 2023", "2302.00999"),
        {"sigma": 1.0, "alpha": 1.5},
    ),
    _entry("norms.clip", norms.clip, "norm", "min(1, c/n)", _ZHANG, {"threshold": 1.0}),
    _entry(
        "norms.regularized",
        norms.regularized,
        "norm",
        "min(1, max(delta, c/n))",
        _TUCAT,
        {"threshold": 1.0, "delta": 0.1},
    ),
    _entry("norms.smooth", norms.smooth, "norm", "1/sqrt(1 + (n/c)^2)", _MAI, {"threshold": 1.0}),
    _entry("norms.normalize", norms.normalize, "norm", "1/(n + eps)", _ZHANG, {"eps": 1e-3}),
    _entry(
        "norms.adagrad_norm",
        norms.adagrad_norm,
        "norm",
        "1/b, b^2 <- b^2 + n^2",
        _CHEZHEGOV,
        {"b_init": 1.0},
        static_args=("delay",),
        verdict=DIES,
    ),
    _entry(
        "norms.adam_norm",
        norms.adam_norm,
        "norm",
        "1/b, b^2 <- b2 b^2 + (1 - b2) n^2",
        _CHEZHEGOV,
        {"b_init": 1.0, "b2": 0.999},
        static_args=("delay",),
        verdict=DIES,
    ),
    _entry(
        "clip_by_global_norm",
        transforms.clip_by_global_norm,
        "transformation",
        "u = min(1, c/n) g",
        _ZHANG,
        {"threshold": 1.0},
    ),
    _entry(
        "clip_by_leaf_norm",
        transforms.clip_by_leaf_norm,
        "transformation",
        "u_i = min(1, c/n_i) g_i for each leaf i",
        _CHEZHEGOV,
        {"threshold": 1.0},
    ),
    _entry(
        "clip_by_value",
        transforms.clip_by_value,
        "transformation",
        "u_j = max(-c, min(c, g_j)) for each entry j",
        _CHEZHEGOV,
        {"threshold": 0.5},
    ),
    _entry(
        "clip_by_smooth_norm",
        transforms.clip_by_smooth_norm,
        "transformation",
        "u = g/sqrt(1 + (n/c)^2)",
        _MAI,
        {"threshold": 1.0},
        static_args=("response", "scope"),
    ),
    _entry(
        "clip_by_regularized_norm",
        transforms.clip_by_regularized_norm,
        "transformation",
        "u = min(1, max(delta, c/n)) g",
        _TUCAT,
        {"threshold": 1.0, "delta": 0.1},
        static_args=("scope",),
    ),
    _entry(
        "normalize_by_global_norm",
        transforms.normalize_by_global_norm,
        "transformation",
        "u = g/(n + eps)",
        _ZHANG,
        {"eps": 1e-3},
    ),
    _entry(
        "scale_by_adagrad_norm",
        transforms.scale_by_adagrad_norm,
        "transformation",
        "b^2 <- b^2 + n^2, u = g/b",
        _CHEZHEGOV,
        {"b_init": 1.0},
        static_args=("delay",),
        verdict=DIES,
    ),
    _entry(
        "scale_by_adam_norm",
        transforms.scale_by_adam_norm,
        "transformation",
        "b^2 <- b2 b^2 + (1 - b2) n^2, m <- b1 m + (1 - b1) g, u = m/b",
        _CHEZHEGOV,
        {"b_init": 1.0},
        static_args=("delay",),
        verdict=DIES,
    ),
    _entry(
        "scale_by_norm",
        transforms.scale_by_norm,
        "transformation",
        "u = after(n) EMA(before(n) g)",
        _NONE,
        {"before": norms.clip(1.0), "after": norms.adagrad_norm(1.0), "b1": 0.9},
        static_args=("before", "after", "scope"),
    ),
    _entry(
        "delay_updates",
        transforms.delay_updates,
        "transformation",
        "u_t = g_(t - d)",
        _NONE,
        {"delay": 2},
        static_args=("delay",),
    ),
    _entry(
        "skip_nonfinite",
        transforms.skip_nonfinite,
        "transformation",
        "inner(g) if g is finite, else no step at all",
        _NONE,
        {"inner": optax.adam(0.1)},
        static_args=("inner",),
        verdict=DIES,
    ),
    _entry(
        "clip_sgd",
        optimizers.clip_sgd,
        "optimizer",
        "x <- x - eta min(1, c/n) g",
        _ZHANG,
        {"learning_rate": 0.1, "threshold": 1.0},
        static_args=("scope",),
    ),
    _entry(
        "normalized_sgd",
        optimizers.normalized_sgd,
        "optimizer",
        "x <- x - eta/(n + eps) g",
        _ZHANG,
        {"learning_rate": 0.1, "eps": 1e-3},
    ),
    _entry(
        "regularized_clip_sgd",
        optimizers.regularized_clip_sgd,
        "optimizer",
        "x <- x - eta min(1, max(delta, c/n)) (g + wd x)",
        _TUCAT,
        {"learning_rate": 0.1, "threshold": 1.0, "delta": 1e-3},
    ),
    _entry(
        "clip_adagrad_norm",
        optimizers.clip_adagrad_norm,
        "optimizer",
        "g' = min(1, c/n) g, b^2 <- b^2 + n'^2, x <- x - eta g'/b",
        _CHEZHEGOV,
        {"learning_rate": 0.1, "threshold": 1.0},
        static_args=("delay",),
        variants={"delayed_clip_adagrad_norm": {"delay": 1}},
    ),
    _entry(
        "clip_adam_norm",
        optimizers.clip_adam_norm,
        "optimizer",
        "g' = min(1, c/n) g, b^2 <- b2 b^2 + (1 - b2) n'^2, m <- b1 m + (1 - b1) g', "
        "x <- x - eta m/b",
        _CHEZHEGOV,
        {"learning_rate": 0.1, "threshold": 1.0},
        static_args=("delay",),
        variants={"delayed_clip_adam_norm": {"delay": 1}},
    ),
)

ENTRIES: dict[str, Entry] = {entry.name: entry for entry in _ALL}


def markdown_table() -> str:
    """The catalogue as the table of the README."""
    rows = ["| method | what it does | formula | source |", "| --- | --- | --- | --- |"]
    for entry in ENTRIES.values():
        source = f"{entry.paper}, arXiv {entry.arxiv}" if entry.arxiv else entry.paper
        rows.append(f"| `{entry.name}` | {entry.summary} | `{entry.formula}` | {source} |")
    return "\n".join(rows)

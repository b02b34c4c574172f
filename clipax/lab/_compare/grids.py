"""Optax's optimizers, and the learning rates and thresholds that are tried first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import optax
import optax.contrib

from clipax import thresholds
from clipax.lab._compare.norms import Norms

__all__ = ["BASELINES", "NORM_LEVELS", "Searched", "find_rates", "find_searched"]

BASELINES: dict[str, Callable[..., Any]] = {
    "adamw": optax.adamw,
    "adam": optax.adam,
    "lion": optax.lion,
    "muon": optax.contrib.muon,
    "sgd": optax.sgd,
}

# Four rates, a factor of about 3 apart; more are tried around the best of them, and beyond. Steps
# of plain SGD are in units of the gradient, those of clipped methods in units of the threshold.
_ADAMS = (1e-3, 3e-3, 1e-2, 3e-2)
_UNITS = (3e-2, 0.1, 0.3, 1.0)
_RATES: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(("adamw", "adam", "clip_adam", "stable_adamw", "spam", "stable_spam"), _ADAMS),
    "lion": (1e-4, 3e-4, 1e-3, 3e-3),
    "muon": (3e-3, 1e-2, 3e-2, 0.1),
    "sgd": _UNITS,
    "clip_adagrad": (1e-2, 3e-2, 0.1, 0.3),
    "clip_adagrad_norm": (0.3, 1.0, 3.0, 10.0),
}

# A constant threshold is tried at these quantiles of the norms of an unclipped run, the most usual
# first.
NORM_LEVELS = (0.9, 0.5, 0.99, 0.1, 0.75)

Unit = Literal["number", "norm", "leaf", "entry"]


def _keep(value: Any) -> Any:
    return value


class Searched(NamedTuple):
    """The argument of a method that is searched beside the learning rate.

    Attributes:
      argument: its name.
      values: what to try, the first first: numbers, or levels of quantiles.
      unit: `"number"` for values that are numbers; otherwise values are levels of quantiles of the
        gradient's norm, and the threshold is on `"norm"`s, on those of a `"leaf"` or on `"entry"`s.
      make: what makes the argument of a value, which may be traced.
      text: how the argument is written.
    """

    argument: str
    values: tuple[float, ...]
    unit: Unit = "number"
    make: Callable[[Any], Any] = _keep
    text: str = "{:.3g}"

    def resolve(self, norms: Norms, sizes: Sequence[int]) -> tuple[float, ...]:
        """Make the values to try.

        Args:
          norms: those of unclipped runs.
          sizes: the numbers of entries of the leaves.

        Returns:
          The values, the first first.
        """
        if self.unit == "number":
            return self.values
        # As if the square of the norm were shared evenly.
        share = {"norm": 1.0, "leaf": len(sizes), "entry": sum(sizes)}[self.unit] ** -0.5
        found = norms.quantiles(self.values) * share
        return tuple(float(f"{value:.2g}") for value in found)


def _on(argument: str, unit: Unit) -> Searched:
    return Searched(argument, NORM_LEVELS, unit)


_SEARCHED: dict[str, Searched] = {
    "clip_by_block_rms": _on("threshold", "entry"),
    "clip_by_ema": Searched("ratio", (1.05, 1.5, 3.0, 10.0, 1.01)),
    "clip_by_global_norm": _on("max_norm", "norm"),
    "clip_by_group_norm": _on("threshold", "leaf"),
    "clip_by_leaf_norm": _on("threshold", "leaf"),
    "clip_by_median": Searched("scale", (2.0, 1.0, 4.0, 1.5, 8.0)),
    "clip_by_param_norm": Searched("clipping", (0.01, 0.1, 0.03, 0.3, 0.003)),
    "clip_by_percentile": Searched("percentile", (10.0, 50.0, 90.0, 25.0, 75.0)),
    "clip_by_quantile": Searched("quantile", (0.9, 0.5, 0.75, 0.25, 0.99)),
    "clip_by_regularized_norm": _on("threshold", "norm"),
    "clip_by_singular_values": _on("threshold", "leaf"),
    "clip_by_smooth_norm": _on("threshold", "norm"),
    "clip_by_value": _on("threshold", "entry"),
    "clip_by_zscore": Searched("z", (2.5, 1.5, 4.0, 2.0, 1.0)),
    # The library's own default, with its scale searched.
    "skip_spikes": Searched(
        "threshold",
        (10.0, 5.0, 20.0, 3.0, 40.0),
        make=lambda scale: thresholds.median(scale, window=50),
        text="clipax.thresholds.median({:.3g}, window=50)",
    ),
    **{
        name: _on("threshold", "norm")
        for name in (
            "clip_adagrad",
            "clip_adagrad_norm",
            "clip_adam",
            "clip_adam_norm",
            "clip_normalized_momentum",
            "clip_radagrad_norm",
            "clip_sgd",
            "regularized_clip_sgd",
        )
    },
}


def find_rates(optimizer: str) -> tuple[float, ...]:
    """Find the rates to try first for an optimizer, by its name without variants."""
    return _RATES.get(optimizer, _UNITS)


def find_searched(method: str) -> Searched | None:
    """Find what is searched beside the rate of a method; None where nothing is."""
    return _SEARCHED.get(method)

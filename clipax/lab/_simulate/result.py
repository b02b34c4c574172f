"""The result of a simulation: quantiles with confidence intervals, their plot and file."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from clipax import _validate

__all__ = ["Curve", "Simulation", "quantile_interval", "summarise"]

Numbers = tuple[float, ...]


def quantile_interval(runs: int, level: float, confidence: float = 0.95) -> tuple[int, int]:
    """Compute ranks of order statistics that enclose a quantile, for any distribution.

    With `B ~ Bin(n, q)` the number of values at or below the quantile, ranks `l` and `u` (from 1)
    enclose it with probability `P(l <= B <= u - 1)`; each side is missed with at most `(1 - c)/2`.

    Args:
      runs: Number `n` of independent values.
      level: `q`, in (0, 1).
      confidence: `c`, in (0, 1).

    Returns:
      `l` and `u`; `0` and `runs + 1` say that no value bounds the quantile: there are too few for a
      level this extreme.

    Example:
      >>> from clipax.lab import quantile_interval
      >>> quantile_interval(100_000, 0.999)
      (99880, 99920)
      >>> quantile_interval(100, 0.999)
      (99, 101)

    References:
      H. A. David, H. N. Nagaraja, "Order Statistics", 3rd edition 2003, section 7.1.
    """
    runs = _validate.index("runs", runs, minimum=1, maximum=None)
    _validate.within("level", level, 0, 1, brackets="()")
    _validate.within("confidence", confidence, 0, 1, brackets="()")
    # Imported here, as matplotlib below: it takes 1.4 s, for which `import clipax.lab` would wait.
    from scipy import stats

    tail = (1 - confidence) / 2
    low, high = stats.binom.ppf([tail, 1 - tail], runs, level)
    return int(low), int(high) + 1


@dataclasses.dataclass(frozen=True)
class Curve:
    """The results of an optimizer with one choice of hyper-parameters.

    Attributes:
      method: Its name.
      parameters: The hyper-parameters of the grid.
      quantiles: For each recorded step, the quantiles over runs: infinite where so many runs are
        not finite.
      low: The lower ends of their confidence intervals; minus infinity where no run bounds one.
      high: The upper ends.
      mean: For each recorded step, the mean over runs.
      nonfinite: For each recorded step, the share of runs that are not finite (counted as
        infinite above).
    """

    method: str
    parameters: dict[str, float]
    quantiles: tuple[Numbers, ...]
    low: tuple[Numbers, ...]
    high: tuple[Numbers, ...]
    mean: Numbers
    nonfinite: Numbers

    @property
    def label(self) -> str:
        """The name and the hyper-parameters, as one text."""
        return ", ".join(
            [self.method, *(f"{name} {value:g}" for name, value in self.parameters.items())]
        )


def summarise(
    method: str,
    parameters: dict[str, float],
    values: np.ndarray,
    levels: Numbers,
    confidence: float,
) -> Curve:
    """Make the curve of all runs' values at the recorded steps, `(records, runs)`."""
    ordered = np.sort(values, axis=-1)
    runs = values.shape[-1]
    # `inverted_cdf` picks the value of a run, without interpolation, which infinities would spoil.
    quantiles = np.quantile(ordered, levels, axis=-1, method="inverted_cdf").T
    edge = np.full((len(ordered), 1), np.inf, ordered.dtype)
    padded = np.concatenate([-edge, ordered, edge], axis=-1)
    ranks = np.array([quantile_interval(runs, level, confidence) for level in levels])
    return Curve(
        method,
        parameters,
        quantiles=_rows(quantiles),
        low=_rows(padded[:, ranks[:, 0]]),
        high=_rows(padded[:, ranks[:, 1]]),
        mean=_numbers(np.mean(values, axis=-1, dtype=np.float64)),
        nonfinite=_numbers(np.mean(np.isinf(values), axis=-1)),
    )


def _numbers(values: Any) -> Numbers:
    return tuple(float(value) for value in values)


def _rows(values: np.ndarray) -> tuple[Numbers, ...]:
    return tuple(_numbers(row) for row in values)


@dataclasses.dataclass(frozen=True)
class Simulation:
    """The results of `simulate`, and the arguments that they depend on.

    Attributes:
      problem: The problem's name.
      law: The law of the noise, as text.
      measure: The name of the number that was recorded.
      runs: Number of runs.
      record: The steps after which it was recorded.
      levels: The levels of the quantiles.
      confidence: The confidence of their intervals.
      seed: The seed.
      average: Whether the mean of the iterates was measured.
      curves: One for each optimizer and choice of hyper-parameters.
    """

    problem: str
    law: str
    measure: str
    runs: int
    record: tuple[int, ...]
    levels: Numbers
    confidence: float
    seed: int
    average: bool
    curves: tuple[Curve, ...]

    def plot(self, axes: Any = None, level: float | None = None) -> Any:
        """Draw a quantile of each curve over the steps, with its confidence interval as a band.

        Args:
          axes: The axes of a matplotlib figure; None (default) for those of a new one.
          level: Which of `levels`; None (default) for the highest.

        Returns:
          The axes; `axes.figure.savefig(path)` keeps the picture.

        Raises:
          ValueError: `level` was not recorded.
        """
        level = max(self.levels) if level is None else level
        if level not in self.levels:
            raise ValueError(f"`level` must be one of {self.levels}, got {level!r}.")
        if axes is None:
            from matplotlib.figure import Figure

            axes = Figure(layout="constrained").add_subplot()
        place = self.levels.index(level)
        for curve in self.curves:
            low, middle, high = (
                np.array([row[place] for row in rows])
                for rows in (curve.low, curve.quantiles, curve.high)
            )
            (line,) = axes.plot(self.record, np.where(np.isinf(middle), np.nan, middle))
            line.set_label(curve.label)
            # Unbounded ends of intervals are not drawn.
            known = np.isfinite(low) & np.isfinite(high)
            axes.fill_between(
                self.record, low, high, where=known, color=line.get_color(), alpha=0.25, linewidth=0
            )
        kind = "mean iterate" if self.average else "iterate"
        axes.set_xlabel("step")
        axes.set_ylabel(f"{self.measure} of the {kind}, {level:g} quantile")
        axes.set_title(f"{self.problem}, {self.law}, {self.runs:,} runs")
        if min(self.record) > 0:
            axes.set_xscale("log")
        if all(row[place] > 0 for curve in self.curves for row in curve.quantiles):
            axes.set_yscale("log")
        if self.curves:
            axes.legend()
        return axes

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything as JSON, under another name and then moved: wholly or not at all.

        Args:
          path: The file.

        Raises:
          OSError: It cannot be written.
        """
        path = Path(path)
        draft = path.with_name(path.name + ".part")
        text = json.dumps(_encode(dataclasses.asdict(self)), allow_nan=False, indent=1)
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Simulation:
        """Read a file that `save` wrote.

        Args:
          path: The file.

        Returns:
          The simulation, equal to the one saved.

        Raises:
          OSError: It cannot be read.
          ValueError: It was not written by `save`, or is damaged.
        """
        try:
            fields = _decode(json.loads(Path(path).read_text(encoding="utf-8")))
            curves = tuple(Curve(**curve) for curve in fields.pop("curves"))
            return cls(**fields, curves=curves)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"`path` must be a file of a simulation, got {str(path)!r}."
            ) from error


def _encode(value: Any) -> Any:
    """Make JSON of a value, which knows no infinity: the text `"inf"` or `"-inf"` stands for it."""
    if isinstance(value, dict):
        return {name: _encode(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _decode(item) for name, item in value.items()}
    if isinstance(value, list):
        return tuple(_decode(item) for item in value)
    return float(value) if value in ("inf", "-inf") else value

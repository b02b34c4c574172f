"""What the norms of the gradients were without a clip: what thresholds are set by."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

__all__ = ["Norms"]

_FAR = 10.0
# Points of the picture.
_KEPT = 1_000


@dataclasses.dataclass(frozen=True)
class Norms:
    """Norms of the gradients of unclipped runs, noise included.

    Attributes:
      steps: steps of the run that is drawn.
      series: its norms, the largest of each stretch where there are many.
      values: quantiles of the norms of all runs at `levels()`.
      largest_ratio: the largest norm over the median.
      far: the share of norms above ten times the median.
    """

    steps: tuple[int, ...]
    series: tuple[float, ...]
    values: tuple[float, ...]
    largest_ratio: float
    far: float

    @staticmethod
    def levels() -> np.ndarray:
        """The levels of the quantiles."""
        return np.concatenate([np.linspace(0, 0.99, 100), [0.995, 0.999, 1.0]])

    @classmethod
    def measure(cls, norms: np.ndarray) -> Norms | None:
        """Sum up the norms of runs, one row each; None if none is finite and positive."""
        rows = [row[np.isfinite(row) & (row > 0)] for row in norms]
        first = max(rows, key=len)
        every = np.concatenate(rows)
        if not every.size:
            return None
        pieces = np.array_split(first, min(_KEPT, len(first)))
        starts = np.cumsum([0, *(len(piece) for piece in pieces[:-1])])
        median = float(np.median(every))
        return cls(
            steps=tuple(map(int, starts)),
            series=tuple(_round(piece.max()) for piece in pieces),
            values=tuple(_round(value) for value in np.quantile(every, cls.levels())),
            largest_ratio=_round(every.max() / median),
            far=_round((every > _FAR * median).mean()),
        )

    def quantiles(self, levels: Any) -> np.ndarray:
        """Compute quantiles of the norms of all runs."""
        return np.interp(levels, self.levels(), self.values)

    def to_json(self) -> str:
        """Write one line of strict JSON."""
        return json.dumps({"norms": dataclasses.asdict(self)}, allow_nan=False)

    @classmethod
    def from_record(cls, record: Any) -> Norms:
        """Rebuild the norms from the value of their line; raise ValueError with what is wrong."""
        try:
            fields: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in record["norms"].items()
            }
            norms = cls(**fields)
            numbers = [*norms.steps, *norms.series, *norms.values, norms.largest_ratio, norms.far]
            good = all(type(x) in (int, float) and math.isfinite(x) for x in numbers)
        except (TypeError, AttributeError):
            good = False
        if not good or (len(norms.steps), len(norms.values)) != (
            len(norms.series),
            len(cls.levels()),
        ):
            raise ValueError("has norms that are no numbers, or not as many as it must")
        return norms


def _round(value: Any) -> float:
    return float(f"{float(value):.4g}")

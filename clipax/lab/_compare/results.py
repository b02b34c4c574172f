"""The result of one method."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from clipax.lab._compare.records import check_result, write_line

__all__ = ["Losses", "MethodResult", "quantile", "write_loss", "write_percent"]

Losses = tuple[tuple[float, ...], ...]


def quantile(values: Sequence[float], q: float) -> float:
    """Compute a quantile by linear interpolation; infinite values keep their rank.

    Args:
      values: numbers, some perhaps infinite.
      q: between 0 and 1.

    Returns:
      The quantile; infinite as soon as an infinite value takes part in it.
    """
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    share = position - below
    if share == 0:
        return ordered[below]
    low, high = ordered[below], ordered[below + 1]
    return high if math.isinf(high) else low + share * (high - low)


def write_loss(value: float) -> str:
    """Write a loss with three digits behind the point, or as many that count."""
    if math.isinf(value):
        return "inf"
    return f"{value:.3f}" if 0.1 <= abs(value) < 100 or value == 0 else f"{value:.3g}"


def write_percent(share: float) -> str:
    """Write a share in percent, with two digits that count."""
    return f"{100 * share:.0f}" if share >= 0.095 else f"{100 * share:.2g}"


def _find_edge(tried: Sequence[float], chosen: float | None) -> str | None:
    if len(set(tried)) < 2:
        return None
    if chosen == min(tried):
        return "smallest"
    return "largest" if chosen == max(tried) else None


@dataclasses.dataclass(frozen=True)
class MethodResult:
    """The result of one method.

    Attributes:
      method: its name.
      plain: the name of the same optimizer without a clip; None if it is one.
      argument: the argument that was searched beside the learning rate; None where none was.
      settings: the pairs of learning rate and threshold tried (None where none was searched).
      validation_loss: last loss on the validation batch, for each setting and selection seed;
        infinite where the run diverged, empty where there was one setting only.
      chosen: the place of the setting chosen.
      python: the method at this setting, as Python.
      seeds: the seeds of the results below; none of them took part in the choice.
      points: the steps at which the curves have points.
      scores: for the loss and what else the task evaluates, the value on the test batch for each
        seed and point; once a run has diverged the loss is infinite and the others are NaN.
      clip_fraction: share of clipped or skipped steps for each seed, None without telemetry.
      seconds: the time it took, compilation included.
    """

    method: str
    plain: str | None
    argument: str | None
    settings: tuple[tuple[float, float | None], ...]
    validation_loss: Losses
    chosen: int
    python: str
    seeds: tuple[int, ...]
    points: tuple[int, ...]
    scores: dict[str, Losses]
    clip_fraction: tuple[float, ...] | None
    seconds: float

    @property
    def loss(self) -> Losses:
        """Loss on the test batch, for each seed and point."""
        return self.scores["loss"]

    @property
    def learning_rate(self) -> float:
        """The learning rate chosen."""
        return self.settings[self.chosen][0]

    @property
    def threshold(self) -> float | None:
        """The threshold chosen, None where none was searched."""
        return self.settings[self.chosen][1]

    @property
    def final_loss(self) -> tuple[float, ...]:
        """Test loss after the last step, for each seed."""
        return self.final("loss")

    @property
    def diverged(self) -> float:
        """Share of seeds whose run diverged."""
        return sum(map(math.isinf, self.final_loss)) / len(self.seeds)

    @property
    def edge(self) -> str | None:
        """`"smallest"` or `"largest"` where the chosen rate is that of the rates tried."""
        return _find_edge([rate for rate, _ in self.settings], self.learning_rate)

    @property
    def threshold_edge(self) -> str | None:
        """The same of the threshold."""
        tried = [threshold for _, threshold in self.settings if threshold is not None]
        return _find_edge(tried, self.threshold)

    def final(self, score: str) -> tuple[float, ...]:
        """List a score after the last step, for each seed."""
        return tuple(curve[-1] for curve in self.scores[score])

    def order(self) -> tuple[float, float]:
        """Compute a sort key: median test loss, then the share diverged."""
        return quantile(self.final_loss, 0.5), self.diverged

    def to_json(self) -> str:
        """Write one line of strict JSON, with null for infinite losses."""
        return write_line({"result": dataclasses.asdict(self)})

    @classmethod
    def from_record(cls, record: Any) -> MethodResult:
        """Rebuild a result from the value of its line; raise ValueError with what is wrong."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**check_result(record, names))

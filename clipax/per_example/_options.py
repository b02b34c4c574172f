"""The checked arguments of a clipped gradient."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clipax import _validate
from clipax._typing import Scalar, ScalarOrSchedule
from clipax.per_example._responses import UNCONDITIONAL
from clipax.scopes import Scope
from clipax.thresholds import Threshold

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """The checked arguments of `clipped_value_and_grad`."""

    fun: Callable[..., Any]
    threshold: ScalarOrSchedule
    scope: Scope
    response: str
    eps: Scalar
    reduction: str
    microbatch_size: int
    has_aux: bool
    noise_multiplier: Scalar | None
    axis_name: str | tuple[str, ...] | None

    def check(self, threshold: ScalarOrSchedule) -> None:
        """Raise unless the threshold, if it is known by now, fits the other options."""
        if isinstance(threshold, Threshold):
            raise TypeError(
                "`threshold` must be a number here, got a Threshold, which remembers: keep it in "
                "the optimizer's state by `norms.observe`, and pass what `current_threshold` reads."
            )
        if callable(threshold):
            if self.noise_multiplier is not None:
                raise ValueError(
                    "`threshold` must be one number for all examples with noise, got a function "
                    "of their places."
                )
            _validate.schedule("threshold", threshold)
            return
        _validate.threshold("threshold", threshold)
        bounded = self.response in UNCONDITIONAL or self.noise_multiplier is not None
        if bounded and isinstance(threshold, numbers.Real) and math.isinf(threshold):
            raise ValueError(
                f"`threshold` must be finite with noise or with response {self.response!r}, got "
                f"{threshold!r}."
            )

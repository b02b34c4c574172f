"""Mean and standard deviations of the last values, as the trainers of language models skip by."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates, clip, is_finite, norm, zeros


class Deviation:
    """The largest value that is no spike, from the last values."""

    def __init__(
        self, sigmas: float = 6.0, window: int = 128, floor: float = 1e-3, whole: bool = False
    ) -> None:
        self.sigmas, self.window, self.floor, self.whole = sigmas, window, floor, whole
        self.values: list[float] = []

    def limit(self) -> float:
        """``mean + sigmas * deviation``; infinite as long as the window is less than half full."""
        last = self.values[-self.window :]
        if len(last) < max(2, self.window // 2):
            return math.inf
        mean = math.fsum(last) / len(last)
        variance = math.fsum((value - mean) ** 2 for value in last) / (len(last) - 1)
        return mean + self.sigmas * max(math.sqrt(variance), self.floor * abs(mean))

    def remember(self, value: float) -> None:
        """A spike enters as the limit, or (as in the trainers) as it is."""
        self.values.append(value if self.whole else min(value, self.limit()))


@oracle("thresholds.deviation")
def deviation(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    sigmas: float = 6.0,
    window: int = 128,
    floor: float = 1e-3,
) -> Updates:
    """Clipped to the limit that the norms before set."""
    rule = Deviation(sigmas, window, floor)
    updates = []
    for gradient in gradients:
        if not is_finite(gradient):
            updates.append(zeros(gradient))
            continue
        updates.append(clip(gradient, rule.limit()))
        if norm(gradient) > 0.0:
            rule.remember(norm(gradient))
    return updates

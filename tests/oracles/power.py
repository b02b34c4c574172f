"""The growing threshold ``c_t = sigma t^p``, ``t = step + 1``, in a clip of the global norm."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates
from tests.oracles.clip_by_global_norm import clip_by_global_norm


@oracle("thresholds.power")
def power(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    sigma: float,
    alpha: float,
    regime: str = "design",
    horizon: int | None = None,
) -> Updates:
    """``p`` is 1/(2 alpha), 1/alpha (convex) or 1/(3 alpha - 2); with a horizon ``sigma T^p``."""
    exponent = {
        "design": 1.0 / (2.0 * alpha),
        "convex": 1.0 / alpha,
        "nonconvex": 1.0 / (3.0 * alpha - 2.0),
    }[regime]

    def threshold(step: int) -> float:
        return sigma * float(step + 1 if horizon is None else horizon) ** exponent

    return clip_by_global_norm(gradients, params, max_norm=threshold)

"""Thresholds of convergence theorems, in a clip of the global norm.

Nguyen et al. 2023 (arXiv 2304.01119), horizon unknown; Sadiev et al. 2023 (arXiv 2302.00999),
horizon known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.oracles._tree import Schedule, Tree, Updates, at
from tests.oracles.zhang_he_sra_jadbabaie_2020 import clip_by_global_norm


def anytime(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    sigma: float,
    alpha: float,
    regime: str = "nonconvex",
    gamma: float = 1.0,
) -> Updates:
    """``sigma (2t(1 + ln t)^2)^(1/(3p-2))`` or ``(52 t (1 + ln t)^2 sigma^p/gamma)^(1/p)``."""

    def threshold(step: int) -> float:
        t = step + 1.0
        if regime == "convex":
            return float(
                (52.0 * t * (1.0 + math.log(t)) ** 2 * sigma**alpha / gamma) ** (1 / alpha)
            )
        return float(sigma * (2.0 * t * (1.0 + math.log(t)) ** 2) ** (1 / (3 * alpha - 2)))

    return clip_by_global_norm(gradients, params, max_norm=threshold)


def fixed_horizon(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    radius: float,
    learning_rate: Schedule,
    steps: int,
    failure_probability: float,
    constant: float = 0.5,
) -> Updates:
    """``R/(c eta A)``, ``A = ln(4(K + 1)/delta)``."""
    spread = math.log(4.0) + math.log(steps + 1.0) - math.log(failure_probability)
    return clip_by_global_norm(
        gradients,
        params,
        max_norm=lambda step: radius / constant / at(learning_rate, step) / spread,
    )

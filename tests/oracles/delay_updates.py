"""Updates of some steps ago."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates, zeros


@oracle("delay_updates")
def delay_updates(gradients: Sequence[Tree], params: Tree, *, delay: int | None = None) -> Updates:
    """The update of ``delay`` steps ago; zeros on the first ``delay`` steps.

    An entry that is not finite is remembered as zero.
    """
    held = [zeros(gradients[0]) for _ in range(delay or 0)]
    clean = [
        {path: np.where(np.isfinite(leaf), leaf, 0.0) for path, leaf in gradient.items()}
        for gradient in gradients
    ]
    return [*held, *clean][: len(gradients)]

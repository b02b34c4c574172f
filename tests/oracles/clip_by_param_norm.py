"""AGC, "High-Performance Large-Scale Image Recognition Without Normalization" (2102.06171)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates, clip, norm


@oracle("clip_by_param_norm")
def clip_by_param_norm(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    clipping: float = 0.01,
    eps: float = 1e-3,
    exclude: Callable[[str], bool] | None = None,
) -> Updates:
    """Unit by unit: the columns of a matrix, or a vector as a whole; one bad unit becomes zero."""

    def one(gradient: np.ndarray, weights: np.ndarray, *, excluded: bool) -> np.ndarray:
        if not np.isfinite(gradient).all():
            return np.zeros_like(gradient)
        threshold = np.inf if excluded else clipping * max(norm({"": weights}), eps)
        return clip({"": gradient}, threshold)[""]

    def leaf(path: str, gradient: np.ndarray) -> np.ndarray:
        if exclude is not None and exclude(path):
            return one(gradient, params[path], excluded=True)
        if gradient.ndim < 2:
            return one(gradient, params[path], excluded=False)
        columns = [
            one(gradient[..., unit], params[path][..., unit], excluded=False)
            for unit in range(gradient.shape[-1])
        ]
        return np.stack(columns, axis=-1)

    return [{path: leaf(path, one) for path, one in gradient.items()} for gradient in gradients]

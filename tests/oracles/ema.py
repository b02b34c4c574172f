"""AdaGC, "Enhancing LLM Pretraining Stability via Adaptive Gradient Clipping" (2502.11034v3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates, norm


class _Tensor:
    """The memory of one tensor."""

    def __init__(self) -> None:
        self.gamma = math.inf
        self.votes = 0
        self.steps = 0

    def warm_up(self, clipped: float, floor: float) -> None:
        """``gamma <- min(gamma, ||h g||)`` over the majority that is of one size."""
        far = clipped < floor * self.gamma or floor * clipped > self.gamma
        if self.gamma == math.inf or (far and self.votes <= 1):
            self.gamma, self.votes = clipped, 1
        elif far:
            self.votes -= 1
        else:
            self.gamma = min(self.gamma, clipped)
            self.votes += 1


def _updates(
    gradients: Sequence[Tree],
    *,
    ratio: float,
    decay: float,
    warmup: int,
    absolute: float,
    floor: float,
) -> Updates:
    tensors = {path: _Tensor() for path in gradients[0]}
    updates = []
    for gradient in gradients:
        finite = {path: leaf for path, leaf in gradient.items() if np.isfinite(leaf).all()}
        total = norm(finite)
        update = {path: np.zeros_like(leaf) for path, leaf in gradient.items()}
        for path, leaf in finite.items():
            tensor, size = tensors[path], norm({path: leaf})
            if size == 0.0:
                continue
            if tensor.steps < warmup or tensor.gamma == math.inf:
                factor = min(1.0, absolute / total)
                tensor.warm_up(factor * size, floor)
            else:
                factor = min(1.0, ratio * tensor.gamma / size)
                tensor.gamma = decay * tensor.gamma + (1 - decay) * factor * size
            tensor.steps += 1
            update[path] = factor * leaf
        updates.append(update)
    return updates


@oracle("clip_by_ema")
def clip_by_ema(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    ratio: float = 1.05,
    decay: float = 0.98,
    warmup: int = 100,
    absolute: float = math.inf,
    floor: float = 1e-3,
) -> Updates:
    """Tensor by tensor, as in the paper."""
    return _updates(
        gradients, ratio=ratio, decay=decay, warmup=warmup, absolute=absolute, floor=floor
    )


@oracle("thresholds.ema")
def ema(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    ratio: float = 1.05,
    decay: float = 0.98,
    warmup: int = 100,
    absolute: float = math.inf,
    floor: float = 1e-3,
) -> Updates:
    """The whole tree as one tensor."""
    shapes = {path: leaf.shape for path, leaf in gradients[0].items()}
    whole = [
        {"": np.concatenate([leaf.ravel() for leaf in gradient.values()])} for gradient in gradients
    ]
    updates = _updates(
        whole, ratio=ratio, decay=decay, warmup=warmup, absolute=absolute, floor=floor
    )
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1]
    return [
        {
            path: part.reshape(shape)
            for (path, shape), part in zip(shapes.items(), np.split(update[""], ends), strict=True)
        }
        for update in updates
    ]

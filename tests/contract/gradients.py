"""The trees and the heavy-tailed gradient sequences that the contract runs on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.oracles import Tree, Updates

Layout = dict[str, tuple[int, ...]]

VECTOR: Layout = {"w": (7,)}
NESTED: Layout = {"dense/bias": (4,), "dense/kernel": (3, 4), "empty": (0, 3), "scale": ()}
MIXED_DTYPES = {
    "dense/bias": jnp.bfloat16,
    "dense/kernel": jnp.float32,
    "empty": jnp.float16,
    "scale": jnp.float32,
}
ZERO_STEP = 11
"""A step whose gradient is exactly zero."""
TINY_STEP = 17
"""A step whose gradient is too small for any clip, the smooth one included."""


def heavy_tailed(layout: Layout, steps: int = 60, seed: int = 0) -> Updates:
    """Gradients with Student-t entries of 1.5 degrees of freedom and sizes over four decades."""
    random = np.random.default_rng(seed)
    gradients = []
    for step in range(steps):
        size = {ZERO_STEP: 0.0, TINY_STEP: 1e-12}.get(step, 10.0 ** random.uniform(-2.5, 1.5))
        gradients.append(
            {
                path: size * np.asarray(random.standard_t(1.5, shape))
                for path, shape in layout.items()
            }
        )
    return gradients


def mild(layout: Layout, steps: int, seed: int = 1) -> Updates:
    """Gradients of norms around 4, the same in every dtype up to rounding."""
    random = np.random.default_rng(seed)
    return [
        {path: np.asarray(random.standard_normal(shape)) for path, shape in layout.items()}
        for _ in range(steps)
    ]


def parameters(layout: Layout) -> Tree:
    """Parameters to go with the gradients."""
    return mild(layout, 1, seed=2)[0]


def nest(tree: Tree, dtype: Any = jnp.float32) -> Any:
    """A nested dictionary of JAX arrays; `dtype` is one for all, or a mapping from paths."""
    nested: dict[str, Any] = {}
    for path, leaf in tree.items():
        *parents, name = path.split("/")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = jnp.asarray(leaf, dtype[path] if isinstance(dtype, dict) else dtype)
    return nested


def flatten(tree: Any) -> Tree:
    """The float64 tree of an oracle, from a nested dictionary."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(keys, simple=True, separator="/"): np.asarray(leaf, np.float64)
        for keys, leaf in leaves
    }

"""Gradients for both sides, and torch's side of a comparison; float64 throughout."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

torch = pytest.importorskip("torch")

Tree = dict[str, np.ndarray]

# The output's axis comes last, as in Flax.
LAYOUT = {"bias": (4,), "conv": (3, 3, 2, 4), "kernel": (6, 4), "scale": ()}
STEPS = 24
BURST = (7, 15)
"""Steps whose gradients are a hundred times as large as their neighbours'."""
TINY = 11
"""A step whose gradient is a hundredth of its neighbours'."""


def trees() -> tuple[Tree, list[Tree]]:
    """Parameters, and gradients of norms around one with bursts and a lull."""
    random = np.random.default_rng(0)

    def tree(size: float) -> Tree:
        return {
            path: np.asarray(size * random.standard_normal(shape)) for path, shape in LAYOUT.items()
        }

    sizes = [100.0 if step in BURST else 0.01 if step == TINY else 1.0 for step in range(STEPS)]
    return tree(0.5), [tree(0.1 * size) for size in sizes]


def ours(
    transformation: optax.GradientTransformation,
    params: Tree,
    gradients: Sequence[Tree],
    *,
    moving: bool = False,
) -> list[Tree]:
    """The updates of a transformation; the parameters follow them where it is an optimizer."""
    now = jax.tree.map(jnp.asarray, params)
    state, results = transformation.init(now), []
    update = jax.jit(transformation.update)
    for gradient in gradients:
        updates, state = update(jax.tree.map(jnp.asarray, gradient), state, now)
        now = optax.apply_updates(now, updates) if moving else now
        results.append(jax.tree.map(np.asarray, updates))
    return results


def assert_alike(actual: Sequence[Tree], expected: Sequence[Tree], tolerance: float) -> None:
    """Equal at every step, leaf by leaf, within a share of the leaf's norm."""
    for step, (one, other) in enumerate(zip(actual, expected, strict=True)):
        for path, leaf in other.items():
            error = np.linalg.norm(one[path] - leaf)
            allowed = tolerance * np.linalg.norm(leaf)
            assert error <= allowed, f"step {step}, {path}: {error:.3g}, allowed {allowed:.3g}"


def assert_bites(updates: Sequence[Tree], gradients: Sequence[Tree]) -> None:
    """Bursts are clipped; some other step is not touched at all."""
    untouched = [
        all(np.array_equal(update[path], gradient[path]) for path in gradient)
        for update, gradient in zip(updates, gradients, strict=True)
    ]
    assert not any(untouched[step] for step in BURST)
    assert any(untouched)


def to_torch(leaf: np.ndarray) -> torch.Tensor:
    """A leaf with the output's axis first, as torch has it, and input before space."""
    order = {2: (1, 0), 4: (3, 2, 0, 1)}.get(leaf.ndim)
    return torch.tensor(np.transpose(leaf, order) if order else leaf, dtype=torch.float64)


def from_torch(leaf: torch.Tensor) -> np.ndarray:
    """The inverse of `to_torch`."""
    order = {2: (1, 0), 4: (2, 3, 1, 0)}.get(leaf.ndim)
    value = leaf.detach().numpy().copy()
    return np.transpose(value, order) if order else value


def clipped(
    clip: Callable[[list[torch.nn.Parameter]], object], params: Tree, gradients: Sequence[Tree]
) -> list[Tree]:
    """Run a function that clips `.grad` in place on each gradient."""
    results = []
    for gradient in gradients:
        own = {path: torch.nn.Parameter(to_torch(leaf)) for path, leaf in params.items()}
        for path, leaf in gradient.items():
            own[path].grad = to_torch(leaf)
        clip(list(own.values()))
        results.append({path: from_torch(one.grad) for path, one in own.items()})
    return results


def steps(
    make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer],
    params: Tree,
    gradients: Sequence[Tree],
) -> list[Tree]:
    """The updates of an optimizer, from parameter to parameter."""
    own = {path: torch.nn.Parameter(to_torch(leaf)) for path, leaf in params.items()}
    optimizer, results = make(list(own.values())), []
    for gradient in gradients:
        before = {path: one.detach().clone() for path, one in own.items()}
        for path, leaf in gradient.items():
            own[path].grad = to_torch(leaf)
        optimizer.step()
        results.append({path: from_torch(one.detach() - before[path]) for path, one in own.items()})
    return results

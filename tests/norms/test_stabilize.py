"""GradientStabilizer: the direction stays, the length is that of the norms' own statistics."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from clipax import norms
from tests.oracles.stabilize import stabilize as oracle


def run(optimizer: Any, gradients: Any) -> Any:
    def step(state: Any, gradient: Any) -> Any:
        return optimizer.update(gradient, state)[::-1]

    first = jax.tree.map(lambda leaf: leaf[0], gradients)
    return jax.jit(lambda: jax.lax.scan(step, optimizer.init(first), gradients)[1])()


@pytest.mark.parametrize("size", [2.0, 1e6, 1e19, 1e37])
def test_a_spike_of_any_size_has_the_same_bounded_length(size: float) -> None:
    given = jnp.full((200, 1), 0.5).at[100].set(size)
    left = np.asarray(run(clipax.scale_by_norm(norms.stabilize()), given))
    np.testing.assert_allclose(left[99], 1.0, rtol=1e-6)
    mean, square = 0.7 * 0.5 + 0.3 * size, 0.9 * 0.25 + 0.1 * size**2
    np.testing.assert_allclose(left[100], mean / square**0.5, rtol=1e-4)
    # By Cauchy and Schwarz, whatever the size.
    assert left[100] < (0.7**2 / 0.9 + 0.3**2 / 0.1) ** 0.5 < 1.202
    if size >= 1e6:
        np.testing.assert_allclose(left[100], 0.3 / 0.1**0.5, rtol=1e-4)
        assert (left[103:] < 0.5).all()


def test_each_leaf_by_itself_and_the_direction_stays() -> None:
    random = np.random.default_rng(0)
    given = {
        name: (random.standard_normal((80, *shape)) * scale).astype(np.float32)
        for name, shape, scale in (("large", (3, 2), 1e4), ("small", (4,), 1e-4))
    }
    given["small"][20] = 0.0
    given["small"][40, 1] = np.nan
    rule = norms.stabilize(norm_decay=0.5, square_decay=0.8, eps=0.0)
    updates = run(clipax.scale_by_norm(rule, scope="leaf"), given)
    for name, leaf in given.items():
        alone = [{"w": np.float64(gradient)} for gradient in leaf]
        wanted = oracle(alone, {}, norm_decay=0.5, square_decay=0.8, eps=0.0)
        np.testing.assert_allclose(
            updates[name], [update["w"] for update in wanted], rtol=1e-5, err_msg=name
        )


def test_it_is_the_one_inside_stable_spam() -> None:
    # Nothing is cut where the largest entry is always the same; Adam without averages is a sign, so
    # its second moment is made to keep the size: of steps after the first, m/(sqrt(v) + eps).
    given = jnp.asarray([[3.0, 3.0], [3.0, 0.0], [3.0, -3.0], [0.5, 0.1]])
    optimizer = clipax.stable_spam(1.0, b1=0.0, b2=0.5, peak_decay=0.0, reset=None, eps=1e-8)
    stable = run(clipax.scale_by_norm(norms.stabilize()), given)
    second, wanted = np.zeros(2), []
    for step, gradient in enumerate(np.asarray(stable, float)):
        second = 0.5 * second + 0.5 * gradient**2
        wanted.append(-gradient / (np.sqrt(second / (1 - 0.5 ** (step + 1))) + 1e-8))
    np.testing.assert_allclose(run(optimizer, given), wanted, rtol=1e-5, atol=1e-6)

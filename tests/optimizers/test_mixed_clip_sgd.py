"""Mixed and momentum clipping, and what they are in their corners."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from tests.optimizers.walks import assert_equal_walks, walk


def test_mixed_clipping_without_momentum_is_clipped_descent(x64):
    # A step of at most G at the rate eta is a threshold of G/eta.
    mixed = clipax.mixed_clip_sgd(0.25, 0.5, nu=0.0)
    assert_equal_walks(mixed, clipax.clip_sgd(0.25, 2.0), tolerance=1e-15)


def test_mixed_clipping_with_momentum_alone_is_averaged_descent(x64):
    mixed = clipax.mixed_clip_sgd(0.25, float("inf"), nu=1.0, decay=0.8)
    average = optax.chain(optax.ema(0.8, debias=False), optax.scale_by_learning_rate(0.25))
    assert_equal_walks(mixed, average)
    assert_equal_walks(clipax.momentum_clip_sgd(0.25, float("inf"), decay=0.8), average)


def test_mixed_clipping_without_a_limit_is_quasi_hyperbolic_momentum(x64):
    mixed = clipax.mixed_clip_sgd(0.25, float("inf"), nu=0.6, decay=0.8)
    means, _, _ = walk(
        optax.chain(optax.ema(0.8, debias=False), optax.scale_by_learning_rate(0.25))
    )
    plain, _, _ = walk(optax.sgd(0.25))
    for out, mean, step in zip(walk(mixed)[0], means, plain, strict=True):
        expected = jax.tree.map(lambda m, g: 0.6 * m + 0.4 * g, mean, step)
        for a, b in zip(jax.tree.leaves(out), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-300)


def test_momentum_clipping_is_mixed_clipping_in_its_corner(x64):
    assert_equal_walks(
        clipax.momentum_clip_sgd(0.25, 0.5, decay=0.8),
        clipax.mixed_clip_sgd(0.25, 0.5, nu=1.0, decay=0.8),
    )


@pytest.mark.parametrize("response", ["hard", "soft"])
def test_no_step_of_mixed_clipping_is_longer_than_its_limit(x64, response):
    updates, _, _ = walk(clipax.mixed_clip_sgd(0.25, 0.5, response=response))
    lengths = [float(optax.tree.norm(out)) for out in updates]
    assert max(lengths) <= 0.5 * (1 + 1e-12)
    assert min(lengths) < 0.1  # and some are short


def test_a_scale_of_rate_and_limit_scales_the_steps(x64):
    small, _, _ = walk(clipax.mixed_clip_sgd(0.25, 0.5))
    large, _, _ = walk(clipax.mixed_clip_sgd(0.75, 1.5))
    for a, b in zip(jax.tree.leaves(small), jax.tree.leaves(large), strict=True):
        np.testing.assert_allclose(3 * a, b, rtol=1e-12)


def test_the_soft_response_lies_between_half_and_all_of_the_hard_one():
    sizes = jnp.logspace(-6, 6, 200)

    def length(response, size):
        optimizer = clipax.mixed_clip_sgd(0.25, 0.5, nu=0.0, response=response)
        return -optimizer.update(size, optimizer.init(size))[0]

    hard, soft = (
        jax.vmap(lambda size, r=response: length(r, size))(sizes) for response in ("hard", "soft")
    )
    assert (soft <= hard * (1 + 1e-6)).all()
    assert (soft >= hard / 2 * (1 - 1e-6)).all()


def test_a_limit_that_decays_with_the_rate_is_a_constant_threshold(x64):
    def rate(count):
        return 0.25 / (1 + count)

    mixed = clipax.mixed_clip_sgd(rate, lambda count: 2.0 * rate(count), nu=0.0)
    assert_equal_walks(mixed, clipax.clip_sgd(rate, 2.0))


def test_a_rate_of_zero_moves_nothing_and_keeps_the_momentum():
    optimizer = clipax.mixed_clip_sgd(lambda count: 0.0 * count, 1.0, decay=0.5)
    params = jnp.array([8.0])
    out, state = optimizer.update(params, optimizer.init(params), params)
    assert out[0] == 0
    assert optax.tree.get(state, "momentum")[0] == 4


def test_a_narrow_momentum_does_not_stand_still():
    # In bfloat16 it would stop at a quarter of the gradient.
    optimizer = clipax.momentum_clip_sgd(1.0, float("inf"), decay=0.999)
    params = jnp.ones(1, jnp.bfloat16)

    def step(state, _):
        return optimizer.update(params, state, params)[1], None

    state, _ = jax.lax.scan(step, optimizer.init(params), length=5_000)
    assert optax.tree.get(state, "momentum")[0] == pytest.approx(1 - 0.999**5000, rel=1e-3)

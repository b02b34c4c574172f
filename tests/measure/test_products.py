"""Products in float32: in passes of bfloat16 for the TPU, as precise as elsewhere."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipax.measure._products import multiply_in_passes, product

OPTIMISED = True


def factors(seed=0, scale=1.0):
    random = np.random.default_rng(seed)
    sizes = np.exp(3 * random.standard_normal((3, 40, 60)))
    first = scale * random.standard_normal((3, 40, 60)) * sizes
    return np.float32(first), np.float32(random.standard_normal((3, 60, 50)))


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_passes_are_as_precise_as_float32(scale):
    first, second = factors(scale=scale)
    exact = first.astype(float) @ second.astype(float)
    allowed = 10 * jnp.finfo(jnp.float32).eps * (np.abs(first).astype(float) @ np.abs(second))
    found = np.asarray(jax.jit(multiply_in_passes)(first, second), float)
    assert (np.abs(found - exact) <= allowed).all()
    # One pass would not do.
    single = jnp.matmul(
        first.astype(jnp.bfloat16), second.astype(jnp.bfloat16), preferred_element_type=jnp.float32
    )
    assert (np.abs(np.asarray(single, float) - exact) > 100 * allowed).any()


def test_passes_are_for_the_tpu_alone():
    def text(platform, dtype):
        first, second = (part.astype(dtype) for part in factors())
        traced = jax.jit(product).trace(first, second)
        return traced.lower(lowering_platforms=(platform,)).as_text()

    for platform in ("cpu", "tpu", "cuda"):
        for dtype in (jnp.float32, jnp.complex64):
            passes = platform == "tpu" and dtype == jnp.float32
            assert ("bf16" in text(platform, dtype)) == passes
            assert ("HIGHEST" in text(platform, dtype)) != passes


def test_derivatives_are_those_of_a_product():
    # The sine's argument is at most 2 or so: rounding does not change its slope.
    pair = factors(scale=1e-3)

    def plain(first, second):
        return jnp.sum(jnp.sin(jnp.matmul(first, second, precision="highest")))

    def ours(first, second):
        return jnp.sum(jnp.sin(product(first, second)))

    slopes, expected = (jax.jit(jax.grad(total, (0, 1)))(*pair) for total in (ours, plain))
    for one, other in zip(slopes, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())
    (_, change), (_, other) = (jax.jvp(jax.jit(total), pair, pair) for total in (ours, plain))
    np.testing.assert_allclose(change, other, rtol=1e-3)

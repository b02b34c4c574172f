"""Batches, keys and functions that a call refuses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax

SIZE = 7


def loss(params, x, y):
    error = x @ params["kernel"] + params["bias"] - y
    return jnp.sum(jnp.square(error)) / 2


def problem(dtype=np.float32):
    draw = np.random.default_rng(0)
    params = {"kernel": draw.normal(size=(3, 2)), "bias": draw.normal(size=2)}
    x = draw.normal(size=(SIZE, 3)) * np.geomspace(0.01, 10, SIZE)[:, None]
    y = draw.normal(size=(SIZE, 2))
    return jax.tree.map(lambda one: one.astype(dtype), (params, (x, y)))


def test_bad_batches_fail_at_once():
    params, (x, y) = problem()
    grad = clipax.clipped_grad(loss, 1.0)
    with pytest.raises(ValueError, match=r"`batch` must have one number of examples, got \[6, 7\]"):
        grad(params, x, y[1:])
    with pytest.raises(ValueError, match="`batch` must hold arrays with a first axis"):
        grad(params, x, 1.0)
    with pytest.raises(ValueError, match="`batch` must hold at least one example"):
        grad(params, x[:0], y[:0])
    with pytest.raises(ValueError, match="`mask` must be a vector with one entry for each of 7"):
        grad(params, x, y, mask=np.ones(6))
    with pytest.raises(ValueError, match="`threshold` must be positive, got 0"):
        grad(params, x, y, threshold=0)
    with pytest.raises(ValueError, match="`key` must be given if and only if"):
        grad(params, x, y, key=jax.random.key(0))
    with pytest.raises(TypeError, match="Every leaf must be floating-point"):
        grad({"kernel": jnp.zeros((3, 2), int)}, x, y)


@pytest.mark.parametrize(
    ("key", "found"),
    [(0, "0"), (jnp.zeros(2), r"float32\[2\]"), (jax.random.PRNGKey(0)[None], r"uint32\[1,2\]")],
)
def test_what_is_not_one_key_is_refused(key, found):
    params, batch = problem()
    grad = clipax.clipped_grad(loss, 1.0, noise_multiplier=1.0)
    with pytest.raises(TypeError, match=f"`key` must be one key of `jax.random`, got {found}"):
        grad(params, *batch, key=key)


@pytest.mark.parametrize(
    ("result", "has_aux", "message"),
    [
        (lambda one: (one, one), False, r"`fun` must return one floating.*\(float32\[\], float32"),
        (
            lambda one: one[None],
            False,
            r"`fun` must return one floating-point number.*float32\[1\]",
        ),
        (lambda one: None, False, "`fun` must return one floating-point number.*None"),
        (lambda one: one, True, r"`fun` must return a pair.*float32\[\]"),
        (lambda one: (one, {"a": "b"}), True, "`fun` must return arrays beside its loss, got 'b'"),
    ],
)
def test_functions_that_do_not_return_what_they_should_are_refused(result, has_aux, message):
    params, batch = problem()
    grad = clipax.clipped_grad(lambda *given: result(loss(*given)), 1.0, has_aux=has_aux)
    with pytest.raises(TypeError, match=message):
        grad(params, *batch)

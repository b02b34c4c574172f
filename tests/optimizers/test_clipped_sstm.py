"""Similar triangles: the sequences of the paper, their speed and their output."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from tests.optimizers.walks import gradients
from tests.oracles.clipped_sstm import points


def test_similar_triangles_follow_the_sequences_of_the_paper(x64):
    constants = {"smoothness": 2.0, "a": 1.5, "clip_constant": 0.7}
    optimizer = clipax.clipped_sstm(**constants)
    steps = gradients()
    start = jax.tree.map(jnp.ones_like, steps[0])
    flat = [{k: np.asarray(v) for k, v in tree.items()} for tree in (start, *steps)]
    reached = points(flat[1:], flat[0], **constants)
    params, state = start, optimizer.init(start)
    update = jax.jit(optimizer.update)
    for gradient, (x, y) in zip(steps, reached, strict=True):
        out, state = update(gradient, state, params)
        params = optax.apply_updates(params, out)
        output = clipax.clipped_sstm_eval_params(state, params)
        for path in params:
            np.testing.assert_allclose(params[path], x[path], rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(output[path], y[path], rtol=1e-12, atol=1e-14)


def test_a_skipped_step_of_similar_triangles_does_not_count(x64):
    optimizer = clipax.clipped_sstm(1.0, a=1.0, clip_constant=1.0)
    start = jnp.array([4.0])

    def run(sequence):
        params, state = start, optimizer.init(start)
        for gradient in sequence:
            out, state = optimizer.update(jnp.array([gradient]), state, params)
            params = optax.apply_updates(params, out)
        return params, clipax.clipped_sstm_eval_params(state)

    assert run([3.0, float("nan"), 2.0, 1.0]) == run([3.0, 2.0, 1.0])


def test_similar_triangles_are_faster_than_descent_on_an_ill_conditioned_quadratic():
    eigenvalues = jnp.logspace(-4, 0, 50)
    start = jnp.ones(50)

    def loss(x):
        return jnp.sum(eigenvalues * x**2) / 2

    def run(optimizer, evaluate):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, state), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=200)
        return float(loss(evaluate(params, state)))

    accelerated = run(
        clipax.clipped_sstm(1.0, a=1.0, clip_constant=10.0),
        lambda params, state: clipax.clipped_sstm_eval_params(state, params),
    )
    assert accelerated < 0.2 * run(clipax.clip_sgd(1.0, 10.0), lambda params, state: params)


def test_the_output_of_similar_triangles_is_found_or_refused():
    params = {"w": jnp.ones(2, jnp.bfloat16)}
    state = optax.chain(optax.identity(), clipax.clipped_sstm(1.0, 1.0, 1.0)).init(params)
    assert clipax.clipped_sstm_eval_params(state)["w"].dtype == jnp.float32
    assert clipax.clipped_sstm_eval_params(state, params)["w"].dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="one `clipped_sstm`"):
        clipax.clipped_sstm_eval_params(clipax.clip_sgd(0.1, 1.0).init(params))
    with pytest.raises(ValueError, match="one `clipped_sstm`"):
        clipax.clipped_sstm_eval_params(clipax.acclip(0.1).init(params))

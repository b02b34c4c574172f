"""Clips of torch and timm over one sequence of gradients, and where they differ."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from tests.peers.harness import BURST, STEPS, clipped, torch, trees

PARAMS, GRADIENTS = trees()


def ours(transformation, gradients=GRADIENTS):
    """The updates of a transformation."""
    params = jax.tree.map(jnp.asarray, PARAMS)
    state, results = transformation.init(params), []
    for gradient in gradients:
        update, state = transformation.update(jax.tree.map(jnp.asarray, gradient), state, params)
        results.append(jax.tree.map(np.asarray, update))
    return results


def assert_alike(actual, expected, rtol):
    for step, (one, other) in enumerate(zip(actual, expected, strict=True)):
        for path, leaf in other.items():
            np.testing.assert_allclose(
                one[path], leaf, rtol=rtol, atol=1e-14, err_msg=f"step {step}, {path}"
            )


def assert_bites(updates):
    """Bursts are clipped; some other step is not touched at all."""
    untouched = [
        all(np.array_equal(update[path], gradient[path]) for path in gradient)
        for update, gradient in zip(updates, GRADIENTS, strict=True)
    ]
    assert not any(untouched[step] for step in BURST)
    assert any(untouched)


def test_clip_grad_norm(x64):
    """torch divides by the norm plus 1e-6, so that it cuts to a little less than the threshold.

    With that offset the two agree to rounding; without it to 1e-6 over the norm. The paper has no
    such term: `min(1, c/n)`.
    """
    theirs = clipped(lambda params: torch.nn.utils.clip_grad_norm_(params, 2.0), PARAMS, GRADIENTS)
    assert_bites(theirs)
    plain = ours(clipax.clip_by_global_norm(2.0))
    assert_bites(plain)
    assert_alike(plain, theirs, rtol=1e-6)
    offset = ours(clipax.scale_by_norm(clipax.norms.clip(2.0, offset=1e-6)))
    assert_alike(offset, theirs, rtol=1e-13)


def test_clip_grad_norm_of_the_largest_norm_of_a_leaf(x64):
    """Leaf by leaf it is called once for each parameter."""

    def clip(params):
        for one in params:
            torch.nn.utils.clip_grad_norm_(one, 1.0)

    theirs = clipped(clip, PARAMS, GRADIENTS)
    assert_bites(theirs)
    assert_alike(ours(clipax.clip_by_leaf_norm(1.0)), theirs, rtol=1e-6)


def test_a_gradient_that_is_not_finite(x64):
    """torch multiplies everything by NaN, or by zero (and infinity by zero is NaN); ours is zero."""
    for bad in (np.nan, np.inf):
        gradient = {**GRADIENTS[0], "bias": np.array([bad, 1.0, 1.0, 1.0])}
        (theirs,) = clipped(
            lambda params: torch.nn.utils.clip_grad_norm_(params, 2.0), PARAMS, [gradient]
        )
        assert np.isnan(theirs["bias"][0])
        assert np.isnan(theirs["kernel"]).all() == np.isnan(bad)
        (update,) = ours(clipax.clip_by_global_norm(2.0), [gradient])
        assert all((leaf == 0).all() for leaf in update.values())


def test_clip_grad_value(x64):
    """Alike for numbers; NaN stays NaN in torch and becomes zero here, an infinity the bound."""
    theirs = clipped(lambda params: torch.nn.utils.clip_grad_value_(params, 0.3), PARAMS, GRADIENTS)
    assert_bites(theirs)
    assert_alike(ours(clipax.clip_by_value(0.3)), theirs, rtol=0)
    gradient = {**GRADIENTS[0], "bias": np.array([np.nan, np.inf, -np.inf, 0.1])}
    (other,) = clipped(
        lambda params: torch.nn.utils.clip_grad_value_(params, 0.3), PARAMS, [gradient]
    )
    np.testing.assert_array_equal(other["bias"], [np.nan, 0.3, -0.3, 0.1])
    (update,) = ours(clipax.clip_by_value(0.3), [gradient])
    np.testing.assert_array_equal(update["bias"], [0.0, 0.3, -0.3, 0.1])


def test_optax_agrees_with_torch_but_for_the_offset(x64):
    """The same sequence through optax, so that a fault of the harness would show."""
    theirs = clipped(lambda params: torch.nn.utils.clip_grad_norm_(params, 2.0), PARAMS, GRADIENTS)
    assert_alike(ours(optax.clip_by_global_norm(2.0)), theirs, rtol=1e-6)
    assert len(theirs) == STEPS

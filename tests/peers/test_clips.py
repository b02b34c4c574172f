"""Clips of torch and timm over one sequence of gradients, and where they differ."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest

import clipax
from tests.peers.harness import (
    BURST,
    TINY,
    assert_alike,
    assert_bites,
    clipped,
    ours,
    torch,
    trees,
)

PARAMS, GRADIENTS = trees()


def by_norm(parameters):
    torch.nn.utils.clip_grad_norm_(parameters, 2.0)


def by_value(parameters):
    torch.nn.utils.clip_grad_value_(parameters, 0.3)


def spoiled(*bad):
    """A gradient with bad entries."""
    return {**GRADIENTS[0], "bias": np.array([*bad, 1.0, -1.0, 0.1][:4])}


def test_clip_grad_norm(x64):
    """torch divides by the norm plus 1e-6, and so cuts to a little less than the threshold.

    The paper's clip is `min(1, c/n)`: the two differ by 1e-6 over the norm, and not at all when
    ours is given that offset. Optax's is the paper's too.
    """
    theirs = clipped(by_norm, PARAMS, GRADIENTS)
    assert_bites(theirs, GRADIENTS)
    plain = ours(clipax.clip_by_global_norm(2.0), PARAMS, GRADIENTS)
    assert_bites(plain, GRADIENTS)
    assert_alike(plain, theirs, 1e-6)
    with_offset = clipax.scale_by_norm(clipax.norms.clip(2.0, offset=1e-6))
    assert_alike(ours(with_offset, PARAMS, GRADIENTS), theirs, 1e-14)
    assert_alike(ours(optax.clip_by_global_norm(2.0), PARAMS, GRADIENTS), plain, 1e-14)


def test_clip_grad_norm_parameter_by_parameter(x64):
    """Called for each parameter by itself it is the clip of leaves, again but for the 1e-6."""

    def clip(parameters):
        for one in parameters:
            torch.nn.utils.clip_grad_norm_(one, 1.0)

    theirs = clipped(clip, PARAMS, GRADIENTS)
    assert_bites(theirs, GRADIENTS)
    assert_alike(ours(clipax.clip_by_leaf_norm(1.0), PARAMS, GRADIENTS), theirs, 2e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_that_is_not_finite(x64, bad):
    """torch multiplies all by NaN, or by zero, and infinity by zero is NaN; ours is no step."""
    (theirs,) = clipped(by_norm, PARAMS, [spoiled(bad)])
    assert np.isnan(theirs["bias"][0])
    assert np.isnan(theirs["kernel"]).all() == np.isnan(bad)
    (update,) = ours(clipax.clip_by_global_norm(2.0), PARAMS, [spoiled(bad)])
    assert all((leaf == 0).all() for leaf in update.values())


def test_clip_grad_value(x64):
    """Alike to the bit; of entries that are not finite, torch keeps NaN and ours makes it zero."""
    theirs = clipped(by_value, PARAMS, GRADIENTS)
    assert_bites(theirs, GRADIENTS)
    clip = clipax.clip_by_value(0.3)
    assert_alike(ours(clip, PARAMS, GRADIENTS), theirs, 0.0)
    bad = spoiled(np.nan, np.inf, -np.inf)
    (other,), (update,) = clipped(by_value, PARAMS, [bad]), ours(clip, PARAMS, [bad])
    np.testing.assert_array_equal(other["bias"], [np.nan, 0.3, -0.3, 0.3])
    np.testing.assert_array_equal(update["bias"], [0.0, 0.3, -0.3, 0.3])


def test_adaptive_clip_grad(x64):
    """timm's AGC is the paper's: the same units, the same threshold.

    It adds a floor of 1e-6 under the gradient's norm, which can only act where the threshold is
    less; with the default `eps` it never is. A unit that is not finite stays so.
    """
    agc = pytest.importorskip("timm.utils.agc")
    clip = clipax.clip_by_param_norm(0.2)
    # A unit of small parameters, which `eps` bounds from below.
    params = jax.tree.map(np.copy, PARAMS)
    params["kernel"][:, 1] = 1e-5
    theirs = clipped(lambda own: agc.adaptive_clip_grad(own, 0.2), params, GRADIENTS)
    assert_alike(ours(clip, params, GRADIENTS), theirs, 1e-14)
    for step in (*BURST, TINY):  # every unit, and the small one alone
        units = [theirs[step]["kernel"][:, place] for place in range(4)]
        before = [GRADIENTS[step]["kernel"][:, place] for place in range(4)]
        cut = [not np.array_equal(*pair) for pair in zip(units, before, strict=True)]
        assert cut == ([False, True, False, False] if step == TINY else [True] * 4)
    kernel = GRADIENTS[0]["kernel"].copy()
    kernel[2, 3] = np.nan
    bad = {**GRADIENTS[0], "kernel": kernel}
    (other,) = clipped(lambda own: agc.adaptive_clip_grad(own, 0.2), params, [bad])
    (update,) = ours(clip, params, [bad])
    np.testing.assert_allclose(update["kernel"][:, :3], other["kernel"][:, :3], rtol=1e-14)
    assert np.isnan(other["kernel"][:, 3]).all()
    assert (update["kernel"][:, 3] == 0).all()

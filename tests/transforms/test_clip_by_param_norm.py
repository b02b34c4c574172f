"""Clips relative to the parameters' norms: units, stacked kernels, what is left out."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import thresholds
from clipax.thresholds import Context


def test_thresholds_relative_to_parameters_are_positive_whatever_they_are():
    threshold = thresholds.relative(0.5, eps=0.1)
    sizes = jnp.array([0.0, 0.05, 2.0, jnp.inf, jnp.nan])
    found, _ = threshold.update(jnp.ones(5), (), Context(jnp.array(0), param_norms=sizes))
    np.testing.assert_allclose(found, [0.05, 0.05, 1.0, np.inf, 0.05], rtol=1e-6)


def mlp(seed=0):
    random = np.random.default_rng(seed)
    shapes = {"first": (5, 8), "second": (8, 8), "head": (8, 3)}
    return {
        name: {"kernel": random.normal(size=shape), "bias": 0.01 * random.normal(size=shape[1])}
        for name, shape in shapes.items()
    }


@functools.partial(jax.jit, static_argnames=("make",))
def clipped_by(make, grads, params, **keywords):
    """The update of the first step."""
    clip = make(**keywords)
    return clip.update(grads, clip.init(params), params)[0]


def test_units_are_clipped_as_by_optax():
    params, grads = (jax.tree.map(jnp.float32, mlp(seed)) for seed in (0, 1))
    params["first"]["bias"] *= 0
    for clipping in (0.01, 1.0, 3.0):
        update = clipped_by(clipax.clip_by_param_norm, grads, params, clipping=clipping)
        wanted = clipped_by(optax.adaptive_grad_clip, grads, params, clipping=clipping)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), update, wanted)
        same = jax.tree.map(lambda a, b: np.array_equal(a, b), update, grads)
        assert not all(jax.tree.leaves(same))


def test_a_stacked_kernel_gives_what_its_layers_give_one_by_one():
    # Of small whole numbers, whose squares add up exactly in any order.
    random = np.random.default_rng(0)
    shapes = {"kernel": (5, 8), "bias": (8,)}
    layers, grads = (
        [{name: random.integers(-9, 9, shape) for name, shape in shapes.items()} for _ in range(4)]
        for _ in range(2)
    )

    def stack(trees):
        return {"blocks": jax.tree.map(lambda *leaves: jnp.float32(np.stack(leaves)), *trees)}

    single = functools.partial(clipax.clip_by_param_norm, 0.9)
    knowing = functools.partial(single, stacked="blocks/*")
    update = clipped_by(knowing, stack(grads), stack(layers))["blocks"]
    clipped = []
    for place, (layer, gradient) in enumerate(zip(layers, grads, strict=True)):
        layer, gradient = (jax.tree.map(jnp.float32, tree) for tree in (layer, gradient))
        wanted = clipped_by(single, gradient, layer)
        for name, leaf in wanted.items():
            np.testing.assert_array_equal(update[name][place], leaf)
        clipped.append(np.any(wanted["kernel"] != gradient["kernel"], axis=0))
    assert np.any(clipped)
    assert not np.all(clipped)
    # Without the word, units would reach across layers, and a bias for each layer be a matrix.
    other = clipped_by(single, stack(grads), stack(layers))["blocks"]
    assert not np.array_equal(other["kernel"], update["kernel"])


@pytest.mark.parametrize(
    ("exclude", "kept"),
    [
        ("head/*", {"head/kernel", "head/bias"}),
        (("head/*", "*/bias"), {"head/kernel", "head/bias", "first/bias", "second/bias"}),
        (lambda path: path.startswith("second"), {"second/kernel", "second/bias"}),
    ],
)
def test_last_layers_and_biases_are_easily_left_out(exclude, kept):
    params, grads = (jax.tree.map(jnp.float32, mlp(seed)) for seed in (0, 1))
    make = functools.partial(clipax.clip_by_param_norm, 1e-3, exclude=exclude)
    update = clipped_by(make, grads, params)
    untouched = {
        f"{layer}/{name}"
        for layer, leaves in update.items()
        for name, leaf in leaves.items()
        if np.array_equal(leaf, grads[layer][name])
    }
    assert untouched == kept


def test_exclusion_and_stacks_go_together():
    params = {"blocks": jnp.ones((2, 3, 4)), "head": jnp.ones((3, 2))}
    grads = jax.tree.map(lambda leaf: leaf.at[0].multiply(0.05), params)
    make = functools.partial(clipax.clip_by_param_norm, 0.1, stacked="blocks", exclude="head")
    update = clipped_by(make, grads, params)
    np.testing.assert_array_equal(update["head"], grads["head"])
    np.testing.assert_array_equal(update["blocks"][0], grads["blocks"][0])
    np.testing.assert_allclose(update["blocks"][1], 0.1, rtol=1e-6)


def test_relative_thresholds_ask_for_the_parameters():
    clip = clipax.clip_by_param_norm()
    with pytest.raises(ValueError, match="`params` must be given"):
        clip.update(jnp.ones(2), clip.init(jnp.ones(2)))
    with pytest.raises(ValueError, match="`context` must hold the norms of the parameters"):
        thresholds.relative().update(jnp.ones(2), (), Context(jnp.array(0)))


def test_stacked_kernels_have_no_global_norm():
    with pytest.raises(ValueError, match="`scope` must not be 'global' beside `stacked`"):
        clipax.clip_by_param_norm(stacked="blocks/*", scope="global")

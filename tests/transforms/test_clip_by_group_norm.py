"""One layer that explodes starves all others behind a global clip, and not behind a clip of groups.

The configuration: Adam with its defaults behind a clip at norm 1. One leaf of 1024 entries has a
gradient of norm 5e7 at every step. The other, as large, is healthy: a fixed direction of norm 0.46
under noise of 17 % of that, for 20 steps. Its update, in units of the learning rate, has norm 28.9
alone (the square root of 1024 is 32; the noise costs the rest) and 0.88 beside the other: clipped
to 1e-8 of their size its gradients lie below Adam's `eps` of 1e-8.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import clipax
from clipax import norms, scopes

HEALTHY, STARVED = 28.9, 0.88
ENTRIES, STEPS = 1024, 20


def _unit(random):
    direction = random.standard_normal(ENTRIES)
    return direction / np.linalg.norm(direction)


def last_update_of_the_healthy_leaf(clip, spike=5e7):
    """The norm of Adam's last update of it, in units of the learning rate."""
    random = np.random.default_rng(0)
    direction, other = _unit(random), _unit(random)
    noise = 0.17 * random.standard_normal((STEPS, ENTRIES)) / np.sqrt(ENTRIES)
    gradients = {
        "healthy": (0.46 * (direction + noise)).astype(np.float32),
        "spiking": np.tile((spike * other).astype(np.float32), (STEPS, 1)),
    }
    params = jax.tree.map(lambda leaf: jnp.zeros(ENTRIES), gradients)
    optimizer = optax.chain(clip, optax.scale_by_adam())

    def step(state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return state, jnp.linalg.norm(updates["healthy"])

    return float(jax.jit(lambda: jax.lax.scan(step, optimizer.init(params), gradients)[1][-1])())


def test_a_global_clip_starves_the_healthy_leaf():
    clip = optax.clip_by_global_norm(1.0)
    assert last_update_of_the_healthy_leaf(clip, spike=0.1) == pytest.approx(HEALTHY, rel=0.01)
    assert last_update_of_the_healthy_leaf(clip) == pytest.approx(STARVED, rel=0.01)


@pytest.mark.parametrize("total", [None, 1.0, 0.1])
@pytest.mark.parametrize("labels", [None, {"healthy": "one", "spiking": "two"}])
def test_two_levels_cure_it(total, labels):
    clip = clipax.clip_by_group_norm(1.0, labels=labels, total=total)
    assert last_update_of_the_healthy_leaf(clip) == pytest.approx(HEALTHY, rel=0.01)


def test_both_levels_bite_and_neither_does_within():
    grads = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([0.6, 0.8]), "c": jnp.array([0.0, 0.5])}
    clip = clipax.clip_by_group_norm(1.0, total=1.2)
    updates, state = jax.jit(clip.update)(grads, clip.init(grads))
    # Norms 5, 1 and 0.5 become 1, 1 and 0.5, together 1.5.
    for leaf, norm in (("a", 0.8), ("b", 0.8), ("c", 0.4)):
        assert jnp.linalg.norm(updates[leaf]) == pytest.approx(norm, rel=1e-6)
    metrics = clipax.metrics(state, top=None)
    np.testing.assert_allclose([metrics[f"grad_norm/{leaf}"] for leaf in "abc"], [5, 1, 0.5])
    wide = clipax.clip_by_group_norm(5.5, total=6.0)
    updates, _ = jax.jit(wide.update)(grads, wide.init(grads))
    assert all(np.array_equal(updates[leaf], grads[leaf]) for leaf in grads)


def test_no_group_shrinks_the_others_by_more_than_the_docstring_says():
    random = np.random.default_rng(1)
    for threshold, total in ((1.0, 1.0), (2.0, 1.0), (0.1, 3.0)):
        clip = clipax.clip_by_group_norm(threshold, total=total)
        for size in (1e-3, 0.5 * threshold, threshold):
            healthy = random.standard_normal(5)
            healthy *= min(size, total) / np.linalg.norm(healthy)
            grads = {"healthy": jnp.asarray(healthy, jnp.float32), "spiking": jnp.full(3, 1e30)}
            updates, _ = clip.update(grads, clip.init(grads))
            left = jnp.linalg.norm(updates["healthy"]) / jnp.linalg.norm(grads["healthy"])
            assert left >= total / np.hypot(total, threshold) * (1 - 1e-6)


def test_labels_or_a_scope():
    with pytest.raises(ValueError, match="`scope` must not be given beside `labels`"):
        clipax.clip_by_group_norm(1.0, labels={"a": "one"}, scope="unit")
    with pytest.raises(ValueError, match="`total` must be positive"):
        clipax.clip_by_group_norm(1.0, total=0.0)


# Groups that are orthogonalised.
MATRICES = {"hidden": {"kernel": jnp.ones((6, 4))}, "head": jnp.ones(3)}


def _gradients(sizes):
    random = np.random.default_rng(2)
    for size in sizes:
        kernel = random.standard_normal((6, 4))
        kernel *= size / np.linalg.norm(kernel)
        yield {
            "hidden": {"kernel": jnp.asarray(kernel, jnp.float32)},
            "head": jnp.asarray([0.1, -0.2, 0.2], jnp.float32),
        }


def _updates(optimizer, sizes):
    state, updates, step = optimizer.init(MATRICES), [], jax.jit(optimizer.update)
    for gradient in _gradients(sizes):
        update, state = step(gradient, state, MATRICES)
        updates.append(update)
    return updates


@pytest.mark.parametrize(
    ("beta", "sizes"),
    [
        (0.0, [5.0, 300.0, 0.2, 50.0]),  # without momentum, whatever the sizes
        (0.95, [50.0] * 4),  # with it, as long as the clip cuts all steps alike
    ],
)
def test_a_clip_in_front_of_an_orthogonalised_group_changes_nothing(beta, sizes):
    muon = optax.contrib.muon(0.1, beta=beta)
    clipped = optax.chain(clipax.clip_by_group_norm(1.0), muon)
    for plain, other in zip(_updates(muon, sizes), _updates(clipped, sizes), strict=True):
        np.testing.assert_allclose(
            other["hidden"]["kernel"], plain["hidden"]["kernel"], rtol=1e-4, atol=1e-6
        )


def test_an_orthogonalised_group_is_left_out():
    sizes = [5.0, 300.0, 0.2, 50.0]
    muon, adam = optax.contrib.muon(0.1), optax.adam(0.1)
    clip = functools.partial(clipax.clip_by_group_norm, 1.0, total=0.5)
    excluded = clip(scope=scopes.exclude("hidden/*", "leaf"))

    def branches(head):
        return optax.partition({"muon": muon, "adam": head}, {"hidden": "muon", "head": "adam"})

    for clipped, plain in (
        (optax.chain(excluded, muon), muon),
        (branches(optax.chain(clip(), adam)), branches(adam)),
    ):
        for update, wanted in zip(_updates(clipped, sizes), _updates(plain, sizes), strict=True):
            # The matrix is that of the plain chain, but for the rounding of another program (a clip
            # at 1 changes its momentum's mix by tenths); the total is the head's alone: within 0.5.
            np.testing.assert_allclose(
                update["hidden"]["kernel"], wanted["hidden"]["kernel"], rtol=1e-4, atol=1e-6
            )
            np.testing.assert_allclose(update["head"], wanted["head"], rtol=1e-6)
    # Not left out, it fills the total.
    gradient = next(_gradients(sizes))
    update, _ = clip().update(gradient, clip().init(MATRICES))
    assert jnp.linalg.norm(update["head"]) < 0.2 < jnp.linalg.norm(gradient["head"])


# Layers that are stacked: the gradient of one of them spikes.
LAYERS, WIDTH = 3, 4


class _Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.tanh(nn.Dense(WIDTH)(x)), None


class _Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
        scanned = nn.scan(
            _Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS
        )
        return nn.Dense(2)(scanned(name="blocks")(x, None)[0])


@functools.cache
def linen():
    """Parameters and gradients of a linen model with scanned layers."""
    model, inputs = _Stack(), jax.random.normal(jax.random.key(0), (5, WIDTH))
    params = jax.jit(model.init)(jax.random.key(1), inputs)["params"]

    def loss(params):
        return jnp.sum(model.apply({"params": params}, inputs) ** 2)

    return params, jax.jit(jax.grad(loss))(params)


class _Layer(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x):
        return x + nnx.tanh(self.dense(x))


class _Model(nnx.Module):
    def __init__(self, rngs):
        split = nnx.split_rngs(splits=LAYERS)
        self.blocks = split(nnx.vmap(_Layer, in_axes=(0,), out_axes=0))(rngs)
        self.head = nnx.Linear(WIDTH, 2, rngs=rngs)

    def __call__(self, x):
        scanned = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return self.head(scanned(x, self.blocks))


@functools.cache
def of_nnx():
    """Parameters and gradients of an NNX model with scanned layers."""
    model, inputs = _Model(nnx.Rngs(0)), jax.random.normal(jax.random.key(0), (5, WIDTH))
    gradients = nnx.jit(nnx.grad(lambda model: jnp.sum(model(inputs) ** 2)))(model)
    return nnx.state(model, nnx.Param), gradients


def _with_a_spike(gradients, layer):
    """One layer's slices of all stacked leaves, a million times as large."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            leaf.at[layer].multiply(1e6) if "blocks" in jax.tree_util.keystr(path) else leaf
        ),
        gradients,
    )


def agc():
    """At most a tenth of the parameters' norm, unit by unit."""
    relative = clipax.thresholds.Threshold(
        lambda shape: (),
        lambda norms, state, context: (0.1 * jnp.maximum(context.param_norms, 1e-3), state),
        needs_params=True,
    )
    return clipax.scale_by_norm(norms.clip(relative), scope=scopes.stacked(**STACKED | UNITS))


STACKED, UNITS = {"axis": 0, "where": "blocks/*"}, {"within": "unit"}
OVER_LAYERS = {
    "leaf": lambda: clipax.scale_by_norm(norms.clip(0.5), scope=scopes.stacked(**STACKED)),
    "groups": lambda: clipax.clip_by_group_norm(0.5, scope=scopes.stacked(**STACKED)),
    "agc": agc,
}


@pytest.mark.parametrize("name", OVER_LAYERS)
@pytest.mark.parametrize("model", [linen, of_nnx])
def test_a_layer_that_spikes_changes_no_bit_of_the_others(model, name):
    params, gradients = model()
    clip = OVER_LAYERS[name]()
    update = jax.jit(clip.update)
    plain, _ = update(gradients, clip.init(params), params)
    spiked, state = update(_with_a_spike(gradients, 1), clip.init(params), params)
    cut = 0
    for (path, one), other, gradient in zip(
        jax.tree_util.tree_leaves_with_path(plain),
        jax.tree.leaves(spiked),
        jax.tree.leaves(gradients),
        strict=True,
    ):
        stacked = "blocks" in jax.tree_util.keystr(path)
        assert not stacked or one.shape[0] == LAYERS
        others = jnp.array([0, 2]) if stacked else slice(None)
        np.testing.assert_array_equal(one[others], other[others])
        assert jnp.max(jnp.abs(other)) < 10
        cut += not np.array_equal(one, gradient)
    assert cut  # it bites on ordinary gradients too
    assert set(clipax.block_names(state)) >= {"blocks/Dense_0/kernel"} or model is of_nnx


def test_one_norm_for_all_stacked_layers_lets_the_spike_through_to_the_others():
    params, gradients = linen()
    clip = clipax.clip_by_group_norm(0.5)
    spiked, _ = clip.update(_with_a_spike(gradients, 1), clip.init(params))
    others = jnp.array([0, 2])
    left = spiked["blocks"]["Dense_0"]["kernel"][others]
    assert jnp.linalg.norm(left) < 1e-4 * jnp.linalg.norm(
        gradients["blocks"]["Dense_0"]["kernel"][others]
    )

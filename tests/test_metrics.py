"""Telemetry is found in any nesting."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx, serialization
from flax.training import train_state

import clipax

PARAMS = {"a": {"kernel": jnp.array([3.0, 4.0])}, "b": jnp.array([12.0])}


def stepped(optimizer, params=PARAMS):
    state = optimizer.init(params)
    return optimizer.update(params, state, params)[1]


NESTED = {
    "alone": clipax.clip_by_global_norm(1.0),
    "chain": optax.chain(optax.scale(1.0), clipax.clip_by_global_norm(1.0), optax.adam(0.1)),
    "optimizer": clipax.clip_adagrad_norm(0.1, 1.0),
    "multi_steps": optax.MultiSteps(clipax.clip_sgd(0.1, 1.0), 1),
    "inject": optax.inject_hyperparams(clipax.clip_sgd)(learning_rate=0.1, threshold=1.0),
    "masked": optax.masked(clipax.clip_by_global_norm(1.0), True),
    "partition": optax.partition({"x": clipax.clip_sgd(0.1, 1.0)}, {"a": "x", "b": "x"}),
    "skip": clipax.skip_nonfinite(clipax.clip_sgd(0.1, 1.0)),
    "skip_spikes": clipax.skip_spikes(clipax.clip_sgd(0.1, 1.0), 20.0),
}


@pytest.mark.parametrize("name", NESTED)
def test_found_in(name):
    state = stepped(NESTED[name])
    metrics = clipax.metrics(state)
    assert metrics["grad_norm"] == 13
    np.testing.assert_allclose(metrics["clip_factor"], 1 / 13, rtol=1e-6)
    assert metrics["clip_fraction"] == 1
    assert all(isinstance(value, jax.Array) for value in metrics.values())
    assert ("skipped_count" in metrics) == name.startswith("skip")
    restored = serialization.to_state_dict(state)
    assert clipax.metrics(restored)["grad_norm"] == 13


def test_found_in_a_train_state():
    state = train_state.TrainState.create(
        apply_fn=lambda: None, params=PARAMS, tx=clipax.clip_sgd(0.1, 1.0)
    )
    assert clipax.metrics(state.apply_gradients(grads=PARAMS))["grad_norm"] == 13


class Net(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(2, 3, rngs=rngs)


@pytest.mark.parametrize("scope", ["global", "leaf"])
def test_found_in_an_nnx_optimizer_and_its_state(scope):
    model = Net(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, clipax.clip_sgd(0.1, 1e-3, scope=scope), wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
    for state in (optimizer, nnx.state(optimizer), nnx.to_pure_dict(nnx.state(optimizer))):
        metrics = clipax.metrics(state)
        np.testing.assert_allclose(metrics["grad_norm"], 3 if scope == "global" else 6**0.5)
        assert metrics["clip_fraction"] == 1
    expected = ("global",) if scope == "global" else ("dense/bias", "dense/kernel")
    assert clipax.block_names(nnx.state(optimizer)) == expected


def test_several_clips_are_prefixed_by_their_position():
    both = optax.chain(clipax.clip_by_global_norm(5.0), clipax.clip_by_leaf_norm(1.0))
    metrics = clipax.metrics(stepped(both))
    assert metrics["0/grad_norm"] == 13
    np.testing.assert_allclose(metrics["1/grad_norm"], 5 * 12 / 13, rtol=1e-6)
    state = stepped(both)
    assert clipax.block_names(state, 0) == ("global",)
    assert clipax.block_names(state, 1) == ("a/kernel", "b")
    with pytest.raises(ValueError, match=r"`position` must be 0 to 1 or one of \['0', '1'\]"):
        clipax.block_names(state, 2)


def test_the_largest_blocks_are_singled_out():
    state = stepped(clipax.clip_by_leaf_norm(6.0))
    metrics = clipax.metrics(state, top=1)
    assert clipax.block_names(state)[metrics["top_block"][0]] == "b"
    np.testing.assert_allclose(metrics["top_grad_norm"], [12])
    np.testing.assert_allclose(metrics["top_clip_factor"], [0.5])
    assert metrics["clip_fraction"] == 0.5
    everything = clipax.metrics(state, top=None)
    assert everything["grad_norm/a/kernel"] == 5
    assert everything["clip_factor/b"] == 0.5
    assert all(value.ndim == 0 for value in clipax.metrics(state, top=0).values())
    with pytest.raises(ValueError, match="`top` must be at least 0"):
        clipax.metrics(state, top=-1)


def test_available_inside_jit():
    clip = clipax.clip_by_leaf_norm(1.0)

    @jax.jit
    def step(grads, state):
        _, state = clip.update(grads, state)
        return clipax.metrics(state, top=None), state

    metrics, _ = step(PARAMS, clip.init(PARAMS))
    assert metrics["grad_norm/b"] == 12


def test_before_any_step_and_without_a_threshold():
    state = clipax.scale_by_adagrad_norm(b_init=1.0).init(PARAMS)
    metrics = clipax.metrics(state)
    assert metrics["threshold"] == jnp.finfo(jnp.float32).max
    assert metrics["clip_fraction"] == 0
    assert np.isfinite(state.telemetry.threshold)


def test_a_state_without_telemetry_is_refused():
    adam = optax.adam(0.1)
    with pytest.raises(ValueError, match="`opt_state` must hold the state of a clipax") as raised:
        clipax.metrics(adam.init(PARAMS))
    # The message is a remedy: what it says is done here.
    assert "`optax.chain(clipax.monitor_norms(), optimizer)`" in str(raised.value)
    with_norms = optax.chain(clipax.monitor_norms(), adam)
    update, state = with_norms.update(PARAMS, with_norms.init(PARAMS))
    assert clipax.metrics(state)["grad_norm"] == 13
    plain, _ = adam.update(PARAMS, adam.init(PARAMS))
    jax.tree.map(np.testing.assert_array_equal, update, plain)


def test_a_vectorised_state_is_read_run_by_run():
    runs = jnp.array([[3.0, 4.0], [0.0, 0.5]])
    for clip in (clipax.clip_by_global_norm(1.0), clipax.clip_by_leaf_norm(1.0)):
        states = jax.vmap(lambda grads, clip=clip: clip.update(grads, clip.init(grads))[1])(runs)
        metrics = jax.vmap(clipax.metrics)(states)
        np.testing.assert_allclose(metrics["grad_norm"], [5, 0.5], rtol=1e-6)
    with pytest.raises(ValueError, match=r"`jax.vmap\(clipax.metrics\)"):
        clipax.metrics(states)

"""Telemetry is found in any nesting."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import nnx, serialization
from flax.training import train_state

import clipax
from tests.contract.cases import CASES, REPRESENTATIVES
from tests.contract.harness import method
from tests.thorough import thorough

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


def test_found_in_what_orbax_restores_of_an_nnx_state_without_a_target(tmp_path):
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, clipax.clip_by_leaf_norm(1.0), wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", nnx.state(optimizer))
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state")
    assert clipax.block_names(restored) == clipax.block_names(optimizer)
    for name, value in clipax.metrics(optimizer).items():
        np.testing.assert_array_equal(clipax.metrics(restored)[name], value)


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


WITHOUT_NORMS = {"clip_by_value", "delay_updates"}


def as_json(state, **keywords):
    metrics = {key: float(value) for key, value in clipax.metrics(state, **keywords).items()}
    return json.loads(json.dumps(metrics, allow_nan=False))


@pytest.mark.parametrize("name", thorough(CASES, REPRESENTATIVES))
def test_all_values_are_finite_scalars_for_strict_json(name):
    optimizer = method(name)
    if CASES[name].entry.name in WITHOUT_NORMS:
        with pytest.raises(ValueError, match="found none"):
            clipax.metrics(optimizer.init(PARAMS))
        return
    state = optimizer.init(PARAMS)
    as_json(state, top=0)
    as_json(stepped(optimizer), top=0)
    as_json(stepped(optimizer), top=None)


def test_a_monitor_is_no_clip():
    alone = clipax.metrics(stepped(clipax.monitor_norms()))
    keys = ["grad_norm", "nonfinite_count", "consecutive_nonfinite", "is_finite"]
    assert list(alone) == keys
    clip = clipax.metrics(stepped(clipax.clip_by_global_norm(1.0)))
    both = optax.chain(clipax.monitor_norms(), clipax.clip_by_global_norm(1.0))
    beside = clipax.metrics(stepped(both))
    assert list(beside) == list(clip) + [f"monitor/{key}" for key in keys]
    assert {key: beside[key] for key in clip} == clip
    assert clipax.block_names(stepped(both), "monitor") == ("global",)
    around = optax.chain(clipax.monitor_norms(), both)
    assert clipax.metrics(stepped(around))["monitor/1/grad_norm"] == 13
    blocks = clipax.metrics(stepped(clipax.monitor_norms(scope="leaf")))
    assert set(blocks) == {*keys, "top_grad_norm", "top_block"}


def test_several_clips_have_the_names_of_the_user():
    def clip(size):
        return clipax.clip_by_global_norm(size)

    named = optax.named_chain(("early", clip(5.0)), ("late", optax.chain(clip(1.0))))
    metrics = clipax.metrics(stepped(named))
    assert (metrics["early/threshold"], metrics["late/threshold"]) == (5, 1)
    groups = {"x": optax.chain(clip(1.0), clip(2.0)), "y": clip(3.0)}
    state = stepped(optax.partition(groups, {"a": "x", "b": "y"}))
    for found in (state, serialization.to_state_dict(state)):
        metrics = clipax.metrics(found)
        thresholds = {key: float(value) for key, value in metrics.items() if "threshold" in key}
        assert thresholds == {"x/0/threshold": 1, "x/1/threshold": 2, "y/threshold": 3}
    assert clipax.block_names(state, "y") == ("global",)
    with pytest.raises(ValueError, match=r"or one of \['x/0', 'x/1', 'y'\], got 'z'"):
        clipax.block_names(state, "z")


def test_a_state_without_norms_has_no_block_names():
    with pytest.raises(ValueError, match="transformation that measures norms, found none"):
        clipax.block_names(stepped(clipax.skip_nonfinite(optax.adam(0.1))))


BAD = jax.tree.map(lambda leaf: leaf * jnp.nan, PARAMS)


@pytest.mark.parametrize("guard", [clipax.skip_nonfinite, clipax.skip_spikes])
@pytest.mark.parametrize("scope", ["global", "leaf"])
def test_a_skipped_step_is_not_finite_in_the_metrics_of_the_clip_inside(guard, scope):
    guarded = guard(clipax.clip_sgd(0.1, 1.0, scope=scope))
    state, seen = guarded.init(PARAMS), []
    for gradient in (PARAMS, BAD, BAD, PARAMS):
        _, state = guarded.update(gradient, state, PARAMS)
        metrics = clipax.metrics(state)
        names = "is_finite", "nonfinite_count", "consecutive_nonfinite", "skipped_count"
        seen.append(tuple(int(metrics[name]) for name in names))
    assert seen == [(1, 0, 0, 0), (0, 1, 1, 1), (0, 2, 2, 2), (1, 2, 0, 2)]


def test_guards_report_what_they_judged_by():
    plain = clipax.metrics(stepped(clipax.skip_nonfinite(optax.adam(0.1))))
    wanted = {"skipped_count", "consecutive_skips", "nonfinite_count", "is_finite"}
    assert set(plain) == wanted
    alone = clipax.metrics(stepped(clipax.skip_spikes(optax.adam(0.1), 10.0)))
    assert (alone["grad_norm"], alone["threshold"], alone["spike_count"]) == (13, 10, 1)
    with_clip = stepped(clipax.skip_spikes(clipax.clip_sgd(0.1, 1.0), 20.0))
    metrics = clipax.metrics(with_clip)
    assert (metrics["threshold"], metrics["skip_spikes/threshold"]) == (1, 20)


def test_a_nan_that_stays_is_seen():
    accumulating = optax.MultiSteps(clipax.clip_sgd(0.1, 1.0), 2)
    state = accumulating.init(PARAMS)
    for step in range(20):
        _, state = accumulating.update(BAD if step == 2 else PARAMS, state, PARAMS)
    assert clipax.metrics(state)["consecutive_nonfinite"] == 9


def test_the_recent_share_of_clipped_steps():
    clip = clipax.clip_by_global_norm(1.0)
    sizes = jnp.concatenate([jnp.full(1000, 2.0), jnp.full(500, 0.5)])

    def step(state, size):
        _, state = clip.update(size[None], state)
        metrics = clipax.metrics(state)
        return state, (metrics["clip_fraction"], metrics["recent_clip_fraction"])

    _, (always, recent) = jax.lax.scan(step, clip.init(jnp.ones(1)), sizes)
    np.testing.assert_allclose(always[-1], 1000 / 1500, rtol=1e-6)
    np.testing.assert_allclose(recent[jnp.array([0, 999, -1])], [1, 1, 0.99**500], atol=1e-4)
    # The first steps count nearly alike.
    _, (_, recent) = jax.lax.scan(step, clip.init(jnp.ones(1)), jnp.array([2.0, 0.5, 0.5, 2.0]))
    np.testing.assert_allclose(recent, [1, 1 / 2, 1 / 3, 1 / 2], rtol=0.02)


@pytest.mark.parametrize("scope", ["global", "leaf", "unit"])
def test_the_norm_after_the_clip(scope):
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.ones((5, 7)), "bias": jnp.ones(7)}
    grads = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), params)
    clip = clipax.scale_by_norm(clipax.norms.clip(1.5), scope=scope)
    updates, state = clip.update(grads, clip.init(params))
    if scope == "global":
        wanted = optax.tree.norm(updates)
    elif scope == "leaf":
        wanted = max(jnp.linalg.norm(leaf.ravel()) for leaf in updates.values())
    else:
        wanted = max(jnp.linalg.norm(leaf, axis=0).max() for leaf in (updates["kernel"],))
        wanted = max(wanted, jnp.linalg.norm(updates["bias"]))
    np.testing.assert_allclose(clipax.metrics(state)["clipped_norm"], wanted, rtol=1e-6)


def test_shares_of_units_add_up_over_many_steps():
    clip = clipax.scale_by_norm(clipax.norms.clip(1.0), scope="unit")
    grads = jnp.ones((1, 128)).at[0, 0].set(2.0)

    def step(state, _):
        return clip.update(grads, state)[1], None

    start = clip.init(grads)
    # After so many steps a sum in float32 would not grow by 1/128.
    far = start.telemetry._replace(counts=start.telemetry.counts.at[..., :2].set(1 << 22))
    state, _ = jax.lax.scan(step, start._replace(telemetry=far), None, 128)
    assert state.telemetry.clipped_count[0] == (1 << 22) + 1


NESTED_GUARDS = {
    "spikes inside": clipax.skip_nonfinite(clipax.skip_spikes(clipax.clip_sgd(0.1, 1.0))),
    "spikes outside": clipax.skip_spikes(clipax.skip_nonfinite(clipax.clip_sgd(0.1, 1.0))),
    "spikes alone": clipax.skip_nonfinite(clipax.skip_spikes(optax.sgd(0.1))),
    "twice": clipax.skip_spikes(clipax.skip_spikes(clipax.clip_sgd(0.1, 1.0))),
    "feedback": clipax.skip_nonfinite(
        optax.chain(clipax.with_error_feedback(clipax.clip_by_global_norm(1.0)), optax.sgd(0.1))
    ),
    "accumulated": clipax.skip_nonfinite(
        optax.MultiSteps(clipax.skip_nonfinite(clipax.clip_sgd(0.1, 1.0)), 1)
    ),
}


@pytest.mark.parametrize("name", NESTED_GUARDS)
def test_guards_inside_of_guards(name):
    guarded = NESTED_GUARDS[name]
    state = guarded.init(PARAMS)
    for gradient, finite in ((PARAMS, True), (BAD, False), (PARAMS, True)):
        _, state = guarded.update(gradient, state, PARAMS)
        metrics = as_json(state, top=0)
        assert metrics["is_finite"] == finite
        assert metrics["nonfinite_count"] == metrics["skipped_count"]
    assert metrics["skipped_count"] == 1
    assert any(key.endswith("inner/skipped_count") for key in metrics)
    clipax.advise(state)


def test_blocks_inside_of_a_guard_tell_of_skipped_steps():
    guarded = clipax.skip_nonfinite(clipax.clip_by_leaf_norm(1.0))
    _, state = guarded.update(BAD, guarded.init(PARAMS), PARAMS)
    metrics = as_json(state, top=None)
    assert (metrics["is_finite/b"], metrics["nonfinite_count/b"]) == (0, 1)

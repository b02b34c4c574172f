"""An optimizer state goes on in another optimizer, where the clip in it changed."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import clipax
from tests.contract.harness import assert_same

PARAMS = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}, "0": jnp.ones(4)}
ADAM = optax.adam(0.1)
SCHEDULED = optax.adamw(optax.linear_schedule(0.1, 0.0, 10))
CLIP, ZSCORE = clipax.clip_by_global_norm(1.0), clipax.clip_by_zscore(warmup=1)
MONITOR = clipax.monitor_norms()


def later(value: Any) -> Any:
    """A parameter that an ordinary `pytest` leaves out."""
    return pytest.param(value, marks=pytest.mark.thorough)


def train(optimizer: Any, steps: int = 3) -> Any:
    """The state after some steps."""
    state, params = optimizer.init(PARAMS), PARAMS
    for _ in range(steps):
        grads = jax.tree.map(lambda leaf: 3 * leaf, params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return state


def momentum(state: Any) -> Any:
    return optax.tree.get(state, "mu")


def carry(old: Any, new: Any) -> clipax.CarriedOver:
    """The result for two optimizers, its structure checked."""
    start = new.init(PARAMS)
    result = clipax.carry_over(train(old), start)
    assert jax.tree.structure(result.state) == jax.tree.structure(start)
    for ours, theirs in zip(jax.tree.leaves(result.state), jax.tree.leaves(start), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    return result


@pytest.mark.parametrize(
    "inner", [ADAM, *map(later, (SCHEDULED, optax.chain(ADAM, optax.ema(0.9))))]
)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (optax.clip_by_global_norm(1.0), CLIP),
        (optax.clip_by_global_norm(1.0), ZSCORE),
        (CLIP, ZSCORE),
        (ZSCORE, CLIP),
        (CLIP, optax.clip_by_global_norm(1.0)),
        (optax.chain(MONITOR, CLIP), ZSCORE),
        (CLIP, optax.chain(MONITOR, CLIP)),
        (optax.chain(CLIP, clipax.clip_by_value(1.0)), clipax.clip_by_leaf_norm(1.0)),
    ],
)
def test_the_rest_goes_on_where_the_clip_changes(old: Any, new: Any, inner: Any) -> None:
    def rest(state: Any) -> Any:
        return state[1]

    result = carry(optax.chain(old, inner), optax.chain(new, inner))
    assert_same(rest(result.state), rest(train(optax.chain(old, inner))))
    assert all(path.startswith("0") for path in result.started)


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (clipax.skip_nonfinite, lambda state: state.inner),
        (clipax.skip_spikes, lambda state: state.inner),
        (lambda inner: optax.apply_if_finite(inner, 3), lambda state: state.inner_state),
        (
            lambda inner: optax.MultiSteps(inner, 1).gradient_transformation(),
            lambda state: state.inner_opt_state,
        ),
        (
            lambda inner: optax.partition({"a": inner}, jax.tree.map(lambda _: "a", PARAMS)),
            lambda state: state.inner_states["a"].inner_state,
        ),
    ],
)
def test_a_wrapper_comes_and_goes(wrap: Any, unwrap: Any) -> None:
    inner = optax.chain(CLIP, ADAM)
    result = carry(inner, wrap(inner))
    assert_same(unwrap(result.state), train(inner))
    result = carry(wrap(inner), inner)
    assert_same(momentum(result.state), momentum(train(wrap(inner))))
    assert not result.started
    assert not result.dropped
    # Around Adam alone, and the clip another.
    result = carry(inner, optax.chain(ZSCORE, wrap(ADAM)))
    assert_same(momentum(result.state), momentum(train(inner)))


def test_inject_hyperparams_comes_and_goes() -> None:
    def make(learning_rate: float) -> Any:
        return optax.chain(CLIP, optax.adam(learning_rate))

    injected = optax.inject_hyperparams(make)(learning_rate=0.1)
    for old, new in ((make(0.1), injected), (injected, make(0.1))):
        result = carry(old, new)
        assert_same(momentum(result.state), momentum(train(old)))
        assert int(clipax.metrics(result.state)["grad_norm"]) == int(
            clipax.metrics(train(old))["grad_norm"]
        )


def test_records_go_on_where_a_number_becomes_a_threshold_with_memory() -> None:
    result = carry(optax.chain(CLIP, ADAM), optax.chain(ZSCORE, ADAM))
    assert result.carried == ("0/telemetry", "1/0")
    assert result.started == ("0/rules/before",)
    assert int(result.state[0].telemetry.steps) == 3
    assert int(result.state[0].rules.before.rows.steps) == 0


def test_a_memory_goes_on_where_the_threshold_is_of_the_same_kind() -> None:
    result = carry(optax.chain(ZSCORE, ADAM), optax.chain(clipax.clip_by_zscore(3.0), ADAM))
    assert result.started == result.dropped == ()
    assert int(result.state[0].rules.before.rows.steps) == 1  # as many as the warm-up of before


def test_a_clip_with_other_blocks_begins_anew() -> None:
    old, new = clipax.clip_by_leaf_norm(1.0), clipax.clip_by_group_norm(1.0, labels=str)
    assert carry(optax.chain(old, ADAM), optax.chain(new, ADAM)).started == ()
    renamed = clipax.clip_by_group_norm(1.0, labels=lambda path: "b" if path == "0" else path)
    result = carry(optax.chain(old, ADAM), optax.chain(renamed, ADAM))
    assert "0/telemetry" in result.started


def test_the_optimizer_that_changed_begins_anew_and_the_old_one_is_named() -> None:
    result = carry(optax.chain(CLIP, ADAM), optax.chain(CLIP, optax.lion(0.1)))
    assert result.carried == ("0/telemetry",)
    assert result.dropped == ("1/0",)
    assert not np.any(momentum(result.state)["0"])


def test_a_momentum_is_carried_as_a_whole_or_not_at_all() -> None:
    larger = {**PARAMS, "new": jnp.ones(2)}
    new = optax.chain(CLIP, ADAM).init(larger)
    result = clipax.carry_over(train(optax.chain(CLIP, ADAM)), new)
    assert result.carried == ("0/telemetry",)
    assert result.started == ("1/0",)


def test_types_are_those_of_the_new_state() -> None:
    old = train(optax.chain(CLIP, ADAM))
    new = optax.chain(CLIP, optax.adam(0.1, mu_dtype=jnp.bfloat16)).init(PARAMS)
    result = clipax.carry_over(old, new)
    assert momentum(result.state)["0"].dtype == jnp.bfloat16
    np.testing.assert_allclose(
        momentum(result.state)["0"].astype(float), momentum(old)["0"], rtol=1e-2
    )


def test_of_two_clips_each_goes_on() -> None:
    both = optax.chain(CLIP, ADAM, clipax.clip_by_global_norm(0.1))
    result = carry(both, optax.chain(ZSCORE, ADAM, clipax.clip_by_global_norm(0.1)))
    old = train(both)
    assert float(result.state[0].telemetry.grad_norm) == float(old[0].telemetry.grad_norm)
    assert float(result.state[2].telemetry.grad_norm) == float(old[2].telemetry.grad_norm)


def _restore_by_orbax(state: Any, folder: Any) -> Any:
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "state", state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder / "state")


@pytest.mark.parametrize("restore", [_restore_by_orbax, None], ids=["orbax", "flax"])
def test_a_checkpoint_that_was_restored_without_a_target(restore: Any, tmp_path: Any) -> None:
    optimizer = optax.chain(CLIP, clipax.skip_nonfinite(SCHEDULED))
    old = train(optimizer)
    stored = restore(old, tmp_path) if restore else flax.serialization.to_state_dict(old)
    result = clipax.carry_over(stored, optimizer.init(PARAMS))
    assert_same(result.state, old)
    changed = clipax.carry_over(stored, optax.chain(ZSCORE, SCHEDULED).init(PARAMS))
    assert_same(momentum(changed.state), momentum(old))


def test_a_state_of_nnx() -> None:
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    old, new = (
        nnx.Optimizer(model, optax.chain(clip, ADAM), wrt=nnx.Param) for clip in (CLIP, ZSCORE)
    )
    grads = nnx.grad(lambda model: jnp.sum(model(jnp.ones(2)) ** 2))(model)
    old.update(model, grads)
    new.opt_state = nnx.data(clipax.carry_over(old.opt_state, new.opt_state).state)
    new.update(model, grads)
    assert int(new.opt_state[1][0].count[...]) == 2


def test_the_place_of_arrays_is_that_of_the_new_state() -> None:
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    params = jax.device_put(PARAMS["0"], place)
    new = jax.jit(ADAM.init, out_shardings=None)(params)
    old = jax.tree.map(np.asarray, ADAM.update(PARAMS["0"], ADAM.init(PARAMS["0"]))[1])
    state = clipax.carry_over(old, new).state
    assert momentum(state).sharding == momentum(new).sharding
    np.testing.assert_array_equal(momentum(state), momentum(old))


def test_links_that_changed_places_go_on() -> None:
    result = carry(optax.chain(CLIP, ADAM), optax.chain(ADAM, CLIP))
    assert result.started == result.dropped == ()


class Pair(NamedTuple):
    """Parameters as a named tuple."""

    w: Any
    b: Any


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (clipax.thresholds.percentile(10.0, window=30), clipax.thresholds.percentile(10.0)),
        (clipax.thresholds.max_ccc(window=20), clipax.thresholds.max_ccc(window=30)),
        (clipax.thresholds.median(window=3), clipax.thresholds.median(window=4)),
    ],
)
def test_a_memory_of_another_size_begins_anew_as_a_whole(before: Any, after: Any) -> None:
    old, new = clipax.clip_by_global_norm(before), clipax.clip_by_global_norm(after)
    result = carry(old, new)
    assert result.carried == ("telemetry",)
    assert result.started == result.dropped == ("rules/before",)
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    _, went_on = new.update(grads, result.state)
    _, fresh = new.update(grads, new.init(PARAMS))
    assert went_on.telemetry.threshold == fresh.telemetry.threshold


def test_the_state_of_parameters_in_named_tuples_is_one_whole_too() -> None:
    params = {"l": Pair(jnp.ones(3), jnp.ones(2)), "m": jnp.ones(4)}
    larger = {**params, "l": Pair(jnp.ones(5), jnp.ones(2))}
    result = clipax.carry_over(
        optax.chain(CLIP, ADAM).init(params), optax.chain(CLIP, ADAM).init(larger)
    )
    assert result.carried == ("0/telemetry",)
    assert result.started == result.dropped == ("1/0",)
    same = clipax.carry_over(ADAM.init(params), ADAM.init(params))
    assert same.carried == ("0",)


@pytest.mark.parametrize("restored", [False, True])
def test_a_named_chain_comes_goes_and_is_renamed(restored: bool) -> None:
    def named(first: str, clip: Any) -> Any:
        return optax.named_chain((first, clip), ("adam", ADAM))

    plain = optax.chain(CLIP, ADAM)
    for old, new in (
        (plain, named("clip", ZSCORE)),
        (named("clip", CLIP), optax.chain(ZSCORE, ADAM)),
        (named("clip", CLIP), named("zclip", ZSCORE)),
    ):
        state = train(old)
        stored = jax.tree.map(np.asarray, flax.serialization.to_state_dict(state))
        result = clipax.carry_over(stored if restored else state, new.init(PARAMS))
        assert_same(momentum(result.state), momentum(state))


def test_all_that_has_no_place_is_named() -> None:
    old = optax.chain(clipax.clip_by_zscore(scope="leaf", warmup=1), ADAM)
    assert carry(old, optax.chain(ZSCORE, ADAM)).dropped == ("0/telemetry", "0/rules/before")
    assert carry(optax.chain(ZSCORE, ADAM), optax.chain(CLIP, ADAM)).dropped == ("0/rules/before",)


def test_labels_of_a_partition_change() -> None:
    def parts(*names: str) -> Any:
        labels = {"dense": names[0], "0": names[1]}
        return optax.partition(dict.fromkeys(names, optax.chain(CLIP, ADAM)), labels)

    result = carry(parts("a", "b"), parts("c", "d"))
    assert result.started == ()


def test_what_a_framework_keeps_is_taken_for_its_optimizer_state() -> None:
    old = optax.chain(CLIP, ADAM)
    state = TrainState.create(apply_fn=None, params=PARAMS, tx=old)
    result = clipax.carry_over(state, optax.chain(ZSCORE, ADAM).init(PARAMS))
    assert result.carried == ("0/telemetry", "1/0")


def test_it_is_called_outside_of_compiled_code() -> None:
    with pytest.raises(TypeError, match="outside of compiled code"):
        jax.jit(lambda state: clipax.carry_over(state, state).state)(ADAM.init(PARAMS))


@pytest.mark.parametrize("wrap", [lambda tx: tx, lambda tx: optax.MultiSteps(tx, 2)])
def test_an_nnx_state_that_orbax_restored_without_a_target(wrap: Any, tmp_path: Any) -> None:
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    grads = nnx.grad(lambda model: jnp.sum(model(jnp.ones(2)) ** 2))(model)
    old, new = (
        nnx.Optimizer(model, wrap(optax.chain(clip, ADAM)), wrt=nnx.Param)
        for clip in (CLIP, ZSCORE)
    )
    for _ in range(3):
        old.update(model, grads)
    stored = _restore_by_orbax(nnx.to_pure_dict(nnx.state(old)), tmp_path)
    pure = clipax.carry_over(stored, new.opt_state)
    whole = clipax.carry_over(_restore_by_orbax(nnx.state(old), tmp_path / "x"), new.opt_state)
    live = clipax.carry_over(old, new.opt_state)
    for result in (pure, whole, live):
        assert_same(
            jax.tree.leaves(momentum(result.state)), jax.tree.leaves(momentum(old.opt_state))
        )
        assert all("0/rules" in path for path in result.started)


def test_the_error_names_the_links_and_stays_short() -> None:
    layers = {f"layer{i}": jnp.ones(3) for i in range(50)}
    with pytest.raises(
        ValueError, match=r"none of 0 \(trace\) has .* of 0 \(count, mu, nu\)"
    ) as caught:
        clipax.carry_over(optax.sgd(0.1, momentum=0.9).init(layers), ADAM.init(layers))
    assert len(str(caught.value)) < 300


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(ValueError, match="`old_state` must have a part that fits"):
        clipax.carry_over(train(optax.sgd(0.1, momentum=0.9)), ADAM.init(PARAMS))

"""A step is left out alike on all platforms: by a branch on the CPU, elsewhere by a selection."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import clipax
from clipax._platforms import assume_platform
from clipax.engine import make_skippable
from tests.thorough import thorough

PARAMS = {"w": jnp.array([1.0, -2.0]), "b": jnp.array([0.5], jnp.bfloat16)}
GOOD = {"w": jnp.array([0.3, 0.4]), "b": jnp.array([-0.1], jnp.bfloat16)}
BAD = {"w": jnp.array([0.3, jnp.nan]), "b": jnp.array([jnp.inf], jnp.bfloat16)}
FORMS = pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])


class ManyKinds(NamedTuple):
    """A state with leaves of every kind."""

    key: Any
    count: Any
    flag: Any
    half: Any
    whole: Any
    nothing: Any


def of_many_kinds() -> optax.GradientTransformation:
    def init(params):
        half = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.bfloat16), params)
        whole = jnp.zeros((2,), jnp.complex64)
        return ManyKinds(jax.random.key(3), 0, np.array(False), half, whole, None)

    def update(updates, state, params=None):
        # Python numbers and wider types: a skippable step keeps the types of the state.
        new = ManyKinds(
            jax.random.split(state.key)[0],
            state.count + 1,
            ~state.flag,
            updates,
            state.whole + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(updates)),
            None,
        )
        noise = jax.random.normal(state.key)
        return jax.tree.map(lambda leaf: leaf * noise.astype(leaf.dtype), updates), new

    return optax.GradientTransformation(init, update)


def plain(tree):
    """The tree with the data of its keys."""
    return jax.tree.map(
        lambda leaf: (
            jax.random.key_data(leaf)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else np.asarray(leaf)
        ),
        tree,
    )


def steps(inner, platform, gradients, *, compiled=True):
    """Updates and states of steps that are taken where the gradient is finite."""
    with assume_platform(platform):
        optimizer = clipax.skip_nonfinite(inner)
        update = jax.jit(optimizer.update) if compiled else optimizer.update
        state, out = optimizer.init(PARAMS), []
        for gradient in gradients:
            result, state = update(gradient, state, PARAMS)
            out.append(plain((result, state.inner)))
        return out


@pytest.mark.parametrize("compiled", [True, False], ids=["jit", "eager"])
@pytest.mark.parametrize("inner", [of_many_kinds(), optax.adam(0.1)], ids=["kinds", "adam"])
@FORMS
def test_a_step_is_taken_whole_or_leaves_no_trace(inner, platform, compiled):
    first, skipped, last = steps(inner, platform, [GOOD, BAD, GOOD], compiled=compiled)
    chex.assert_trees_all_equal(skipped[1], first[1])
    chex.assert_trees_all_equal(skipped[0], jax.tree.map(jnp.zeros_like, PARAMS))
    wanted = steps(inner, "cpu", [GOOD, GOOD])
    chex.assert_trees_all_close([first, last], wanted, rtol=1e-6)
    chex.assert_trees_all_equal_dtypes([first, last], wanted)


def test_only_the_cpu_branches():
    optimizer = clipax.skip_nonfinite(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)))
    traced = jax.jit(optimizer.update).trace(GOOD, optimizer.init(PARAMS), PARAMS)

    def branches(platform):
        return traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.case")

    found = {platform: branches(platform) for platform in ("cpu", "cuda", "rocm", "tpu")}
    # Two on a constant, by which JAX chooses the platform; XLA never sees them.
    assert found == {"cpu": 3, "cuda": 2, "rocm": 2, "tpu": 2}


def test_a_program_exported_for_all_platforms():
    optimizer = clipax.skip_nonfinite(optax.adam(0.1))
    state = optimizer.init(PARAMS)
    exported = jax.export.export(jax.jit(optimizer.update), platforms=("cpu", "cuda", "tpu"))
    for gradient in (GOOD, BAD):
        found = jax.jit(exported(gradient, state, PARAMS).call)(gradient, state, PARAMS)
        chex.assert_trees_all_equal(found, jax.jit(optimizer.update)(gradient, state, PARAMS))


def slope(inner, platform, gradient, mode):
    """The derivative of a step's update and state by the first weight's gradient."""
    run = make_skippable(inner)
    state = run.init(PARAMS)

    def size(first):
        changed = {**gradient, "w": gradient["w"].at[0].set(first)}
        finite = jnp.isfinite(changed["w"]).all()
        _, updates, new = run.update(finite, changed, state, PARAMS, {})
        floats = [leaf for leaf in jax.tree.leaves((updates, new)) if leaf.dtype == jnp.float32]
        return sum(jnp.sum(leaf) for leaf in floats)

    with assume_platform(platform):
        return jax.jit(mode(size))(gradient["w"][0])


@pytest.mark.thorough
@pytest.mark.parametrize(
    "mode",
    thorough([jax.grad, jax.jacfwd, lambda f: jax.jacfwd(jax.grad(f))], but=[jax.grad]),
)
@FORMS
def test_derivatives_are_finite_where_a_step_is_skipped(platform, mode):
    # Adam divides by a root: its derivatives at NaN are NaN, and remain so times zero.
    inner = optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.1))
    assert slope(inner, platform, BAD, mode) == 0
    taken = slope(inner, platform, GOOD, mode)
    assert taken != 0
    np.testing.assert_allclose(taken, slope(inner, "cpu", GOOD, mode), rtol=1e-5)


def test_parameters_have_derivatives_of_zero_where_a_step_is_skipped():
    run = make_skippable(optax.add_decayed_weights(0.5))

    def total(weight, gradient):
        _, updates, _ = run.update(jnp.isfinite(gradient), gradient, run.init(weight), weight, {})
        return updates * weight

    for platform in ("cpu", "tpu"):
        with assume_platform(platform):
            found = jax.vmap(jax.grad(total))(jnp.full(2, 3.0), jnp.array([1.0, jnp.nan]))
        np.testing.assert_allclose(found, [1 + 0.5 * 3 + 0.5 * 3, 0.0])


def test_batches_of_steps_without_an_assumed_platform():
    optimizer = clipax.skip_nonfinite(of_many_kinds())
    gradients = jax.tree.map(lambda *leaves: jnp.stack(leaves), GOOD, BAD)
    states = jax.vmap(lambda _: optimizer.init(PARAMS))(jnp.arange(2))
    both = jax.jit(jax.vmap(optimizer.update))(gradients, states)
    for place, gradient in enumerate((GOOD, BAD)):
        alone = optimizer.update(gradient, optimizer.init(PARAMS))
        row = plain(jax.tree.map(lambda leaf, place=place: leaf[place], both))
        chex.assert_trees_all_close(row, plain(alone), rtol=1e-6)


@FORMS
def test_shards_skip_together(platform):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    optimizer = clipax.skip_nonfinite(optax.adam(0.1), axis_name="x")

    def train(params, gradients):
        state = optimizer.init(params)
        return jax.lax.scan(lambda s, g: optimizer.update(g, s, params)[::-1], state, gradients)[1]

    params = {"rows": jnp.ones(8), "all": jnp.ones(2)}
    gradients = {"rows": jnp.ones((3, 8)).at[1, 5].set(jnp.inf), "all": jnp.ones((3, 2))}
    spec = {"rows": P("x"), "all": P()}, {"rows": P(None, "x"), "all": P()}
    with assume_platform(platform):
        found = jax.jit(jax.shard_map(train, mesh=mesh, in_specs=spec, out_specs=spec[1]))(
            params, gradients
        )
    assert not np.any(found["rows"][1])
    assert not np.any(found["all"][1])
    assert np.all(found["rows"][jnp.array([0, 2])])
    assert np.all(found["all"][jnp.array([0, 2])])


@FORMS
def test_functions_among_the_extra_arguments(platform):
    def update(updates, state, params, *, value, value_fn):
        return updates, value_fn(params) + value

    inner = optax.GradientTransformationExtraArgs(lambda params: jnp.zeros(()), update)
    with assume_platform(platform):
        run = make_skippable(inner)
        extra = {"value": 0.5, "value_fn": lambda params: jnp.sum(params["w"])}
        for taken in (True, False):
            _, _, state = run.update(jnp.array(taken), GOOD, run.init(PARAMS), PARAMS, extra)
            assert state == (-0.5 if taken else 0.0)


@FORMS
def test_updates_of_another_structure_than_the_gradient(platform):
    params = optax.LookaheadParams.init_synced(PARAMS)
    guarded = clipax.skip_nonfinite(optax.lookahead(optax.sgd(0.1), 2, 0.5))
    with assume_platform(platform):
        state = guarded.init(params)
        updates, kept = guarded.update(BAD, state, params)
        moved, _ = guarded.update(GOOD, kept, params)
    chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, params))
    chex.assert_trees_all_equal(kept.inner, state.inner)
    np.testing.assert_allclose(moved.fast["w"], -0.1 * GOOD["w"], rtol=1e-6)


def test_uncompiled_steps_are_compiled_once():
    traced = []

    def update(updates, state, params=None):
        traced.append(state)
        return updates, state + 1

    inner = optax.GradientTransformation(lambda params: jnp.zeros(()), update)
    for platform in ("cpu", "gpu"):
        with assume_platform(platform):
            optimizer = clipax.skip_nonfinite(inner)
            state = optimizer.init(PARAMS)
            for gradient in (GOOD, BAD, GOOD):
                _, state = optimizer.update(gradient, state)
        assert state.inner == 2
    # Once for each platform, however many steps there are.
    assert len(traced) == 2


def test_forms_inside_are_those_of_the_assumed_platform():
    optimizer = clipax.skip_nonfinite(clipax.skip_nonfinite(optax.adam(0.1)))
    state = optimizer.init(PARAMS)
    found = []
    for platform in ("cpu", "tpu"):
        with assume_platform(platform):
            program = jax.make_jaxpr(optimizer.update)(GOOD, state, PARAMS)
        found.append(str(program).count("cond["))
    assert found == [2, 0]

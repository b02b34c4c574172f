"""A state that is not the transformation's own: harmless to one that forgets, else named."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import norms
from tests.contract.cases import CASES
from tests.contract.harness import method, problem

GRADS = {"w": jnp.array([3.0, 4.0])}
# Of each kind of transformation one that remembers nothing.
FORGETFUL = {
    "number": clipax.clip_by_global_norm(1.0),
    "leaf": clipax.clip_by_leaf_norm(1.0),
    "unit": clipax.scale_by_norm(norms.clip(1.0), scope="unit"),
    "chain": clipax.scale_by_norm(norms.chain(norms.clip(1.0), norms.normalize(0.1))),
    "params": clipax.clip_by_param_norm(0.1),
    "value": clipax.clip_by_value(1.0),
    "smooth": clipax.clip_by_smooth_norm(1.0),
    "matrix": clipax.clip_by_singular_values(1.0),
}
FOREIGN = {
    "None": None,
    "empty": optax.EmptyState(),
    "adam": optax.adam(0.1).init(GRADS),
    "train state": object(),
}


@pytest.mark.parametrize("name", FORGETFUL)
@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_clip_without_memory_clips_without_its_state(name, foreign):
    clip = FORGETFUL[name]
    update, state = clip.update(GRADS, FOREIGN[foreign], GRADS)
    assert state is FOREIGN[foreign]
    wanted, _ = clip.update(GRADS, clip.init(GRADS), GRADS)
    np.testing.assert_array_equal(update["w"], wanted["w"])


def test_a_training_step_without_state_as_for_optax():
    @jax.jit
    def step(grads):
        return clipax.clip_by_global_norm(1.0).update(grads, None)[0]

    np.testing.assert_allclose(step(GRADS)["w"], [0.6, 0.8], rtol=1e-6)


def outcome(tx, gradient, state, params):
    """The update and state, or the text of the error."""
    try:
        return tx.update(gradient, state, params)
    except (TypeError, ValueError) as error:
        return str(error)


@pytest.mark.parametrize("name", CASES)
def test_every_method_works_without_its_state_or_names_it(name):
    params, gradients = problem()
    tx = method(name)
    start = tx.init(params)
    found = outcome(tx, gradients[0], None, params)
    if isinstance(found, str):
        assert "`state` must be" in found
        return
    wanted, _ = tx.update(gradients[0], start, params)
    jax.tree.map(np.testing.assert_array_equal, found[0], wanted)
    assert found[1] is None


@pytest.mark.parametrize(
    ("clip", "other"),
    [
        (clipax.clip_by_zscore(), clipax.clip_by_global_norm(1.0)),
        (clipax.clip_by_median(2.0), clipax.clip_by_zscore()),
        (clipax.scale_by_norm(b1=0.9), clipax.clip_by_global_norm(1.0)),
        (clipax.clip_by_percentile(10), clipax.scale_by_adam_norm(b_init=1.0)),
    ],
)
def test_the_state_of_another_clip_is_named(clip, other):
    with pytest.raises(ValueError, match="`state` must be what `init` or the last `update`"):
        clip.update(GRADS, other.init(GRADS))


def test_a_schedule_needs_the_count_of_steps():
    for clip in (
        clipax.clip_by_global_norm(lambda count: 1.0 / (1 + count)),
        clipax.clip_by_value(lambda count: 1.0 / (1 + count)),
    ):
        with pytest.raises(ValueError, match="`state` must be what `init`"):
            clip.update(GRADS, None)


SHAPES = {"w": jnp.ones((3, 2)), "b": jnp.ones(2, jnp.bfloat16), "dense": {"bias": jnp.ones(4)}}
NEED_VALUES = {"clipped_sstm"}


@pytest.mark.parametrize("name", CASES)
def test_a_state_from_shapes(name):
    shapes = jax.eval_shape(lambda: SHAPES)
    tx = method(name)
    if CASES[name].entry.name in NEED_VALUES:
        with pytest.raises(TypeError, match="`params` must be arrays, got shapes"):
            tx.init(shapes)
        return
    found, wanted = tx.init(shapes), tx.init(SHAPES)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert isinstance(one, jax.Array)
        assert (one.shape, one.dtype, one.weak_type) == (other.shape, other.dtype, other.weak_type)
        if not jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(one, other)

"""The catalogue says what is true."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipax import norms
from clipax.catalogue import DIES, ENTRIES, RECOVERS
from clipax.transforms import clip_by_global_norm, scale_by_norm

THRESHOLDS = [name for name, entry in ENTRIES.items() if entry.kind == "threshold"]


def as_transformation(entry):
    made = entry.factory(**entry.example)
    if entry.kind == "threshold":
        return clip_by_global_norm(made)
    return scale_by_norm(made) if isinstance(made, norms.NormTransformation) else made


@pytest.mark.parametrize("name", ENTRIES)
def test_the_verdict_on_one_huge_gradient(name):
    method = as_transformation(ENTRIES[name])
    gradients = np.random.default_rng(0).normal(size=(210, 3)).astype(np.float32)
    spiked = gradients.copy()
    spiked[5] = 1e12

    def sizes(gradients):
        def step(state, gradient):
            update, state = method.update(gradient, state, jnp.zeros(3))
            return state, jnp.linalg.norm(update)

        return jax.jit(jax.lax.scan, static_argnums=0)(step, method.init(jnp.zeros(3)), gradients)[
            1
        ]

    # Of the last ten steps; a method that has recovered moves about as an undisturbed one.
    ratio = np.mean(sizes(spiked)[-10:]) / np.mean(sizes(gradients)[-10:])
    assert ENTRIES[name].verdict == (RECOVERS if 0.5 < ratio < 2 else DIES)


@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_threshold_bites_again_after_one_huge_gradient(name):
    entry = ENTRIES[name]
    method = as_transformation(entry)
    # Two windows later, or as long as the verdict waits.
    later = 5 + 2 * entry.example.get("window", 100)
    gradients = np.random.default_rng(0).normal(size=(later + 1, 3)).astype(np.float32)
    gradients[5] = 1e12
    gradients[later] = 1e3

    def step(state, gradient):
        update, state = method.update(gradient, state, jnp.zeros(3))
        return state, (jnp.linalg.norm(update), state.threshold)

    run = jax.jit(lambda state: jax.lax.scan(step, state, gradients)[1])
    sizes, thresholds = run(method.init(jnp.zeros(3)))
    assert sizes[later] < 100
    assert thresholds[later] < 100


@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_bad_step_changes_no_bit_of_what_a_threshold_remembers(name):
    method = as_transformation(ENTRIES[name])
    state = method.init(jnp.zeros(3))
    gradients = np.random.default_rng(1).normal(size=(15, 3)).astype(np.float32)
    update = jax.jit(method.update)
    for gradient in gradients:
        _, state = update(gradient, state, jnp.zeros(3))
    for bad in (np.nan, np.inf, 3e38):
        _, after = update(np.array([0.1, bad, bad], np.float32), state, jnp.zeros(3))
        assert after.nonfinite_count == state.nonfinite_count + 1
        for one, other in zip(
            jax.tree.leaves(state.before), jax.tree.leaves(after.before), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_defaults_are_those_of_the_signature():
    assert ENTRIES["clip_adam_norm"].defaults["b2"] == 0.999
    assert "threshold" not in ENTRIES["clip_adam_norm"].defaults


def test_every_entry_is_found_under_its_name():
    import clipax

    for name, entry in ENTRIES.items():
        found = clipax
        for part in name.split("."):
            found = getattr(found, part)
        assert found is entry.factory

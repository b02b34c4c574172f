"""The catalogue says what is true."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipax import norms
from clipax.catalogue import DIES, ENTRIES, RECOVERS
from clipax.transforms import scale_by_norm


def as_transformation(entry):
    made = entry.factory(**entry.example)
    return scale_by_norm(made) if isinstance(made, norms.NormTransformation) else made


@pytest.mark.parametrize("name", [name for name, e in ENTRIES.items() if e.kind != "threshold"])
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

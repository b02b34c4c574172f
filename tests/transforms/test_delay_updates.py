"""Updates of earlier steps."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import clipax


@pytest.mark.parametrize("nonfinite", ["zero", "propagate"])
def test_delayed_updates_never_remember_what_is_not_finite(nonfinite):
    late = clipax.delay_updates(1, nonfinite=nonfinite)
    state = late.init(jnp.zeros(2))
    now, state = late.update(jnp.array([1.0, jnp.nan]), state)
    np.testing.assert_array_equal(now, [0, 0 if nonfinite == "zero" else np.nan])
    later, state = late.update(jnp.zeros(2), state)
    np.testing.assert_array_equal(later, [1, 0])

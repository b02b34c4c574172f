"""Random words are those of JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from clipax.lab._simulate.words import draw_words, step_keys, threefry


def test_words_are_those_of_jax():
    for seed, step, first in ((7, 5, 3), (2**32 - 1, 9, 0)):
        keys = step_keys(np.uint32(seed), 10)
        key = jax.random.fold_in(jax.random.key(seed), step)
        assert np.array_equal(keys[step], jax.random.key_data(key))
        ours = jax.jit(draw_words, static_argnums=(2, 3, 4))(keys[step : step + 1], first, 4, 3, 5)
        with jax.enable_x64(True):
            bits = np.asarray(jax.random.bits(key, (first + 4, 3, 3), "uint64"))[first:]
        for place, word in enumerate(ours):
            half = (bits[..., place // 2] >> (0 if place % 2 else 32)) & 0xFFFFFFFF
            assert np.array_equal(word[0], half.T.astype(np.uint32))
        # A 32-bit word of JAX is both words of a block, added without carry.
        places = jnp.arange(20, dtype=jnp.uint32)
        left, right = jax.jit(threefry)(tuple(keys[step]), (jnp.zeros_like(places), places))
        assert np.array_equal(left ^ right, jax.random.bits(key, (20,)))

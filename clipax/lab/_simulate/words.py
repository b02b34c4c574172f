"""Random words of a simulation: Threefry-2x32 written out, a function of seed, step and run alone.

JAX compiles its own Threefry to a loop that fuses with nothing. Written out, the rounds fuse with
the arithmetic that turns words into noise. The words are JAX's own, bit for bit.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from clipax._typing import Array

__all__ = ["draw_words", "step_keys", "threefry"]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def threefry(key: tuple[Array, Array], counter: tuple[Array, Array]) -> tuple[Array, Array]:
    """Compute Threefry-2x32 with 20 rounds: two random words for each key and counter.

    Args:
      key: The two words of a key, as `jax.random.key_data` gives them.
      counter: Two uint32 arrays of one shape.

    Returns:
      Two uint32 arrays of that shape.

    References:
      J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as
      1, 2, 3", SC 2011.
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    left, right = counter[0] + schedule[0], counter[1] + schedule[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            left = left + right
            turned = (right << np.uint32(rotation)) | (right >> np.uint32(32 - rotation))
            right = left ^ turned
        left = left + schedule[(group + 1) % 3]
        right = right + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return left, right


@partial(jax.jit, static_argnames="steps")
def step_keys(seed: np.uint32, steps: int) -> Array:
    """Make the keys of the first steps: `fold_in(key(seed), step)`, as rows of two words."""
    key = jax.random.key(seed, impl="threefry2x32")
    folded = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(steps, dtype=jnp.uint32))
    return jax.random.key_data(folded)


def draw_words(
    keys: Array, first: Array | int, runs: int, dim: int, count: int
) -> tuple[Array, ...]:
    """Draw random words for runs `first` to `first + runs - 1` and each coordinate and step.

    With `key = jax.random.fold_in(jax.random.key(seed), step)`, words `2 j` and `2 j + 1` are the
    upper and the lower half of entry `[run, coordinate, j]` of
    `jax.random.bits(key, (runs, dim, ceil(count / 2)), "uint64")`, however many runs there are. So
    they depend on seed, step, run and coordinate alone.

    Args:
      keys: Rows of `step_keys`, one for each step.
      first: Number of the first run.
      runs: Number of runs.
      dim: Number of coordinates.
      count: Number of words for each coordinate of each step.

    Returns:
      `count` uint32 arrays of shape `(steps, dim, runs)`.
    """
    pairs = -(-count // 2)
    run = jnp.asarray(first, jnp.uint32) + jnp.arange(runs, dtype=jnp.uint32)
    place = run[None, :] * np.uint32(dim) + jnp.arange(dim, dtype=jnp.uint32)[:, None]
    key = keys[:, 0, None, None], keys[:, 1, None, None]
    zero = jnp.zeros_like(place)
    drawn = [threefry(key, (zero, place * np.uint32(pairs) + np.uint32(j))) for j in range(pairs)]
    return tuple(word for pair in drawn for word in pair)[:count]

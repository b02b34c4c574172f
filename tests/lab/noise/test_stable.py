"""Stable laws against their characteristic function, and at the ends of the words."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest

from clipax.lab import noise

COUNT = 20_000
# Words at both ends and around the middle of their range.
EXTREME = np.array([0, 1, 2, 3, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)


def draw(law: noise.Law, seed: int = 7) -> np.ndarray:
    return np.asarray(law.sample(jax.random.key(seed), (COUNT,)), np.float64)


@pytest.mark.parametrize(
    ("alpha", "beta"), [(1.5, 0), (0.7, 0), (1.5, 1), (1.5, -0.5), (1, 0.5), (0.7, -1)]
)
def test_a_stable_law_has_its_characteristic_function(alpha, beta):
    sample = draw(noise.alpha_stable(alpha, beta))
    for s in (0.2, 0.7, 1.5, 4.0):
        phi = math.tan(math.pi * alpha / 2) if alpha != 1 else -2 / math.pi * math.log(s)
        expected = np.exp(-(s**alpha) * (1 - 1j * beta * phi))
        assert abs(np.exp(1j * s * sample).mean() - expected) < 4.5 / math.sqrt(COUNT)


@pytest.mark.parametrize("alpha", [0.6, 1.0, 1.3, 1.999, 2.0])
def test_stable_variates_are_accurate_at_the_ends_of_the_words(alpha):
    direction, height = (grid.ravel() for grid in np.meshgrid(EXTREME, EXTREME[1:-2]))
    found = np.asarray(noise.alpha_stable(alpha).from_words(direction, height))
    # The same formula in float64, from the same words.
    delta = np.pi / 2 * (np.floor(direction / 2.0) + 0.5) * 2.0**-31
    waiting = -np.log((np.floor(height / 2.0) + 0.5) * 2.0**-31)
    if alpha < 1:  # there short waits make the tail, and all of the word is used
        waiting = -np.log((height.astype(np.float64) + 0.5) * 2.0**-32)
    offset = (2 - alpha) * np.pi / 2
    expected = (
        np.where(direction % 2, -1, 1)
        * np.sin(offset + alpha * delta)
        / np.sin(delta) ** (1 / alpha)
        * (waiting / np.sin(offset + (alpha - 1) * delta)) ** ((alpha - 1) / alpha)
    )
    # Near V = 0 the variate itself passes through zero.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

"""The autoencoder's rate drops where the authors' does, for the methods that say so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.papers.tucat2025_training import Method, train

pytestmark = pytest.mark.thorough


def test_the_rate_drops_at_half_and_at_three_quarters_of_the_steps() -> None:
    random = np.random.default_rng(0)
    images = random.random((400, 16)).astype(np.float32), random.random((50, 16)).astype(np.float32)
    kept = Method(1e-4, threshold=200.0, delta=0.1)
    curves = train(images, [kept, replace(kept, drops=True)], [0], 80, records=8)
    steady, dropped = curves.test[:, 0]
    np.testing.assert_allclose(dropped[:4], steady[:4], rtol=1e-6)
    falls = np.diff(dropped) / np.diff(steady)
    np.testing.assert_allclose(falls[:3], 1, rtol=1e-3)
    # The slope differs, as the parameters do.
    assert np.all((falls[3:5] > 0.05) & (falls[3:5] < 0.2))
    assert np.all((falls[5:] > 0.005) & (falls[5:] < 0.04))

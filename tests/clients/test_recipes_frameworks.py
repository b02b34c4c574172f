"""Recipes of docs/frameworks.md that need a framework of this environment."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "jax"

import numpy as np
import pytest

from tests.docs.test_frameworks import recipe


def test_keras() -> None:
    names = recipe("Keras")
    x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    model, log = names["model"], names["LogClip"]()
    history = model.fit(x, x.sum(axis=1), epochs=3, verbose=0, callbacks=[log]).history
    assert len(history["grad_norm"]) == 3
    assert min(history["grad_norm"]) > 0
    assert history["is_finite"] == pytest.approx([1, 1, 1])

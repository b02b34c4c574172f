"""Clip-AdaGrad-Norm and its relatives, where one is another."""

from __future__ import annotations

import numpy as np
import pytest

import clipax
from tests.optimizers.walks import assert_equal_walks


@pytest.mark.parametrize("weight", [0.01, 0.5, 1.0, 30.0])
def test_a_weight_of_squares_is_a_scale_of_rate_and_start(x64, weight):
    root = np.sqrt(weight)
    assert_equal_walks(
        clipax.clip_radagrad_norm(0.3, 2.0, b_init=0.7, reweight=weight),
        clipax.clip_adagrad_norm(0.3 / root, 2.0, b_init=0.7 / root, delay=1),
    )

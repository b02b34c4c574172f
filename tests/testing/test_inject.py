"""Calls of `inject_faults`: its arguments, and what it refuses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clipax.testing import Fault, inject_faults


def test_faults_parameters_and_times_of_ones_own():
    seen = []

    def shifted(gradients, norm):
        seen.append((len(gradients), norm))
        return [jax.tree.map(lambda leaf: leaf + 10 * norm, one) for one in gradients]

    mine = Fault("shifted", shifted, length=3)
    params = [jnp.ones((2, 5)), jnp.ones(3)]
    report = inject_faults(
        optax.sgd(0.1, momentum=0.5), params, faults=[mine, "zero"], late=10, steps=40, norm=2.0
    )
    assert seen == [(3, 2.0)] * 3
    assert [(row.fault, row.when) for row in report.rows] == [
        ("shifted", "first"),
        ("shifted", "early"),
        ("shifted", "late"),
        ("zero", "first"),
        ("zero", "early"),
        ("zero", "late"),
    ]
    assert report.row("shifted", "late").steps > report.row("zero", "late").steps
    again = inject_faults(
        optax.sgd(0.1, momentum=0.5), params, faults=[mine], late=10, steps=40, norm=2.0
    )
    assert again.rows == report.rows[:3]
    # An early fault in step 0 is that of the first step.
    both = inject_faults(optax.sgd(0.1), params, faults=["zero"], early=0, late=10, steps=40)
    assert [row.when for row in both.rows] == ["early", "late"]


def test_errors_name_the_argument():
    method = optax.scale(0.1)
    for keywords, message in (
        ({"faults": ["nam"]}, "`faults` must be one of 'nan'"),
        ({"faults": []}, "`faults` must name at least one"),
        ({"steps": 19}, "`steps` must be at least 20"),
        ({"late": 3}, "`late` must be at least 4"),
        ({"norm": 0.0}, "`norm` must be positive"),
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"params": {}}, "`params` must have at least one entry"),
        ({"params": {"w": np.zeros((0, 3))}}, "`params` must have at least one entry"),
        ({"tolerance": 1.0}, "`tolerance` must be in"),
        ({"faults": [Fault("two", lambda gradients, norm: gradients * 2)]}, "must give 1 gradient"),
    ):
        with pytest.raises(ValueError, match=message):
            inject_faults(method, **keywords)
    with pytest.raises(TypeError, match="`steps` must be a concrete integer"):
        inject_faults(method, steps=20.5)
    with pytest.raises(ValueError, match="`length` must be at least 1"):
        Fault("none", lambda gradients, norm: gradients, length=0)
    with pytest.raises(ValueError, match="`apply` or `prepare` must be given"):
        Fault("none", None)
    report = inject_faults(method, faults=["zero"])
    with pytest.raises(ValueError, match="`expected` must be one of"):
        report.passed("lives")
    with pytest.raises(ValueError, match="no row for 'nan'"):
        report.row("nan", "late")


def test_one_fault_by_its_name_and_what_is_no_transformation():
    report = inject_faults(optax.clip_by_global_norm(1.0), faults="nan", steps=20, late=30)
    assert {row.fault for row in report.rows} == {"nan"}
    with pytest.raises(TypeError, match="`transformation` must be an optax gradient"):
        inject_faults(3)

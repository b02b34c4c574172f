"""How the fault-injection suite is called: faults, transformations, the table, what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax.testing import BREAKS, FAULTS, RECOVERS, Fault, StepByStep, inject_faults

ONE_PROGRAM = [
    name for name, fault in FAULTS.items() if fault.dtype is None and fault.prepare is None
]
"""The faults that share one compiled scan."""


def test_the_registry_is_frozen_and_knows_its_names():
    assert set(FAULTS) == {
        "nan",
        "infinity",
        "zero",
        "constant_norms",
        "1e38",
        "1e-38",
        "float16_overflow",
        "spike",
        "alternating",
        "empty_leaf",
    }
    assert all(fault.name == name for name, fault in FAULTS.items())
    with pytest.raises(TypeError):
        FAULTS["mine"] = FAULTS["nan"]


def test_step_by_step_is_as_compiled():
    method = optax.chain(clipax.clip_by_global_norm(1.0), optax.trace(0.9))
    plain = StepByStep(method.init, jax.jit(method.update))
    faults = ["nan", "spike"]
    compiled, one_by_one = (inject_faults(one, faults=faults) for one in (method, plain))
    for ours, theirs in zip(compiled.rows, one_by_one.rows, strict=True):
        assert abs(ours.difference - theirs.difference) < 1e-4
        assert (ours.fault, ours.when, ours.verdict) == (theirs.fault, theirs.when, theirs.verdict)
        assert (ours.state_kept, ours.clipping) == (theirs.state_kept, theirs.clipping)
        assert ours.steps == theirs.steps


def test_a_state_that_changes_in_place():
    class Momentum:
        def __init__(self, params):
            self.trace = np.zeros(3)

        def update(self, gradient):
            self.trace *= 0.9
            self.trace += gradient["w"]

    def update(gradient, state, params):
        state.update(gradient)
        return {"w": state.trace}, state

    method = StepByStep(Momentum, update, lambda state: state.trace)
    report = inject_faults(method, {"w": np.ones(3, np.float32)}, faults=["nan", "zero"])
    assert {(row.fault, row.when): row.verdict for row in report.rows} == {
        ("nan", "early"): BREAKS,
        ("nan", "late"): BREAKS,
        ("zero", "early"): RECOVERS,
        ("zero", "late"): RECOVERS,
    }


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
    assert seen == [(3, 2.0), (3, 2.0)]
    assert [(row.fault, row.when) for row in report.rows] == [
        ("shifted", "early"),
        ("shifted", "late"),
        ("zero", "early"),
        ("zero", "late"),
    ]
    assert report.row("shifted", "late").steps > report.row("zero", "late").steps
    again = inject_faults(
        optax.sgd(0.1, momentum=0.5), params, faults=[mine], late=10, steps=40, norm=2.0
    )
    assert again.rows == report.rows[:2]


def test_the_table_names_every_row():
    report = inject_faults(optax.scale(0.1), faults=ONE_PROGRAM)
    lines = str(report).splitlines()
    assert len(lines) == 1 + len(report.rows)
    for line, row in zip(lines[1:], report.rows, strict=True):
        assert line.split()[:3] == [row.fault, row.when, row.verdict]


def test_errors_name_the_argument():
    method = optax.scale(0.1)
    for keywords, message in (
        ({"faults": ["nam"]}, "`faults` must be one of 'nan'"),
        ({"faults": []}, "`faults` must name at least one"),
        ({"steps": 19}, "`steps` must be at least 20"),
        ({"late": 3}, "`late` must be at least 4"),
        ({"norm": 0.0}, "`norm` must be positive"),
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

"""Methods that run step by step."""

from __future__ import annotations

import jax
import numpy as np
import optax

import clipax
from clipax.testing import BREAKS, RECOVERS, StepByStep, inject_faults


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
        ("nan", "first"): BREAKS,
        ("nan", "early"): BREAKS,
        ("nan", "late"): BREAKS,
        ("zero", "first"): RECOVERS,
        ("zero", "early"): RECOVERS,
        ("zero", "late"): RECOVERS,
    }

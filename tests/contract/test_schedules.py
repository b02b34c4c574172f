"""Every argument that is said to take a schedule follows it."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from clipax.catalogue import ENTRIES
from tests.contract.cases import REPRESENTATIVES, TWINS, Case, case_of
from tests.contract.harness import assert_close, problem, run, same
from tests.thorough import thorough

# Needs the loss, which tests/transforms/test_skip_on_loss.py gives, with a schedule too.
NEED_A_LOSS = {("skip_spikes", "loss")}
SCHEDULED = [
    (name, argument.name)
    for name, entry in ENTRIES.items()
    for argument in inspect.signature(entry.factory).parameters.values()
    if "ScalarOrSchedule" in str(argument.annotation)
    and name not in TWINS
    and (name, argument.name) not in NEED_A_LOSS
]

QUICK = [
    (name, argument)
    for name, argument in SCHEDULED
    if name in REPRESENTATIVES or name in ("clip_by_global_norm", "clip_by_value")
]


def _value(case: Case, argument: str) -> float:
    given = case.keywords.get(argument, case.entry.defaults.get(argument))
    return 1.0 if given is None else float(given)


@pytest.mark.parametrize(("name", "argument"), thorough(SCHEDULED, QUICK))
def test_an_argument_follows_a_schedule(name: str, argument: str) -> None:
    case = case_of(ENTRIES[name], {})
    usual = _value(case, argument)

    def halve(count: Any) -> Any:
        return jnp.where(jnp.asarray(count) < 1, usual, usual / 2)

    params, gradients = problem()

    def follow(value: Any) -> list[Any]:
        method = case.make(**{argument: value})
        return run(jax.jit(method.update), method.init(params), gradients[:3], params)[0]

    scheduled, constant, half = (follow(value) for value in (halve, usual, usual / 2))
    assert_close(scheduled[0], constant[0], tolerance=1e-5)
    # An estimator may take a step before it shows, and a gradient may be within both thresholds.
    assert not same(scheduled, constant) or same(half, constant)

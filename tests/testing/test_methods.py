"""Every method of the catalogue under every fault: as the catalogue declares it, and never broken.

Gradients in float16 and leaves without entries need compiled runs of their own: the contract has
them for every method, the suite for some.
"""

from __future__ import annotations

import inspect

import jax
import numpy as np
import pytest

from clipax.catalogue import DIES, ENTRIES, RECOVERS
from clipax.testing import BREAKS, FAULTS, Fault, inject_faults
from clipax.testing import DIES as DEAD
from clipax.testing import RECOVERS as RECOVERED
from clipax.testing._report import CLIPS, DOES_NOT_CLIP
from clipax.thresholds import as_threshold
from tests.contract.cases import BASIC, REPRESENTATIVES, TWINS
from tests.thorough import thorough

EACH = pytest.mark.parametrize("name", thorough(BASIC, REPRESENTATIVES))

# Entries are finite, their norm is not: a guard on norms must leave the step out.
OVERFLOW = Fault(
    "norm_overflow",
    lambda gradients, norm: [jax.tree.map(lambda leaf: np.full_like(leaf, 3e38), gradients[0])],
)
ONE_PROGRAM = (
    *(fault for fault in FAULTS.values() if fault.dtype is None and fault.prepare is None),
    OVERFLOW,
)
HUGE = ("1e38", "spike")
# Stretches of huge gradients: what remembers one of them remembers these.
SEVERAL_HUGE = ("alternating", "fall")
DEFAULT_STEPS = 200

# Thresholds that theorems choose, far above gradients of norm 1: others, of which some are clipped.
NORMS = {"thresholds.anytime": 10.0, "thresholds.fixed_horizon": 10.0}
# Remembers entries one by one: zeros for those that are not finite, time goes on for the others.
BY_ENTRY = {"delay_updates"}
# Looks at gradients without changing them.
ONLOOKERS = {"monitor_norms"}
# What the transformation inside remembers of finite gradients is its own affair.
WRAPPERS = {"skip_nonfinite"}


def made(name):
    named, _ = TWINS.get(name, (name, "global"))
    return BASIC[named].make(**ENTRIES[name].example)


@EACH
def test_a_method_under_every_fault(name):
    entry = ENTRIES[name]
    report = inject_faults(made(name), faults=ONE_PROGRAM, norm=NORMS.get(name, 1.0))
    huge = [row for row in report.rows if row.fault in HUGE]

    # What the catalogue declares.
    dead = {row.fault for row in report.rows if row.verdict in (DEAD, BREAKS)}
    assert entry.verdict == (DIES if dead.intersection(HUGE) else RECOVERS)
    if entry.verdict == DIES:
        dead -= {*HUGE, *SEVERAL_HUGE, OVERFLOW.name}
    if name in ONLOOKERS:
        dead -= {"nan", "infinity", OVERFLOW.name}
    assert dead == set(entry.lasting), "Mend it, or declare it in the entry, with the reason."
    # A gradient that is not finite leaves no trace.
    assert report.state_kept == (name not in BY_ENTRY)
    for row in report.rows:
        if row.fault in ("nan", "infinity"):
            assert row.verdict == (BREAKS if name in ONLOOKERS else RECOVERED)
            assert row.steps == 0 or name in BY_ENTRY
    # No state is ever anything but finite.
    if name not in WRAPPERS:
        assert report.state_finite
    # No huge gradient stops a clip.
    if entry.kind == "threshold":
        assert report.clips
    if entry.verdict == RECOVERS:
        assert all(row.clipping != DOES_NOT_CLIP for row in huge)
    # Two windows later, which is twice a hundred steps for those that have none.
    if name in REMEMBERING and _windows(entry) == DEFAULT_STEPS:
        assert {row.clipping for row in huge} == {CLIPS}


def _windows(entry):
    """Twice the window, or twice the hundred steps of those that have none."""
    return 2 * entry.example.get("window", 100)


REMEMBERING = [
    name
    for name, entry in ENTRIES.items()
    if "window" in inspect.signature(entry.factory).parameters
    or (
        entry.kind == "threshold"
        and jax.tree.leaves(as_threshold(entry.factory(**entry.example)).init(()))
    )
]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    [name for name in REMEMBERING if name not in BASIC or _windows(ENTRIES[name]) != DEFAULT_STEPS],
)
def test_a_threshold_clips_again_within_two_windows(name):
    report = inject_faults(made(name), faults=HUGE, steps=_windows(ENTRIES[name]))
    assert {row.clipping for row in report.rows} == {CLIPS}


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["clip_by_leaf_norm", "thresholds.max_ccc", "mixed_clip_sgd"])
def test_float16_and_leaves_without_entries(name):
    report = inject_faults(made(name), faults=["float16_overflow", "empty_leaf"], late=40)
    for row in report.rows:
        assert not row.note
        assert row.state_finite
        assert row.update_finite

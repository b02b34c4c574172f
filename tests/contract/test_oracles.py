"""Every method against its float64 NumPy oracle, at every step of heavy-tailed sequences."""

from __future__ import annotations

import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from tests.contract.cases import BASIC, CASES, HEAVY_BALL, REPRESENTATIVES, SEES_LEAVES, Case
from tests.contract.gradients import (
    MIXED_DTYPES,
    NESTED,
    VECTOR,
    Layout,
    flatten,
    heavy_tailed,
    nest,
    parameters,
)
from tests.contract.harness import jitted, method, run, same
from tests.oracles import Tree
from tests.oracles.clip_by_singular_values import singular_values
from tests.thorough import thorough

# Compared to rounding, over many steps: in the code that users get.
OPTIMISED = True
STEPS = 60
DOUBLE, SINGLE = 1e-12, 1e-5
ALL = pytest.mark.parametrize("case", thorough(CASES.values(), {*BASIC, *REPRESENTATIVES}), ids=str)
EACH = pytest.mark.parametrize("case", thorough(BASIC.values(), REPRESENTATIVES), ids=str)
FULL = pytest.mark.parametrize("case", [CASES[name] for name in REPRESENTATIVES], ids=str)
OF_LEAVES = pytest.mark.parametrize(
    "case", thorough(SEES_LEAVES.values(), REPRESENTATIVES), ids=str
)


def _follow(case: Case, layout: Layout, dtype: Any) -> tuple[list[Tree], list[Tree]]:
    """The updates of the method and of its oracle on the same (rounded) gradients."""
    params = nest(parameters(layout), dtype)
    gradients = [nest(gradient, dtype) for gradient in heavy_tailed(layout, STEPS)]
    method = case.make()
    updates, _ = run(jax.jit(method.update), method.init(params), gradients, params)
    expected = case.reference([flatten(gradient) for gradient in gradients], flatten(params))
    return [flatten(update) for update in updates], expected


def _assert_follows(
    actual: list[Tree],
    expected: list[Tree],
    tolerance: float,
    remembered: float = 0.0,
    decay: float = 0.0,
) -> None:
    """The error of each step is within `tolerance` of it and `remembered` of what came before."""
    assert len(actual) == len(expected) == STEPS
    before = 0.0
    for step, (update, reference) in enumerate(zip(actual, expected, strict=True)):
        assert update.keys() == reference.keys()
        error = _norm({path: update[path] - reference[path] for path in reference})
        size = _norm(reference)
        before = decay * before + size
        allowed = tolerance * size + remembered * before
        assert error <= allowed, f"step {step}: {error:.3g}, allowed {allowed:.3g}, of {size:.3g}"


@ALL
def test_float64(case: Case, x64: None) -> None:
    _assert_follows(*_follow(case, NESTED, jnp.float64), DOUBLE)


@FULL
def test_float64_of_a_vector(case: Case, x64: None) -> None:
    _assert_follows(*_follow(case, VECTOR, jnp.float64), DOUBLE)


@EACH  # all cases are followed in float32, with steps that are not finite, in test_nonfinite.py
def test_float32(case: Case) -> None:
    _assert_follows(*_follow(case, NESTED, jnp.float32), SINGLE)


def _assert_rounded(case: Case, actual: list[Tree], expected: list[Tree], dtype: Any) -> None:
    """Equal but for roundings to `dtype`, each of which is within half a unit in the last place.

    One rounding is the result's. An optimizer multiplies it by a learning rate: one more for the
    rate and one for the product. A momentum is rounded at every step, and its errors fade as it
    does; the divisor by which it is scaled falls by no more than a few percent meanwhile.
    """
    unit = float(jnp.finfo(dtype).eps) / 2
    arguments = inspect.signature(case.factory).bind(**case.keywords)
    arguments.apply_defaults()
    decay = HEAVY_BALL if "inner" in case.keywords else arguments.arguments.get("b1")
    _assert_follows(
        actual,
        expected,
        tolerance=SINGLE + unit * (3 if case.entry.kind == "optimizer" else 1),
        remembered=0.0 if decay is None else 1.05 * unit,
        decay=decay or 0.0,
    )


@OF_LEAVES
def test_bfloat16(case: Case) -> None:
    actual, expected = _follow(case, NESTED, jnp.bfloat16)
    _assert_rounded(case, actual, expected, jnp.bfloat16)


@FULL
def test_mixed_dtypes(case: Case, x64: None) -> None:
    # A norm is summed from parts in float32 and in float64.
    dtypes = MIXED_DTYPES | {"scale": jnp.float64}
    actual, expected = _follow(case, NESTED, dtypes)

    def part(trees: list[Tree], *paths: str) -> list[Tree]:
        return [{path: tree[path] for path in paths} for tree in trees]

    narrow, others = ("dense/bias",), ("dense/kernel", "empty", "scale")
    _assert_rounded(case, part(actual, *narrow), part(expected, *narrow), jnp.bfloat16)
    _assert_follows(part(actual, *others), part(expected, *others), SINGLE)


# A method with an argument of this name is taken to bound the gradient's norm, or what `MEASURED`
# says: the update changes exactly where the bound is exceeded.
# Their updates do not show it: a smooth response changes every gradient.
HIDDEN = {"clip_by_smooth_norm"}
HARD = [case for case in BASIC.values() if "threshold" in case.keywords and case.name not in HIDDEN]
HARD += [CASES["clip_by_singular_values-method=polar"]]
MEASURED = {
    "clip_by_singular_values": lambda tree: max(
        singular_values(leaf).max() for leaf in tree.values()
    ),
    "clip_by_leaf_norm": lambda tree: max(np.linalg.norm(leaf) for leaf in tree.values()),
    "clip_by_group_norm": lambda tree: max(np.linalg.norm(leaf) for leaf in tree.values()),
    "clip_by_value": lambda tree: max(np.abs(leaf).max(initial=0.0) for leaf in tree.values()),
    "clip_by_lp_norm": lambda tree: max(np.abs(leaf).max(initial=0.0) for leaf in tree.values()),
    "clip_by_block_rms": lambda tree: max(
        np.linalg.norm(leaf) / max(leaf.size, 1) ** 0.5 for leaf in tree.values()
    ),
}


@pytest.mark.parametrize("case", HARD, ids=str)
def test_a_clip_bites_above_its_threshold_and_nowhere_else(case: Case) -> None:
    # From one and the same state, so that what is remembered of earlier clips does not matter.
    params = nest(parameters(NESTED))
    gradients = [nest(gradient) for gradient in heavy_tailed(NESTED, STEPS)]

    @jax.jit  # one program for both, or they would differ by the last bit
    def update(threshold: Any, gradient: Any, state: Any) -> Any:
        return case.make(threshold=threshold).update(gradient, state, params)

    size = MEASURED.get(case.entry.name, _norm)
    state, bites = case.make().init(params), []
    for gradient in gradients:
        without, _ = update(math.inf, gradient, state)
        out, state = update(case.keywords["threshold"], gradient, state)
        bites.append(not same(out, without))
        assert bites[-1] == (size(flatten(gradient)) > case.keywords["threshold"]), (
            "The clip bites where the norm is within `threshold`, or does not where it is beyond; "
            "if it bounds another size, say which in MEASURED."
        )
    assert any(bites)
    assert not all(bites)


# Methods in whose telemetry no block counts as clipped, and why.
SCALES = "a factor for every norm, no threshold"
ENTRY_BY_ENTRY = "clips entries, not blocks"
UNCLIPPED = {
    "norms.adagrad_norm": SCALES,
    "norms.adam_norm": SCALES,
    "norms.stabilize": SCALES,
    "scale_by_adagrad_norm": SCALES,
    "scale_by_adam_norm": SCALES,
    "normalize_by_global_norm": SCALES,
    "normalized_sgd": SCALES,
    "normalized_momentum": SCALES,
    "clip_by_value": ENTRY_BY_ENTRY,
    "acclip": ENTRY_BY_ENTRY,
    "spam": ENTRY_BY_ENTRY,
    "delay_updates": "leaves norms alone",
    "monitor_norms": "leaves norms alone",
    "skip_nonfinite": "leaves whole steps out",
    "skip_spikes": "leaves whole steps out",
}


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name] not in HARD])
def test_the_sequence_has_steps_that_clip_and_steps_that_do_not(name: str) -> None:
    case = CASES[name]
    params = nest(parameters(NESTED))
    gradients = [nest(gradient) for gradient in heavy_tailed(NESTED, STEPS)]
    _, states = run(jitted(name), method(name).init(params), gradients, params)
    try:
        found = clipax.metrics(states[-1])
    except ValueError:  # no telemetry
        found = {}
    clips = 0 < found.get("clip_fraction", 0) < 1
    unclipped = case.entry.name in UNCLIPPED or case.keywords.get("clip") == "coordinate"
    assert clips != unclipped, (
        "Its example clips no step of the sequence, or every one; or it does not clip by its "
        "nature: say so in UNCLIPPED."
    )


def test_the_sequence_has_entries_that_are_clipped_and_entries_that_are_not() -> None:
    gradients = heavy_tailed(NESTED, STEPS)
    limit = CASES["clip_adam-delay=3-clip=coordinate"].keywords["threshold"]
    sizes = np.concatenate([np.abs(leaf).ravel() for tree in gradients for leaf in tree.values()])
    assert 0 < np.mean(sizes > limit) < 1
    # ACClip moves along the momentum itself where it does not clip it.
    updates = CASES["acclip"].reference(gradients, parameters(NESTED))
    rate, moves = CASES["acclip"].keywords["learning_rate"], []
    momentum = {path: np.zeros_like(leaf) for path, leaf in gradients[0].items()}
    for gradient, update in zip(gradients, updates, strict=True):
        for path, leaf in gradient.items():
            momentum[path] = 0.9 * momentum[path] + 0.1 * leaf
            moves.append(np.isclose(update[path], -rate * momentum[path], rtol=1e-9).ravel())
    assert 0 < np.mean(np.concatenate(moves)) < 1


SMOOTH = [case for case in BASIC.values() if "smooth" in case.name]


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_a_smooth_clip_bites_and_leaves_tiny_gradients_alone(case: Case) -> None:
    params = nest(parameters(NESTED))
    gradients = [nest(gradient) for gradient in heavy_tailed(NESTED, STEPS)]
    method = case.make()
    updates, _ = run(jax.jit(method.update), method.init(params), gradients, params)
    untouched = [same(u, g) for u, g in zip(updates, gradients, strict=True)]
    assert any(untouched)
    assert not all(untouched)


def test_a_growing_threshold_bites_early_and_not_late() -> None:
    case = CASES["thresholds.power"]
    sigma, alpha = case.keywords["sigma"], case.keywords["alpha"]
    gradient = nest({"w": np.full(4, 2.0 * sigma)})  # of norm 4 sigma
    method = case.make()
    updates, _ = run(jax.jit(method.update), method.init(gradient), [gradient] * 300, gradient)
    bites = [not same(update, gradient) for update in updates]
    assert bites == [(step + 1) ** (1 / (2 * alpha)) < 4 - 1e-6 for step in range(300)]
    assert any(bites)
    assert not all(bites)


def _norm(tree: Tree) -> float:
    return math.sqrt(sum(float(np.sum(leaf**2)) for leaf in tree.values()))

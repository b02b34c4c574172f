"""Clipped gradients of single examples against float64 NumPy, their bound, and their edge cases."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from clipax import scopes
from tests.per_example.reference import clipped_sum
from tests.thorough import thorough

# Of rounding, in the code that users get.
OPTIMISED = True
SIZE = 7


def loss(params, x, y):
    error = x @ params["kernel"] + params["bias"] - y
    return jnp.sum(jnp.square(error)) / 2


def problem(dtype=np.float32):
    draw = np.random.default_rng(0)
    params = {"kernel": draw.normal(size=(3, 2)), "bias": draw.normal(size=2)}
    x = draw.normal(size=(SIZE, 3)) * np.geomspace(0.01, 10, SIZE)[:, None]
    y = draw.normal(size=(SIZE, 2))
    return jax.tree.map(lambda one: one.astype(dtype), (params, (x, y)))


def wide(tree):
    return jax.tree.map(lambda one: np.asarray(one, np.float64), tree)


def compare(found, expected, rtol=2e-6):
    for name, one in expected.items():
        np.testing.assert_allclose(found[name], one, rtol=rtol, atol=rtol, err_msg=name)


FACTORS = {
    "hard": lambda n: min(1.0, 1 / n),
    "normalize": lambda n: 1 / (n + 0.01),
    "psac": lambda n: 1 / (n + 0.01 / (n + 0.01)),
    "sqrt": lambda n: 1 / math.sqrt(1 + n * n),
}


@pytest.mark.parametrize(
    ("scope", "response", "microbatch"),
    [
        ("global", "hard", None),
        ("unit", "hard", 3),
        ("leaf", "normalize", 100),
        ("unit", "psac", 2),
    ],
)
def test_sum_is_that_of_numpy(scope, response, microbatch):
    params, (x, y) = problem()
    x[2, 1], y[5, 0] = np.nan, np.inf
    mask = np.arange(SIZE) != 6
    step = clipax.clipped_value_and_grad(
        loss, 1.0, scope=scope, response=response, reduction="sum", microbatch_size=microbatch
    )
    (value, stats), grads = jax.jit(step)(params, x, y, mask=mask)
    total, losses, norms = clipped_sum(
        wide(params), wide((x, y)), FACTORS[response], scope=scope, mask=mask
    )
    compare(grads, total)
    np.testing.assert_allclose(value, losses, rtol=1e-6)
    np.testing.assert_allclose(stats.norms, norms, rtol=1e-6)
    assert stats.nonfinite_count == 2
    for rows in stats.block_norms.values():
        assert rows.shape[0] == SIZE
        assert (rows[6] == -1).all()


def test_mean_threshold_at_run_time_and_clip_fraction():
    params, batch = problem()
    mask = np.arange(SIZE) != 0
    grad = jax.jit(clipax.clipped_grad(loss, 1e9, response="sqrt", has_aux=False))
    for threshold in jnp.array([0.5, 20.0]):
        grads, stats = grad(params, *batch, threshold=threshold, mask=mask)
        bend = lambda n: 1 / math.sqrt(1 + (n / float(threshold)) ** 2)  # noqa: B023, E731
        total, _, norms = clipped_sum(wide(params), wide(batch), bend, mask=mask)
        compare(grads, {name: one / (SIZE - 1) for name, one in total.items()})
        assert stats.clip_fraction == pytest.approx(np.mean(norms[1:] > float(threshold)))
    assert grad._cache_size() == 1


def test_unclipped_mean_is_the_gradient_of_the_mean():
    params, (x, y) = problem()
    grads, stats = jax.jit(clipax.clipped_grad(loss, math.inf))(params, x, y)
    plain = jax.grad(lambda p: jnp.mean(jax.vmap(partial(loss, p))(x, y)))(params)
    compare(grads, plain)
    assert stats.clip_fraction == 0
    assert stats.nonfinite_count == 0


@jax.custom_vjp
def whose_gradient_is_the_example(params, example):
    return jnp.float32(0)


whose_gradient_is_the_example.defvjp(
    lambda params, example: (jnp.float32(0), example),
    lambda example, _: (example, jax.tree.map(jnp.zeros_like, example)),
)


TYPES = (jnp.float32, jnp.bfloat16, jnp.float16)


@pytest.mark.parametrize(
    ("leaves", "types"),
    thorough([*((1, (dtype,)) for dtype in TYPES), (2000, TYPES)], but=[(1, TYPES[:1])]),
    ids=[*(f"1 leaf, {dtype.__name__}" for dtype in TYPES), "2000 leaves"],
)
def test_no_example_contributes_more_than_the_threshold(leaves, types):
    draw = np.random.default_rng(leaves)
    entries = 2**17 if leaves == 1 else 16
    rows = draw.normal(size=(leaves, 1, entries)) * 0.3
    # The types take turns. One factor, of the norm of all leaves, is rounded with each leaf: where
    # every leaf keeps to its share and the bound of its own type, so does a tree of one type.
    dtypes = [types[place % len(types)] for place in range(leaves)]
    example = [jnp.asarray(row, dtype) for row, dtype in zip(rows, dtypes, strict=True)]
    params = [jnp.zeros(entries, dtype) for dtype in dtypes]

    grad = jax.jit(clipax.clipped_grad(whose_gradient_is_the_example, 1.0, reduction="sum"))
    true = np.sqrt([np.sum(np.asarray(one, np.float64) ** 2) for one in example])
    whole = np.linalg.norm(true)
    slack = 4 * np.array([float(jnp.finfo(dtype).eps) for dtype in dtypes])
    # The last threshold is just below the norm: the factor is nearly 1.
    for threshold in [0.7] if leaves > 1 else [0.7, 3.1, whole * (1 - 1e-6)]:
        # Without `jit`, as programs for 2,000 leaves compile for minutes; the operations are the
        # same.
        with jax.disable_jit(leaves > 1):
            found, stats = grad(params, example, threshold=threshold)
        assert [one.dtype for one in found] == dtypes
        clipped = np.sqrt([np.sum(np.asarray(one, np.float64) ** 2) for one in found])
        share = threshold * true / whole
        assert (clipped <= share * (1 + slack)).all()
        assert (clipped >= share * (1 - slack)).all()
        for dtype in types:
            alike = [one == dtype for one in dtypes]
            bound = 4 * float(jnp.finfo(dtype).eps)
            part = np.linalg.norm(clipped[alike]) * whole / np.linalg.norm(true[alike])
            assert abs(part / threshold - 1) <= bound
        assert stats.norms[0] == pytest.approx(whole, rel=1e-5)


def test_an_example_that_is_not_finite_adds_zero_and_sums_that_overflow_are_norms():
    # The gradients are the examples; the squares of the last one's overflow.
    batch = jnp.array([[1.0, 0.0], [jnp.nan, 0.0], [jnp.inf, 1.0], [0.0, 0.0], [0.0, 1e30]])
    for microbatch in (1, 5):
        grad = clipax.clipped_grad(
            lambda w, x: w @ x, 0.5, reduction="sum", microbatch_size=microbatch
        )
        grads, stats = jax.jit(grad)(jnp.zeros(2), batch)
        np.testing.assert_allclose(grads, [0.5, 0.5], rtol=1e-6)
        np.testing.assert_allclose(stats.norms, [1, np.inf, np.inf, 0, 1e30], rtol=1e-6)
        assert stats.nonfinite_count == 2
        assert stats.clip_fraction == pytest.approx(2 / 3)
    # A loss that is not finite, with a gradient that is.
    infinite = jax.jit(clipax.clipped_grad(lambda w, x: w @ x + jnp.inf, 0.5))
    grads, stats = infinite(jnp.zeros(2), batch[:1])
    np.testing.assert_array_equal(grads, [0, 0])
    assert stats.nonfinite_count == 1
    # A threshold at run time that has fallen to zero, or is none, lets nothing through.
    scaled = [
        clipax.clipped_grad(lambda w, x: w @ x, 0.5, response=response)
        for response in ("normalize", "psac")
    ]
    for step in map(jax.jit, (grad, *scaled)):
        for nothing in (0.0, -1.0, np.nan):
            grads, _ = step(jnp.zeros(2), batch[::3], threshold=jnp.array(nothing))
            np.testing.assert_array_equal(grads, [0, 0])


def test_all_left_out_gives_zero():
    params, batch = problem()
    step = jax.jit(clipax.clipped_value_and_grad(loss, 1.0))
    (value, stats), grads = step(params, *batch, mask=np.zeros(SIZE, bool))
    assert value == 0
    assert stats.clip_fraction == 0
    assert stats.nonfinite_count == 0
    for one in jax.tree.leaves(grads):
        np.testing.assert_array_equal(one, np.zeros(one.shape))


def test_auxiliary_output_is_in_the_batch_s_order_and_double_precision_stays(x64):
    params, batch = problem(np.float64)

    def with_aux(params, x, y):
        return loss(params, x, y), {"x": x}

    grad = clipax.clipped_grad(with_aux, 1.0, has_aux=True, microbatch_size=3, reduction="sum")
    grads, stats = jax.jit(grad)(params, *batch)
    np.testing.assert_array_equal(stats.aux["x"], batch[0])
    total, _, norms = clipped_sum(params, batch, FACTORS["hard"])
    compare(grads, total, rtol=1e-14)
    np.testing.assert_allclose(stats.norms, norms, rtol=1e-14)


def test_excluded_parameters_are_neither_measured_nor_clipped():
    params, batch = problem()
    scope = scopes.exclude("bias", "global")
    grad = clipax.clipped_grad(loss, 1e-3, scope=scope, reduction="sum")
    grads, stats = jax.jit(grad)(params, *batch)
    total, _, _ = clipped_sum(wide(params), wide(batch), lambda n: 1.0)
    np.testing.assert_allclose(grads["bias"], total["bias"], rtol=1e-5)
    assert set(stats.block_norms) == {"global"}
    assert clipax.global_norm(grads["kernel"]) <= SIZE * 1e-3 * (1 + 1e-6)


def test_memory_does_not_grow_with_the_batch():
    params = {"kernel": jnp.zeros((64, 64)), "bias": jnp.zeros(64)}
    size = sum(one.nbytes for one in params.values())

    def temporaries(examples):
        batch = (jnp.zeros((examples, 64)), jnp.zeros((examples, 64)))
        compiled = jax.jit(clipax.clipped_grad(loss, 1.0)).lower(params, *batch).compile()
        return compiled.memory_analysis().temp_size_in_bytes / size

    small, large = temporaries(8), temporaries(128)
    assert large <= 3
    # What grows are copies of the batch and the norms: far from a gradient for each example.
    batch = 120 * 2 * 64 * 4 / size
    assert large - small <= 2 * batch


BAD = {
    "`threshold` must be positive, got -1.0": {"threshold": -1.0},
    "`threshold` must be finite": {"threshold": math.inf, "response": "normalize"},
    "or with response 'psac', got inf": {"threshold": math.inf, "response": "psac"},
    "`threshold` must be one number for all": {
        "threshold": lambda place: 1.0 + place,
        "noise_multiplier": 1.0,
    },
    "`response` must be one of": {"response": "soft"},
    "`eps` must be non-negative and finite, got -1": {"eps": -1},
    "`reduction` must be one of": {"reduction": "max"},
    "`scope` must be one of": {"scope": "all"},
    "`microbatch_size` must be at least 1, got 0": {"microbatch_size": 0},
    "`noise_multiplier` must be non-negative and finite, got -1": {"noise_multiplier": -1},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments_fail_at_once(message):
    with pytest.raises(ValueError, match=message):
        clipax.clipped_grad(loss, **({"threshold": 1.0} | BAD[message]))


def test_what_is_no_function_or_number_is_refused():
    with pytest.raises(TypeError, match="`fun` must be a function"):
        clipax.clipped_grad(1.0, 1.0)
    with pytest.raises(TypeError, match="`threshold` must be a number, got 'x'"):
        clipax.clipped_grad(loss, "x")
    with pytest.raises(TypeError, match="`threshold` must be a number here, got a Threshold, whic"):
        clipax.clipped_grad(loss, clipax.thresholds.median(2.0))

"""Dtypes and odd trees: every leaf comes back as it went in, whatever its type and size."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.contract.cases import BASIC, REPRESENTATIVES, SEES_LEAVES
from tests.contract.gradients import MIXED_DTYPES, NESTED, nest, parameters
from tests.contract.harness import (
    assert_close,
    assert_same,
    jitted,
    memory,
    method,
    problem,
    run,
    signature,
    structure,
)
from tests.double import enable_x64
from tests.thorough import thorough

EACH = pytest.mark.parametrize("name", SEES_LEAVES)
FULL = pytest.mark.parametrize("name", REPRESENTATIVES)
DTYPES = {
    "f16": jnp.float16,
    "bf16": jnp.bfloat16,
    "f32": jnp.float32,
    "f64": jnp.float64,
    "mixed": MIXED_DTYPES,
    "c64": jnp.complex64,
}


# A tree of all dtypes for each, trees of one for the representatives.
TYPED = [(name, kind) for name in SEES_LEAVES for kind in DTYPES]


@pytest.mark.parametrize(
    ("name", "kind"),
    thorough(TYPED, [pair for pair in TYPED if pair[0] in REPRESENTATIVES or pair[1] == "mixed"]),
)
def test_updates_have_the_dtype_of_the_gradients(name: str, kind: str) -> None:
    dtype = DTYPES[kind]
    with enable_x64(True) if dtype == jnp.float64 else contextlib.nullcontext():
        gradients = nest(parameters(NESTED), dtype)
        tx = method(name)
        # Traced, not run: types are known before there is a number.
        start = jax.eval_shape(tx.init, gradients)
        update, state = jax.eval_shape(tx.update, gradients, start, gradients)
        assert jax.tree.map(_kind, update) == jax.tree.map(_kind, gradients)
        assert signature(state) == signature(start) == signature(tx.init(gradients))


# What is wrapped decides on the dtype of its updates and on what it does with a hole.
OWN = pytest.mark.parametrize("name", [name for name in BASIC if not name.startswith("skip_")])


@OWN
def test_gradients_narrower_than_the_parameters(name: str) -> None:
    params, gradients = problem()
    narrow = [jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), g) for g in gradients[:2]]
    tx = method(name)
    updates, states = run(tx.update, tx.init(params), narrow, params)
    assert jax.tree.map(_kind, updates[-1]) == jax.tree.map(_kind, narrow[0])
    assert signature(states[-1]) == signature(tx.init(params))


SHAPES = [(0,), pytest.param((0, 3), marks=pytest.mark.thorough), ()]


@EACH
@pytest.mark.parametrize("tree", [{}, {"a": {}}, (), None], ids=repr)
def test_a_tree_without_leaves(name: str, tree: Any) -> None:
    tx = method(name)
    updates, states = run(tx.update, tx.init(tree), [tree, tree], tree)
    assert updates == [tree, tree]
    assert signature(states[-1]) == signature(tx.init(tree))


@EACH
@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_a_single_array_of_size_zero_or_rank_zero(name: str, shape: tuple[int, ...]) -> None:
    gradient = jnp.full(shape, 2.5)
    tx = method(name)
    updates, _ = run(tx.update, tx.init(gradient), [gradient, gradient], gradient)
    for update in updates:
        assert update.shape == shape
        assert np.isfinite(np.asarray(update)).all()
    if shape == () and name != "delay_updates":
        assert float(updates[-1]) != 0.0


@OWN
def test_a_leaf_that_is_none_keeps_what_is_remembered_of_it(name: str) -> None:
    params, gradients = problem()
    tx = method(name)
    holed = {**gradients[1], "scale": None}
    updates, states = run(tx.update, tx.init(params), [gradients[0], holed, gradients[2]], params)
    assert updates[1]["scale"] is None
    assert structure(updates[1]) == structure(holed)
    assert signature(states[1]) == signature(states[0])
    before, after = memory(states[0]), memory(states[1])
    for path in before:
        if "['scale']" in path:
            np.testing.assert_array_equal(after[path], before[path], err_msg=path)


# Those that remember something of each leaf.
BY_LEAF = ["clip_by_leaf_norm", "scale_by_adam_norm", "delay_updates", "clip_adam_norm"]


@pytest.mark.parametrize("name", BY_LEAF)
def test_a_leaf_that_the_state_does_not_know(name: str) -> None:
    params, gradients = problem()
    tx = method(name)
    state = tx.init({**params, "scale": None})
    with pytest.raises(ValueError, match="'scale'"):
        tx.update(gradients[0], state, params)


@pytest.mark.parametrize("name", BY_LEAF)
def test_two_leaves_of_one_name_are_told_apart(name: str) -> None:
    ambiguous = {"a/b": 3 * jnp.ones(2), "a": {"b": jnp.ones(2)}}
    plain = {"first": ambiguous["a"]["b"], "second": ambiguous["a/b"]}
    tx = method(name)
    found, _ = tx.update(ambiguous, tx.init(ambiguous), ambiguous)
    wanted, _ = tx.update(plain, tx.init(plain), plain)
    assert_same({"first": found["a"]["b"], "second": found["a/b"]}, wanted)


@EACH
def test_frozen_parameters_that_are_none_from_the_start(name: str) -> None:
    params, gradients = problem()
    tx = method(name)
    holes = [{**tree, "scale": None} for tree in (params, *gradients)]
    without = [{k: v for k, v in tree.items() if k != "scale"} for tree in (params, *gradients)]
    updates, _ = run(tx.update, tx.init(holes[0]), holes[1:3], holes[0])
    expected, _ = run(tx.update, tx.init(without[0]), without[1:3], without[0])
    for update, wanted in zip(updates, expected, strict=True):
        assert update.pop("scale") is None
        assert_same(update, wanted)


@EACH
def test_numpy_and_python_numbers(name: str) -> None:
    def foreign(tree: Any) -> Any:
        dense = {key: np.asarray(leaf) for key, leaf in tree["dense"].items()}
        return {**tree, "dense": dense, "scale": float(tree["scale"])}

    params, gradients = problem()
    tx = method(name)
    updates, states = run(
        tx.update, tx.init(foreign(params)), [foreign(g) for g in gradients[:2]], foreign(params)
    )
    expected, wanted = run(tx.update, tx.init(params), gradients[:2], params)
    assert_close(updates, expected)
    assert_close(states[-1], wanted[-1])
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((updates, states)))
    assert signature(tx.init(foreign(params))) == signature(tx.init(params)) == signature(states[0])


@FULL
def test_tuples_lists_and_a_bare_array(name: str) -> None:
    params, gradients = problem()
    tx = method(name)
    expected, _ = run(jitted(name), tx.init(params), gradients[:2], params)

    def listed(tree: Any) -> Any:
        dense = tree["dense"]
        return [(dense["bias"], dense["kernel"]), (tree["empty"], tree["scale"])]

    other = [listed(tree) for tree in (params, *gradients)]
    updates, _ = run(tx.update, tx.init(other[0]), other[1:3], other[0])
    for update, wanted in zip(updates, expected, strict=True):
        assert_close(update, listed(wanted))


@EACH
def test_integer_leaves_are_refused_by_name(name: str) -> None:
    params, gradients = problem()
    tx = method(name)
    counted = {**gradients[0], "scale": jnp.ones((), jnp.int32)}
    with pytest.raises(TypeError, match="scale"):
        tx.update(counted, tx.init(params), params)


def _kind(leaf: Any) -> Any:
    return jnp.shape(leaf), jnp.result_type(leaf)

"""jit, vmap, scan, cond, donation, guards: a pure function that JAX can take anywhere."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from tests.contract.cases import BASIC, CASES, REPRESENTATIVES, SEES_LEAVES
from tests.contract.gradients import MIXED_DTYPES, NESTED, mild, nest
from tests.contract.harness import (
    TRACES,
    assert_all_finite,
    assert_close,
    assert_same,
    jitted,
    method,
    problem,
    run,
    signature,
)
from tests.thorough import thorough

ALL = pytest.mark.parametrize("name", thorough(CASES, BASIC))
EACH = pytest.mark.parametrize("name", BASIC)
FULL = pytest.mark.parametrize("name", REPRESENTATIVES)


@pytest.mark.parametrize("name", thorough(SEES_LEAVES, REPRESENTATIVES))
def test_jit_equals_eager(name: str) -> None:
    params, gradients = problem()
    state = method(name).init(params)
    eager = run(method(name).update, state, gradients[:2], params)
    compiled = run(jitted(name), state, gradients[:2], params)
    assert_close(compiled, eager)


@pytest.mark.parametrize("name", thorough(SEES_LEAVES, REPRESENTATIVES))
def test_a_scan_equals_a_loop(name: str) -> None:
    params, gradients = problem()
    state = method(name).init(params)
    updates, states = run(jitted(name), state, gradients, params)

    def step(state: Any, gradient: Any) -> tuple[Any, Any]:
        out, state = method(name).update(gradient, state, params)
        return state, out

    stacked = _stack(gradients)
    last, scanned = jax.jit(lambda state, stacked: jax.lax.scan(step, state, stacked))(
        state, stacked
    )
    assert_close(scanned, _stack(updates))
    assert_close(last, states[-1])


@ALL
def test_no_trace_after_the_first_step(name: str) -> None:
    params, gradients = problem()
    _, states = run(jitted(name), method(name).init(params), gradients[:1], params)
    traces = TRACES[name]
    assert traces >= 1
    run(jitted(name), states[0], gradients[1:], params)
    assert TRACES[name] == traces


@ALL
def test_the_state_keeps_its_type(name: str) -> None:
    params, gradients = problem()
    abstract = jax.eval_shape(method(name).init, params)
    state = method(name).init(params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    assert signature(state) == signature(abstract)
    for update in (method(name).update, jitted(name)):
        assert signature(update(gradients[0], state, params)[1]) == signature(state)


@EACH
def test_no_two_arrays_of_a_new_state_share_memory(name: str) -> None:
    params, _ = problem()
    leaves = [leaf for leaf in jax.tree.leaves(method(name).init(params)) if leaf.size]
    places = [leaf.unsafe_buffer_pointer() for leaf in leaves]
    assert len(set(places)) == len(places)


@FULL
def test_donated_states(name: str) -> None:
    params, gradients = problem()
    donating = jax.jit(method(name).update, donate_argnums=1)
    expected, _ = run(jitted(name), method(name).init(params), gradients, params)
    state = method(name).init(params)
    first = state
    actual, _ = run(donating, state, gradients, params)
    assert_close(actual, expected)
    assert any(leaf.is_deleted() for leaf in jax.tree.leaves(first))


@FULL
def test_vmap_equals_a_loop(name: str) -> None:
    params, _ = problem()
    runs = [tuple(nest(tree) for tree in mild(NESTED, 3, seed=seed)) for seed in (3, 4)]
    runs[0] = tuple(jax.tree.map(lambda leaf: 1e-3 * leaf, gradient) for gradient in runs[0])
    mapped = jax.jit(jax.vmap(method(name).update, in_axes=(0, 0, None)))
    state = method(name).init(params)
    batched = _stack([state, state])
    together, last = run(
        mapped, batched, [_stack(pair) for pair in zip(*runs, strict=True)], params
    )
    alone = [run(jitted(name), state, gradients, params) for gradients in runs]
    for step, update in enumerate(together):
        assert_close(update, _stack([updates[step] for updates, _ in alone]))
    assert_close(last[-1], _stack([states[-1] for _, states in alone]))


@FULL
def test_inside_cond(name: str) -> None:
    params, gradients = problem()
    state = method(name).init(params)
    expected = jitted(name)(gradients[0], state, params)

    @jax.jit
    def step(wanted: Any, gradient: Any, state: Any) -> Any:
        return jax.lax.cond(
            wanted,
            lambda: method(name).update(gradient, state, params),
            lambda: (gradient, state),
        )

    assert_close(step(True, gradients[0], state), expected)
    assert_same(step(False, gradients[0], state), (gradients[0], state))


@FULL
def test_no_transfer_within_a_compiled_step(name: str) -> None:
    params, gradients = problem()
    state = jax.jit(method(name).init)(params)
    run(jitted(name), state, gradients[:1], params)
    with jax.transfer_guard("disallow"):
        run(jitted(name), state, gradients, params)


# Optimizers add links of Optax, which makes no such promise.
OWN = [name for name, case in BASIC.items() if case.entry.kind != "optimizer"]


@pytest.mark.parametrize("name", OWN)
def test_strict_dtype_promotion(name: str) -> None:
    for dtype in (jnp.float32, jnp.bfloat16, MIXED_DTYPES):
        gradient = nest(mild(NESTED, 1)[0], dtype)
        with jax.numpy_dtype_promotion("strict"):
            tx = CASES[name].make()
            jax.eval_shape(tx.update, gradient, tx.init(gradient), gradient)


@EACH
@pytest.mark.parametrize("compiled", [True, False], ids=["jit", "eager"])
def test_a_zero_gradient_makes_no_nan_on_the_way(name: str, compiled: bool) -> None:
    params, _ = problem()
    zero = jax.tree.map(jnp.zeros_like, params)
    with jax.debug_nans(True):
        state = method(name).init(params)
        update = jitted(name) if compiled else method(name).update
        updates, states = run(update, state, [zero, zero], params)
    assert_all_finite((updates, states))


@pytest.mark.parametrize("name", thorough(BASIC, REPRESENTATIVES))
def test_the_derivative_at_a_zero_gradient_is_finite(name: str) -> None:
    params, _ = problem()
    zero = jax.tree.map(jnp.zeros_like, params)

    def size(gradient: Any) -> Any:
        out, _ = method(name).update(gradient, method(name).init(params), params)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(out))

    assert_all_finite(jax.jit(jax.grad(size))(zero))


def _stack(trees: Any) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

"""Optax's wrappers around a method, and the calling conventions of a transformation."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import clipax
from tests.contract.cases import BASIC, CASES, REPRESENTATIVES
from tests.contract.harness import (
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

EACH = pytest.mark.parametrize("name", BASIC)
FULL = pytest.mark.parametrize("name", REPRESENTATIVES)
MASK = {"dense": {"bias": True, "kernel": False}, "empty": True, "scale": True}


def _part(tree: Any) -> Any:
    return {**tree, "dense": {"bias": tree["dense"]["bias"]}}


def _alone(name: str) -> tuple[list[Any], list[Any]]:
    """The method on the part of the tree that the masks select."""
    params, gradients = problem()
    start = method(name).init(_part(params))
    return run(method(name).update, start, [_part(g) for g in gradients[:3]], _part(params))


@FULL
def test_masked(name: str) -> None:
    params, gradients = problem()
    tx = optax.masked(method(name), MASK)
    updates, _ = run(jax.jit(tx.update), tx.init(params), gradients[:3], params)
    for update, wanted, gradient in zip(updates, _alone(name)[0], gradients[:3], strict=True):
        assert_close(_part(update), wanted)
        assert_same(update["dense"]["kernel"], gradient["dense"]["kernel"])


@FULL
def test_partition(name: str) -> None:
    params, gradients = problem()
    labels = jax.tree.map(lambda ours: "ours" if ours else "theirs", MASK)
    tx = optax.partition({"ours": method(name), "theirs": optax.sgd(0.5)}, labels)
    updates, _ = run(jax.jit(tx.update), tx.init(params), gradients[:3], params)
    for update, wanted, gradient in zip(updates, _alone(name)[0], gradients[:3], strict=True):
        assert_close(_part(update), wanted)
        assert_close(update["dense"]["kernel"], -0.5 * gradient["dense"]["kernel"])


@FULL
def test_multi_steps(name: str) -> None:
    params, gradients = problem()
    tx = optax.MultiSteps(method(name), every_k_schedule=2)
    updates, _ = run(jax.jit(tx.update), tx.init(params), gradients, params)
    pairs = (gradients[:2], gradients[2:])
    means = [jax.tree.map(lambda *leaves: sum(leaves) / 2, *pair) for pair in pairs]
    expected, _ = run(jitted(name), method(name).init(params), means, params)
    assert_close([updates[1], updates[3]], expected, tolerance=1e-5)
    for waiting in (updates[0], updates[2]):
        assert_same(waiting, jax.tree.map(jnp.zeros_like, params))


INJECTED = [
    *((name, False) for name in BASIC),
    # A schedule is called outside of the method, whatever it is.
    *((name, True) for name in REPRESENTATIVES),
]
QUICK = [(name, scheduled) for name in REPRESENTATIVES for scheduled in (False, True)]


@pytest.mark.parametrize(("name", "scheduled"), thorough(INJECTED, QUICK))
def test_inject_hyperparams(name: str, scheduled: bool) -> None:
    case = CASES[name]
    params, gradients = problem()

    def given(value: Any) -> Any:
        if scheduled and isinstance(value, float):
            return lambda count: value
        return value

    keywords = {key: given(value) for key, value in case.keywords.items()}
    factory = case.factory_of_updates()
    static = case.entry.static_args
    injected = optax.inject_hyperparams(factory, static, hyperparam_dtype=jnp.float32)
    tx = injected(**keywords)
    start = tx.init(params)
    updates, states = run(jax.jit(tx.update), start, gradients, params)
    expected, _ = run(jitted(name), method(name).init(params), gradients, params)
    # In float32 the complement of a decay rate of .999 has lost four digits.
    assert_close(updates, expected, tolerance=1e-4)
    assert signature(states[-1]) == signature(start)
    floats = {key for key, value in case.keywords.items() if isinstance(value, float)}
    assert floats - set(static) <= start.hyperparams.keys()


@pytest.mark.parametrize("name", thorough(BASIC, REPRESENTATIVES))
def test_inject_hyperparams_with_defaults_left_alone(name: str) -> None:
    params, gradients = problem()
    case = CASES[name]
    arguments = inspect.signature(case.factory).parameters
    required = {
        key: value
        for key, value in case.entry.example.items()
        if arguments[key].default is inspect.Parameter.empty
    }
    static = [key for key in required if key in case.entry.static_args]
    factory = case.factory_of_updates()
    plain = factory(**required)
    injected = optax.inject_hyperparams(factory, static, hyperparam_dtype=jnp.float32)
    tx = injected(**required)
    start = tx.init(params)
    extra = {"value": jnp.ones(())}
    updates, states = run(
        jax.jit(lambda *given: tx.update(*given, **extra)), start, gradients[:3], params
    )
    expected, _ = run(
        jax.jit(lambda *given: optax.with_extra_args_support(plain).update(*given, **extra)),
        plain.init(params),
        gradients[:3],
        params,
    )
    assert_close(updates, expected, tolerance=1e-4)
    assert signature(states[-1]) == signature(start)


DELAYED = [name for name, case in BASIC.items() if "delay" in case.entry.static_args]


@pytest.mark.parametrize("name", DELAYED)
def test_an_injected_delay_says_what_to_do(name: str) -> None:
    params, gradients = problem()
    factory, keywords = CASES[name].factory_of_updates(), {**CASES[name].keywords, "delay": 2}
    tx = optax.inject_hyperparams(factory)(**keywords)
    with pytest.raises(TypeError, match=r"`delay` .* `static_args`"):
        jax.eval_shape(tx.update, gradients[0], tx.init(params), params)


def test_every_delay_is_static() -> None:
    for case in BASIC.values():
        if "delay" in inspect.signature(case.factory).parameters:
            assert "delay" in case.entry.static_args


@FULL
def test_apply_if_finite(name: str) -> None:
    params, gradients = problem()
    tx = optax.apply_if_finite(method(name), max_consecutive_errors=3)
    updates, _ = run(jax.jit(tx.update), tx.init(params), gradients, params)
    expected, _ = run(jitted(name), method(name).init(params), gradients, params)
    assert_close(updates, expected)


@FULL
def test_within_a_chain_with_extra_arguments(name: str) -> None:
    params, gradients = problem()
    tx = optax.chain(optax.scale(0.5), method(name), optax.scale_by_polyak())
    extra = {"value": jnp.ones(()), "loss": None}
    out, _ = tx.update(gradients[0], tx.init(params), params, **extra)
    assert_all_finite(out)


@EACH
def test_extra_arguments_are_accepted_and_ignored(name: str) -> None:
    params, gradients = problem()
    tx = method(name)
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    state = tx.init(params)
    extra = {"value": 1.0, "grad": gradients[1], "value_fn": lambda x: x, "anything": None}
    assert_same(
        tx.update(gradients[0], state, params, **extra), tx.update(gradients[0], state, params)
    )


RELATIVE = ("clip_by_param_norm",)
NEED_PARAMS = {"clipped_sstm"} | {
    name for name in CASES if "weight_decay" in name or name.startswith(RELATIVE)
}


@pytest.mark.parametrize("name", thorough(CASES, BASIC.keys() | NEED_PARAMS))
def test_params_are_optional_where_they_are_not_used(name: str) -> None:
    params, gradients = problem()
    tx = method(name)
    state = tx.init(params)
    if name in NEED_PARAMS:
        with pytest.raises(ValueError, match="`params` must be given"):
            tx.update(gradients[0], state)
    else:
        assert_same(tx.update(gradients[0], state), tx.update(gradients[0], state, params))


@FULL
def test_multi_steps_inside_a_guard(name: str) -> None:
    # MultiSteps multiplies by zero, so the guard belongs in front of it.
    params, gradients = problem()
    tx = clipax.skip_nonfinite(
        optax.MultiSteps(method(name), every_k_schedule=2).gradient_transformation()
    )
    bad = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params)
    update = jax.jit(tx.update)
    updates, _ = run(update, tx.init(params), [gradients[0], bad, *gradients[1:]], params)
    expected, _ = run(update, tx.init(params), gradients, params)
    assert_same([*updates[:1], *updates[2:]], expected)
    assert_same(updates[1], jax.tree.map(jnp.zeros_like, params))

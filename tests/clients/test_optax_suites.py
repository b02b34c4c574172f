"""optax's own tests of its optimizers, which its wheel ships, over every optimizer of clipax.

The methods of its `AliasTest` and `ContribTest` are called with clipax's optimizers in the place of
optax's. What they assert, and how closely, is optax's word. Left out are methods of `ContribTest`
that say what one of `AliasTest` says, and those about single optimizers of optax.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import optax
import pytest
from absl.testing import parameterized
from optax._src import alias_test
from optax.contrib import _common_test

import clipax
from clipax.catalogue import ENTRIES

# With these, optax's two functions are minimised in the steps that it allows.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "acclip": {"learning_rate": 1e-2},
    "clip_adagrad": {"learning_rate": 1.0, "threshold": 10.0},
    "clip_adagrad_norm": {"learning_rate": 1.0, "threshold": 10.0},
    "clip_adam": {"learning_rate": 1e-2, "threshold": 10.0},
    "clip_adam_norm": {"learning_rate": 1e-2, "threshold": 10.0},
    "clip_normalized_momentum": {"learning_rate": 2e-3, "threshold": 10.0},
    "clip_radagrad_norm": {"learning_rate": 0.1, "threshold": 10.0, "reweight": 0.25},
    "clip_sgd": {"learning_rate": 1.15e-3, "threshold": 10.0},
    "clipped_sstm": {"smoothness": 1.0, "a": 1.0, "clip_constant": 1.0},
    "ggnc": {"learning_rate": 1e-2, "radius": 10.0},
    "max_ccc_sgd": {"learning_rate": 1.15e-3},
    "mixed_clip_sgd": {"learning_rate": 2e-3, "max_step": 0.1},
    "momentum_clip_sgd": {"learning_rate": 2e-3, "max_step": 0.1},
    "normalized_momentum": {"learning_rate": 2e-3},
    "normalized_sgd": {"learning_rate": 2e-3, "eps": 1e-3},
    "quantile_clip_sgd": {"learning_rate": 1.15e-3, "quantile": 0.75},
    "regularized_clip_sgd": {"learning_rate": 1.15e-3, "threshold": 10.0, "delta": 1e-3},
    "spam": {"learning_rate": 2e-3},
    "stable_adamw": {"learning_rate": 2e-3},
    "stable_spam": {"learning_rate": 2e-3},
}
OPTIMIZERS = tuple(name for name, entry in ENTRIES.items() if entry.kind == "optimizer")
EACH = pytest.mark.parametrize("name", OPTIMIZERS)


def factory(name: str) -> Callable[..., Any]:
    """The public function; where it takes a schedule, with the annotation that optax looks for."""
    make = getattr(clipax, name)

    @functools.wraps(make)
    def made(*arguments: Any, **keywords: Any) -> Any:
        return make(*arguments, **keywords)

    signature = inspect.signature(make)
    parameters = [
        one.replace(annotation=optax.ScalarOrSchedule)
        if one.annotation == "ScalarOrSchedule"
        else one
        for one in signature.parameters.values()
    ]
    made.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return made


@pytest.fixture(autouse=True)
def in_the_place_of_optax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each module looks up an optimizer by its name in one function."""
    monkeypatch.setattr(alias_test, "_get_opt", lambda self, name: factory(name))
    monkeypatch.setattr(_common_test, "_get_opt_factory", factory)


def call(case: type[parameterized.TestCase], method: str, name: str, **given: Any) -> None:
    """Call a test of optax for one optimizer; absl keeps the function without its parameters."""
    expanded = next(one for one in dir(case) if re.fullmatch(rf"{method}\d+", one))
    test = inspect.unwrap(getattr(case, expanded))
    if case is _common_test.ContribTest:
        given = {"wrapper_name": None, "wrapper_kwargs": None, **given}
    test(case(), opt_name=name, opt_kwargs=ARGUMENTS[name], **given)


def targets(module: ModuleType, *names: str) -> pytest.MarkDecorator:
    """The functions that a module of optax minimises, by their names."""
    found = [getattr(module, f"_setup_{name}") for name in names]
    return pytest.mark.parametrize("target", found, ids=names)


@EACH
@targets(alias_test, "parabola", "rosenbrock")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
def test_alias_optimization(name: str, target: Any, dtype: Any) -> None:
    call(alias_test.AliasTest, "test_optimization", name, target=target, dtype=dtype)


@EACH
@targets(_common_test, "parabola", "rosenbrock", "matrix_parabola", "mixed_tensor_target")
def test_contrib_optimizers(name: str, target: Any) -> None:
    call(_common_test.ContribTest, "test_optimizers", name, target=target, dtype="float32")


@EACH
def test_alias_extra_args(name: str) -> None:
    call(alias_test.AliasTest, "test_optimizers_accept_extra_args", name)


@EACH
def test_contrib_extra_args(name: str) -> None:
    call(_common_test.ContribTest, "test_optimizers_accept_extra_args", name, wrap=False)


@EACH
def test_alias_inject_hyperparams(name: str) -> None:
    call(alias_test.AliasTest, "test_optimizers_can_be_wrapped_in_inject_hyperparams", name)


@EACH
def test_contrib_inject_hyperparams(name: str) -> None:
    call(_common_test.ContribTest, "test_optimizers_can_be_wrapped_in_inject_hyperparams", name)


@EACH
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_alias_preserve_dtype(name: str, dtype: str) -> None:
    call(alias_test.AliasTest, "test_preserve_dtype", name, dtype=dtype)


@EACH
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_alias_gradient_accumulation(name: str, dtype: str) -> None:
    call(alias_test.AliasTest, "test_gradient_accumulation", name, dtype=dtype)


DTYPES = (
    jnp.float16,
    jnp.bfloat16,
    jnp.float32,
    jnp.float64,
    jnp.complex64,
    jnp.complex128,
)


@EACH
@pytest.mark.parametrize("dtype", DTYPES)
def test_alias_state_is_stable(name: str, dtype: Any) -> None:
    method = "test_state_shape_dtype_shard_stability"
    call(alias_test.AliasTest, method, name, dtype=dtype)


@EACH
def test_contrib_schedules(name: str) -> None:
    method = "test_optimizers_accept_learning_rate_schedule_if_type_annotated_as_such"
    call(_common_test.ContribTest, method, name)

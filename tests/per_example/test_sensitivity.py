"""The bound on what one example can change, against neighbouring batches."""

from __future__ import annotations

import enum
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from clipax import scopes, thresholds

RELATIONS = ("add_or_remove_one", "replace_one", "replace_special")
PARAMS = {"a": np.zeros(3), "b": np.zeros((2, 2))}
THRESHOLD = 0.5


def inner(params: Any, x: Any) -> Any:
    """A loss whose gradient is the example."""
    return jnp.vdot(params["a"], x["a"]) + jnp.vdot(params["b"], x["b"])


def batches(relation: str, size: int, draw: Any) -> tuple[Any, Any]:
    """Two neighbouring batches, the first of that size, as far apart as directions can be."""
    sizes = 10.0 ** draw.uniform(-2, 6, size)
    ways = {name: draw.normal(size=leaf.shape) for name, leaf in PARAMS.items()}
    # All alike but for the first: where the divisor changes the others matter most so.
    signs = np.where(np.arange(size) == 0, -1.0, 1.0)

    def make(factors: Any) -> Any:
        return {
            name: np.multiply.outer(factors, way / np.linalg.norm(way))
            for name, way in ways.items()
        }

    first = signs * sizes
    if relation == "add_or_remove_one":
        return make(first), make(first[1:])
    changed = first.copy()
    changed[0] = 0 if relation == "replace_special" else -first[0]
    return make(first), make(changed)


RESPONSES = ("hard", "normalize", "psac", "sqrt", "rational", "huber")


@pytest.mark.parametrize(
    ("scope", "response"),
    [("global", one) for one in RESPONSES] + [("leaf", "hard"), ("unit", "hard"), ("unit", "psac")],
)
def test_no_neighbour_is_farther_and_some_are_as_far(scope: str, response: str, x64: None) -> None:
    for reduction in ("sum", "mean"):
        grad = clipax.clipped_grad(
            inner, THRESHOLD, scope=scope, response=response, reduction=reduction
        )
        size = 4
        given = {"batch_size": size} if reduction == "mean" else {}
        # One program for all sizes: the mask leaves out what a batch is shorter.
        step = jax.jit(lambda x, mask, grad=grad: grad(PARAMS, x, mask=mask)[0])
        for relation in RELATIONS:
            draw, farthest = np.random.default_rng(0), 0.0
            bound = grad.sensitivity(relation, params=PARAMS, **given)
            for _ in range(20):
                results = [step(*pad(batch, size)) for batch in batches(relation, size, draw)]
                change = jax.tree.map(lambda one, other: one - other, *results)
                distance = math.sqrt(sum(float(np.sum(leaf**2)) for leaf in change.values()))
                assert distance <= bound * (1 + 1e-12)
                farthest = max(farthest, distance)
            assert farthest > bound * 0.99


def pad(batch: Any, size: int) -> tuple[Any, Any]:
    """A batch with zeros up to that size, and its mask."""
    missing = size - len(batch["a"])
    padded = {
        name: np.concatenate([leaf, np.zeros((missing, *leaf.shape[1:]))])
        for name, leaf in batch.items()
    }
    return padded, np.arange(size) < size - missing


def test_a_single_example_in_a_mean(x64: None) -> None:
    grad = clipax.clipped_grad(inner, THRESHOLD)
    assert grad.sensitivity("add_or_remove_one", batch_size=1) == THRESHOLD
    one = {name: np.full((1, *leaf.shape), 9.0) for name, leaf in PARAMS.items()}
    both = {name: np.concatenate([leaf, -leaf]) for name, leaf in one.items()}
    for batch, mask in ((one, np.zeros(1, bool)), (both, None)):
        first, second = grad(PARAMS, one)[0], grad(PARAMS, batch, mask=mask)[0]
        change = np.concatenate([(first[name] - second[name]).ravel() for name in PARAMS])
        assert np.linalg.norm(change) == pytest.approx(THRESHOLD, rel=1e-12)


def test_the_noise_is_in_units_of_it() -> None:
    params = {"a": jnp.zeros(10_000), "b": jnp.zeros((2, 2))}
    noised = clipax.clipped_grad(
        lambda w, x: x * jnp.sum(w["a"]), 0.5, scope="leaf", reduction="sum", noise_multiplier=3.0
    )
    drawn, _ = noised(params, jnp.zeros(1), key=jax.random.key(0))
    unit = noised.sensitivity("add_or_remove_one", params=params)
    assert float(jnp.std(drawn["a"])) == pytest.approx(3 * unit, rel=0.03)
    shapes = jax.eval_shape(lambda: params)
    assert noised.sensitivity("add_or_remove_one", params=shapes) == unit


def test_thresholds_of_a_call_and_by_place() -> None:
    grad = clipax.clipped_grad(inner, 1.0, reduction="sum")
    assert grad.sensitivity("replace_one", threshold=4.0) == 8.0
    assert jax.jit(lambda now: grad.sensitivity("replace_one", threshold=now))(3.0) == 6.0
    assert grad.sensitivity("replace_one", threshold=math.inf) == math.inf
    power = thresholds.power(2.0, 2.0, "convex")
    by_place = clipax.clipped_grad(inner, power, reduction="sum")
    assert by_place.sensitivity("replace_special", batch_size=9) == pytest.approx(6)
    mean = clipax.clipped_grad(inner, power)
    assert mean.sensitivity("replace_one", batch_size=9) == pytest.approx(12 / 9)
    with pytest.raises(ValueError, match="`relation` must keep the examples in their places"):
        by_place.sensitivity("add_or_remove_one", batch_size=9)
    with pytest.raises(ValueError, match="`batch_size` must be given for a threshold by place"):
        by_place.sensitivity("replace_one")


def test_the_members_of_an_enumeration_are_relations() -> None:
    relation = enum.Enum("NeighboringRelation", ["ADD_OR_REMOVE_ONE", "REPLACE_SPECIAL", "OTHER"])
    grad = clipax.clipped_value_and_grad(inner, 0.25, reduction="sum")
    assert grad.sensitivity(relation.ADD_OR_REMOVE_ONE) == 0.25
    assert grad.sensitivity(relation.REPLACE_SPECIAL) == 0.25
    with pytest.raises(ValueError, match="`relation` must be one of 'add_or_remove_one', "):
        grad.sensitivity(relation.OTHER)


def test_what_the_bound_depends_on_must_be_given() -> None:
    total, mean = clipax.clipped_grad(inner, 1.0, reduction="sum"), clipax.clipped_grad(inner, 1.0)
    with pytest.raises(ValueError, match="`batch_size` must be given for a mean, got None"):
        mean.sensitivity("replace_one")
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        mean.sensitivity("replace_one", batch_size=0)
    with pytest.raises(TypeError, match=r"`batch_size` must be a concrete integer, got 2\.5\.$"):
        mean.sensitivity("replace_one", batch_size=2.5)
    with pytest.raises(ValueError, match="`batch_size` must be left out for a sum, got 8"):
        total.sensitivity("replace_one", batch_size=8)
    with pytest.raises(ValueError, match="`threshold` must be positive, got -1"):
        total.sensitivity("replace_one", threshold=-1.0)
    layers = clipax.clipped_grad(inner, 1.0, scope="leaf", reduction="sum")
    with pytest.raises(ValueError, match="`params` must be given where"):
        layers.sensitivity("replace_one")
    excluding = clipax.clipped_grad(
        inner, 1.0, scope=scopes.exclude("a", "global"), reduction="sum"
    )
    with pytest.raises(ValueError, match=r"`scope` must leave no parameter out.*excludes 'a'"):
        excluding.sensitivity("replace_one", params=PARAMS)

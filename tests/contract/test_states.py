"""States fit in with what optax does to states: mapping over parameters, searching by name."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import clipax
from clipax import norms, scopes
from clipax.catalogue import ENTRIES
from tests.contract.cases import CASES, IN_WORDS_OF_THE_ORACLE
from tests.contract.harness import assert_same, method, structure

EACH = pytest.mark.parametrize("name", ENTRIES)
CASE = pytest.mark.parametrize("name", CASES)

# Names that no field of a state has.
PARAMS = {
    "a_layer": {"a_bias": jnp.ones(4), "a_kernel": jnp.ones((3, 4))},
    "a_scale": jnp.ones(()),
    "a_stack": {"a_kernel": jnp.ones((2, 3, 4))},
}
PATHS = [path for path, _ in jax.tree_util.tree_leaves_with_path(PARAMS)]
SCOPES: dict[str, Any] = {
    "global": "global",
    "leaf": "leaf",
    "unit": "unit",
    "labels": scopes.by_label(lambda path: "one" if path.startswith("a_layer") else "other"),
    "stacked": scopes.stacked(0, where="a_stack/*"),
    "excluded": scopes.exclude("a_scale", "leaf"),
}


def made(name: str) -> Iterator[tuple[str, optax.GradientTransformationExtraArgs]]:
    """An entry as a transformation of gradients, with each scope that it takes."""
    entry = ENTRIES[name]
    arguments, _ = IN_WORDS_OF_THE_ORACLE.get(name, (entry.example, None))
    block = entry.kind in ("threshold", "norm")
    factory = clipax.scale_by_norm if block else entry.factory
    if block:
        rule = entry.factory(**arguments)
        arguments = {"before": norms.clip(rule) if entry.kind == "threshold" else rule}
    if "scope" not in inspect.signature(factory).parameters:
        yield "none", factory(**arguments)
        return
    for label, scope in SCOPES.items():
        with contextlib.suppress(ValueError):  # matrices have no norm to share, for example
            tx = factory(**arguments, scope=scope)
            tx.init(PARAMS)
            yield label, tx


@functools.cache
def start(name: str) -> Any:
    """The state of a case before the first step."""
    return method(name).init(PARAMS)


def is_of_a_parameter(path: tuple[Any, ...]) -> bool:
    """Tell whether the path of a leaf of a state passes through that of a parameter."""
    return any(path[start : start + len(one)] == one for one in PATHS for start in range(len(path)))


def spread(mapped: Any, state: Any) -> Any:
    """Repeat the mapped values, one for each leaf of a state.

    Norms of units and names of blocks differ in number from model to model: their placeholder is
    mapped as one.
    """
    return jax.tree.map(lambda one, part: jax.tree.map(lambda _: one, part), mapped, state)


@EACH
def test_what_mirrors_the_parameters_is_mapped_and_nothing_else(name: str) -> None:
    methods = list(made(name))
    assert methods
    for scope, tx in methods:
        state = tx.init(PARAMS)
        found = optax.tree.map_params(
            tx, lambda leaf: "mapped", state, transform_non_params=lambda leaf: "kept"
        )
        found = spread(found, state)
        expected = jax.tree_util.tree_map_with_path(
            lambda path, leaf: "mapped" if is_of_a_parameter(path) else "kept", state
        )
        assert found == expected, scope
        assert_same(optax.tree.map_params(tx, lambda leaf: leaf, state), state)


@CASE
def test_each_copy_of_the_parameters_takes_something_for_each_parameter(name: str) -> None:
    # Their shardings, for example.
    tx, state = method(name), start(name)
    names = jax.tree_util.tree_map_with_path(lambda path, leaf: jax.tree_util.keystr(path), PARAMS)
    found = optax.tree.map_params(
        tx, lambda leaf, told: told, state, names, transform_non_params=lambda leaf: ""
    )
    found = spread(found, state)
    assert structure(found) == structure(state)
    for path, told in jax.tree_util.tree_leaves_with_path(found):
        assert told in ("", *jax.tree.leaves(names))
        assert jax.tree_util.keystr(path).endswith(told)


def fields_of_optax() -> dict[str, str]:
    """The fields of the states of optax, each with one of the states that have it."""
    found = {}
    for room in (optax._src, optax.transforms, optax.contrib):
        for module in pkgutil.iter_modules(room.__path__):
            if module.name.endswith("_test"):
                continue
            for public in vars(importlib.import_module(f"{room.__name__}.{module.name}")).values():
                if inspect.isclass(public) and public.__name__.endswith("State"):
                    found |= dict.fromkeys(getattr(public, "_fields", ()), public.__name__)
    return found


OF_OPTAX = fields_of_optax()


def names_in(tree: Any) -> Iterator[tuple[str, str]]:
    """Each field of a named tuple of clipax, and each key of a dictionary, with where it is."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        if type(tree).__module__.partition(".")[0] == "clipax":
            yield from ((field, type(tree).__name__) for field in tree._fields)
        tree = tree._asdict().values()
    elif isinstance(tree, dict):
        yield from ((key, "a dictionary") for key in tree)
        tree = tree.values()
    if not hasattr(tree, "dtype") and tree is not None:
        for part in tree:
            yield from names_in(part)


def test_the_fields_of_optax_are_found() -> None:
    assert OF_OPTAX.keys() >= {"count", "mu", "nu", "trace", "ema", "inner_state", "hyperparams"}


@CASE
def test_no_name_is_one_of_optax(name: str) -> None:
    clashes = {f"{place}.{field}" for field, place in names_in(start(name)) if field in OF_OPTAX}
    assert not clashes


# A schedule of the learning rate has a count of optax's own.
@pytest.mark.parametrize("name", [name for name in CASES if not name.endswith("-scheduled")])
@pytest.mark.parametrize("field", ["count", "mu", "nu"])
def test_what_optax_calls_so_is_found_behind_a_method(name: str, field: str) -> None:
    adam = optax.adam(0.1).init(PARAMS)
    # The state of their chain.
    assert_same(optax.tree.get((start(name), adam), field), optax.tree.get(adam, field))


def test_a_label_is_no_name_to_search_for() -> None:
    scope = scopes.by_label({"a_layer": "count", "a_scale": "mu", "a_stack": "nu"})
    clip = clipax.scale_by_norm(norms.clip(1.0), scope=scope)
    state = optax.chain(clip, optax.adam(0.1)).init(PARAMS)
    for field in ("count", "mu", "nu"):
        optax.tree.get(state, field)
    assert clipax.block_names(state) == ("count", "mu", "nu")


def test_no_label_has_a_meaning_of_its_own() -> None:
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    gradient = {"a": jnp.full(2, 3.0), "b": jnp.full(2, 0.1)}
    read = []
    for labels in (("averaged", "gradient"), ("first", "second")):
        scope = scopes.by_label(dict(zip(params, labels, strict=True)))
        clip = clipax.scale_by_norm(norms.clip(1.0), scope=scope)
        _, state = clip.update(gradient, clip.init(params))
        named = clipax.metrics(state, top=None)
        for label, plain in zip(labels, params, strict=True):
            named = {key.replace(f"/{label}", f"/{plain}"): one for key, one in named.items()}
        read.append(named)
    assert read[0] == read[1]

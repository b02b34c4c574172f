"""The entries that share a norm, and the names of leaves."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import clipax
from clipax import scopes


def clipped(grads, scope, threshold=1.0):
    clip = clipax.scale_by_norm(clipax.norms.clip(threshold), scope=scope)
    return clip.update(grads, clip.init(grads))


def test_by_label_merges_groups_and_takes_prefixes_and_functions():
    grads = {"a": {"k": jnp.array([3.0]), "b": jnp.array([4.0])}, "c": jnp.array([0.5])}
    tree_scope = scopes.by_label({"a": "slow", "c": "fast"})
    function_scope = scopes.by_label(lambda path: "fast" if path == "c" else "slow")
    for scope in (tree_scope, function_scope):
        updates, state = clipped(grads, scope)
        np.testing.assert_allclose(updates["a"]["k"], [0.6], rtol=1e-6)
        np.testing.assert_allclose(updates["a"]["b"], [0.8], rtol=1e-6)
        np.testing.assert_array_equal(updates["c"], grads["c"])
        assert clipax.block_names(state) == ("fast", "slow")


def test_by_label_does_not_take_a_similar_name_for_a_prefix():
    with pytest.raises(ValueError, match=r"`labels` has nothing for the leaf 'ab'"):
        scopes.by_label({"a": "x"}).block("ab", 1)


def test_labels_must_exist():
    with pytest.raises(ValueError, match="`labels` must hold at least one label"):
        scopes.by_label({})


def test_a_spiking_layer_of_a_stacked_kernel_leaves_the_others_alone():
    kernel = jnp.stack([jnp.full((2, 2), 0.1), jnp.full((2, 2), 1e6), jnp.full((2, 2), 0.2)])
    grads = {"blocks": {"kernel": kernel}, "head": jnp.array([30.0, 40.0])}
    updates, state = clipped(grads, scopes.stacked(0, where="blocks/*"))
    np.testing.assert_array_equal(updates["blocks"]["kernel"][0], kernel[0])
    np.testing.assert_array_equal(updates["blocks"]["kernel"][2], kernel[2])
    np.testing.assert_allclose(jnp.linalg.norm(updates["blocks"]["kernel"][1]), 1, rtol=1e-6)
    np.testing.assert_allclose(updates["head"], [0.6, 0.8], rtol=1e-6)
    assert state.telemetry.clipped_count.shape == (2,)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_stacked_units_keep_layer_and_output(axis):
    scope = scopes.stacked(axis, within="unit")
    keep = scope.block("kernel", 3).keep
    assert keep == {0: (0, 2), 1: (1, 2), -1: (1, 2)}[axis]


def test_stacked_leaves_must_have_the_axis():
    with pytest.raises(ValueError, match=r"`axis` must be an axis.*'bias'.*`where`"):
        scopes.stacked(1).block("bias", 1)


def test_excluded_leaves_keep_their_gradient_and_stay_guarded():
    grads = {"w": jnp.array([30.0, 40.0]), "bias": jnp.array([1e6])}
    updates, state = clipped(grads, scopes.exclude("*bias"))
    np.testing.assert_array_equal(updates["bias"], grads["bias"])
    np.testing.assert_allclose(updates["w"], [0.6, 0.8], rtol=1e-6)
    assert clipax.metrics(state)["grad_norm"] == 50
    bad = grads | {"bias": jnp.array([jnp.nan])}
    updates, state = clipped(bad, scopes.exclude(("*bias",)))
    assert updates["bias"] == 0
    np.testing.assert_allclose(updates["w"], [0.6, 0.8], rtol=1e-6)
    metrics = clipax.metrics(state)
    assert metrics["nonfinite_count"] == 1
    assert not metrics["is_finite"]
    assert metrics["clip_fraction"] == 1


def test_excluding_everything_leaves_the_guard():
    grads = {"w": jnp.array([3.0, jnp.inf])}
    updates, state = clipped(grads, scopes.exclude(lambda path: True))
    np.testing.assert_array_equal(updates["w"], [0, 0])
    assert set(clipax.metrics(state)) == {
        "nonfinite_count",
        "consecutive_nonfinite",
        "is_finite",
    }


def test_scopes_are_hashable_and_not_callable():
    made = (
        scopes.by_label({"a": "x"}),
        scopes.stacked(0),
        scopes.exclude("*"),
        scopes.resolve("unit"),
    )
    assert len({hash(scope) for scope in made}) == 4
    assert not any(callable(scope) for scope in made)


@pytest.mark.parametrize("scope", ["layer", "Global", ""])
def test_unknown_words_are_refused(scope):
    with pytest.raises(ValueError, match="`scope` must be one of 'global', 'leaf', 'unit', got"):
        clipax.scale_by_norm(scope=scope)


def test_what_is_no_scope_is_refused():
    with pytest.raises(TypeError, match="`scope` must be"):
        clipax.scale_by_norm(scope=3)
    with pytest.raises(TypeError, match="`where` must be"):
        scopes.exclude(3)
    with pytest.raises(TypeError, match="`axis` must be an integer"):
        scopes.stacked(0.5)


def test_leaves_have_one_name_in_nnx_and_in_dictionaries():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(2, 3, rngs=rngs)

    state = nnx.state(Net(nnx.Rngs(0)), nnx.Param)
    plain = {"dense": {"bias": 0.0, "kernel": 0.0}}
    names = [scopes.name_leaves(tree) for tree in (state, plain)]
    assert names[0] == names[1] == ["dense/bias", "dense/kernel"]
    assert scopes.name_leaves(0.0) == ["leaf"]


class Heads(NamedTuple):
    value: jax.Array
    query: jax.Array


def test_a_field_called_value_keeps_its_name():
    grads = {"attention": Heads(jnp.array([30.0]), jnp.array([40.0]))}
    _, state = clipped(grads, "leaf")
    assert clipax.block_names(state) == ("attention/query", "attention/value")
    labels = scopes.by_label({"attention": Heads("v", "q")})
    assert labels.block("attention/query", 1).label == "q"
    assert labels.block("attention/value", 1).label == "v"


def test_the_longest_prefix_decides_the_label():
    scope = scopes.by_label({"a": {"b": "inner"}, "c": "outer"})
    assert scope.block("a/b/kernel", 1).label == "inner"
    assert scopes.by_label("everything").block("a/b", 1).label == "everything"


@pytest.mark.parametrize(
    ("scope", "grads"),
    [
        (scopes.exclude("global"), {"global": jnp.ones(2), "w": jnp.array([100.0, 0.0])}),
        (
            scopes.exclude("bias", scopes.by_label(lambda path: "bias")),
            {"bias": jnp.ones(2), "w": jnp.array([100.0, 0.0])},
        ),
    ],
)
def test_an_excluded_leaf_named_like_a_label_changes_nothing(scope, grads):
    updates, _ = clipped(grads, scope)
    np.testing.assert_allclose(updates["w"], [1, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("head", "params/head/kernel", True),
        ("head/*", "params/head/kernel", True),
        ("params/head", "params/head/kernel", True),
        ("kernel", "params/head/kernel", True),
        ("*/kernel", "params/head/kernel", True),
        ("params/head/kernel", "params/head/kernel", True),
        ("*", "kernel", True),
        ("linear_?/b", "mlp/~/linear_0/b", True),
        ("layers/1", "layers/1/w", True),
        ("layers/1", "layers/10/w", False),
        ("ead", "params/head/kernel", False),
        ("head/kern", "params/head/kernel", False),
        ("*/kernel", "kernel", False),
        ("params/kernel", "params/head/kernel", False),
    ],
)
def test_a_pattern_fits_whole_names_in_a_row(pattern, path, fits):
    assert scopes.matches(pattern, path) == fits
    assert scopes.exclude(pattern).block(path, 2).excluded == fits


WRAPPED = {"params": {"head": {"kernel": jnp.ones(2)}, "body": {"kernel": jnp.ones(2)}}}


@pytest.mark.parametrize(
    "make",
    [
        lambda where: clipax.clip_by_param_norm(0.1, exclude=where),
        lambda where: clipax.clip_by_param_norm(0.1, stacked=where),
        lambda where: clipax.scale_by_norm(scope=scopes.exclude(where, scopes.exclude("head"))),
        lambda where: clipax.scale_by_norm(scope=scopes.stacked(0, where=where)),
        lambda where: clipax.scale_by_norm(
            scope=scopes.exclude("head", scopes.stacked(0, where=where))
        ),
        lambda where: clipax.monitor_norms(scope=scopes.exclude(where)),
        lambda where: clipax.skip_spikes(clipax.clip_sgd(0.1, 1.0), exclude=where),
    ],
)
def test_a_pattern_that_fits_nothing_is_refused(make):
    with pytest.raises(ValueError, match=r"'hed/\*' fits none of 'params/body/kernel'"):
        make("hed/*").init(WRAPPED)
    make("body/*").init(WRAPPED)
    make("hed/*").init({})  # nothing that could fit
    make(lambda path: False).init(WRAPPED)


def test_a_pattern_that_fits_nothing_is_refused_for_examples_too():
    grad = clipax.clipped_grad(
        lambda params, x: x * jnp.sum(params["w"]), 1.0, scope=scopes.exclude("v")
    )
    with pytest.raises(ValueError, match="'v' fits none of 'w'"):
        grad({"w": jnp.ones(2)}, jnp.ones(3))


@pytest.mark.parametrize("missing", [None, optax.MaskedNode()])
def test_names_do_not_depend_on_which_gradients_there_are(missing):
    trees = [
        {"attention": Heads(jnp.ones(2), jnp.ones(3))},
        {"a": {"b": jnp.ones(2)}, "a/b": jnp.ones(3)},
        {"a": [jnp.ones(2), jnp.ones(3)]},
        {0: jnp.ones(2), 1: {"value": jnp.ones(3)}},
    ]
    for params in trees:
        clip = clipax.clip_by_leaf_norm(1.0)
        state = clip.init(params)
        whole = scopes.name_leaves(params)
        assert len(set(whole)) == 2
        leaves, structure = jax.tree.flatten(params)
        for place in range(2):
            partial = [leaf if here == place else missing for here, leaf in enumerate(leaves)]
            tree = jax.tree.unflatten(structure, partial)
            assert scopes.name_leaves(tree) == [whole[place]]
            clip.update(tree, state)


def test_leaves_of_one_name_are_numbered():
    tree = {"a": {"b": jnp.array([30.0, 40.0])}, "a/b": jnp.array([3.0])}
    assert scopes.name_leaves(tree) == ["a/b", "a/b#2"]
    updates, state = clipped(tree, "leaf")
    np.testing.assert_allclose(updates["a/b"], [1.0], rtol=1e-6)
    np.testing.assert_allclose(updates["a"]["b"], [0.6, 0.8], rtol=1e-6)
    assert clipax.block_names(state) == ("a/b", "a/b#2")
    adam = clipax.clip_adam(0.1, 1.0)
    adam.update(tree, adam.init(tree), tree)


def test_a_pattern_may_be_for_a_leaf_that_is_missing():
    params = {
        "body": {"kernel": jnp.ones((3, 3)), "bias": jnp.ones(3)},
        "head": {"kernel": jnp.ones((3, 3))},
    }

    def clip():
        return clipax.clip_by_param_norm(0.1, exclude="bias")

    groups = {"body": "a", "head": "b"}
    optax.partition({"a": clip(), "b": clip()}, groups).init(params)
    mask = {"body": {"kernel": True, "bias": False}, "head": {"kernel": True}}
    optax.masked(clip(), mask).init(params)
    clip().init({"body": {"kernel": jnp.ones((3, 3)), "bias": None}})
    with pytest.raises(ValueError, match="`exclude`: every pattern must fit a leaf, 'bias'"):
        clip().init({"kernel": jnp.ones(3)})


def test_numbered_names_meet_no_other_name():
    tree = {"a": {"b": jnp.ones(2)}, "a/b": jnp.ones(3), "a/b#2": jnp.ones(4)}
    assert scopes.name_leaves(tree) == ["a/b", "a/b#3", "a/b#2"]
    adam = clipax.clip_adam(0.1, 1.0)
    adam.update(tree, adam.init(tree), tree)

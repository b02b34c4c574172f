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
    with pytest.raises(TypeError, match="`axis` must be a concrete integer"):
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


FLAGS = {"body": {"kernel": False, "bias": True}, "head": True}
LEAVES = {
    "body": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)},
    "head": {"w": jnp.ones((4, 2))},
}


@pytest.mark.parametrize(
    "where",
    [("bias", "head"), lambda path: path != "body/kernel", FLAGS],
    ids=["patterns", "predicate", "booleans"],
)
def test_a_selection_is_patterns_a_predicate_or_a_tree_of_booleans(where):
    expected = clipax.clip_by_param_norm(0.1, exclude=("body/bias", "head/w")).init(LEAVES)
    state = clipax.clip_by_param_norm(0.1, exclude=where).init(LEAVES)
    assert clipax.block_names(state) == clipax.block_names(expected) == ("body/kernel",)
    whole = scopes.stacked(0, where=where)
    assert [whole.block(path, 2).keep for path in ("body/kernel", "body/bias", "head/w")] == [
        (),
        (0,),
        (0,),
    ]
    guard = clipax.skip_nonfinite(clipax.clip_sgd(0.1, 1.0), exclude=where)
    bad = jax.tree.map(jnp.ones_like, LEAVES)
    bad["head"]["w"] = jnp.full((4, 2), jnp.nan)
    assert int(guard.update(bad, guard.init(LEAVES), LEAVES)[1].skipped_count) == 0


def test_a_tree_of_booleans_must_say_something_of_each_leaf():
    clip = clipax.clip_by_param_norm(0.1, exclude={"body": {"kernel": False}, "head": True})
    with pytest.raises(ValueError, match="`exclude` has nothing for the leaf 'body/bias'"):
        clip.init(LEAVES)
    with pytest.raises(TypeError, match="`exclude` must be glob patterns, a predicate"):
        clipax.clip_by_param_norm(0.1, exclude={"body": "kernel"})


@pytest.mark.parametrize("true", [True, np.True_, jnp.array(True)], ids=str)
def test_flags_of_any_library(true):
    exclude = {"body": {"kernel": np.False_, "bias": true}, "head": true}
    assert clipax.block_names(clipax.clip_by_param_norm(0.1, exclude=exclude).init(LEAVES)) == (
        "body/kernel",
    )


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda tree: clipax.clip_by_param_norm(0.1, exclude=tree), "exclude"),
        (lambda tree: clipax.monitor_norms(scope=scopes.unit(0, where=tree)), "where"),
        (lambda tree: clipax.clip_by_group_norm(1.0, labels=tree), "labels"),
    ],
)
def test_a_tree_that_says_something_of_a_leaf_that_is_not_there_is_refused(make, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be a tree like .* no 'tail'"):
        make({**FLAGS, "tail": True}).init(LEAVES)
    make(FLAGS).init(LEAVES)
    make(FLAGS).init({**LEAVES, "body": {"kernel": jnp.ones((3, 4)), "bias": None}})


def test_the_names_that_a_pattern_misses_are_shown():
    with pytest.raises(ValueError, match="'body/bias', 'body/kernel', 'head/w'") as caught:
        clipax.clip_by_param_norm(0.1, exclude="tail").init(LEAVES)
    command = str(caught.value).split("`")[-2]
    names = eval(command, {"clipax": clipax, "params": LEAVES})
    assert names == ("body/bias", "body/kernel", "head/w")


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (-2, -1), (2, 1)])
def test_units_are_those_of_the_axes(axis):
    grads = {"w": jax.random.normal(jax.random.key(0), (3, 4, 5)), "b": jnp.array([3.0, 4.0])}
    clip = clipax.scale_by_norm(clipax.norms.clip(1.0), scope=scopes.unit(axis))
    updates, _ = clip.update(grads, clip.init(grads))
    kept = {at % 3 for at in (axis if isinstance(axis, tuple) else (axis,))}
    reduced = tuple(at for at in range(3) if at not in kept)
    w = np.asarray(grads["w"], np.float64)
    norms = np.sqrt(np.sum(w**2, axis=reduced, keepdims=True))
    expected = w * np.minimum(1, 1 / norms)
    np.testing.assert_allclose(updates["w"], expected, rtol=1e-6)
    np.testing.assert_allclose(updates["b"], [0.6, 0.8], rtol=1e-6)


def test_units_in_front_and_behind_are_the_same_norms_transposed():
    params = {"w": jax.random.normal(jax.random.key(0), (4, 6)), "b": jnp.ones(6)}
    grads = {"w": jax.random.normal(jax.random.key(1), (4, 6)), "b": jnp.ones(6)}
    turned = [jax.tree.map(jnp.transpose, tree) for tree in (grads, params)]
    last, first = (
        clipax.clip_by_param_norm(0.1, scope=scope) for scope in ("unit", scopes.unit(0))
    )
    expected, _ = last.update(grads, last.init(params), params)
    updates, _ = first.update(turned[0], first.init(turned[1]), turned[1])
    np.testing.assert_allclose(updates["w"].T, expected["w"], rtol=1e-6)
    np.testing.assert_allclose(updates["b"], expected["b"], rtol=1e-6)


def test_units_of_heads_are_those_of_optax():
    params = {"query": jax.random.normal(jax.random.key(0), (8, 2, 4))}
    grads = {"query": jax.random.normal(jax.random.key(1), (8, 2, 4))}
    ours = clipax.clip_by_param_norm(0.1, scope=scopes.unit((-2, -1)))
    theirs = optax.adaptive_grad_clip(0.1)
    expected, _ = theirs.update(grads, theirs.init(params), params)
    updates, _ = ours.update(grads, ours.init(params), params)
    np.testing.assert_allclose(updates["query"], expected["query"], rtol=1e-5)


def test_units_of_some_leaves_within_stacked_layers():
    scope = scopes.stacked(0, within=scopes.unit(0, where="weight", otherwise="leaf"))
    assert scope.block("weight", 3).keep == (0, 1)
    assert scope.block("bias", 3).keep == (0,)
    outer = scopes.exclude("head", scopes.unit(0, where="weight"))
    assert outer.block("weight", 2).keep == (0,)
    assert outer.block("kernel", 2).keep == (1,)
    assert outer.block("head/weight", 2).excluded


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: scopes.unit(2).block("w", 2), ValueError, "`axis` must be an axis .* got 2 for"),
        (lambda: scopes.unit((0, 3)).block("w", 2), ValueError, r"got \(0, 3\) for 'w'"),
        (lambda: scopes.unit(0.5), TypeError, "`axis` must be"),
        (lambda: scopes.unit(()), ValueError, "`axis` must be an axis or several"),
        (lambda: scopes.unit(0, where=3), TypeError, "`where` must be glob patterns"),
        (lambda: scopes.unit(0, otherwise="row"), ValueError, "`otherwise` must be one of"),
        (
            lambda: clipax.monitor_norms(scope=scopes.unit(0, where="w")).init({"v": jnp.ones(1)}),
            ValueError,
            "`where`: every pattern must fit",
        ),
    ],
)
def test_arguments_of_units(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_numbered_names_meet_no_other_name():
    tree = {"a": {"b": jnp.ones(2)}, "a/b": jnp.ones(3), "a/b#2": jnp.ones(4)}
    assert scopes.name_leaves(tree) == ["a/b", "a/b#3", "a/b#2"]
    adam = clipax.clip_adam(0.1, 1.0)
    adam.update(tree, adam.init(tree), tree)

"""Leaves are selected by patterns, a predicate, or a tree of booleans."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from clipax import scopes

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

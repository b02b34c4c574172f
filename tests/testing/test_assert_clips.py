"""`assert_clips` tells optimizers that clip from those that do not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax.catalogue import ENTRIES
from clipax.testing import assert_clips
from tests.contract.cases import BASIC
from tests.contract.harness import method, problem
from tests.thorough import thorough

PARAMS = {"body": {"kernel": jnp.ones((3, 4)), "bias": jnp.zeros(4)}, "head": jnp.ones(5)}
BASES = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adamw": optax.adamw(1e-3),
    "lion": optax.lion(1e-3),
    "adafactor": optax.adafactor(1e-3),
    "muon": optax.contrib.muon(1e-3),
    "rmsprop": optax.rmsprop(1e-3),
    "adagrad": optax.adagrad(1e-3),
}
CLIPS = {
    "optax": optax.clip_by_global_norm(1.0),
    "leaf": clipax.clip_by_leaf_norm(1.0),
    "value": optax.clip(1.0),
    "agc": optax.adaptive_grad_clip(0.01),
    "zscore": clipax.clip_by_zscore(),
    "percentile": clipax.clip_by_percentile(10),
}
# Their momentum takes in the whole gradient, or the clip lets a share of it through.
PASS_ON = {
    "acclip",
    "ggnc",
    "mixed_clip_sgd",
    "momentum_clip_sgd",
    "normalized_momentum",
    "regularized_clip_sgd",
    "stable_adamw",
    "stable_spam",  # a spike raises its threshold
}


@pytest.mark.parametrize("base", BASES)
def test_an_optimizer_without_a_clip_fails(base: str) -> None:
    with pytest.raises(AssertionError, match="1000 times the threshold 1 goes through"):
        assert_clips(BASES[base], PARAMS)


@pytest.mark.parametrize("clip", CLIPS)
def test_a_clip_in_front_passes(clip: str) -> None:
    for base in ("sgd", "adamw", "muon"):
        assert_clips(optax.chain(CLIPS[clip], BASES[base]), PARAMS)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: optax.MultiSteps(tx, 3),
        lambda tx: optax.apply_if_finite(tx, 3),
        lambda tx: optax.masked(tx, True),
        lambda tx: optax.partition({"a": tx}, jax.tree.map(lambda _: "a", PARAMS)),
        lambda tx: optax.chain(tx, optax.contrib.reduce_on_plateau()),
        clipax.skip_nonfinite,
    ],
)
def test_within_wrappers(wrap: Any) -> None:
    assert_clips(wrap(optax.chain(CLIPS["optax"], BASES["adamw"])), PARAMS)
    with pytest.raises(AssertionError):
        assert_clips(wrap(BASES["adamw"]), PARAMS)


def test_a_clip_behind_the_optimizer_fails() -> None:
    with pytest.raises(AssertionError):
        assert_clips(optax.chain(BASES["adamw"], CLIPS["optax"]), PARAMS)


def test_leaves_that_are_not_clipped_are_named() -> None:
    labels = {"body": "clipped", "head": "free"}
    optimizer = optax.chain(
        optax.partition({"clipped": CLIPS["optax"], "free": optax.identity()}, labels),
        optax.adam(1e-3),
    )
    with pytest.raises(AssertionError, match=r"of 3 leaves 1 \('head'\)"):
        assert_clips(optimizer, PARAMS)
    assert_clips(optimizer, PARAMS, where="body/*")


@pytest.mark.parametrize("limit", [10.0, 999.0])
def test_what_is_above_the_threshold_by_less_than_the_spike_passes(limit: float) -> None:
    assert_clips(optax.chain(optax.clip_by_global_norm(limit), optax.adam(1e-3)), PARAMS)


@pytest.mark.parametrize("limit", [2e3, 1e4, 1e5])
def test_what_lets_the_spike_pass_fails_however_many_entries_there_are(limit: float) -> None:
    large = {f"layer{i}": jnp.ones((64, 64)) for i in range(20)}
    with pytest.raises(AssertionError, match="goes through"):
        assert_clips(optax.chain(optax.clip_by_global_norm(limit), optax.adam(1e-3)), large)
    for clip in (optax.clip(1.0), clipax.clip_by_leaf_norm(1.0), clipax.clip_by_global_norm(1.0)):
        assert_clips(optax.chain(clip, optax.adam(1e-3)), large)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.0),
        optax.sgd(optax.linear_schedule(0.0, 1e-3, 10, transition_begin=500)),
        optax.chain(optax.sgd(0.1), optax.set_to_zero()),
    ],
)
def test_where_nothing_moves_no_clip_is_seen(optimizer: Any) -> None:
    with pytest.raises(AssertionError, match=r"must move the leaves .* of 3 leaves 3"):
        assert_clips(optimizer, PARAMS)


def test_a_frozen_leaf_is_named() -> None:
    labels = {"body": "trained", "head": "frozen"}
    clipped = optax.chain(CLIPS["optax"], BASES["adamw"])
    optimizer = optax.partition({"trained": clipped, "frozen": optax.set_to_zero()}, labels)
    with pytest.raises(AssertionError, match=r"of 3 leaves 1 \('head'\) all updates are zero"):
        assert_clips(optimizer, PARAMS)
    assert_clips(optimizer, PARAMS, where="body")


def test_a_threshold_beyond_the_one_that_is_meant_fails() -> None:
    optimizer = optax.chain(optax.clip_by_global_norm(3e4), optax.sgd(0.1))
    with pytest.raises(AssertionError):
        assert_clips(optimizer, PARAMS)
    assert_clips(optimizer, PARAMS, threshold=3e4)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.complex64])
def test_types(dtype: Any) -> None:
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), PARAMS)
    assert_clips(optax.chain(clipax.clip_by_global_norm(1.0), optax.sgd(0.1)), params)
    with pytest.raises(AssertionError):
        assert_clips(optax.sgd(0.1, momentum=0.5), params)


@pytest.mark.parametrize("params", [jnp.ones(3), np.ones(3), {"a": 1.0}, [jnp.ones(()), None]])
def test_trees(params: Any) -> None:
    assert_clips(optax.chain(CLIPS["optax"], BASES["adamw"]), params)
    with pytest.raises(AssertionError):
        assert_clips(BASES["adamw"], params)


def test_leaves_that_are_no_real_numbers_get_no_gradient() -> None:
    params = {"w": jnp.ones(3), "steps": jnp.arange(3), "activation": jax.nn.relu}
    assert_clips(optax.chain(CLIPS["optax"], BASES["adamw"]), params)


OPTIMIZERS = [name for name in BASIC if ENTRIES[name].kind == "optimizer"]


@pytest.mark.parametrize("name", thorough(OPTIMIZERS, ["clip_adam", "mixed_clip_sgd"]))
def test_every_optimizer(name: str) -> None:
    params, _ = problem()
    if name not in PASS_ON:
        assert_clips(method(name), params, 10.0)
        return
    with pytest.raises(AssertionError):
        assert_clips(method(name), params, 10.0)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"optimizer": optax.sgd}, TypeError, "`optimizer` must be an optax"),
        ({"threshold": 0.0}, ValueError, "`threshold` must be positive"),
        (
            {"where": "tail"},
            ValueError,
            "`where`: every pattern must fit .* 'tail' fits none of 'bo",
        ),
        ({"where": ("head", "tail")}, ValueError, "'tail' fits none of 'body/bias'"),
        ({"where": lambda path: False}, ValueError, "`params` must have a leaf"),
        (
            {"params": {"a": jnp.ones(1, jnp.float16)}, "threshold": 100.0},
            ValueError,
            "at most 3.3",
        ),
        ({"params": {"a": jnp.arange(3)}}, ValueError, "`params` must have a leaf"),
        ({"params": {}}, ValueError, "`params` must have a leaf"),
    ],
)
def test_arguments(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        assert_clips(**{"optimizer": BASES["sgd"], "params": PARAMS, **arguments})

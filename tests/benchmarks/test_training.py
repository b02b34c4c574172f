"""Training steps as they are compiled for TPUs and GPUs: that they train, and what is judged."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.harness import trees
from benchmarks.harness.records import MISSED
from benchmarks.suites import training


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, jax.Array]:
    """Parameters of a decoder of two layers, and a batch."""
    monkeypatch.setattr(training, "HEADS", 2)
    draw = np.random.default_rng(0)
    shapes = trees.decoder(2, 16, 32, 16, words=32)
    params = jax.tree.map(
        lambda shape: jnp.asarray(draw.normal(size=shape, scale=0.2), jnp.float32),
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )
    return params, jnp.asarray(draw.integers(32, size=(8, 13)))


def test_accumulated_gradients_are_those_of_the_batch(small: tuple[Any, jax.Array]) -> None:
    params, tokens = small
    optimizer = optax.sgd(0.5)
    steps = [jax.jit(training.make_step(optimizer, scan=scan)) for scan in (False, True)]
    whole, looped = (step(params, optimizer.init(params), tokens) for step in steps)
    np.testing.assert_allclose(whole[2], looped[2], rtol=1e-5)
    for one, other in zip(jax.tree.leaves(whole[0]), jax.tree.leaves(looped[0]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    _, _, later = steps[0](*whole[:2], tokens)
    assert later < whole[2]


def test_no_token_sees_a_later_one(small: tuple[Any, jax.Array]) -> None:
    params, _ = small
    hidden = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6, 16)), jnp.float32)
    mixed = training.attend(params["layer_00"], hidden)
    other = training.attend(params["layer_00"], hidden.at[:, 4].set(0))
    np.testing.assert_array_equal(mixed[:, :4], other[:, :4])
    assert (mixed[:, 4:] != other[:, 4:]).any()


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        ({"kernels": 11}, ["kernels"]),
        ({"waits": 1}, ["waits"]),
        ({"traffic": 60.1}, ["traffic, P"]),
        ({"temporaries": 7.1}, ["temporaries, P"]),
    ],
)
def test_a_clip_may_add_what_the_peer_adds(change: dict[str, Any], missed: list[str]) -> None:
    where = {"form": "step", "dtype": "f32", "clip": "leaf", "kernels": 10, "waits": 0}
    where |= {"traffic": 60.0, "temporaries": 7.0}
    rows = [where | {"program": training.OPTAX}, where | change | {"program": training.CLIPAX}]
    found = [one for one in training.judge(rows, "gpu: H200") if one.verdict == MISSED]
    assert [one.figure for one in found] == missed

"""Collectives of clips: what is lowered, and how many other norms take."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import clipax
from clipax.measure._mesh import Mesh
from tests.mesh import every_method as every


def test_norms_of_all_leaves_are_one_vector() -> None:
    # What is lowered: XLA merges single ones, but no more than 256 of them.
    tree = {f"kernel {place}": jnp.ones((8, 4)) for place in range(7)}
    specs = dict.fromkeys(tree, P("data", "model"))
    tx = clipax.clip_by_leaf_norm(1.0, axis_name=("data", "model"))
    step = jax.shard_map(
        lambda gradients: tx.update(gradients, tx.init(gradients))[0],
        mesh=every.mesh(),
        in_specs=(specs,),
        out_specs=specs,
    )
    text = jax.jit(step).lower(tree).as_text()
    assert text.count('"stablehlo.all_reduce"') == 2  # one of them where squares overflow


@pytest.mark.parametrize("norm", ["euclidean", "max", "spectral"])
def test_a_measured_momentum_takes_a_collective_of_its_own(norm: Any) -> None:
    params, gradients = every.trees()
    tx = clipax.ggnc(0.1, radius=1.0, norm=norm, axis_name="data")
    specs = {"kernel": P(), "bias": P("data")}
    step = jax.shard_map(
        lambda g, p: tx.update(g, tx.init(p), p)[0],
        mesh=every.mesh(),
        in_specs=(specs, specs),
        out_specs=specs,
    )
    assert every.asked_for(step, gradients[0], params) == {2}


def test_arrays_of_the_size_of_gradients_are_not_copied() -> None:
    large = [jnp.ones(2**16), jnp.ones((2**10, 2**6))]
    step = jax.shard_map(
        lambda arrays: Mesh.of_batch(arrays, (), "data").psum((arrays, jnp.ones(()), jnp.ones(2))),
        mesh=every.mesh(),
        in_specs=P("data"),
        out_specs=P(),
    )
    text = jax.jit(step).lower(large).as_text()
    # The scalar and the vector, and nothing else.
    assert re.findall(r"stablehlo.concatenate.* -> tensor<(\w+)>", text) == ["3xf32"]
    for value in jax.tree.leaves(step(large)):
        np.testing.assert_array_equal(value, 4)

"""Norms of units inside `shard_map`: right where the kept axis is whole, or refused."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import clipax
from tests.contract.cases import BASIC
from tests.contract.gradients import flatten
from tests.mesh import every_method as every

NAME = "clip_by_param_norm"
ROWS = {"kernel": P("data", None), "bias": P("model")}
COLUMNS = {"kernel": P("data", "model"), "bias": P("model")}


def _mapped(tx: Any, specs: Any, tracked: bool = True) -> Any:
    return jax.shard_map(
        lambda g, p: tx.update(g, tx.init(p), p)[0],
        mesh=every.mesh(),
        in_specs=(specs, specs),
        out_specs=specs,
        check_vma=tracked,
    )


@pytest.mark.parametrize("tracked", [True, False], ids=["tracked", "named"])
def test_kernels_sharded_over_their_inputs(tracked: bool) -> None:
    params, gradients = every.trees()
    step = _mapped(BASIC[NAME].make(axis_name=ROWS), ROWS, tracked)
    # The norms of gradients and of parameters, which XLA merges; none for the telemetry.
    assert every.asked_for(step, gradients[0], params) == {2}
    updates = jax.jit(step)(gradients[0], params)
    for path, leaf in flatten(updates).items():
        np.testing.assert_allclose(leaf, every.expected(NAME)[0][path], rtol=1e-5, err_msg=path)


@pytest.mark.parametrize(
    ("axis_name", "specs", "message"),
    [
        (("data", "model"), ROWS, r"must tell which axes of the leaf 'kernel' are sharded"),
        ({"*": ("data", "model")}, ROWS, r"a mapping from paths to `PartitionSpec`"),
        (COLUMNS, COLUMNS, r"must leave the axes \[1\] of the leaf 'kernel' whole.*plain `jit`"),
    ],
)
def test_a_sum_that_may_mix_units_is_refused(axis_name: Any, specs: Any, message: str) -> None:
    params, gradients = every.trees()
    step = _mapped(BASIC[NAME].make(axis_name=axis_name), specs)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(step, gradients[0], params)


def test_a_matrix_in_shards_is_not_decomposed() -> None:
    params, gradients = every.trees()
    step = _mapped(clipax.clip_by_singular_values(1.0, axis_name=("data", "model")), COLUMNS)
    with pytest.raises(ValueError, match="A matrix must be whole to be decomposed, 'kernel'"):
        jax.eval_shape(step, gradients[0], params)

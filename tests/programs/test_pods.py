"""A clip on 256 chips: a collective for each set of mesh axes, and no more memory than optax's."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.harness import hlo, records, targets, trees
from benchmarks.suites import pods

# The records of units that are sharded themselves: a maximum beside the sum, and two sums each.
OF_UNITS = {"AGC": {"collectives": 1, "temporaries, P of a shard": 0.014}}


@pytest.mark.parametrize("layout", pods.LAYOUTS)
@pytest.mark.parametrize("name", pods.STACKED)
def test_a_stacked_decoder(name: str, layout: str) -> None:
    row = pods.compare("256", "7B stacked", layout, name, pods.STACKED[name])
    found = list(pods.judge([row], "tpu"))
    assert [one.figure for one in found] == ["collectives", "temporaries, P of a shard"]
    more = OF_UNITS.get(name, {})
    missed = [one for one in found if one.value > one.limit + more.get(one.figure, 0)]
    assert not missed, records.render_findings(missed)


@pytest.mark.parametrize("layout", pods.LAYOUTS)
def test_a_decoder_of_single_layers(layout: str) -> None:
    """Leaves that lie alike are added before XLA sums over the chips."""
    row = pods.compare("256", "7B", layout, "clip", pods.STEPS["clip"])
    missed = [one for one in pods.judge([row], "tpu") if one.verdict != "holds"]
    assert not missed, records.render_findings(missed)
    assert row["scalars"] <= 30 < row["leaves"]
    assert 0 < row["held"] < row["temporaries"]


def test_records_of_units_are_finished_for_all_blocks_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scalar takes 16 KiB: leaf by leaf they made .59 P."""
    shapes = partial(trees.decoder, 6, 4096, 11_008, 4096)
    monkeypatch.setitem(pods.MODELS, "6 layers", shapes)
    found = pods.count("256", "6 layers", "fsdp", pods.STEPS["AGC"].ours)
    assert found["temporaries"] < 0.45


def test_matrices_of_one_shape_that_lie_on_the_chips_otherwise() -> None:
    mesh = targets.make_mesh(targets.find_devices("tpu", "v5e:4x4"), {"data": 4, "model": 4})
    shapes = trees.decoder(6, 512, 1024, 512)

    def describe(path: tuple[Any, ...], shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        axes = ("data", "model")[: 2 * (len(shape) > 1)]  # vectors are whole
        spec = P(*(axes[::-1] if path[-1].key in ("tokens", "out", "down") else axes))
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))

    grads = jax.tree_util.tree_map_with_path(
        describe, shapes, is_leaf=lambda node: isinstance(node, tuple)
    )
    counted = {}
    for name, clip in {"ours": pods.STEPS["clip"].ours, "peer": pods.STEPS["clip"].peer}.items():
        state = targets.place(jax.eval_shape(clip.init, grads), mesh)
        counted[name] = hlo.count(targets.compile(clip.update, grads, state).program).scalars
    assert counted["ours"] <= 30 < counted["peer"]

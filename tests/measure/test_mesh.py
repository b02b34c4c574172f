"""Norms inside `shard_map`: right, or refused with the way out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import clipax

GRADS = {"kernel": jnp.arange(1.0, 17.0).reshape(8, 2), "bias": jnp.array([2.0, 3.0])}
NORM = float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in GRADS.values())))


@pytest.fixture(scope="module")
def mesh():
    kinds = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=kinds)


ROWS = P("data")


def norm_in_shard_map(mesh, axis_name, kernel=ROWS, check_vma=True):
    spec = {"kernel": kernel, "bias": P()}
    return jax.jit(
        jax.shard_map(
            lambda tree: clipax.global_norm(tree, axis_name=axis_name),
            mesh=mesh,
            in_specs=(spec,),
            out_specs=P(),
            check_vma=check_vma,
        )
    )


@pytest.mark.parametrize(
    ("axis_name", "kernel"),
    [
        ("data", P("data")),
        (("data", "model"), P("data", "model")),
        (("data", "model"), P("data")),
        (("model", "data"), P(None, "model")),
        ({"kernel": "data", "*": ()}, P("data")),
    ],
)
def test_norm_equals_the_unsharded_one(mesh, axis_name, kernel):
    norm = norm_in_shard_map(mesh, axis_name, kernel)(GRADS)
    np.testing.assert_allclose(norm, NORM, rtol=1e-6)


@pytest.mark.parametrize(
    ("axis_name", "kernel"),
    [
        ({"kernel": "data", "*": ()}, P("data")),
        ({"kernel": ("data", "model"), "bias": ()}, P("data", "model")),
    ],
)
def test_untracked_variation_is_named_leaf_by_leaf(mesh, axis_name, kernel):
    norm = norm_in_shard_map(mesh, axis_name, kernel, check_vma=False)(GRADS)
    np.testing.assert_allclose(norm, NORM, rtol=1e-6)


def test_overflow_is_measured_over_all_shards(mesh):
    huge = jax.tree.map(lambda leaf: leaf * 1e25, GRADS)
    np.testing.assert_allclose(norm_in_shard_map(mesh, "data")(huge), NORM * 1e25, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axis_name": None}, r"`axis_name` must name the mesh axes \['data'\].*'kernel' varies"),
        ({"axis_name": "data", "check_vma": False}, "must be a mapping from paths to mesh axes"),
        ({"axis_name": "model"}, r"`axis_name` must name the mesh axes \['data'\]"),
        ({"axis_name": "rows"}, r"must name mesh axes of the `shard_map`.*\('rows',\)"),
        ({"axis_name": {"bias": ()} | {"other": "data"}}, "must match every leaf.*'kernel'"),
    ],
)
def test_axes_that_are_not_or_wrongly_named_are_refused(mesh, arguments, message):
    with pytest.raises(ValueError, match=message):
        norm_in_shard_map(mesh, **arguments)(GRADS)


def test_axes_mean_nothing_outside_shard_map():
    with pytest.raises(ValueError, match="under plain `jit` leave it out"):
        clipax.global_norm(GRADS, axis_name="data")


def test_an_empty_name_measures_each_shard_by_itself(mesh):
    shard = jax.shard_map(
        lambda tree: clipax.global_norm(tree, axis_name=())[None],
        mesh=mesh,
        in_specs=({"kernel": P("data"), "bias": P()},),
        out_specs=P("data"),
    )
    expected = [
        np.sqrt(np.sum(np.square(rows)) + 13.0) for rows in np.split(np.array(GRADS["kernel"]), 4)
    ]
    np.testing.assert_allclose(jax.jit(shard)(GRADS), expected, rtol=1e-6)


def test_gradients_that_are_not_averaged_are_refused(mesh):
    clip = clipax.clip_by_global_norm(1.0, axis_name="data")

    def step(params, rows):
        local = jax.tree.map(lambda leaf: leaf * jnp.sum(rows), params)
        return clip.update(local, clip.init(params), params)[0]

    sharded = jax.shard_map(step, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    with pytest.raises(ValueError, match=r"The gradient of 'bias' is not averaged.*\['data'\]"):
        jax.jit(sharded)(GRADS, jnp.ones(8))


ALIKE = {
    "leaf": lambda axes: clipax.clip_by_leaf_norm(1.0, axis_name=axes),
    "groups": lambda axes: clipax.clip_by_group_norm(1.0, total=1.2, axis_name=axes),
    "skip": lambda axes: clipax.skip_nonfinite(
        clipax.clip_by_global_norm(1.0, axis_name=axes), axis_name=axes
    ),
}


@pytest.mark.parametrize("method", ALIKE)
def test_all_shards_decide_alike(mesh, method):
    clip, plain = ALIKE[method]("data"), ALIKE[method](None)

    def step(grads):
        return clip.update(grads, clip.init(grads))[0]

    spec = {"kernel": P("data"), "bias": P()}
    sharded = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=(spec,), out_specs=spec))
    bad = GRADS | {"kernel": GRADS["kernel"].at[5, 1].set(jnp.nan)}
    for grads in (GRADS, bad):
        expected, _ = plain.update(grads, plain.init(grads))
        for name, leaf in sharded(grads).items():
            np.testing.assert_allclose(leaf, expected[name], rtol=1e-6)


def test_one_collective_for_all_leaves(mesh):
    tree = {str(i): jnp.ones((8, 2)) for i in range(6)}
    norm = jax.shard_map(
        lambda tree: clipax.global_norm(tree, axis_name="data"),
        mesh=mesh,
        in_specs=(jax.tree.map(lambda _: P("data"), tree),),
        out_specs=P(),
    )
    text = jax.jit(norm).lower(tree).compile().as_text()
    entry = text[text.index("ENTRY") :]
    assert entry.count(" all-reduce(") == 1


def test_zeros_on_some_devices_do_not_hide_squares_that_vanish_on_another(mesh):
    kernel = jnp.zeros((8, 2)).at[5, 1].set(3e-25)
    tiny = {"kernel": kernel, "bias": jnp.zeros(2)}
    norm = norm_in_shard_map(mesh, "data")
    np.testing.assert_allclose(norm(tiny), 3e-25, rtol=1e-6)
    assert norm(jax.tree.map(jnp.zeros_like, tiny)) == 0

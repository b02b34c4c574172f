"""Clipped gradients of sharded batches and of Flax modules."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import clipax
from clipax import norms, per_example, thresholds
from tests.per_example.reference import clipped_by_place, clipped_sum

PARAMS = {"kernel": np.ones((3, 2), np.float32), "bias": np.zeros(2, np.float32)}
SIZE, DEVICES = 16, 4


@pytest.fixture
def one_device() -> None:
    """Nothing: here there are several."""


def loss(params, x, y):
    error = x @ params["kernel"] + params["bias"] - y
    return jnp.sum(jnp.square(error)) / 2


@pytest.fixture(scope="module")
def batch():
    draw = np.random.default_rng(3)
    x, y = draw.normal(size=(SIZE, 3)), draw.normal(size=(SIZE, 2))
    x[5] = np.nan
    return x.astype(np.float32), y.astype(np.float32), np.arange(SIZE) != 11


@pytest.fixture(scope="module")
def expected(batch):
    wide = {name: one.astype(np.float64) for name, one in PARAMS.items()}
    pair = tuple(one.astype(np.float64) for one in batch[:2])
    total, _, sizes = clipped_sum(wide, pair, lambda n: min(1, 1 / n), mask=batch[2])
    return {name: one / (SIZE - 1) for name, one in total.items()}, sizes


def mesh(kind=AxisType.Auto):
    return jax.make_mesh((DEVICES,), ("data",), axis_types=(kind,), devices=jax.devices()[:DEVICES])


def compare(grads, stats, expected):
    for name, one in expected[0].items():
        np.testing.assert_allclose(grads[name], one, rtol=3e-6, atol=1e-7)
    np.testing.assert_allclose(stats.norms, expected[1], rtol=1e-6)
    assert stats.nonfinite_count == 1


def test_a_sharded_batch_under_jit_moves_no_example(batch, expected):
    placed = jax.device_put(batch, NamedSharding(mesh(), P("data")))
    grad = clipax.clipped_grad(loss, 1.0, microbatch_size=DEVICES)
    compiled = jax.jit(lambda p, x, y, mask: grad(p, x, y, mask=mask)).lower(PARAMS, *placed)
    compiled = compiled.compile()
    compare(*compiled(PARAMS, *placed), expected)
    text = compiled.as_text()
    for collective in ("all-to-all", "collective-permute"):
        assert collective not in text
    assert all(np.prod(shape) <= SIZE for shape in _gathered(text)), text


@pytest.mark.thorough
@pytest.mark.parametrize("compiled", [True, False], ids=["jit", "eager"])
@pytest.mark.parametrize("options", [{}, {"microbatch_size": DEVICES}, {"scope": "leaf"}])
def test_a_batch_on_explicit_axes(batch, expected, compiled, options):
    placed = jax.device_put(batch, NamedSharding(mesh(AxisType.Explicit), P("data")))
    grad = clipax.clipped_value_and_grad(loss, 1.0, **options)

    def step(params, x, y, mask):
        return grad(params, x, y, mask=mask)

    (value, stats), grads = (jax.jit(step) if compiled else step)(PARAMS, *placed)
    plain = clipax.clipped_value_and_grad(loss, 1.0, **options)
    (wanted, others), found = plain(PARAMS, *batch[:2], mask=batch[2])
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-6), stats, others)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-6, atol=1e-7), grads, found)
    if "scope" not in options:
        compare(grads, stats, expected)


def test_parameters_on_explicit_axes_give_gradients_sharded_alike(batch):
    axes = jax.make_mesh(
        (2, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2, devices=jax.devices()[:4]
    )
    x, y = (jax.device_put(one, NamedSharding(axes, P("data"))) for one in batch[:2])
    specs = {"kernel": P(None, "model"), "bias": P("model")}
    params = {
        name: jax.device_put(PARAMS[name], NamedSharding(axes, spec))
        for name, spec in specs.items()
    }
    grad = clipax.clipped_grad(loss, 1.0)
    found, stats = jax.jit(grad)(params, x, y)
    wanted, _ = grad(PARAMS, *batch[:2])
    for name, spec in specs.items():
        np.testing.assert_allclose(found[name], wanted[name], rtol=3e-6, atol=1e-7)
        assert jax.typeof(found[name]).sharding.spec == spec
    assert jax.typeof(stats.norms).sharding.spec == P("data")


def _gathered(text):
    """Shapes of what is gathered: norms and flags, never examples or gradients."""
    for line in text.splitlines():
        if " all-gather(" in line:
            shape = line.split("[", 1)[1].split("]", 1)[0]
            yield [int(size) for size in shape.split(",") if size]


@pytest.mark.parametrize("kind", ["shard_map", "auto", "explicit"])
def test_places_go_on_from_device_to_device(kind):
    gradients = np.random.default_rng(0).standard_t(1.5, (SIZE, 4)).astype(np.float32)
    power = thresholds.power(0.8, 1.5, "convex")
    axis_name = "data" if kind == "shard_map" else None
    grad = clipax.clipped_grad(lambda w, x: w @ x, power, axis_name=axis_name)
    where = mesh(AxisType.Explicit if kind == "explicit" else AxisType.Auto)

    def step(w, x):
        return grad(w, x)[0]

    if kind == "shard_map":
        step = jax.shard_map(step, mesh=where, in_specs=(P(), P("data")), out_specs=P())
    placed = jax.device_put(gradients, NamedSharding(where, P("data")))
    found = jax.jit(step)(jnp.zeros(4), placed)
    expected = clipped_by_place(gradients.astype(np.float64), 0.8, 1.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_inside_shard_map_norms_of_all_devices_move_the_threshold(batch, expected):
    grad = clipax.clipped_grad(loss, 9.0, axis_name="data")
    follow = norms.observe(thresholds.geometric_quantile(0.5, initial=1.0))
    optimizer = clipax.scale_by_norm(follow)

    def step(x, y, mask):
        state = optimizer.init(PARAMS)
        now = per_example.current_threshold(state)
        grads, stats = grad(PARAMS, x, y, mask=mask, threshold=now)
        updates, state = optimizer.update(grads, state, example_norms=stats.norms)
        whole = stats._replace(block_norms=None)
        return updates, whole, stats.block_norms, per_example.current_threshold(state)

    sharded = jax.shard_map(
        step, mesh=mesh(), in_specs=P("data"), out_specs=(P(), P(), P("data"), P())
    )
    grads, stats, blocks, threshold = jax.jit(sharded)(*batch)
    compare(grads, stats, expected)
    np.testing.assert_allclose(blocks["global"], expected[1], rtol=1e-6)
    counted = expected[1][expected[1] >= 0]
    np.testing.assert_allclose(threshold, np.exp(-0.2 * (np.mean(counted <= 1) - 0.5)), rtol=1e-6)
    assert stats.clip_fraction == pytest.approx(np.mean(counted[np.isfinite(counted)] > 1))


def test_axes_that_are_not_named_are_refused(batch):
    grad = clipax.clipped_grad(loss, 1.0)
    sharded = jax.shard_map(
        lambda x, y: grad(PARAMS, x, y)[0], mesh=mesh(), in_specs=P("data"), out_specs=P()
    )
    with pytest.raises(ValueError, match=r"`axis_name` must name the mesh axes \['data'\]"):
        jax.eval_shape(sharded, *batch[:2])


def test_flax_modules(batch, expected):
    x, y, mask = batch
    grad = clipax.clipped_grad

    module = linen.Dense(2)
    apply = lambda params, x, y: jnp.sum(jnp.square(module.apply(params, x) - y)) / 2  # noqa: E731
    grads, stats = jax.jit(grad(apply, 1.0))({"params": PARAMS}, x, y, mask=mask)
    compare(grads["params"], stats, expected)

    layer = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    layer.kernel[...], layer.bias[...] = PARAMS["kernel"], PARAMS["bias"]
    graph, params = nnx.split(layer, nnx.Param)

    def merged(params, x, y):
        return jnp.sum(jnp.square(nnx.merge(graph, params)(x) - y)) / 2

    grads, stats = jax.jit(grad(merged, 1.0, scope="leaf"))(params, x, y, mask=mask)
    assert set(stats.block_norms) == {"kernel", "bias"}
    grads, stats = jax.jit(grad(merged, 1.0))(params, x, y, mask=mask)
    compare({name: grads[name][...] for name in ("kernel", "bias")}, stats, expected)
    assert jax.tree.structure(grads) == jax.tree.structure(params)

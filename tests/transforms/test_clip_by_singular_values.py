"""Spectral clipping: singular values above the threshold are cut, all else of a matrix stays."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import clipax
from tests.oracles.clip_by_singular_values import clip_by_singular_values as oracle
from tests.thorough import thorough


def matrix(values, rows, columns, seed=0):
    """A float64 matrix with these singular values."""
    random = np.random.default_rng(seed)
    left, _ = np.linalg.qr(random.standard_normal((rows, len(values))))
    right, _ = np.linalg.qr(random.standard_normal((columns, len(values))))
    return (left * np.asarray(values)) @ right.T


METHODS = pytest.mark.parametrize("method", ["svd", "polar"])


@functools.cache
def compiled(method, scope):
    def step(gradient, threshold):
        clip = clipax.clip_by_singular_values(threshold, method=method, scope=scope)
        return clip.update(gradient, clip.init(gradient))

    return jax.jit(step)


def clipped(gradient, threshold=1.0, scope="leaf", method="auto"):
    return compiled(method, scope)(gradient, threshold)


def values_of(update):
    return np.linalg.svd(np.asarray(update, np.float64), compute_uv=False)


@METHODS
@pytest.mark.parametrize("largest", [3.0, 1e4, 1e30])
@pytest.mark.parametrize(("rows", "columns"), [(6, 6), (4, 9), (9, 4)])
def test_singular_values_are_cut_and_small_ones_stay(rows, columns, largest, method):
    # From the largest down to a ten-thousandth of it, the threshold in between or below all.
    values = np.geomspace(1, 1e-4, min(rows, columns)) * largest
    gradient = np.float32(matrix(values, rows, columns))
    for threshold in (0.5 * largest, 0.05 * largest, 1.0):
        update, _ = clipped(gradient, threshold, method=method)
        assert values_of(update)[0] <= threshold * (1 + 1e-5)
        [expected] = oracle([{"w": np.float64(gradient)}], {}, threshold=threshold)
        error = np.linalg.norm(np.asarray(update, np.float64) - expected["w"], 2)
        assert error < 1e-6 * largest
        small = values[values < threshold]
        np.testing.assert_allclose(
            values_of(update)[len(values) - len(small) :], small, rtol=1e-6, atol=1e-6 * largest
        )


@METHODS
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("values", [[0.5, 0.5, 0.5], [0.9, 0.9, 0.9]])
def test_what_needs_no_clip_keeps_every_bit(dtype, values, method):
    # The second has a Euclidean norm above the threshold: it is decomposed, and left alone.
    gradient = jnp.asarray(matrix(values, 5, 3), dtype)
    update, state = clipped(gradient, method=method)
    np.testing.assert_array_equal(np.asarray(update), np.asarray(gradient))
    assert state.telemetry.clipped_count == 0


@METHODS
def test_leaves_with_more_or_less_than_two_axes(method):
    random = np.random.default_rng(1)
    shapes = [(), (5,), (1, 7), (7, 1), (1, 1, 3), (3, 2, 4, 5)]
    gradient = {str(shape): np.float32(3 * random.standard_normal(shape)) for shape in shapes}
    update, state = clipped(gradient, method=method)
    names = clipax.block_names(state)
    # The last is a convolution's kernel: its output channels are columns, all else rows.
    *single, kernel = gradient
    for name in single:
        size = np.linalg.norm(gradient[name])
        expected = gradient[name] * min(1.0, 1 / size)
        np.testing.assert_allclose(update[name], expected, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(state.telemetry.grad_norm[names.index(name)], size, rtol=1e-6)
    [expected] = oracle([{"w": np.float64(gradient[kernel]).reshape(-1, 5)}], {}, threshold=1.0)
    np.testing.assert_allclose(update[kernel].reshape(-1, 5), expected["w"], atol=1e-5)


@METHODS
def test_telemetry_is_of_the_largest_singular_value(method):
    clip = clipax.clip_by_singular_values(1.0, method=method)
    state = clip.init(jnp.zeros((6, 4)))
    update = jax.jit(clip.update)
    for largest in (0.99, 4.0):
        gradient = jnp.asarray(matrix([largest, 0.9, 0.9, 0.9], 6, 4), jnp.float32)
        _, state = update(gradient, state)
    found = clipax.metrics(state)
    np.testing.assert_allclose(found["grad_norm"], 4.0, rtol=1e-6)
    np.testing.assert_allclose(found["clip_factor"], 0.25, rtol=1e-6)
    assert found["clip_fraction"] == 0.5


@METHODS
def test_slices_of_a_stack_are_matrices_of_their_own(method):
    stack = np.float32(3 * np.random.default_rng(1).standard_normal((4, 3, 5)))
    stack[1] *= 1e-2  # within the threshold
    stack[2, 0, 0] = np.nan
    for axis in (0, 1):
        layers = np.moveaxis(stack, 0, axis)
        scope = clipax.scopes.stacked(axis)
        update, state = clipped(layers, scope=scope, method=method)
        update = np.moveaxis(np.asarray(update), axis, 0)
        slices = [{"w": np.float64(layer)} for layer in stack]
        for layer, (one, wanted) in enumerate(
            zip(update, oracle(slices, {}, threshold=1.0), strict=True)
        ):
            np.testing.assert_allclose(one, wanted["w"], atol=1e-5, err_msg=str(layer))
        np.testing.assert_array_equal(update[1], stack[1])
        np.testing.assert_array_equal(update[2], 0)
        np.testing.assert_allclose(state.telemetry.clipped_count, [0.5])
        np.testing.assert_array_equal(state.telemetry.nonfinite_count, [1])


@METHODS
def test_a_bad_leaf_is_zero_and_the_others_are_clipped(method):
    good = jnp.asarray(matrix([3.0, 0.5], 3, 2), jnp.float32)
    update, state = clipped({"bad": good.at[1, 1].set(jnp.inf), "good": good}, method=method)
    np.testing.assert_array_equal(update["bad"], 0)
    np.testing.assert_allclose(values_of(update["good"]), [1.0, 0.5], rtol=1e-5)
    np.testing.assert_array_equal(state.telemetry.nonfinite_count, [1, 0])
    left_out = clipax.scopes.exclude("good", "leaf")
    update, _ = clipped(
        {"bad": good.at[1, 1].set(jnp.inf), "good": good}, scope=left_out, method=method
    )
    np.testing.assert_array_equal(update["good"], good)


@METHODS
def test_a_batch_of_runs_equals_the_runs(method):
    clip = clipax.clip_by_singular_values(lambda count: 1.0 / (1 + count), method=method)
    sizes = jnp.array([1e-3, 1.0, 30.0, jnp.nan])
    gradients = sizes[:, None, None] * jnp.asarray(matrix([1.0, 0.4, 0.1], 3, 4), jnp.float32)

    def run(gradient):
        def step(state, _):
            update, state = clip.update(gradient, state)
            return state, update

        return jax.lax.scan(step, clip.init(gradient), None, length=3)

    states, updates = jax.jit(jax.vmap(run))(gradients)
    for place, gradient in enumerate(gradients):
        state, expected = jax.jit(run)(gradient)
        np.testing.assert_allclose(updates[place], expected, atol=1e-6)
        np.testing.assert_array_equal(
            states.telemetry.clipped_count[place], state.telemetry.clipped_count
        )
    np.testing.assert_allclose(values_of(updates[2, 2])[:2], 1 / 3, rtol=1e-5)


@METHODS
def test_derivatives_are_those_of_differences(x64, method):
    shapes = {"wide": (3, 5), "tall": (5, 3)}
    random = np.random.default_rng(2)
    along, weights = (
        {name: random.standard_normal(shape) for name, shape in shapes.items()} for _ in range(2)
    )

    def total(one, other):
        return sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), one, other)))

    @jax.jit
    def size(gradient, threshold):
        clip = clipax.clip_by_singular_values(threshold, method=method)
        return total(weights, clip.update(gradient, clip.init(gradient))[0])

    step = 1e-6
    slopes = jax.jit(jax.grad(size, argnums=(0, 1)))
    # Equal singular values, above the threshold and below it, included.
    for values in ([3.0, 2.0, 0.5], [2.0, 2.0, 2.0], [2.0, 0.5, 0.5]):
        gradient = {name: matrix(values, *shape) for name, shape in shapes.items()}
        of_gradient, of_threshold = slopes(gradient, 1.0)
        there, here = (
            {name: leaf + move * along[name] for name, leaf in gradient.items()}
            for move in (step, -step)
        )
        differences = (size(there, 1.0) - size(here, 1.0)) / (2 * step)
        np.testing.assert_allclose(total(of_gradient, along), differences, rtol=1e-6, atol=1e-7)
        differences = (size(gradient, 1.0 + step) - size(gradient, 1.0 - step)) / (2 * step)
        np.testing.assert_allclose(of_threshold, differences, rtol=1e-6, atol=1e-7)


@METHODS
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_sharded_matrices_under_jit(kind, method):
    gradient = {
        "kernel": jnp.asarray(matrix([5.0, 2.0, 0.5], 8, 3), jnp.float32),
        "layers": jnp.asarray(3 * np.random.default_rng(5).standard_normal((4, 3, 8)), jnp.float32),
    }
    scope = clipax.scopes.stacked(0, where="layers")
    expected, _ = clipped(gradient, scope=scope, method=method)
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(kind, kind))
    with jax.set_mesh(mesh):
        specs = {"kernel": P("x", None), "layers": P("x", None, "y")}
        placed = {
            name: jax.device_put(leaf, NamedSharding(mesh, specs[name]))
            for name, leaf in gradient.items()
        }
        update, _ = clipped(placed, scope=scope, method=method)
        for name, leaf in update.items():
            assert leaf.sharding.is_equivalent_to(placed[name].sharding, leaf.ndim)
            np.testing.assert_allclose(leaf, expected[name], atol=1e-6)


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))


TREE = {
    "kernel": np.float32(matrix([5.0, 2.0, 0.5], 8, 3)),
    "bias": np.arange(8, dtype=np.float32),
}


def in_shard_map(mesh, specs, tracked=True, **options):
    clip = clipax.clip_by_singular_values(1.0, **options)
    step = jax.shard_map(
        lambda tree: clip.update(tree, clip.init(tree))[0],
        mesh=mesh,
        in_specs=(specs,),
        out_specs=specs,
        check_vma=tracked,
    )
    return jax.jit(step)(TREE)


@METHODS
@pytest.mark.parametrize("tracked", [True, False])
def test_inside_shard_map_vectors_may_be_sharded(mesh, tracked, method):
    axes = "x" if tracked else {"bias": "x", "*": ()}
    update = in_shard_map(
        mesh, {"kernel": P(), "bias": P("x")}, tracked, axis_name=axes, method=method
    )
    for name, expected in clipped(TREE, method=method)[0].items():
        np.testing.assert_allclose(update[name], expected, atol=1e-6, err_msg=name)


@METHODS
@pytest.mark.parametrize(
    ("tracked", "axes"), [(True, "x"), (False, {"kernel": "x", "*": ()}), (True, {"*": "x"})]
)
def test_inside_shard_map_a_part_of_a_matrix_is_refused(mesh, tracked, axes, method):
    with pytest.raises(ValueError, match=r"must be whole to be decomposed, 'kernel' is sharded"):
        in_shard_map(mesh, {"kernel": P("x"), "bias": P()}, tracked, axis_name=axes, method=method)


@METHODS
def test_inside_shard_map_stacks_may_be_split_between_layers(mesh, method):
    clip = clipax.clip_by_singular_values(
        1.0, scope=clipax.scopes.stacked(0), axis_name=(), method=method
    )
    stack = 3 * np.random.default_rng(4).standard_normal((8, 2, 3)).astype(np.float32)
    step = jax.shard_map(
        lambda tree: clip.update(tree, clip.init(tree))[0],
        mesh=mesh,
        in_specs=P("x"),
        out_specs=P("x"),
    )
    expected, _ = clipped(stack, scope=clipax.scopes.stacked(0), method=method)
    np.testing.assert_allclose(jax.jit(step)(stack), expected, atol=1e-6)


@METHODS
@pytest.mark.parametrize(
    "threshold",
    [  # the two of "Beyond Vector Norms" (arXiv 2605.11838), and one of all values so far
        clipax.thresholds.ema(1.5, decay=0.5, warmup=0),
        clipax.thresholds.quantile(0.6, window=5),
        clipax.thresholds.percentile(50, window=8),
    ],
    ids=["ema", "quantile", "percentile"],
)
def test_a_threshold_is_handed_the_largest_singular_values(method, threshold):
    clip = clipax.clip_by_singular_values(threshold, method=method)
    random = np.random.default_rng(6)
    rows = [
        {
            "kernel": np.float32(random.standard_normal((5, 3)) * size),
            "bias": np.float32(random.standard_normal(4) * size),
        }
        for size in random.lognormal(0, 2, 12)
    ]
    rows[5]["kernel"][0, 0] = np.nan
    state, update = clip.init(rows[0]), jax.jit(clip.update)
    remembered, names = {"kernel": [], "bias": []}, clipax.block_names(state)
    # The rule by itself, on the norms that it should be handed.
    context = clipax.thresholds.Context(jnp.array(0))
    states = {name: threshold.init(()) for name in names}
    for gradient in rows:
        updates, state = update(gradient, state)
        for name, leaf in gradient.items():
            if not np.isfinite(leaf).all():
                np.testing.assert_array_equal(updates[name], 0)
                continue
            values = np.linalg.svd(np.float64(leaf.reshape(-1, leaf.shape[-1])), compute_uv=False)
            limit, states[name] = threshold.update(jnp.float32(values[0]), states[name], context)
            row = names.index(name)
            np.testing.assert_allclose(state.telemetry.grad_norm[row], values[0], rtol=1e-5)
            recorded = min(float(limit), float(jnp.finfo(jnp.float32).max))  # of no limit
            np.testing.assert_allclose(state.telemetry.threshold[row], recorded, rtol=1e-5)
            [expected] = oracle(
                [{"w": np.float64(leaf.reshape(-1, leaf.shape[-1]))}], {}, threshold=float(limit)
            )
            np.testing.assert_allclose(
                updates[name], expected["w"].reshape(leaf.shape), rtol=1e-4, atol=1e-5 * values[0]
            )
            remembered[name].append(values[0] > limit)
    for clips in remembered.values():
        assert 0 < sum(clips) < len(clips)


@METHODS
def test_a_threshold_may_need_the_parameters(method):
    clip = clipax.clip_by_singular_values(clipax.thresholds.relative(0.1), method=method)
    params = {"w": jnp.full((2, 2), 5.0)}  # of norm 10
    gradient = {"w": jnp.diag(jnp.array([3.0, 0.5]))}
    update, _ = jax.jit(clip.update)(gradient, clip.init(params), params)
    np.testing.assert_allclose(update["w"], np.diag([1.0, 0.5]), atol=1e-5)
    with pytest.raises(ValueError, match="`params` must be given"):
        clip.update(gradient, clip.init(params))


@METHODS
@pytest.mark.parametrize(
    "threshold", thorough([np.inf, 1.0, clipax.thresholds.ema(warmup=0)], but=[1.0])
)
def test_derivatives_are_finite(method, threshold):
    clip = clipax.clip_by_singular_values(threshold, method=method)

    def size(gradient):
        return jnp.sum(clip.update(gradient, clip.init(gradient))[0] ** 2)

    for gradient in (jnp.zeros((3, 3)), 2 * jnp.eye(3), jnp.diag(jnp.array([1e6, 1.0, 0.0]))):
        assert jnp.isfinite(jax.jit(jax.grad(size))(gradient)).all()


def test_bad_arguments():
    make = clipax.clip_by_singular_values
    with pytest.raises(ValueError, match=r"`threshold` must be positive, got -1.0\."):
        make(-1.0)
    with pytest.raises(ValueError, match="`method` must be one of 'auto', 'svd', 'polar', got"):
        make(1.0, method="qr")
    with pytest.raises(ValueError, match=r"`scope` must give each leaf a label of its own"):
        make(1.0, scope="global")
    with pytest.raises(ValueError, match=r"'a' and 'b' share 'all'"):
        make(1.0, scope=clipax.scopes.by_label(lambda path: "all")).init({"a": 1.0, "b": 1.0})
    with pytest.raises(ValueError, match="`nonfinite` must be one of"):
        make(1.0, nonfinite="skip")

"""Generalised norm clipping: duals of norms, steps of bounded length, and its Euclidean case."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import clipax

# The spectral norm by decompositions, and by matrix products.
NORMS = ["euclidean", "max", "spectral", "polar"]
SHAPES = {"kernel": (4, 3), "other": (2, 5), "bias": (3,), "scale": ()}


def tree(seed, size=1.0):
    random = np.random.default_rng(seed)
    return {
        name: jnp.asarray(size * random.standard_normal(shape), jnp.float32)
        for name, shape in SHAPES.items()
    }


def options(norm):
    """The arguments that choose the norm and how to compute with it."""
    return {"norm": "spectral", "method": "polar"} if norm == "polar" else {"norm": norm}


def primal(update, norm):
    """The norm in which steps are bounded, of a float64 tree."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(update)]
    if norm == "euclidean":
        return np.sqrt(sum(np.sum(leaf**2) for leaf in leaves))
    if norm == "max":
        return max(np.abs(leaf).max() for leaf in leaves)
    return max(
        np.linalg.norm(leaf.reshape(-1, leaf.shape[-1] if leaf.ndim > 1 else 1), 2)
        for leaf in leaves
    )


@functools.cache
def compiled(norm, scope):
    def step(gradient, radius, rate):
        optimizer = clipax.ggnc(rate, radius, **options(norm), b1=0.0, scope=scope)
        return optimizer.update(gradient, optimizer.init(gradient), gradient)

    return jax.jit(step)


def first_step(gradient, norm, radius=1.0, rate=1.0, scope="leaf"):
    """Along the gradient itself: there is no momentum yet."""
    return compiled(norm, scope)(gradient, radius, rate)


def test_the_euclidean_one_is_momentum_clipping():
    # A rate that is a power of two: no product is rounded.
    ours = clipax.ggnc(0.125, radius=2.0, b1=0.75)
    theirs = clipax.momentum_clip_sgd(0.125, max_step=0.25, decay=0.75)
    states = [one.init(tree(0)) for one in (ours, theirs)]
    updates = [jax.jit(one.update) for one in (ours, theirs)]
    clipped = []
    for seed in range(12):
        gradient = tree(seed, size=3.0 if seed % 4 == 0 else 0.1)
        (update, one), (expected, other) = (
            update(gradient, state) for update, state in zip(updates, states, strict=True)
        )
        states = [one, other]
        jax.tree.map(np.testing.assert_array_equal, update, expected)
        clipped.append(float(clipax.metrics(one, top=None)["clip_factor/averaged"]) < 1)
    assert 0 < sum(clipped) < len(clipped)


@pytest.mark.parametrize("norm", NORMS)
def test_steps_are_as_long_as_the_dual_norm_and_no_longer_than_the_radius(norm):
    gradient = tree(1)
    update, state = first_step(gradient, norm, radius=1e3, rate=0.5)
    dual = clipax.metrics(state, top=None)["grad_norm/averaged"]
    # The update is the dual norm times a direction that attains it.
    inner = sum(jnp.sum(update[name] * gradient[name]) for name in gradient)
    np.testing.assert_allclose(primal(update, norm), 0.5 * dual, rtol=1e-5)
    np.testing.assert_allclose(-inner, 0.5 * dual**2, rtol=1e-5)
    short, state = first_step(gradient, norm, radius=2.0, rate=0.5)
    np.testing.assert_allclose(primal(short, norm), 0.5 * 2.0, rtol=1e-5)
    assert clipax.metrics(state, top=None)["clip_fraction/averaged"] == 1
    for name in gradient:
        np.testing.assert_allclose(short[name], update[name] * (2.0 / dual), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_no_direction_of_unit_norm_does_better(norm):
    gradient = tree(2)
    update, _ = first_step(gradient, norm)
    best = -sum(float(jnp.sum(update[name] * gradient[name])) for name in gradient)
    for seed in range(20):
        other = tree(100 + seed)
        size = primal(other, norm)
        rival = sum(float(jnp.sum(other[name] * gradient[name])) for name in gradient) / size
        assert abs(rival) < best


@pytest.mark.parametrize("norm", ["spectral", "polar"])
def test_the_dual_of_the_spectral_norm_sums_over_matrices_and_vectors(norm):
    gradient = tree(3)
    _, state = first_step(gradient, norm)
    nuclear = sum(np.linalg.norm(gradient[name], "nuc") for name in ("kernel", "other"))
    wanted = nuclear + np.linalg.norm(gradient["bias"]) + abs(gradient["scale"])
    np.testing.assert_allclose(
        clipax.metrics(state, top=None)["grad_norm/averaged"], wanted, rtol=1e-5
    )


@pytest.mark.parametrize("norm", ["spectral", "polar"])
def test_where_there_is_no_gradient_there_is_no_spectral_step(norm):
    columns, rows = np.float32([1, 2, 2, 4]), np.float32([3, 4, 12])
    gradient = jax.tree.map(jnp.zeros_like, tree(0)) | {"kernel": np.outer(columns, rows)}
    update, _ = first_step(gradient, norm, radius=2.0)
    for name, leaf in update.items():
        expected = -2 * np.outer(columns, rows) / 65 if name == "kernel" else 0
        np.testing.assert_allclose(leaf, expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("norm", ["spectral", "polar"])
def test_slices_of_a_stack_are_matrices_of_their_own(norm):
    stack = tree(4)["kernel"].reshape(2, 2, 3)
    update, _ = first_step(stack, norm, scope=clipax.scopes.stacked(0))
    for one, gradient in zip(update, stack, strict=True):
        left, _, right = np.linalg.svd(gradient, full_matrices=False)
        np.testing.assert_allclose(one, -left @ right, atol=1e-5)


@pytest.mark.parametrize("norm", ["max", "spectral", "polar"])
def test_a_huge_gradient_is_forgotten_as_the_momentum_forgets(norm):
    gradients = np.random.default_rng(5).standard_normal((900, 3, 2)).astype(np.float32)
    spiked = gradients.copy()
    spiked[3] = 1e30 * gradients[3]
    optimizer = clipax.ggnc(0.1, 0.5, **options(norm))

    @jax.jit
    def run(gradients):
        def step(state, gradient):
            update, state = optimizer.update(gradient, state)
            return state, update

        return jax.lax.scan(step, optimizer.init(jnp.zeros((3, 2))), gradients)[1]

    updates, others = run(spiked), run(gradients)
    lengths = [primal(update, norm) for update in updates]
    assert max(lengths) <= 0.05 * (1 + 1e-5)
    # .9 ** 800 is 1e-37: as if it had never been.
    np.testing.assert_allclose(updates[-50:], others[-50:], rtol=1e-4, atol=1e-5)


def in_shard_map(optimizer, gradient, specs):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    step = jax.shard_map(
        lambda grads: optimizer.update(grads, optimizer.init(grads), grads)[0],
        mesh=mesh,
        in_specs=(specs,),
        out_specs=specs,
    )
    return jax.jit(step)(gradient)


@pytest.mark.parametrize(("norm", "kernel"), [("max", P("x")), ("spectral", P()), ("polar", P())])
def test_shards_make_the_step_of_the_whole(norm, kernel):
    gradient = {"kernel": tree(6)["kernel"], "bias": jnp.arange(1.0, 9.0)}
    sharded = clipax.ggnc(0.1, 1.0, **options(norm), axis_name="x")
    alone = clipax.ggnc(0.1, 1.0, **options(norm))
    expected, _ = jax.jit(alone.update)(gradient, alone.init(gradient))
    update = in_shard_map(sharded, gradient, {"kernel": kernel, "bias": P("x")})
    for name, leaf in update.items():
        np.testing.assert_allclose(leaf, expected[name], atol=1e-6, err_msg=name)


def test_a_part_of_a_matrix_is_refused():
    gradient = {"kernel": tree(6)["kernel"]}
    with pytest.raises(ValueError, match=r"must be whole to be decomposed, 'kernel' is sharded"):
        in_shard_map(
            clipax.ggnc(0.1, 1.0, norm="spectral", axis_name="x"), gradient, {"kernel": P("x")}
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": -1.0}, "`learning_rate` must be non-negative"),
        ({"radius": 0.0}, "`radius` must be positive"),
        ({"radius": 0.0, "norm": "max"}, "`radius` must be positive"),
        ({"norm": "nuclear"}, "`norm` must be one of 'euclidean', 'max', 'spectral'"),
        ({"method": "qr"}, "`method` must be one of 'auto', 'svd', 'polar'"),
        ({"method": "polar"}, "`method` must not be given for norm='euclidean', got 'polar'"),
        ({"b1": 1.0, "norm": "max"}, r"`b1` must be in \[0, 1\), got 1.0"),
        ({"scope": "row"}, "`scope` must be one of"),
        ({"nonfinite": "skip", "norm": "max"}, "`nonfinite` must be one of"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        clipax.ggnc(**{"learning_rate": 0.1, "radius": 1.0} | arguments)


def test_scopes_that_say_nothing_of_matrices_are_refused():
    for scope, message in (
        ("global", "share 'global'"),
        (clipax.scopes.exclude("bias", "leaf"), "must exclude no leaf, 'bias'"),
    ):
        with pytest.raises(ValueError, match=message):
            clipax.ggnc(0.1, 1.0, norm="spectral", scope=scope).init(tree(0))


@pytest.mark.parametrize("norm", ["euclidean", "max"])
def test_a_scope_is_for_matrices_alone(norm):
    scope = clipax.scopes.exclude("bias", "leaf")
    with pytest.raises(ValueError, match="`scope` must not be given for norm="):
        clipax.ggnc(0.1, 1.0, norm=norm, scope=scope)

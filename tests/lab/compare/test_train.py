"""Vectorised training: equal batches and noise for all, divergence, noise of the right size."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import stats

import clipax
from clipax.lab._compare.data import load_data
from clipax.lab._compare.models import make_model
from clipax.lab._compare.plan import WIDTH, Method, Plan
from clipax.lab._compare.train import Trainer
from clipax.lab.noise import parse_noise


@pytest.fixture(scope="module")
def wine():
    return load_data("wine")


def make_trainer(data, *, noise="pareto:1.5", scale=1.0, steps=10, evaluations=5):
    plan = Plan(steps, 16, parse_noise(noise), scale, evaluations)
    return Trainer(data, "mlp", plan)


@pytest.fixture(scope="module")
def sgd(wine):
    """A trainer without noise and its function for plain SGD, compiled once for several tests."""
    trainer = make_trainer(wine, noise="none")
    return trainer, trainer.prepare(Method("sgd", optax.sgd, (0.1,)))


def clip_sgd(rate):
    return clipax.clip_sgd(rate, 1.0)


@pytest.mark.parametrize(
    ("steps", "evaluations", "points"),
    [(10, 5, (0, 2, 4, 6, 8, 10)), (7, 3, (0, 3, 6, 7)), (3, 25, (0, 1, 2, 3)), (1, 25, (0, 1))],
)
def test_curves_begin_before_the_first_step_and_end_at_the_last(steps, evaluations, points):
    plan = Plan(steps, 16, parse_noise("none"), 1.0, evaluations)
    assert plan.points == points
    assert plan.stretches(WIDTH) == len(points) - 1
    assert plan.stretches(WIDTH + 1) == 2 * (len(points) - 1)


def test_all_methods_and_rates_meet_the_same_batches_and_noise(wine):
    trainer = make_trainer(wine)
    # The same method twice, under two names; in another order and in another block the second time.
    runs = [(seed, rate) for rate in (0.01, 0.1) for seed in range(WIDTH)]
    first = trainer.prepare(Method("a", clip_sgd, (0.1,)))(runs, wine.test, True)
    second = trainer.prepare(Method("b", clip_sgd, (0.1,)))(runs[::-1], wine.test, True)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other[::-1], rtol=1e-5)
    # Seeds differ, and so do rates, but not before the first step.
    loss = first.loss.reshape(2, WIDTH, -1)
    assert len(np.unique(loss[0, :, 0])) == WIDTH
    np.testing.assert_array_equal(loss[0, :, 0], loss[1, :, 0])
    assert np.abs(loss[0, :, -1] - loss[1, :, -1]).min() > 0


def test_noise_is_independent_of_the_parameters_and_in_proportion_to_the_gradient(wine):
    trainer = make_trainer(wine, noise="student-t:5", scale=0.5)
    key = jax.random.key(3)
    gradient = {"a": jnp.ones((40, 50)), "b": 3.0 * jnp.ones((1000,))}
    norm = np.sqrt(2000 + 9000)

    def drawn(scaled):
        noisy = trainer._perturb(scaled, key)
        difference = jax.tree.map(lambda new, old: np.ravel(new - old), noisy, scaled)
        return np.concatenate([difference["a"], difference["b"]])

    unit = drawn(gradient) / (0.5 * norm / np.sqrt(3000))
    assert stats.kstest(unit, stats.t(5).cdf).pvalue > 0.01
    assert len(np.unique(unit)) > 2900
    twice = drawn(jax.tree.map(lambda g: 2 * g, gradient))
    np.testing.assert_allclose(twice, 2 * drawn(gradient), rtol=1e-3, atol=1e-3)


def test_without_noise_the_gradient_is_left_alone(wine):
    trainer = make_trainer(wine, noise="none")
    gradient = {"a": jnp.ones(3)}
    assert trainer._perturb(gradient, jax.random.key(0)) is gradient


def test_training_is_plain_sgd_when_written_out(wine, sgd):
    trainer, train = sgd
    found = train([(5, 0.1)], wine.test, True)

    key_init, key_batch, _ = jax.random.split(jax.random.key(5), 3)
    graph, params = nnx.split(make_model("mlp", wine, key_init))

    def logits(params, x):
        return nnx.merge(graph, params)(x)

    @jax.jit
    def loss(params, x, y):
        rows = optax.losses.softmax_cross_entropy_with_integer_labels(logits(params, x), y)
        return rows.mean()

    gradient = jax.jit(jax.grad(loss))
    expected = [loss(params, wine.test.x, wine.test.y)]
    for step in range(10):
        key = jax.random.fold_in(key_batch, step)
        rows = jax.random.randint(key, (16,), 0, len(wine.train))
        grads = gradient(params, wine.train.x[rows], wine.train.y[rows])
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
        if step + 1 in trainer.plan.points:
            expected.append(loss(params, wine.test.x, wine.test.y))
    np.testing.assert_allclose(found.loss[0], expected, rtol=1e-4)
    right = jnp.argmax(logits(params, wine.test.x), -1) == wine.test.y
    assert found.accuracy[0, -1] == pytest.approx(float(right.mean()))
    assert found.clip_fraction is None


def test_diverged_runs_count_as_such_and_leave_the_others_alone(wine, sgd):
    _, train = sgd
    mixed = train([(0, 0.1), (1, 1e8), (2, 0.1)], wine.test, True)
    np.testing.assert_array_equal(mixed.diverged, [False, True, False])
    assert np.isinf(mixed.loss[1, -1])
    assert mixed.accuracy[1, -1] == 0
    assert np.isfinite(mixed.loss[1, 0])  # before the first step all was well
    alone = train([(0, 0.1), (2, 0.1)], wine.test, True)
    np.testing.assert_array_equal(mixed.loss[[0, 2]], alone.loss)


def test_one_bad_update_is_never_forgotten(wine):
    # Parameters are spoiled at step 3 and would be restored at step 4; `rate` is the bad value.
    def build(bad):
        def update(updates, count, params=None):
            del params
            spoil = jnp.where(count == 3, bad, jnp.where(count == 4, -bad, 0.0))
            return jax.tree.map(lambda u: jnp.full_like(u, spoil), updates), count + 1

        return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)

    trainer = make_trainer(wine, noise="none")
    runs = [(0, bad) for bad in (np.nan, np.inf, 1e30, 0.0)]
    found = trainer.prepare(Method("bad", build, (0.1,)))(runs, wine.test, True)
    np.testing.assert_array_equal(found.diverged, [True, True, True, False])
    lost = [False, False, True, True, True, True]
    np.testing.assert_array_equal(np.isinf(found.loss), [lost, lost, lost, [False] * 6])


def test_the_clip_fraction_is_that_of_the_telemetry(wine):
    # Vectorised over thresholds in place of rates.
    method = Method("clip", lambda threshold: clipax.clip_sgd(0.01, threshold), (1.0,))
    found = make_trainer(wine).prepare(method)([(0, 1e-6), (0, 1e6)], wine.test, False)
    np.testing.assert_array_equal(found.clip_fraction, [1.0, 0.0])
    assert found.loss.shape == (2, 1)


def test_evaluation_in_pieces_is_evaluation_of_the_whole(monkeypatch, wine, sgd):
    _, train = sgd
    whole = train([(0, 0.1)], wine.test, False)
    monkeypatch.setattr(
        "clipax.lab._compare.train._PIECE", 7
    )  # 36 examples: the last piece is filled up
    pieces = train([(0, 0.1)], wine.test, False)
    np.testing.assert_allclose(pieces.loss, whole.loss, rtol=1e-6)
    np.testing.assert_allclose(pieces.accuracy, whole.accuracy, rtol=1e-6)


def test_progress_is_told_after_every_stretch(wine, sgd):
    trainer, train = sgd
    calls = []
    train([(0, 0.1)] * (WIDTH + 1), wine.test, False, lambda: calls.append(1))
    assert len(calls) == trainer.plan.stretches(WIDTH + 1)

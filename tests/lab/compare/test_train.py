"""Vectorised training: equal batches and noise for all, divergence, and models of any kind."""

from __future__ import annotations

import dataclasses

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import clipax
from clipax.lab import Task
from clipax.lab._compare.feed import Feed, is_corrupt
from clipax.lab._compare.methods import Method, resolve
from clipax.lab._compare.noise import parse_gradient_noise
from clipax.lab._compare.plan import WIDTH, Plan, Run, Setting
from clipax.lab._compare.size import estimate_bytes
from clipax.lab._compare.tasks.data import load_data
from clipax.lab._compare.tasks.examples import make_examples_task
from clipax.lab._compare.tasks.models import make_model
from clipax.lab._compare.train import Trainer
from clipax.lab._errors import InputError


@pytest.fixture(scope="module")
def wine():
    return make_examples_task("wine", "mlp", 16)


def make_trainer(
    task, *, noise="none", scale=1.0, steps=10, evaluations=5, corrupt=0.0, width=None
):
    plan = Plan(steps, parse_gradient_noise(noise, scale), corrupt, evaluations)
    return Trainer(task, plan, width)


def make_method(name, build):
    """A method of which the rate, whatever it stands for, is all that runs differ in."""
    return Method(name, lambda rate, _: build(rate), (0.1,), False, None, None, lambda *_: "")


SGD = make_method("sgd", optax.sgd)
CLIP_SGD = make_method("clip_sgd", lambda rate: clipax.clip_sgd(rate, 1.0))


def runs(*pairs):
    return [Run(seed, Setting(rate)) for seed, rate in pairs]


@pytest.fixture(scope="module")
def sgd(wine):
    """A trainer without noise and its function for plain SGD, compiled once for several tests."""
    trainer = make_trainer(wine)
    return trainer, trainer.prepare(SGD)


@pytest.mark.parametrize(
    ("steps", "evaluations", "points"),
    [(10, 5, (0, 2, 4, 6, 8, 10)), (7, 3, (0, 3, 6, 7)), (3, 25, (0, 1, 2, 3)), (1, 25, (0, 1))],
)
def test_curves_begin_before_the_first_step_and_end_at_the_last(steps, evaluations, points):
    plan = Plan(steps, parse_gradient_noise("none"), 0.0, evaluations)
    assert plan.points == points
    assert plan.stretches(WIDTH, WIDTH) == len(points) - 1
    assert plan.stretches(WIDTH + 1, WIDTH) == 2 * (len(points) - 1)


def test_all_methods_and_rates_meet_the_same_batches_and_noise(wine):
    trainer = make_trainer(wine, noise="norm:pareto:1.5", corrupt=0.2)
    # The same method twice, under two names; in another order and in another block the second time.
    chosen = runs(*((seed, rate) for rate in (0.01, 0.1) for seed in range(WIDTH)))
    again = dataclasses.replace(CLIP_SGD, name="again")
    first = trainer.prepare(CLIP_SGD)(chosen, "test", True)
    second = trainer.prepare(again)(chosen[::-1], "test", True)
    for one, other in ((first.loss, second.loss), (first.norms, second.norms)):
        np.testing.assert_allclose(one, other[::-1], rtol=1e-5)
    # Seeds differ, and so do rates, but not before the first step.
    loss = first.loss.reshape(2, WIDTH, -1)
    assert len(np.unique(loss[0, :, 0])) == WIDTH
    np.testing.assert_array_equal(loss[0, :, 0], loss[1, :, 0])
    assert np.abs(loss[0, :, -1] - loss[1, :, -1]).min() > 0


def test_training_is_plain_sgd_when_written_out(wine, sgd):
    trainer, train = sgd
    found = train(runs((5, 0.1)), "test", True)

    data = load_data("wine")
    graph, params = nnx.split(make_model("mlp", data, jax.random.split(jax.random.key(5))[0]))

    def logits(params, x):
        return nnx.merge(graph, params)(x)

    @jax.jit
    def loss(params, x, y):
        rows = optax.losses.softmax_cross_entropy_with_integer_labels(logits(params, x), y)
        return rows.mean()

    gradient = jax.jit(jax.grad(loss))
    expected, norms = [loss(params, data.test.x, data.test.y)], []
    for step, batch in zip(range(10), wine.batches(5), strict=False):
        grads = gradient(params, *batch)
        norms.append(clipax.global_norm(grads))
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
        if step + 1 in trainer.plan.points:
            expected.append(loss(params, data.test.x, data.test.y))
    np.testing.assert_allclose(found.loss[0], expected, rtol=1e-4)
    np.testing.assert_allclose(found.norms[0], norms, rtol=1e-4)
    right = jnp.argmax(logits(params, data.test.x), -1) == data.test.y
    assert found.scores["accuracy"][0, -1] == pytest.approx(float(right.mean()))
    assert found.clip_fraction is None


def test_one_run_after_the_other_is_what_a_block_is(wine, sgd):
    _, train = sgd
    chosen = runs((0, 0.1), (1, 0.03), (2, 0.1))
    together = train(chosen, "test", True)
    alone = make_trainer(wine, width=1).prepare(SGD)(chosen, "test", True)
    np.testing.assert_allclose(alone.loss, together.loss, rtol=1e-5)
    np.testing.assert_allclose(alone.norms, together.norms, rtol=1e-4)


def test_batches_are_made_in_pieces_where_they_are_large(wine, sgd, monkeypatch):
    _, train = sgd
    whole = train(runs((0, 0.1)), "test", True)
    monkeypatch.setattr("clipax.lab._compare.train._AHEAD", 10_000)
    trainer = make_trainer(wine, evaluations=1)
    assert 1 <= trainer._chunk < 10
    pieces = trainer.prepare(SGD)(runs((0, 0.1)), "test", True)
    np.testing.assert_allclose(pieces.loss[:, -1], whole.loss[:, -1], rtol=1e-5)
    np.testing.assert_allclose(pieces.norms, whole.norms, rtol=1e-5)


def test_runs_that_do_not_fit_into_memory_are_trained_one_after_the_other(wine, monkeypatch):
    assert make_trainer(wine).width == WIDTH
    monkeypatch.setattr("clipax.lab._compare.train._MEMORY", 100_000)
    assert make_trainer(wine).width == 1


def test_the_estimate_of_memory_counts_what_a_function_makes():
    def function(x):
        return jax.jit(lambda x: jnp.sin(x) * 2)(x)

    assert estimate_bytes(function, jnp.ones((100, 10))) == 2 * 4_000


def test_diverged_runs_count_as_such_and_leave_the_others_alone(sgd):
    _, train = sgd
    mixed = train(runs((0, 0.1), (1, 1e8), (2, 0.1)), "test", True)
    np.testing.assert_array_equal(mixed.diverged, [False, True, False])
    assert np.isinf(mixed.loss[1, -1])
    assert np.isnan(mixed.scores["accuracy"][1, -1])
    assert np.isfinite(mixed.loss[1, 0])  # before the first step all was well
    assert np.isnan(mixed.norms[1, -1])
    alone = train(runs((0, 0.1), (2, 0.1)), "test", True)
    np.testing.assert_array_equal(mixed.loss[[0, 2]], alone.loss)


def test_one_bad_update_is_never_forgotten(wine):
    # Parameters are spoiled at step 3 and would be restored at step 4; `rate` is the bad value.
    def build(bad):
        def update(updates, count, params=None):
            del params
            spoil = jnp.where(count == 3, bad, jnp.where(count == 4, -bad, 0.0))
            return jax.tree.map(lambda u: jnp.full_like(u, spoil), updates), count + 1

        return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)

    bad = runs(*((0, bad) for bad in (np.nan, np.inf, 1e30, 0.0)))
    found = make_trainer(wine).prepare(make_method("bad", build))(bad, "test", True)
    np.testing.assert_array_equal(found.diverged, [True, True, True, False])
    lost = [False, False, True, True, True, True]
    np.testing.assert_array_equal(np.isinf(found.loss), [lost, lost, lost, [False] * 6])


def test_thresholds_differ_within_a_block_and_the_clip_fraction_is_theirs(wine):
    (method,) = resolve(["clip_by_global_norm+sgd"])
    chosen = [Run(0, Setting(0.01, threshold)) for threshold in (1e-6, 1e6)]
    found = make_trainer(wine, noise="norm:pareto:1.5").prepare(method)(chosen, "test", False)
    np.testing.assert_array_equal(found.clip_fraction, [1.0, 0.0])
    assert found.loss.shape == (2, 1)


def test_skipped_steps_count_as_clipped(wine):
    skip = make_method("skip", lambda rate: clipax.skip_spikes(optax.sgd(rate), 1e-6))
    found = make_trainer(wine).prepare(skip)(runs((0, 0.01)), "test", False)
    np.testing.assert_array_equal(found.clip_fraction, [1.0])


def test_evaluation_in_pieces_is_evaluation_of_the_whole(monkeypatch, sgd):
    _, train = sgd
    whole = train(runs((0, 0.1)), "test", False)
    # 36 examples: the last piece is filled up.
    monkeypatch.setattr("clipax.lab._compare.tasks.examples._PIECE", 7)
    task = make_examples_task("wine", "mlp", 16)
    pieces = make_trainer(task).prepare(SGD)(runs((0, 0.1)), "test", False)
    for name, values in whole.scores.items():
        np.testing.assert_allclose(pieces.scores[name], values, rtol=1e-6)


def test_progress_is_told_after_every_stretch(sgd):
    trainer, train = sgd
    calls = []
    train(runs(*[(0, 0.1)] * (WIDTH + 1)), "test", False, lambda: calls.append(1))
    assert len(calls) == trainer.plan.stretches(WIDTH + 1, WIDTH)


def test_corrupt_batches_come_at_their_rate_and_spoil_what_they_say(wine):
    steps = [step for step in range(2_000) if is_corrupt(3, step, 0.05)]
    assert 60 < len(steps) < 140
    assert steps != [step for step in range(2_000) if is_corrupt(4, step, 0.05)]
    clean = Feed(wine, [3], 0.0).take(40, 40)
    spoiled = Feed(wine, [3], 0.05).take(40, 40)
    differ = np.flatnonzero(np.any(clean[1] != spoiled[1], axis=(1, 2)))
    np.testing.assert_array_equal(differ, [step for step in steps if step < 40])
    np.testing.assert_array_equal(spoiled[0], clean[0])


X = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5], np.float32)


def batches(seed):
    random = np.random.default_rng(seed)
    while True:
        rows = random.integers(64, size=16)
        yield {"x": X[rows], "y": Y[rows]}


def squared(outputs, batch):
    return jnp.mean((outputs - batch["y"]) ** 2)


class Network(nnx.Module):
    """With all that a module may remember: averages, and a stream of random numbers."""

    def __init__(self, rngs):
        self.first = nnx.Linear(3, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))[:, 0]


def evaluate_network(model, batch):
    model.eval()
    return {"loss": squared(model(batch["x"]), batch), "size": jnp.ones(())}


DENSE = linen.Dense(1)
HELD_OUT = {"x": X, "y": Y}
TASKS = {
    "jax": Task(
        init=lambda key: {"w": jax.random.normal(key, (3,))},
        loss=lambda params, batch: squared(batch["x"] @ params["w"], batch),
        batches=batches,
        validation=HELD_OUT,
    ),
    "linen": Task(
        init=lambda key: DENSE.init(key, X[:1]),
        loss=lambda params, batch: squared(DENSE.apply(params, batch["x"])[:, 0], batch),
        batches=batches,
        validation=HELD_OUT,
    ),
    "nnx": Task(
        init=lambda key: Network(nnx.Rngs(key)),
        loss=lambda model, batch: squared(model(batch["x"]), batch),
        batches=batches,
        validation=HELD_OUT,
        evaluate=evaluate_network,
    ),
}


@pytest.mark.parametrize("kind", TASKS)
def test_models_of_every_kind_learn(kind):
    trainer = make_trainer(TASKS[kind], steps=60, evaluations=2)
    found = trainer.prepare(SGD)(runs((0, 0.05), (1, 0.05)), "test", True)
    assert (found.loss[:, -1] < 0.4 * found.loss[:, 0]).all()
    assert not found.diverged.any()


def test_what_a_module_remembers_is_its_own_in_every_run():
    trainer = make_trainer(TASKS["nnx"], steps=20)
    together = trainer.prepare(SGD)(runs((0, 0.05), (1, 0.05)), "test", True)
    alone = trainer.prepare(SGD)(runs((1, 0.05)), "test", True)
    np.testing.assert_allclose(together.loss[1], alone.loss[0], rtol=1e-5)
    np.testing.assert_array_equal(together.scores["size"], 1.0)


@pytest.mark.parametrize(
    "task",
    [
        # Parameters that begin at zero, and a loss that begins at a million.
        dataclasses.replace(TASKS["jax"], init=lambda key: {"w": jnp.zeros(3)}),
        dataclasses.replace(
            TASKS["jax"], loss=lambda params, batch: 1e6 * TASKS["jax"].loss(params, batch)
        ),
    ],
)
def test_runs_that_learn_do_not_count_as_diverged(task):
    adam = make_method("adam", optax.adam)
    found = make_trainer(task, steps=60).prepare(adam)(runs((0, 0.1), (1, 1e12)), "test", True)
    np.testing.assert_array_equal(found.diverged, [False, True])
    assert found.loss[0, -1] < 0.1 * found.loss[0, 0]


def test_the_share_of_a_clip_inside_of_a_guard_is_one_of_all_steps(wine):
    def build(rate):
        return clipax.skip_spikes(clipax.clip_sgd(rate, 1e-6), 0.9)

    found = make_trainer(wine).prepare(make_method("both", build))(runs((0, 0.01)), "test", False)
    np.testing.assert_allclose(found.clip_fraction, [1.0])


def change(**functions):
    return dataclasses.replace(TASKS["jax"], **functions)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (change(init=lambda key: {"w": jnp.arange(3)}), "tree of float arrays.*int32"),
        (change(init=lambda key: {}), "has no parameters"),
        (change(loss=lambda params, batch: batch["x"] @ params["w"]), r"must be a scalar.*\[16\]"),
        (change(evaluate=lambda params, batch: {"rmse": 1.0}), "with the key 'loss'; got rmse"),
        (change(evaluate=lambda params, batch: params["w"]), r"scalar.*got loss\[3\]"),
        (change(loss=3), "loss must be a function, got int"),
        (change(batches=TASKS["jax"].batches(0)), "batches must be a function, got generator"),
        (change(batches=lambda seed: iter([jax.random.key(0)])), "put jax.random.PRNGKey"),
        (change(evaluate=lambda params, batch: jnp.nan), "validation loss before training is nan"),
        (change(batches=lambda seed: iter([HELD_OUT] * 3)), r"ended after 3 batches"),
        (
            change(batches=lambda seed: iter([HELD_OUT, {"x": X[:9], "y": Y[:9]}])),
            r"batch 1 of seed 0 is float32\[9, 3\] and float32\[9\], the first was float32\[64",
        ),
    ],
)
def test_functions_that_do_not_fit_together_are_refused_with_the_reason(task, message):
    with pytest.raises(InputError, match=message):
        make_trainer(task).prepare(SGD)(runs((0, 0.1)), "test", True)

"""What is chosen, measured and kept when an encoder is tuned on sentences."""

from __future__ import annotations

import math
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from sklearn.metrics import matthews_corrcoef

from benchmarks.papers import chezhegov2025_cola
from benchmarks.papers.chezhegov2025_tuning import (
    METHODS,
    Problem,
    Run,
    Setting,
    measure_noise,
    train,
)
from benchmarks.papers.encoder import Classifier, Size
from benchmarks.papers.kept import remembered
from benchmarks.papers.packing import pack
from benchmarks.papers.paper import Options

pytestmark = pytest.mark.thorough

RNG = np.random.default_rng(0)


def _draw(count: int) -> list[np.ndarray]:
    return [RNG.integers(20, size=size) for size in RNG.integers(2, 6, size=count)]


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Sixteen sentences to learn from, and more than one batch to validate on, not all full."""
    model = Classifier(Size(20, 8, 8, 8, 1, 2), 3, rngs=nnx.Rngs(0))
    classes = RNG.integers(3, size=33)
    return Problem("toy", model, _draw(16), classes[:16], _draw(33), classes, 24)


def test_a_finished_piece_is_read_and_an_unfinished_one_made_anew(tmp_path: Path) -> None:
    made = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        if len(made) == 1:
            raise KeyboardInterrupt
        return {"x": np.arange(3.0), "y": np.asarray(len(made))}

    with pytest.raises(KeyboardInterrupt):
        remembered(tmp_path / "runs", "Adam, rate 1e-05", make)
    for _ in range(2):
        found = remembered(tmp_path / "runs", "Adam, rate 1e-05", make)
        assert found["x"].tolist() == [0, 1, 2]
        assert int(found["y"]) == 2
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["Adam-rate-1e-05.npz"]
    assert int(remembered(None, "Adam, rate 1e-05", make)["y"]) == 3


def test_every_method_has_as_many_choices_and_clips_at_the_rate_of_adam(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Setting, int]] = []
    best = {
        "Adam": Setting(3e-5, math.inf),
        "Clip-Adam, leaves": Setting(3e-5, 0.1),
        "Clip-Adam, entries": Setting(3e-5, 0.002),
        "Clip-AdamD, leaves": Setting(3e-3, 0.1),
    }

    def run(options: Options, problem: Problem, name: str, setting: Setting, *rest: int) -> Run:
        asked.append((name, setting, rest[0]))
        distance = max(
            abs(math.log(x / y)) if x != y else 0.0
            for x, y in zip(setting, best[name], strict=True)
        )
        return Run(np.array([distance]), 0.0, 0.0)

    monkeypatch.setattr(chezhegov2025_cola, "_run", run)
    amount = chezhegov2025_cola._PRETRAINED
    found = chezhegov2025_cola._settings(Options(seed=7), problem, amount)
    for name, setting in best.items():
        assert found[name] == pytest.approx(setting)
    for name in METHODS:
        seeds = [seed for other, _, seed in asked if other == name]
        assert sorted(seeds) == [1007] * 2  # none of those that report
    assert min(seed for _, _, seed in asked) >= 7 + amount.seeds


def test_validation_counts_every_sentence_once(problem: Problem) -> None:
    params = problem.start(0)
    loss, correlation = problem.evaluate(params)
    logits = np.concatenate(
        [
            np.asarray(problem.logits(params, pack([sentence], np.zeros(1), 24)))
            for sentence in problem.validation
        ]
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, problem.validation_classes)
    assert loss == pytest.approx(float(losses.mean()), abs=1e-5)
    guesses = logits.argmax(axis=-1)
    assert correlation == pytest.approx(matthews_corrcoef(problem.validation_classes, guesses))


def test_batches_that_are_the_whole_set_have_no_noise(problem: Problem) -> None:
    params = problem.start(0)
    size = float(optax.tree.norm(problem.gradient(params, problem.batch(np.arange(16)))))
    assert size > 0.01
    np.testing.assert_allclose(measure_noise(problem, params, 0, 3), 0, atol=1e-4 * size)


def test_a_seed_sets_the_last_layer_and_leaves_the_model_as_it_was(problem: Problem) -> None:
    setting, method = Setting(1e-2, 1e-3), METHODS["Clip-Adam, leaves"]
    before = jax.tree.map(np.array, nnx.state(problem.model, nnx.Param))
    run, tuned = train(problem, method, setting, 3, 10, 2)
    np.testing.assert_array_equal(train(problem, method, setting, 3, 10, 2)[0].losses, run.losses)
    other, _ = train(problem, method, setting, 4, 10, 2)
    assert abs(other.losses - run.losses).min() > 1e-5
    assert run.losses.shape == (2,)
    assert 0 < run.clipped <= 1
    after = nnx.state(problem.model, nnx.Param)
    assert jax.tree.all(jax.tree.map(np.array_equal, before, after))
    moved = jax.tree.leaves(jax.tree.map(lambda x, y: float(abs(x - y).max()), before, tuned))
    assert np.median(moved) > 1e-3


def test_the_share_of_entries_that_are_clipped(problem: Problem) -> None:
    method = METHODS["Clip-Adam, entries"]
    shares = [
        train(problem, method, Setting(1e-3, level), 0, 4, 1)[0].clipped
        for level in (0.0, 1e-3, math.inf)
    ]
    params, expected = problem.start(0), []
    for batch in problem.batches(0, 4):  # at a rate of zero all are at the start
        leaves = jax.tree.leaves(problem.gradient(params, batch))
        expected.append(np.mean(np.abs(np.concatenate([np.ravel(leaf) for leaf in leaves])) > 1e-3))
    still = train(problem, method, Setting(0.0, 1e-3), 0, 4, 1)[0].clipped
    assert still == pytest.approx(np.mean(expected), rel=1e-5)
    assert 1 > shares[0] > shares[1] > shares[2] == 0

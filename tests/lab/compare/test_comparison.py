"""The comparison: which rates it chooses, what it trains, and what it keeps."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from clipax.lab._compare.comparison import choose_rate, compare
from clipax.lab._compare.settings import SELECTION_SEEDS, Settings
from clipax.lab._compare.train import Outcome, Trainer
from clipax.lab._errors import InputError

INF = math.inf


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.begun, self.methods, self.advances, self.results = None, [], 0, []

    def begin(self, stretches, kept):
        self.begun = (stretches, kept)

    def begin_method(self, name):
        self.methods.append(name)

    def advance(self):
        self.advances += 1

    def end_method(self, result):
        self.results.append(result)


@pytest.fixture
def trained(monkeypatch):
    """Replaces training by a formula, and keeps what was to be trained."""
    calls = []

    def prepare(trainer, method):
        def train(runs, split, curve, advance):
            part = "test" if split is trainer.data.test else "validation"
            calls.append((method.name, part, runs))
            for _ in range(trainer.plan.stretches(len(runs))):
                advance()
            points = len(trainer.plan.points) if curve else 1
            # The best rate is 0.1; 0.3 diverges.
            last = [INF if rate >= 0.3 else 0.1 + abs(math.log10(rate) + 1) for _, rate in runs]
            loss = np.repeat(np.array(last)[:, None], points, 1)
            return Outcome(loss, np.exp(-loss), np.isinf(loss[:, -1]), np.full(len(runs), 0.5))

        return train

    monkeypatch.setattr(Trainer, "prepare", prepare)
    return calls


def settings(**changes):
    return Settings(**{"data": "wine", "steps": 10, "seeds": 3, **changes})


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([[3.0, 3.0], [1.0, 1.2], [2.0, 2.0]], 1),
        # One diverged run in two makes a rate worse than a slow one...
        ([[0.8, 0.9], [0.1, INF]], 0),
        # ...but not worse than one that does not learn at all.
        ([[2.3, 2.4], [0.1, INF]], 1),
        # A diverged run is no better than the worst that survived.
        ([[9.0, 9.0], [INF, INF], [8.0, 8.0]], 2),
        ([[INF, INF], [INF, INF]], 0),
    ],
)
def test_the_rate_with_the_best_mean_validation_loss_is_chosen(losses, best):
    assert choose_rate(np.array(losses), guessing=2.3) == best


def test_rates_are_chosen_on_validation_and_results_come_from_other_seeds(tmp_path, trained):
    seen = Recorder()
    (result,) = compare(settings(learning_rates=(0.03, 0.1, 0.3)), ["sgd"], tmp_path, seen)
    (_, first, chosen), (_, second, reported) = trained
    assert (first, second) == ("validation", "test")
    assert {seed for seed, _ in chosen} == set(SELECTION_SEEDS) == {0, 1, 2, 3}
    assert len(chosen) == 3 * 4
    assert reported == [(seed, 0.1) for seed in (4, 5, 6)]
    assert result.learning_rate == 0.1
    assert result.seeds == (4, 5, 6)
    assert result.edge is None
    assert np.shape(result.validation_loss) == (3, 4)
    assert np.isinf(result.validation_loss[2]).all()
    assert seen.results == [result]
    assert seen.begun == (seen.advances, ())


def test_a_single_rate_needs_no_choice(tmp_path, trained):
    (result,) = compare(settings(learning_rates=(0.3,)), ["sgd"], tmp_path, Recorder())
    assert [part for _, part, _ in trained] == ["test"]
    assert result.learning_rate == 0.3
    assert result.diverged == 1


def test_a_rerun_trains_what_is_left_and_keeps_the_rest(tmp_path, trained, monkeypatch):
    names = ["sgd", "adam", "clip_sgd"]

    class Interrupting(Recorder):
        def begin_method(self, name):
            if name == "adam":
                raise KeyboardInterrupt
            super().begin_method(name)

    with pytest.raises(KeyboardInterrupt):
        compare(settings(), names, tmp_path, Interrupting())
    assert {name for name, _, _ in trained} == {"sgd"}
    first = (tmp_path / "results.jsonl").read_text().splitlines()
    assert len(first) == 2

    trained.clear()
    seen = Recorder()
    results = compare(settings(), names, tmp_path, seen)
    assert seen.begun[1] == ("sgd",)
    assert seen.methods == ["adam", "clip_sgd"]
    assert {name for name, _, _ in trained} == {"adam", "clip_sgd"}
    assert {result.method for result in results} == set(names)
    assert (tmp_path / "results.jsonl").read_text().splitlines()[:2] == first

    trained.clear()
    again = compare(settings(), names, tmp_path, Recorder())
    assert again == results
    assert trained == []


def test_without_an_observer_it_is_silent(tmp_path, trained, capfd):
    (result,) = compare(settings(learning_rates=(0.03, 0.1)), ["sgd"], tmp_path)
    (told,) = compare(settings(), ["sgd"], tmp_path / "told", Recorder())
    assert (result.learning_rate, told.method) == (0.1, result.method)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 11},
        {"seeds": 4},
        {"noise": "none"},
        {"noise_scale": 2.0},
        {"threshold": 2.0},
        {"batch_size": 8},
        {"model": "cnn", "data": "digits"},
        {"data": "breast-cancer"},
        {"learning_rates": (0.1, 1.0)},
    ],
)
def test_other_settings_in_the_same_folder_are_refused(tmp_path, trained, changes):
    compare(settings(), ["sgd"], tmp_path, Recorder())
    with pytest.raises(InputError, match=f"other settings.*{next(iter(changes))}"):
        compare(settings(**changes), ["sgd"], tmp_path, Recorder())


def test_a_changed_data_file_is_another_setting(tmp_path, trained):
    path = tmp_path / "mine.npz"
    for shift in (0.0, 1.0):
        x = np.random.default_rng(0).normal(size=(30, 4)) + shift
        np.savez(path, x=x, y=np.arange(30) % 3)
        if not shift:
            compare(settings(data=str(path)), ["sgd"], tmp_path / "out", Recorder())
    with pytest.raises(InputError, match="data_fingerprint"):
        compare(settings(data=str(path)), ["sgd"], tmp_path / "out", Recorder())


def test_equal_settings_written_differently_are_the_same(tmp_path, trained):
    compare(settings(noise="pareto:1.5"), ["sgd"], tmp_path, Recorder())
    trained.clear()
    compare(settings(noise=" pareto:1.50 "), ["sgd"], tmp_path, Recorder())
    assert trained == []


def test_bad_input_is_found_before_anything_is_trained_or_written(tmp_path, trained):
    out = tmp_path / "out"
    for bad, names in (
        (settings(), ["clip_sdg"]),
        (settings(data="nothing"), ["sgd"]),
        (settings(model="vgg"), ["sgd"]),
        (settings(model="cnn"), ["sgd"]),
    ):
        with pytest.raises(InputError):
            compare(bad, names, out, Recorder())
    assert not out.exists()
    assert trained == []


def test_real_training_end_to_end_learns_and_counts_divergence(tmp_path):
    # Rates that learn, and one that cannot but diverge.
    run = settings(steps=40, noise="none", learning_rates=(0.1, 1e9))
    (result,) = compare(run, ["sgd"], tmp_path, Recorder())
    assert result.learning_rate == 0.1
    assert np.isinf(result.validation_loss[1]).all()
    assert max(result.final_loss) < 0.5 < min(curve[0] for curve in result.loss)
    assert min(result.final_accuracy) > 0.8
    stored = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert stored[0]["settings"]["steps"] == 40
    assert stored[1]["result"]["validation_loss"][1] == [None] * 4

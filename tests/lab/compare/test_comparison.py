"""The comparison: which settings it tries and chooses, what it trains, and what it keeps."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from clipax.lab import Task, compare
from clipax.lab._compare import comparison
from clipax.lab._compare.plan import SELECTION_SEEDS
from clipax.lab._compare.progress import Silence
from clipax.lab._compare.train import Outcome, Trainer
from clipax.lab._errors import InputError
from tests.lab.compare.test_train import TASKS
from tests.thorough import thorough

INF = math.inf
BASE = {"steps": 10, "seeds": 3}


class Recorder(Silence):
    """A bar that keeps what it is told."""

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
def seen(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(comparison, "Bar", lambda: recorder)
    return recorder


@pytest.fixture
def trained(monkeypatch):
    """Replaces training by a formula, and keeps what was to be trained."""
    calls = []

    def prepare(trainer, method):
        def train(runs, part, curve, advance):
            calls.append((method.name, part, runs))
            for _ in range(trainer.plan.stretches(len(runs), trainer.width)):
                advance()
            points = len(trainer.plan.points) if curve else 1
            # The best rate is 0.1, the best threshold 2; a rate of 0.3 diverges.
            last = [
                INF
                if run.setting.rate >= 0.29
                else 0.1
                + abs(math.log10(run.setting.rate) + 1)
                + 0.01 * abs((run.setting.threshold or 2.0) - 2)
                for run in runs
            ]
            loss = np.repeat(np.array(last)[:, None], points, 1)
            norms = np.tile(np.linspace(1, 3, trainer.plan.steps), (len(runs), 1))
            fraction = np.full(len(runs), 0.5)
            return Outcome({"loss": loss}, np.isinf(loss[:, -1]), fraction, norms)

        return train

    monkeypatch.setattr(Trainer, "prepare", prepare)
    return calls


def run(methods, out=None, task="wine", **changes):
    return compare(task, methods, out=out, **{**BASE, **changes})


def test_settings_are_chosen_on_validation_and_results_come_from_other_seeds(trained, seen):
    found = run(["clip_by_global_norm+sgd"])
    (result,) = found.results
    watched, first, second, reported = trained
    assert watched[0] == "adamw"
    assert [part for _, part, _ in trained] == ["validation"] * 3 + ["test"]
    for _, _, runs in (first, second):
        assert {run.seed for run in runs} == set(SELECTION_SEEDS) == {0, 1, 2, 3}
        assert len(runs) == 4 * 4
    # Quantiles of the norms, which go from 1 to 3.
    assert result.settings[0][1] == 2.8
    assert (result.learning_rate, result.threshold, result.argument) == (0.1, 2.0, "max_norm")
    assert reported[2] == [(seed, (0.1, 2.0)) for seed in (4, 5, 6)]
    assert result.seeds == (4, 5, 6)
    assert result.edge is None
    assert np.shape(result.validation_loss) == (8, 4)
    assert np.isinf(result.validation_loss[2]).all()
    assert "max_norm=2), optax.sgd(learning_rate=0.1)" in result.python
    assert seen.results == [result]
    assert seen.begun == (seen.advances, ())
    assert found["clip_by_global_norm+sgd"] is result
    with pytest.raises(KeyError, match=r"no method 'sgd'; there are clip_by_global_norm\+sgd"):
        found["sgd"]


def test_a_single_setting_needs_no_choice(trained, seen):
    (result,) = run(["sgd"], learning_rates=(0.3,)).results
    assert [part for _, part, _ in trained[1:]] == ["test"]
    assert result.learning_rate == 0.3
    assert result.diverged == 1
    assert seen.begun == (seen.advances, ())


def test_thresholds_are_searched_at_a_single_rate_too(trained, seen):
    (result,) = run(["clip_by_global_norm+sgd"], learning_rates=(0.1,)).results
    assert [rate for rate, _ in result.settings] == [0.1] * 5
    assert result.threshold == 2.0
    assert seen.begun == (seen.advances, ())


def test_a_rerun_trains_what_is_left_and_keeps_the_rest(tmp_path, trained, seen, monkeypatch):
    names = ["sgd", "adam", "clip_sgd"]

    def interrupt(name):
        if name == "adam":
            raise KeyboardInterrupt

    monkeypatch.setattr(seen, "begin_method", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(names, tmp_path)
    assert {name for name, _, _ in trained} == {"adamw", "sgd"}
    first = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [next(iter(json.loads(line))) for line in first] == ["settings", "norms", "result"]

    monkeypatch.undo()
    trained.clear()
    again = Recorder()
    monkeypatch.setattr(comparison, "Bar", lambda: again)
    monkeypatch.setattr(Trainer, "prepare", lambda *_: pytest.fail("trained before the check"))
    with pytest.raises(InputError, match="other settings"):
        run(names, tmp_path, steps=11)


def test_finished_methods_are_not_trained_again(tmp_path, trained, seen):
    once = run(["sgd"], tmp_path)
    trained.clear()
    more = run(["sgd", "adam"], tmp_path)
    assert seen.begun[1] == ("sgd",)
    assert {name for name, _, _ in trained} == {"adam"}
    trained.clear()
    again = run(["sgd", "adam"], tmp_path)
    assert (again, trained) == (more, [])
    assert again["sgd"] == once["sgd"]


def test_without_progress_and_folder_it_is_silent_and_writes_nothing(
    tmp_path, monkeypatch, trained, capfd
):
    monkeypatch.chdir(tmp_path)
    run(["sgd"], progress=False)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


SETTINGS = [
    {"steps": 11},
    {"corrupt": 0.5},
    {"batch_size": 8},
    {"seeds": 4},
    {"noise": "none"},
    {"noise_scale": 2.0},
    {"task": "breast-cancer"},
    {"learning_rates": (0.1, 1.0)},
]


@pytest.mark.parametrize("changes", thorough(SETTINGS, SETTINGS[:3]))
def test_other_settings_in_the_same_folder_are_refused(tmp_path, trained, seen, changes):
    run(["sgd"], tmp_path)
    word = {"batch_size": "task's data"}.get(next(iter(changes)), next(iter(changes)))
    with pytest.raises(InputError, match=rf"(?s)other settings.*{word}"):
        run(["sgd"], tmp_path, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": lambda params, batch: TASKS["jax"].loss(params, batch) + 1.0},
        {"init": lambda key: {"w": TASKS["jax"].init(key)["w"] + 1.0}},
        {"batches": lambda seed: TASKS["jax"].batches(seed + 1)},
        {"test": {"x": TASKS["jax"].validation["x"][:9], "y": TASKS["jax"].validation["y"][:9]}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_changed_task_of_the_same_name_is_another_one(tmp_path, trained, seen, changes):
    run(["sgd"], tmp_path, TASKS["jax"])
    run(["sgd"], tmp_path, TASKS["jax"])
    with pytest.raises(InputError, match="data, model or loss has changed"):
        run(["sgd"], tmp_path, dataclasses.replace(TASKS["jax"], **changes))


def test_bad_input_is_found_before_anything_is_trained_or_written(tmp_path, trained, seen):
    out = tmp_path / "out"
    for bad, message in (
        ({"methods": ["clip_sdg"]}, "unknown method"),
        ({"task": "nothing"}, "unknown task 'nothing': give digits, breast-cancer, wine, text"),
        ({"model": "vgg"}, "unknown model"),
        ({"model": "cnn"}, "needs images"),
        ({"task": "text", "model": "mlp"}, "model does not apply to the task text"),
        ({"task": TASKS["jax"], "batch_size": 3}, "batch size does not apply to a task of your"),
        ({"task": TASKS["jax"], "corrupt": 0.1}, "the task task has no function `corrupt`"),
    ):
        with pytest.raises(InputError, match=message):
            run(**{"methods": ["sgd"], **bad}, out=out)
    assert not out.exists()
    assert trained == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"steps": 2.5}, "steps must be from 1 to 10,000,000, got 2.5"),
        ({"learning_rates": []}, "learning rates must be at least one number"),
    ],
)
def test_arguments_that_the_command_line_would_refuse_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        run(["sgd"], **changes)


def test_the_number_of_runs_at_once_changes_nothing(tmp_path):
    narrow = {"steps": 5, "seeds": 2, "progress": False, "out": tmp_path}
    one = compare(TASKS["jax"], "clip_by_global_norm+sgd", width=1, **narrow)
    two = compare(TASKS["jax"], "clip_by_global_norm+sgd, sgd", width=3, **narrow)
    assert two["clip_by_global_norm+sgd"] == one.results[0]
    assert two.norms == one.norms


def test_gradients_that_are_all_zero_are_told():
    flat = Task(
        init=TASKS["jax"].init,
        loss=lambda params, batch: 0.0 * params["w"].sum() + 3.0,
        batches=TASKS["jax"].batches,
        validation=TASKS["jax"].validation,
    )
    with pytest.raises(InputError, match=r"no gradient of an unclipped run .* loss is 3 before"):
        run(["sgd"], task=flat, progress=False)


def test_real_training_end_to_end_learns_and_counts_divergence(tmp_path):
    # Rates that learn, and one that cannot but diverge.
    found = run(
        ["sgd"],
        tmp_path,
        steps=40,
        noise="none",
        corrupt=0,
        learning_rates=(0.1, 1e9),
        progress=False,
    )
    (result,) = found.results
    assert result.learning_rate == 0.1
    assert np.isinf(result.validation_loss[1]).all()
    assert max(result.final_loss) < 0.5 < min(curve[0] for curve in result.loss)
    assert min(result.final("accuracy")) > 0.8
    assert "sgd diverged at learning rates 1e+09 (4 of 4 runs)." in str(found)
    stored = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert stored[0]["settings"]["steps"] == 40
    assert stored[2]["result"]["validation_loss"][1] == [None] * 4


def test_a_task_of_ones_own_is_trained_without_noise(tmp_path):
    found = compare(TASKS["linen"], ["sgd", "zclip+sgd"], steps=20, seeds=2, progress=False)
    assert found.title == "task: no noise added, 20 steps"
    assert {result.method for result in found.results} == {"sgd", "clip_by_zscore+sgd"}
    assert all(np.isfinite(result.final_loss).all() for result in found.results)
    assert found.summary[-1].startswith("20 steps and 2 seeds are a trial")
    found.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000

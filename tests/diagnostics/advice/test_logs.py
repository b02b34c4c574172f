"""What trainers log is read: rows, columns, nested, as text, with gaps and repetitions."""

from __future__ import annotations

import csv
import io
import json

import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from tests.diagnostics.advice.reading import found

NORMS = np.exp(np.random.default_rng(0).standard_normal(200))
EXPECTED = clipax.advise(NORMS)


class Frame:
    """A data frame, as far as it is read."""

    def __init__(self, columns):
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name):
        return np.asarray(self._columns[name])

    def to_dict(self):
        raise AssertionError("Columns are read one by one.")


def trainer_state():
    history = []
    for step, norm in enumerate(NORMS):
        history.append({"loss": 2.0, "grad_norm": norm, "learning_rate": 1e-4, "step": step})
        if step % 50 == 0:
            history.append({"eval_loss": 1.0, "eval_runtime": 9.0, "step": step})
    return {"best_metric": None, "global_step": 200, "log_history": history}


def as_csv():
    text = io.StringIO()
    writer = csv.DictWriter(text, ["Step", "train_loss", "train/grad_norm"])
    writer.writeheader()
    for step, norm in enumerate(NORMS):
        writer.writerow({"Step": step, "train_loss": 1.0, "train/grad_norm": norm})
        if step % 40 == 0:
            writer.writerow({"Step": step, "train_loss": "", "train/grad_norm": ""})
    return list(csv.DictReader(io.StringIO(text.getvalue())))


STEPS = np.arange(200)
LOGS = {
    "vector": NORMS,
    "list": NORMS.tolist(),
    "tuple": tuple(NORMS),
    "generator": (norm for norm in NORMS),
    "jax": [jnp.asarray(norm, jnp.float32) for norm in NORMS],
    "texts": [f"{norm:.6f}" for norm in NORMS],
    "trainer state": trainer_state(),
    "its history": trainer_state()["log_history"],
    "through json": json.loads(json.dumps(trainer_state())),
    "csv": as_csv(),
    "columns": {"step": STEPS, "grad_norm": NORMS, "name": "run 7"},
    "columns of lists": {"iteration": STEPS.tolist(), "gnorm": NORMS.tolist()},
    "nested columns": {"train": {"global_step": STEPS, "grad_norm": NORMS}},
    "nested rows": [{"train": {"grad_norm": norm}, "step": k} for k, norm in enumerate(NORMS)],
    "structured": np.rec.fromarrays([STEPS, NORMS], names="step,grad_norm"),
    "frame": Frame({"step": STEPS, "grad_norm": NORMS}),
    "rows and None": [row for norm in NORMS for row in ({"grad_norm": norm}, None)],
    "unsorted": [
        {"step": k, "grad_norm": NORMS[k]} for k in np.random.default_rng(1).permutation(200)
    ],
    "resumed": [{"step": k, "grad_norm": NORMS[k] * (1 if k >= 90 else 7)} for k in range(100)]
    + [{"step": k, "grad_norm": NORMS[k]} for k in range(200)],
    "clipped beside": [{"grad_norm": norm, "clipped_grad_norm": 1.0} for norm in NORMS],
    "settings beside": [{"optim/total_grad_norm": n, "max_grad_norm": 1.0} for n in NORMS],
    "twice": [{"grad_norm": norm, "train/grad_norm": norm} for norm in NORMS],
}


@pytest.mark.parametrize("name", LOGS)
def test_each_form_gives_the_same_advice(name):
    advice = clipax.advise(LOGS[name])
    assert (advice.steps, advice.nonfinite_count) == (200, 0)
    assert advice.threshold == EXPECTED.threshold
    assert advice.threshold_share == EXPECTED.threshold_share
    for quantile, value in EXPECTED.quantiles.items():
        assert advice.quantiles[quantile] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        *("grad_norm", "train/grad_norm", "train/gradient_norm", "grad_norm_total", "gnorm"),
        *("grad_2.0_norm_total", "global_norm", "total_norm", "gradNorm", "Gradient Norm"),
        *("grads/global_norm", "trainer.grad_norm", "actor/grad_norm", "norm", "Value"),
        *("optim/grad_norm_before_clip", "unclipped_grad_norm", "global_grad_norm", "grad-norm"),
    ],
)
def test_norms_are_found_under_their_usual_names(name):
    others = {"loss": 1.0, "max_grad_norm": 1.0, "param_norm": 3.0, "lr": 1e-3, "update_norm": 9.0}
    rows = [{name: norm, **others} for norm in NORMS]
    assert clipax.advise(rows).threshold == EXPECTED.threshold


@pytest.mark.parametrize(
    ("name", "is_step"),
    [
        *((name, True) for name in ("step", "_step", "train/global_step", "Step", "num_updates")),
        *((name, True) for name in ("iteration", "iter", "trainer/global_step", "optimizer_step")),
        *((name, False) for name in ("epoch", "steps_per_second", "eval_step", "time_per_step")),
    ],
)
def test_steps_are_found_under_their_usual_names(name, is_step):
    rows = [{name: 100 + 10 * place, "grad_norm": norm} for place, norm in enumerate(NORMS)]
    first = clipax.advise(rows).findings[0]
    expected = "steps 100 to 2,090, logged every 10 steps: what lies between is not seen"
    assert first == f"200 norms, {expected if is_step else 'rows 0 to 199'}."


def test_a_count_of_calls_comes_behind_the_steps():
    rows = [{"_step": 3 * k, "train/global_step": k, "grad_norm": 1.0 + k} for k in range(60)]
    assert clipax.advise(rows).findings[0] == "60 norms, steps 0 to 59."


def test_rows_without_a_norm_are_gaps():
    advice = clipax.advise(trainer_state())
    assert (advice.missing_count, advice.nonfinite_count) == (4, 0)
    where = "(steps 0, 50, 100 and 150)"
    said = f"4 of 204 rows have no norm {where}: evaluations or empty cells, left out."
    assert said in str(advice).splitlines()
    assert "not finite" not in str(advice)
    for nothing in (None, "", "None", "null", "-", np.ma.masked):
        advice = clipax.advise([*NORMS, nothing])
        assert (advice.steps, advice.missing_count, advice.nonfinite_count) == (200, 1, 0)
        said = "1 of 201 rows has no norm (row 200): an evaluation or an empty cell, left out."
        assert said in str(advice).splitlines()
    masked = np.ma.masked_array(NORMS, mask=NORMS > 3)
    assert clipax.advise(masked).missing_count == np.sum(NORMS > 3)


def test_nan_is_a_norm_that_is_not_finite_unless_the_row_is_of_another_kind():
    for text in (np.nan, "nan", "NaN", np.inf, "inf", "Infinity"):
        advice = clipax.advise([*NORMS, text])
        assert (advice.steps, advice.missing_count, advice.nonfinite_count) == (201, 0, 1)
        assert "1 of 201 steps (0.498 %) not finite (step 200)." in advice.findings
    # A data frame has NaN where nothing was logged.
    nan, evaluated = np.nan, np.arange(200) % 20 == 0
    columns = {
        "step": STEPS,
        "loss": np.where(evaluated, nan, 2.0),
        "grad_norm": np.where(evaluated, nan, NORMS),
        "eval_loss": np.where(evaluated, 1.0, nan),
    }
    advice = clipax.advise(columns)
    assert (advice.steps, advice.missing_count, advice.nonfinite_count) == (190, 10, 0)
    # Where a step went wrong, there is no entry of another kind; or the rate is there.
    columns["grad_norm"][7] = columns["loss"][7] = nan
    advice = clipax.advise(columns)
    assert (advice.missing_count, advice.nonfinite_count) == (10, 1)
    assert "not finite (step 7)" in str(advice)
    columns["eval_loss"][7] = 1.0
    columns["lr"] = np.where(evaluated, nan, 1e-3)
    assert clipax.advise(columns).nonfinite_count == 1


def test_places_are_told_one_by_one_where_they_are_few():
    norms = NORMS.copy()
    norms[[3, 50, 180]] = np.nan
    assert "3 of 200 steps (1.5 %) not finite (steps 3, 50 and 180)" in str(clipax.advise(norms))
    norms[10:20] = np.inf
    text = str(clipax.advise(norms))
    assert "13 of 200 steps (6.5 %) not finite (steps 3, 10, 11, ..., 180): look for" in text


def test_repeated_steps_count_once_and_it_is_said():
    advice = clipax.advise(LOGS["resumed"])
    assert "100 rows repeat a step: of each step the last row counts." in advice.findings
    assert (
        "The rows were not in the order of their steps: they are sorted by step." in advice.findings
    )
    assert "sorted" not in str(clipax.advise(LOGS["columns"]))
    assert "sorted by step" in str(clipax.advise(LOGS["unsorted"]))


def test_spacing_and_gaps_are_said():
    steps = np.r_[1, 10:1000:10, 3000:4000:10]
    first = clipax.advise({"step": steps, "grad_norm": NORMS}).findings[0]
    assert first.startswith("200 norms, steps 1 to 3,990, logged about every 10 steps: ")
    assert first.endswith("; nothing between steps 990 and 3,000.")
    assert "nothing between" not in clipax.advise(LOGS["columns"]).findings[0]
    # What is in a row is in a row of the log.
    high = clipax.advise({"step": 10 * STEPS, "grad_norm": 1.0 + STEPS}, threshold=151.0)
    assert found(high, r"at most (\d+) logged steps in a row \(steps 1,510 to 1,990\)") == ("49",)


def test_several_columns_of_norms_are_judged_one_by_one():
    rows = [{"actor/grad_norm": n, "critic/grad_norm": 0.0, "step": k} for k, n in enumerate(NORMS)]
    advice = clipax.advise(rows)
    assert set(advice.groups) == {"actor/grad_norm", "critic/grad_norm"}
    assert advice.groups["actor/grad_norm"].threshold == EXPECTED.threshold
    assert advice.threshold is None
    assert advice.zero_count == 200
    assert "`critic/grad_norm`: 200 of 200 norms are 0, 100 %: no step has a gradient." in str(
        advice
    )
    layers = [{f"grad_norm/layer{k}": k * norm for k in range(3)} for norm in NORMS]
    assert set(clipax.advise(layers).groups) == {f"grad_norm/layer{k}" for k in range(3)}
    many = [{f"grad_norm/layer{k}": k + norm for k in range(9)} for norm in NORMS]
    with pytest.raises(ValueError, match="at most 8 columns of norms, it has 9"):
        clipax.advise(many)
    with_total = [{**row, "grad_norm": norm} for row, norm in zip(many, NORMS, strict=True)]
    assert clipax.advise(with_total).threshold == EXPECTED.threshold


def test_norms_behind_a_clip_propose_nothing():
    rows = [{"clipped_grad_norm": min(norm, 1.0)} for norm in NORMS]
    advice = clipax.advise(rows)
    assert advice.threshold is None
    assert "behind a clip" in str(advice)
    piled = clipax.advise(np.minimum(NORMS, 1.0))
    assert f"{np.sum(NORMS >= 1)} of 200 norms equal the largest: if they are logged" in str(piled)
    for norms in (NORMS, np.ones(200), np.repeat([25.0, 25.125], 100)):
        assert "equal the largest" not in str(clipax.advise(norms))


REFUSED = {
    "a text": ("grad_norm.json", "`history_or_state` must be .* Got a str"),
    "a number": (3.0, "`history_or_state` must be .* Got a float"),
    "a matrix": (np.ones((3, 3)), r"`history_or_state` must be .* Got an array of shape \(3, 3\)"),
    "rows of rows": ([[1.0, 2.0], [3.0]], "entry 0 is a list"),
    "a word": ([1.0, "high"], "entry 1 is 'high'"),
    "a flag": ([True, False], "entry 0 is True"),
    "complex": ([1j], "entry 0 is 1j"),
    "beyond float64": ([1.0, 10**400], "in the range of float64, entry 1 is 1000"),
    "a date": (np.array(["2020-01-01"], "datetime64[D]"), "entry 0 is a date"),
    "a column of steps that is shorter": (
        {"grad_norm": [1.0, 2.0], "step": [1]},
        "`step` must be as long as the norms, 2 entries, got 1",
    ),
    "negative": ([1.0, -1.0], "which are not negative, got -1 at step 1"),
    "minus infinity": ([1.0, -np.inf], "which are not negative, got -inf at step 1"),
    "a negative step": ([{"step": 8, "grad_norm": -2}], "which are not negative, got -2 at step 8"),
    "no norms": ([{"loss": 1.0, "step": 3}], "must have a column .* Its columns: `loss`, `step`"),
    "settings only": ([{"max_grad_norm": 1.0}], "must have a column of gradient norms"),
    "empty rows": ([{}], "Its columns: none"),
    "columns only": ({"loss": [1.0, 2.0]}, "Its columns: `loss`"),
    "numbers and rows": ([{"grad_norm": 1.0}, 2.0], "row 1 is a float"),
    "a word in a column": ({"grad_norm": ["x"]}, "`grad_norm` must hold numbers.* entry 0 is 'x'"),
    "a matrix in a column": ({"grad_norm": np.ones((2, 2))}, "`grad_norm` must be a vector"),
    "lengths": (
        {"grad_norm": [1.0, 2.0], "threshold": [1.0], "clip_factor": [1.0]},
        "`threshold` must be as long as `grad_norm`, 2 entries, got 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_what_was_found(name):
    history, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        clipax.advise(history)


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "longdouble", "int8"]
)
def test_dtypes_are_read_as_they_are(dtype):
    norms = jnp.arange(100).astype(dtype) if dtype == "bfloat16" else np.arange(100).astype(dtype)
    advice = clipax.advise(norms)
    assert (advice.steps, advice.zero_count) == (100, 1)
    assert advice.quantiles[0.5] == 50
    assert advice.threshold_share == 0.1


def test_norms_beyond_float32_cause_no_warning():
    advice = clipax.advise([1e39] + [1.0] * 60 + [1e-300], threshold=1e300)
    assert (advice.steps, advice.nonfinite_count, advice.clip_fraction) == (62, 0, 0.0)

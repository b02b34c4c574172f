"""Logged norms, and what is measured on them."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import clipax
from benchmarks import command, norms
from benchmarks.runs import adamw, make_run, train
from benchmarks.suites import choose, logs, noise
from clipax.diagnostics import tail_shares
from clipax.lab._compare.tasks.choose import make_task


def test_every_public_log_says_where_it_is_from() -> None:
    entries = json.loads(norms.PUBLIC.read_text())
    assert len(entries) >= 6
    assert len({entry["kind"] for entry in entries}) >= 3
    for entry in entries:
        assert entry["repository"].count("/") == 1
        assert entry["path"]
        assert len(entry["commit"]) == 40
        assert entry["about"]
    assert norms.PUBLIC.stat().st_size + norms.OWN.stat().st_size < 300_000


@pytest.mark.parametrize("path", [norms.PUBLIC, norms.OWN], ids=lambda path: path.stem)
def test_logs_are_norms(path: Path) -> None:
    read = norms.load(path)
    assert len({one.name for one in read}) == len(read)
    for log in read:
        assert log.every >= 1
        for stretch in log.stretches:
            assert stretch.first >= 0
            assert len(stretch.norms) >= 30
            assert np.isfinite(stretch.norms).all()
            assert (stretch.norms >= 0).all()


def test_logs_are_written_to_four_digits(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    stretch = norms.Stretch(3, np.array([1.23456, 0.0]))
    norms.save(path, [norms.Log("a", "b", "c", 10, (stretch,))])
    (read,) = norms.load(path)
    assert read[:4] == ("a", "b", "c", 10)
    assert read.stretches[0].first == 3
    np.testing.assert_array_equal(read.stretches[0].norms, [1.235, 0.0])


def test_ratios_are_over_the_median_of_the_norms_before() -> None:
    sizes = np.array([1.0] * 9 + [0.0, 2.0, 4.0, 1.0])
    # Nine norms that are not zero are too few; the tenth is the 2 itself.
    np.testing.assert_allclose(logs.compute_ratios(sizes), [4.0, 1.0])
    long = np.r_[np.full(50, 8.0), np.full(logs.WINDOW, 1.0), 6.0]
    assert logs.compute_ratios(long)[-1] == 6.0  # what lies further back is forgotten


def test_a_log_is_described() -> None:
    sizes = np.r_[np.ones(20), 2.5, 4.0, 1.0, 30.0, 0.0, np.ones(5)]
    row = logs.describe(norms.Log("a", "b", "c", 1, (norms.Stretch(0, sizes),)))
    assert row["norms"] == len(sizes) - 1 - logs.LEAST
    assert row["zero"] == pytest.approx(1 / len(sizes))
    assert [row[f"above {one}"] * row["norms"] for one in (2, 3, 10)] == pytest.approx([3, 2, 1])
    assert row["in a row"] == pytest.approx(1 / 3)
    assert row["most"] == 30
    assert "99.9 %" not in row


def test_the_public_logs_are_what_the_page_says() -> None:
    rows = {row["of"]: row for row in map(logs.describe, norms.load(norms.PUBLIC))}
    pretraining = rows["GPT-2 124M"]
    assert pretraining["norms"] > 1000
    assert pretraining["above 3"] == 0
    assert float(pretraining["tail"].split()[0]) > 2
    assert rows["GRPO, 35B MoE"]["above 3"] > 0.1


@pytest.mark.parametrize(
    ("heavy", "make"),
    [
        ("neither", lambda random, shape: random.standard_normal(shape)),
        (
            "norm",
            lambda random, shape: (
                random.standard_normal(shape) * np.exp(random.normal(0, 0.5, (shape[0], 1)))
            ),
        ),
        ("entries", lambda random, shape: random.standard_t(5, shape)),
        (
            "norm and entries",
            lambda random, shape: (
                random.standard_t(5, shape) * np.exp(random.normal(0, 0.5, (shape[0], 1)))
            ),
        ),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_the_noise_is_taken_apart(heavy: str, make: object) -> None:
    drawn = make(np.random.default_rng(0), (200, 500))  # type: ignore[operator]
    row = noise.describe(5 + drawn)
    assert row["heavy"] == heavy
    spread = drawn.std(axis=0)
    whole = np.mean(((drawn - drawn.mean(axis=0)) / spread) ** 4) / 3
    in_norm, in_entries = (float(row[f"in {part}"].split()[0]) for part in ("norm", "entries"))
    assert in_norm * in_entries == pytest.approx(whole, rel=0.25)


def test_intervals_of_the_parts_hold_those_of_the_law() -> None:
    random, sizes = np.random.default_rng(0), 0.3
    # Of 500 normal draws of 200 entries, each divided by its size.
    laws = {"norm": np.exp(4 * sizes**2), "entries": 200 / 202 * 499 / 501}
    held = []
    for _ in range(100):
        drawn = random.standard_normal((500, 200)) * np.exp(random.normal(0, sizes, (500, 1)))
        parts = noise.bound_parts(drawn)
        held.append([low <= laws[name] <= high for name, (_, low, high) in parts.items()])
    norm, entries = np.mean(held, axis=0)
    assert norm > 0.83
    assert entries > 0.88


def test_intervals_are_of_a_jackknife_of_logarithms() -> None:
    random = np.random.default_rng(0)
    drawn = random.standard_t(4, (90, 30)) * np.exp(random.normal(0, 0.3, (90, 1)))
    left = [
        noise.split_moment(np.delete(drawn, np.s_[place :: noise.GROUPS], axis=0))
        for place in range(noise.GROUPS)
    ]
    for column, (value, low, high) in enumerate(noise.bound_parts(drawn).values()):
        logs = np.log([row[column] for row in left])
        error = np.sqrt(19 / 20 * np.sum((logs - logs.mean()) ** 2))
        assert value == pytest.approx(noise.split_moment(drawn)[column])
        assert np.log([value / low, high / value]) == pytest.approx(2.093 * error, rel=1e-3)


def test_a_part_on_the_limit_is_perhaps_heavy() -> None:
    random = np.random.default_rng(0)
    sizes = np.exp(random.normal(0, (np.log(noise.HEAVY) / 4) ** 0.5, (400, 1)))
    row = noise.describe(random.standard_normal((400, 300)) * sizes)
    assert row["heavy"] == "perhaps norm"


def test_outliers_are_counted_by_column_and_on_both_sides() -> None:
    random = np.random.default_rng(0)
    normal = 10.0 ** np.arange(3) * random.standard_normal((200_000, 3))
    moderate, extreme = noise.count_outliers(normal)
    assert moderate == pytest.approx(0.0035, rel=0.05)
    assert extreme < 1e-5
    shares = tail_shares(normal[:, 0])
    assert shares.moderate == pytest.approx(moderate, rel=0.1)
    normal[:2000, 1] = -1e3  # one in a hundred of one column in three, on one side
    again = noise.count_outliers(normal)
    assert again[1] == pytest.approx(0.01 / 3 / 2, rel=0.05)


def test_a_run_tells_its_norms() -> None:
    run = make_run(make_task("digits", batch_size=16))
    shown: list[int] = []
    found = train(run, adamw(run, 30), 30, lambda step, params, state: shown.append(step))
    assert shown == list(range(30))
    gradient = jax.grad(run.loss)(run.params, next(iter(run.batches(0))))
    assert found["grad_norm"][0] == pytest.approx(float(clipax.global_norm(gradient)))
    assert found["loss"][-5:].mean() < found["loss"][:5].mean()
    drawn = noise.draw(run, run.params, 2)
    assert list(drawn) == ["first", "last", "second"]
    for gradients in drawn.values():
        assert gradients.shape[0] == 2
        assert not np.array_equal(gradients[0], gradients[1])


def test_the_runs_are_the_built_in_tasks_and_more_of_the_text() -> None:
    looked = noise.list_runs()
    assert len({(one.name, one.batch_size) for one in looked}) == len(looked)
    built_in = {one.name for one in looked if one.built_in}
    assert built_in == {"text", "digits", "digits, cnn", "breast-cancer", "wine"}
    by_name = {(one.name, one.batch_size): one.task for one in looked}
    for name, blocks in (("text", 2), ("text, 1 layer", 1), ("text, 4 layers", 4)):
        parts = noise.split_parts(make_run(by_name[name, 8]).params)
        assert [part for part in parts if part.startswith("block")] == [
            f"block {place}" for place in range(blocks)
        ]
        assert set(parts) - {f"block {place}" for place in range(blocks)} == {
            "letters",
            "places",
            "norm",
            "readout",
        }
    wide = by_name["text, twice as wide", 32]
    assert next(iter(wide.batches(0))).shape == (32, 65)


def test_a_log_is_replayed() -> None:
    sizes = np.r_[np.full(10, 4.0), np.full(110, 0.5)]
    log = norms.Log("a", "b", "c", 1, (norms.Stretch(0, sizes), norms.Stretch(500, sizes[:30])))
    uses = ["clip_by_global_norm(1.0)", "skip_nonfinite(...)", "clip_by_ema()"]
    rows = choose.replay(log, [one for one in choose.CHOICES if one.use in uses])
    assert list(rows) == uses[:2]  # the last has a norm for each leaf
    assert rows["skip_nonfinite(...)"]["share"] == 0
    row = rows["clip_by_global_norm(1.0)"]
    assert row["share"] == pytest.approx(20 / 150)
    assert row["smallest"] == pytest.approx(0.25)
    assert row["first share"] == pytest.approx(0.1)
    assert row["first smallest"] == pytest.approx(0.25)


def test_a_choice_is_run() -> None:
    run = make_run(make_task("digits", batch_size=8))
    choices = {one.use: one for one in choose.CHOICES}
    constant = choose._run(choices["clip_by_global_norm(1.0)"], run, 6)
    assert constant["share"] == constant["first share"] == 1
    assert 0 < constant["smallest"] < 0.5
    entries = choose._run(choices["clip_by_value(1.0)"], run, 6)
    assert entries["share"] == 0  # its factor is that of the norms in front and behind


def test_every_choice_has_a_cost_and_a_place_in_the_readme() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for one in choose.CHOICES:
        name = one.method.rpartition(".")[-1]
        assert f"{name}(" in readme.replace("(optimizer)", "("), one.use
        assert one.use.split("(")[0] in dir(clipax)


def test_commands_are_there() -> None:
    for name in ("logs", "noise", "choose"):
        assert command.load_suite(name).about

"""The benchmark itself: ratios, verdicts, tables, command line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import measure, timing, trees
from benchmarks.cases import BARE, CASES, CLIPAX, PEER
from benchmarks.measure import TWIN, Record, environment, pool_repeats
from benchmarks.report import render
from benchmarks.step_cost import main
from benchmarks.targets import HOLDS, MISSED, NEAR, TARGETS, judge
from benchmarks.timing import Ratio, Runner


@pytest.mark.parametrize(
    ("name", "leaves", "entries"),
    [("leaf", 1, 32 * 2**20), ("transformer", 148, 30e6), ("many", 2000, 0.93e6)],
)
def test_sizes_of_the_trees(name: str, leaves: int, entries: float) -> None:
    shapes = jax.tree.leaves(trees.SHAPES[name](1.0), is_leaf=lambda node: isinstance(node, tuple))
    assert len(shapes) == leaves
    assert sum(np.prod(shape) for shape in shapes) == pytest.approx(entries, rel=0.01)


def test_gradients_are_above_the_threshold_of_the_clip() -> None:
    for name, scale in (("leaf", 1e-4), ("transformer", 1e-3), ("many", 0.01)):
        grads = trees.gradients(name, jnp.float32, scale=scale)
        assert sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(grads)) > 4


def test_zero_leaves() -> None:
    grads = trees.gradients("many", jnp.float32, scale=0.005)
    zero = [not leaf.any() for leaf in jax.tree.leaves(trees.with_zero_leaves(grads))]
    assert zero == [False, True, True] * 3 + [False]
    assert not trees.with_zero_leaves({"only": jnp.ones(3)})["only"].any()


def test_interleaved_steps_train() -> None:
    def step(params: jax.Array, state: jax.Array, grads: jax.Array) -> tuple[jax.Array, jax.Array]:
        return params - grads, state + 1

    step = jax.jit(step, donate_argnums=(0, 1))
    runners = {name: Runner(step, jnp.zeros(8), jnp.int32(0), jnp.ones(8)) for name in "ab"}
    times = timing.interleave(runners, rounds=4)
    assert all(samples.shape == (4,) and (samples > 0).all() for samples in times.values())
    for runner in runners.values():
        assert runner.state >= 12  # two to calibrate, and two in each of five rounds
        np.testing.assert_array_equal(runner.params, -float(runner.state) * np.ones(8))


def test_ratios_are_taken_within_rounds() -> None:
    """A slow round slows both; the ratio of medians would be 2."""
    busy = np.array([1.0, 1.0, 10.0, 10.0, 10.0])
    ratio = timing.median_ratio(busy * [3, 3, 3, 3, 1], busy)
    assert (ratio.median, ratio.high) == (3, 3)
    pooled = timing.pool([replace(ratio, repeats=(one,)) for one in (0.9, 1.0, 1.05)])
    assert pooled.median == 1.0
    assert pooled.error == pytest.approx(0.1)


def _record(program: str, time: float, control: float = 1.0, **counts: float) -> Record:
    values = {"traffic": 4.0, "temporaries": 0.0, **counts}
    roles = (BARE, PEER, CLIPAX)
    ratios = {role: Ratio(time, time, time, (time,)) for role in roles}
    ratios[CLIPAX] = Ratio(control, control, control, (control,))
    return Record(
        tree="leaf",
        dtype="f32",
        case="sgd",
        program=program,
        reductions=1,
        conditionals=1,
        compile_seconds=time,
        step_seconds=time,
        ratios=ratios,
        compile_ratios=ratios,
        **values,
    )


@pytest.mark.parametrize(
    ("time", "control", "verdict"),
    [
        (0.9, 1.0, HOLDS),
        (1.0, 1.5, HOLDS),
        (1.04, 1.05, NEAR),
        (1.04, 0.95, NEAR),
        (1.06, 0.95, MISSED),
    ],
)
def test_verdicts_on_times(time: float, control: float, verdict: str) -> None:
    findings = judge([_record(CLIPAX, time), _record(TWIN, 1.0, control)])
    assert [one.verdict for one in findings if one.target.quantity == "time"] == [verdict]


def test_verdicts_on_counts_know_no_spread() -> None:
    records = [_record(CLIPAX, 1.0, traffic=4.5, temporaries=1.0), _record(TWIN, 1.0, 2.0)]
    verdicts = {one.target.quantity: one.verdict for one in judge(records)}
    assert verdicts == {"traffic": MISSED, "temporaries": MISSED, "time": HOLDS}


def test_every_target_can_be_measured() -> None:
    for target in TARGETS:
        case = CASES[target.case]
        assert {target.program, target.over} <= set(case.programs)
        assert set(target.trees) <= set(case.trees)
    for case in CASES.values():
        assert {BARE, PEER, CLIPAX} <= set(case.programs)
        assert case.zero_leaves <= set(case.programs)


def test_report() -> None:
    pooled = pool_repeats([_record(CLIPAX, time) for time in (0.5, 0.7, 0.6)])
    assert pooled.step_seconds == 0.6
    records = [_record(BARE, 0.5), pooled, _record(TWIN, 1.0, 1.25)]
    text = render(records, judge(records), {"device": "abacus"}, markdown=True)
    assert "device abacus" in text
    assert "| clipax, again | " in text
    assert "1.250 +-0.250" in text
    plain = render(records, judge(records), {"device": "abacus"})
    assert "|" not in plain
    assert "sgd: time / optax.clip_by_global_norm" in plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trees", "oak"], "invalid choice: 'oak'"),
        (["--cases", "sdg"], "invalid choice: 'sdg'"),
        (["--rounds", "0"], "at least 1, got '0'"),
        (["--rounds", "many"], "at least 1, got 'many'"),
        (["--scale", "-1"], "in (0, 8], got '-1'"),
        (["--scale", "nan"], "in (0, 8], got 'nan'"),
        (["--scale", "half"], "in (0, 8], got 'half'"),
        (["--json", "nowhere/at/all.json"], "cannot write nowhere/at/all.json: No such file"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_command_line(tmp_path: Path) -> None:
    """As a user runs it, on a small tree."""
    choice = "--trees many --dtypes f32 --cases sgd --rounds 2 --repeats 2 --scale 0.01"
    files = [f"--json={tmp_path / 'out.json'}", f"--markdown={tmp_path / 'out.md'}"]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.step_cost", *choice.split(), *files],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sgd: compiling 4 programs" in run.stderr
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["settings"]["optax"]
    assert [one["program"] for one in content["records"]] == [BARE, PEER, CLIPAX, TWIN]
    assert content["findings"] == []  # the figures are those of the full trees
    assert "clipax, again" in run.stdout
    assert "| clipax, again |" in (tmp_path / "out.md").read_text()


def test_the_environment_is_that_of_the_source_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what is installed, which may be another version, or none."""
    package = tmp_path / "clipax" / "__init__.py"
    monkeypatch.setattr(measure.clipax, "__file__", str(package))
    monkeypatch.setattr(measure.clipax, "__version__", "0.0.0")
    assert environment()["clipax"] == "0.0.0"  # nothing tells
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "7.8.9"\n')
    assert environment()["clipax"] == "7.8.9"
    assert "commit" not in environment()

    def git(*command: str) -> str:
        options = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
        run = ["git", "-C", str(tmp_path), *options, *command]
        return subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()

    package.parent.mkdir()
    package.touch()
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    head = git("rev-parse", "--short", "HEAD")
    assert environment()["commit"] == head
    (tmp_path / "results.json").touch()  # what a run writes is no change
    assert environment()["commit"] == head
    package.write_text("changed = True")
    assert environment()["commit"] == f"{head}+"

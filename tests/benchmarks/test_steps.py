"""What a step costs: the command and its cases, and figures to reach."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.command import main
from benchmarks.harness import records
from benchmarks.harness.clock import COPY, READ
from benchmarks.harness.records import HOLDS, MISSED, NEAR, Content, Row
from benchmarks.suites import figures, steps
from benchmarks.suites.cases import BARE, CASES, CLIPAX, PEER, TWIN
from benchmarks.suites.steps import SUITE


def _show(path: Path) -> Content:
    return records.load(path)


def test_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = f"--json={tmp_path / 'out.json'}"
    choice = "steps --trees 1e4x1 1e4x4 --dtypes f32 --cases sgd --rounds 2"
    assert main([*choice.split(), file]) == 0  # too small for figures to reach
    content = _show(tmp_path / "out.json")
    assert [run["device"][:3] for run in content.runs] == ["cpu"]
    one, four = ([row for row in content.rows if row["leaves"] == leaves] for leaves in (1, 4))
    for leaves, rows in ((1, one), (4, four)):
        named = {row["program"]: row for row in rows}
        assert named.keys() == {BARE, READ, COPY, PEER, CLIPAX, TWIN}
        assert named[CLIPAX]["least"] == named[PEER]["least"] == 4
        # More than the least: tests do not compile as users do.
        assert named[CLIPAX]["traffic"] > 3.99
        assert named[BARE]["traffic"] == pytest.approx(3, rel=0.05)
        assert named[CLIPAX]["reductions"] >= leaves
        assert named[COPY]["share_of_copy"] == pytest.approx(1)
        assert named[CLIPAX]["over_clipax"] == named[CLIPAX]["compile_over_clipax"] == 1
        assert named[TWIN]["strayed"] == pytest.approx(
            abs(named[TWIN]["over_clipax"] - 1), abs=1e-4
        )
        assert all(row["step_seconds"] > 0 for row in rows)
    assert (
        "case sgd, dtype f32, tree 1e4x4: clip by global norm, then SGD" in capsys.readouterr().out
    )

    # Of a tree that was measured with fewer programs nothing older is kept.
    again = "steps --trees 1e4x4 --dtypes f32 --cases sgd --rounds 1 --merge --programs none"
    assert main([*again.split(), file]) == 0
    both = _show(tmp_path / "out.json")
    few = {row["program"]: row for row in both.rows if row["run"] == 1}
    assert few.keys() == {BARE, READ, COPY, CLIPAX}
    assert "over_unclipped" in few[CLIPAX]
    assert "over_peer" not in few[CLIPAX]
    assert [run["rounds"] for run in both.runs] == ["2", "1"]
    assert {(row["leaves"], row["run"]) for row in both.rows} == {(1, 0), (4, 1)}
    assert [row for row in both.rows if row["run"] == 0] == one


@pytest.mark.thorough
def test_repeats_run_in_fresh_processes(tmp_path: Path) -> None:
    """As a user runs it."""
    choice = "steps --trees 1e4x1 --dtypes f32 --cases sgd --rounds 2 --repeats 2"
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", *choice.split(), f"--json={tmp_path / 'out.json'}"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sgd f32 1e4x1, repeat 2" in run.stderr
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["runs"][0]["repeats"] == "2"
    programs = [row["program"] for row in content["rows"]]
    assert programs[:4] == [BARE, PEER, CLIPAX, TWIN]
    assert "clipax, again" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trees", "oak"], "or like 1e6x150, got 'oak'"),
        (["--trees", "100x50"], "8 entries a leaf at least, got '100x50'"),
        (["--cases", "sdg"], "invalid choice: 'sdg'"),
        (["--rounds", "0"], "at least 1, got '0'"),
        (["--repeats", "many"], "at least 1, got 'many'"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["steps", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_what_runs_by_default() -> None:
    chosen = SimpleNamespace(trees=None, dtypes=None, cases=None)
    jobs = list(steps.choose_jobs(chosen))  # type: ignore[arg-type]
    assert ("leaf", "bf16", "agc") in jobs
    assert ("1e6x150", "bf16", "adam") in jobs
    # What compiles for minutes only where it has a figure to reach.
    assert [job for job in jobs if job[0] == "1e6x4000"] == [("1e6x4000", "f32", "sgd")]
    assert {job[1:] for job in jobs if job[0] == "many"} == {("f32", "sgd"), ("f32", "adam")}
    assert not {"methods", "scopes"} & {case for *_, case in jobs}


def _row(program: str, **values: float) -> Row:
    """With all that a figure may be asked of."""
    keys = ("traffic", "temporaries", "compile_over_peer", "compile_over_clipax", "share_of_copy")
    over = ("over_unclipped", "over_peer", "over_clipax", "over_limit")
    return {"program": program, **dict.fromkeys((*keys, *over), 1.0), "strayed": 0.0} | values


def test_repeats_are_pooled() -> None:
    """Medians, and the worst of what the control strayed."""
    repeats = [
        [_row(CLIPAX, step_seconds=time), _row(TWIN, strayed=strayed)]
        for time, strayed in ((0.5, 0.1), (0.7, 0.0), (0.6, 0.05))
    ]
    ours, twin = steps.pool_repeats(repeats)
    assert ours["step_seconds"] == 0.6
    assert (twin["program"], twin["strayed"]) == (TWIN, 0.1)


def _rows(case: str, dtype: str, tree: str, **ours: float) -> list[Row]:
    """A tree of a million entries unless it says; the control strays by a twentieth or a tenth."""
    leaves = int(tree.split("x")[1]) if "x" in tree else 1
    where = {"case": case, "dtype": dtype, "tree": tree, "entries": 10**6, "leaves": leaves}
    twin = {"strayed": 0.05}
    twin |= {key: 1.1 * ours[key] for key in ours if key.startswith(("over", "share"))}
    least = {"traffic": 0.0, "temporaries": 0.0}
    changed = {CLIPAX: least | ours, TWIN: least | twin}
    return [_row(name, **changed.get(name, {})) | where for name in (BARE, PEER, CLIPAX, TWIN)]


@pytest.mark.parametrize(
    ("tree", "case", "dtype", "ours", "verdicts"),
    [
        # Traffic, temporaries, the peer's time.
        ("leaf", "sgd", "f32", {"over_peer": 0.9}, [HOLDS, HOLDS, HOLDS]),
        ("leaf", "sgd", "f32", {"over_peer": 1.09}, [HOLDS, HOLDS, NEAR]),
        ("leaf", "sgd", "f32", {"over_peer": 1.11, "traffic": 4.5}, [MISSED, HOLDS, MISSED]),
        ("leaf", "sgd", "f32", {"temporaries": 0.2}, [HOLDS, MISSED, HOLDS]),
        ("many", "sgd", "f32", {"compile_over_peer": 0.66}, [MISSED]),
        ("many", "scopes", "f32", {}, []),
        # Temporaries, the time over the limit, the peer's time.
        ("1e6x1", "sgd", "f32", {"over_limit": 1.1, "over_peer": 1.09}, [HOLDS, HOLDS, NEAR]),
        ("1e6x1", "sgd", "bf16", {"temporaries": 0.02, "over_limit": 1.2}, [MISSED, NEAR, HOLDS]),
        ("1e6x1", "adam", "f32", {"temporaries": 0.02, "over_limit": 1.3}, [MISSED, MISSED, HOLDS]),
        ("1e6x1", "adam", "bf16", {"temporaries": 1.001, "over_limit": 1.3}, [HOLDS, HOLDS]),
        ("1e6x1", "adam", "bf16", {"temporaries": 1.1, "over_peer": 1.2}, [MISSED, MISSED]),
        # The time to compile, the peer's time, the unclipped one.
        (
            "1e6x2000",
            "adam",
            "f32",
            {"compile_over_peer": 0.9, "over_unclipped": 1.3, "over_limit": 9.0},
            [MISSED, HOLDS, NEAR],
        ),
        ("1e6x2000", "sgd", "f32", {"compile_over_peer": 0.9, "over_peer": 1.2}, [MISSED]),
        ("1e6x4000", "sgd", "f32", {"compile_over_peer": 0.31}, [MISSED, HOLDS]),
    ],
)
def test_verdicts(
    tree: str, case: str, dtype: str, ours: dict[str, float], verdicts: list[str]
) -> None:
    found = figures.judge(_rows(case, dtype, tree, **ours), "cpu: x")
    assert [one.verdict for one in found] == verdicts
    small = [row | {"entries": 10**5} for row in _rows(case, dtype, tree, **ours)]
    assert "x" not in tree.split(",")[0] or not list(figures.judge(small, "cpu: x"))


@pytest.mark.parametrize(
    ("case", "dtype", "entries", "share", "verdicts"),
    [
        ("adam", "f32", 256 * 10**6, 0.9, [HOLDS]),
        ("adam", "f32", 1024 * 10**6, 0.85, [NEAR]),  # the control strays by a tenth
        ("adam", "f32", 256 * 10**6, 0.8, [MISSED]),
        ("adam", "f32", 255 * 10**6, 0.1, []),
        ("adam", "bf16", 256 * 10**6, 0.1, []),
        ("sgd", "f32", 256 * 10**6, 0.1, []),
    ],
)
def test_verdicts_on_a_gpu(
    case: str, dtype: str, entries: int, share: float, verdicts: list[str]
) -> None:
    """Figures for CPUs are not judged there, whatever was measured."""
    bad = {"temporaries": 9.0, "over_peer": 9.0, "over_limit": 9.0}
    rows = _rows(case, dtype, "1e6x1", share_of_copy=share, **bad)
    found = list(figures.judge([row | {"entries": entries} for row in rows], "gpu: x"))
    assert [one.verdict for one in found] == verdicts
    assert [(one.limit, one.value) for one in found] == [(0.9, share)] * len(verdicts)


def test_what_was_left_out_is_not_judged(tmp_path: Path) -> None:
    """Without a twin nothing is forgiven, without optax's there is nothing to compare with."""
    rows = _rows("sgd", "f32", "1e6x1", over_limit=1.11, share_of_copy=0.89)
    rows = [row for row in rows if row["program"] in (BARE, CLIPAX)]
    for row in rows:
        del row["over_peer"], row["compile_over_peer"]
    findings = list(figures.judge(rows, "cpu: x"))
    assert [(one.verdict, one.spread) for one in findings] == [(HOLDS, None), (MISSED, None)]
    settings = {"device": "gpu: x", "jax": "1", "optax": "2", "date": "today"}
    large = [row | {"case": "adam", "entries": 256 * 10**6} for row in rows]
    found = list(figures.judge(large, "gpu: x"))
    assert [(one.verdict, one.spread) for one in found] == [(MISSED, None)]
    content = records.merge(Content([], []), settings, large, SUITE.key)
    assert SUITE.render(content).splitlines()[-1].split()[-2:] == ["none", MISSED]


def test_the_control_is_the_worse_of_two() -> None:
    """A median of ratios near 1 does not hide that both were timed in different groups."""
    for strayed, seen, spread in ((0.02, 1.5, 0.4), (0.5, 2.4, 0.5)):
        here = {CLIPAX: {"over_limit": 2.5}, TWIN: {"strayed": strayed, "over_limit": seen}}
        assert figures.measure_spread(here, "over_limit") == pytest.approx(spread)


def test_every_figure_can_be_measured() -> None:
    for figure in (*figures.ON_CPUS, *figures.ELSEWHERE):
        assert figure.program in CASES[figure.case].programs
        assert figure.key in figures.LABELS
    for case in CASES.values():
        assert next(iter(case.programs)) == BARE
        assert not case.usual or {PEER, CLIPAX} <= case.programs.keys()


def test_methods_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    pattern = "clip_by_global_norm$|clipped_sstm"
    choice = ["--trees", "1e4x2", "--counts", "--programs", pattern]
    assert main(["methods", *choice, f"--json={path}"]) == 0
    rows = {row["program"]: row for row in _show(path).rows}
    assert rows[BARE]["traffic"] == pytest.approx(3, rel=0.05)
    assert rows["clipax/clip_by_global_norm"]["traffic"] > 3.99
    assert rows["optax/clip_by_global_norm"]["reductions"] >= 2
    assert "clipax/clipped_sstm" in rows  # an optimizer by itself
    assert "step_seconds" not in rows[BARE]
    assert "optax/adam" not in CASES["methods"].programs


def test_scopes_are_compiled(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    choice = ["--trees", "1e4x3", "--dtypes", "f32", "--programs", "schedule"]
    assert main(["scopes", *choice, f"--json={path}"]) == 0  # the figure is that of 2,000 leaves
    rows = {row["program"]: row for row in _show(path).rows}
    assert rows["leaf schedule"]["compile_over_clipax"] > 0
    where = {"case": "scopes", "dtype": "f32", "tree": "many", "entries": 10**6, "leaves": 2000}
    judged = [where | _row(CLIPAX), where | _row("leaf schedule", compile_over_clipax=1.6)]
    assert [one.verdict for one in figures.judge(judged, "cpu: x")] == [MISSED]

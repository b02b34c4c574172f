"""Cost against size: verdicts on made-up rows, files of several runs, cells of the README."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import readme, sweep, sweep_files, sweep_report
from benchmarks.sweep_report import BARE, HOLDS, MISSED, NEAR, OPTAX, OURS, TWIN


def _rows(leaves: int, optimizer: str, dtype: str, **ours: float) -> list[sweep_report.Row]:
    common = {
        "entries": 10**6,
        "leaves": leaves,
        "dtype": dtype,
        "optimizer": optimizer,
        "temporaries": 0.0,
        "compile_cpu_seconds": 1.0,
        "over_limit": 1.0,
        "over_optax": 1.0,
        "over_unclipped": 1.0,
        "over_clipax": 1.0,
        "share_of_copy": 1.0,
    }
    twin = {"over_clipax": 0.95}
    twin |= {key: 1.1 * ours[key] for key in ours if "over" in key or "share" in key}
    changed = {OURS: ours, TWIN: twin}
    return [
        common | {"program": name} | changed.get(name, {}) for name in (BARE, OPTAX, OURS, TWIN)
    ]


@pytest.mark.parametrize(
    ("leaves", "optimizer", "dtype", "ours", "verdicts"),
    [
        (1, "sgd", "f32", {"over_limit": 1.1, "over_optax": 1.09}, [HOLDS, HOLDS, NEAR]),
        (1, "sgd", "bf16", {"temporaries": 0.02, "over_limit": 1.2}, [MISSED, NEAR, HOLDS]),
        (1, "adam", "f32", {"temporaries": 0.02, "over_limit": 1.3}, [MISSED, MISSED, HOLDS]),
        (1, "adam", "bf16", {"temporaries": 1.001, "over_limit": 1.3}, [HOLDS, HOLDS]),
        (1, "adam", "bf16", {"temporaries": 1.1, "over_optax": 1.2}, [MISSED, MISSED]),
        (
            2000,
            "adam",
            "f32",
            {"compile_cpu_seconds": 0.9, "over_unclipped": 1.3, "over_limit": 9.0},
            [MISSED, HOLDS, NEAR],
        ),
        (2000, "sgd", "f32", {"compile_cpu_seconds": 0.9, "over_optax": 1.2}, [MISSED]),
        (4000, "sgd", "f32", {"compile_cpu_seconds": 0.31}, [MISSED, HOLDS]),
    ],
)
def test_verdicts(
    leaves: int, optimizer: str, dtype: str, ours: dict[str, float], verdicts: list[str]
) -> None:
    rows = _rows(leaves, optimizer, dtype, **ours)
    assert [one.verdict for one in sweep_report.judge(rows, "cpu: x")] == verdicts


@pytest.mark.parametrize(
    ("optimizer", "dtype", "entries", "share", "verdicts"),
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
    optimizer: str, dtype: str, entries: int, share: float, verdicts: list[str]
) -> None:
    """Figures for CPUs are not judged there, whatever was measured."""
    bad = {"temporaries": 9.0, "over_optax": 9.0, "over_limit": 9.0}
    rows = _rows(1, optimizer, dtype, share_of_copy=share, entries=entries, **bad)
    found = sweep_report.judge([row | {"entries": entries} for row in rows], "gpu: x")
    assert [one.verdict for one in found] == verdicts
    assert [(one.limit, one.value) for one in found] == [(0.9, share)] * len(verdicts)


def test_what_was_left_out_is_not_judged(tmp_path: Path) -> None:
    """Without a twin nothing is forgiven, without optax's there is nothing to compare with."""
    rows = _rows(1, "sgd", "f32", over_limit=1.11, share_of_copy=0.89)
    rows = [row for row in rows if row["program"] in (BARE, OURS)]
    findings = sweep_report.judge(rows, "cpu: x")
    assert [(one.verdict, one.spread) for one in findings] == [(HOLDS, None), (MISSED, None)]
    lines = sweep_report.render(rows, _settings()).splitlines()
    assert [line.split()[-2:] for line in lines[-2:]] == [["none", HOLDS], ["none", MISSED]]
    content = sweep_files.merged(sweep_files.Content([], []), _settings(), rows)
    for row in content.rows:
        row |= {"minimum": 4, "traffic": 4.0}
    last = readme._sweep(content).splitlines()[-1]
    assert "| 4 P, 0.00 P | - | 1.11 | - | - | 1.0 | - | missed: time / (unclipped" in last
    large = [row | {"optimizer": "adam", "entries": 256 * 10**6} for row in rows]
    found = sweep_report.judge(large, "gpu: x")
    assert [(one.verdict, one.spread) for one in found] == [(MISSED, None)]
    text = sweep_report.render(large, _settings(device="gpu: x"))
    assert "adam, f32, 2.56e8 entries, 1 leaves\n" in text
    sweep_report.draw(large, [_settings(device="gpu: x")], tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_trees_of_nearly_one_size_are_told_apart() -> None:
    rows = _rows(1, "adam", "f32")
    some = [row | {"entries": size} for size in (256 * 10**6, 3 * 10**8) for row in rows]
    found = [(where, len(here)) for where, here in sweep_report.places(some)]
    text = "adam, f32, {} entries, 1 leaves"
    assert found == [(text.format("2.56e8"), len(rows)), (text.format("3e8"), len(rows))]


def test_the_control_is_the_worse_of_two() -> None:
    """A median of ratios near 1 does not hide that both were timed in different groups."""
    for ratio, seen, spread in ((1.02, 1.5, 0.4), (0.5, 2.4, 0.5)):
        here = {OURS: {"over_limit": 2.5}, TWIN: {"over_clipax": ratio, "over_limit": seen}}
        assert sweep_report.spread(here, "over_limit") == pytest.approx(spread)


def _settings(**changed: str) -> dict[str, str]:
    return {"device": "cpu: x", "jax": "1", "optax": "2", "date": "today"} | changed


def test_rows_of_several_runs_keep_their_settings(tmp_path: Path) -> None:
    first = _rows(1, "sgd", "f32") + _rows(4, "adam", "f32")
    content = sweep_files.merged(sweep_files.Content([], []), _settings(rounds="3"), first)
    second = _rows(4, "adam", "f32", over_limit=7.0)
    content = sweep_files.merged(content, _settings(rounds="5"), second)
    sweep_files.write(tmp_path / "out.json", content)
    content = sweep_files.load(tmp_path / "out.json")
    assert len(content.rows) == len(first)
    runs = {row["leaves"]: content.runs[row["run"]]["rounds"] for row in content.rows}
    assert runs == {1: "3", 4: "5"}
    assert [row["over_limit"] for row in content.rows if row["program"] == OURS] == [1.0, 7.0]
    # A run of which nothing is left goes.
    content = sweep_files.merged(content, _settings(rounds="9"), first)
    assert [run["rounds"] for run in content.runs] == ["9"]
    with pytest.raises(ValueError, match="`device` must be that of the file, cpu: x, got gpu"):
        sweep_files.merged(content, _settings(device="gpu"), first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-9], "it is no JSON"),
        (lambda text: "", "it is no JSON"),
        (lambda text: text.replace('"runs"', '"settings"'), "lists `runs` and `rows`"),
        (lambda text: text.replace('"date"', '"data"'), "run 0 does not say its date"),
        (lambda text: text.replace('"dtype"', '"type"', 1), "row 0 has no `dtype`"),
        (lambda text: text.replace('"run": 0', '"run": 1', 1), "row 0 is of run 1"),
        (
            lambda text: text.replace(f': "{OPTAX}"', f': "{OURS}"'),
            "two rows are of the same program",
        ),
    ],
)
def test_a_malformed_file_is_named_and_left_alone(
    change: Callable[[str], str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "out.json"
    empty = sweep_files.Content([], [])
    sweep_files.write(path, sweep_files.merged(empty, _settings(), _rows(1, "sgd", "f32")))
    broken = change(path.read_text())
    path.write_text(broken)
    with pytest.raises(SystemExit) as stopped:
        sweep.main(["--points", "1e4x1", "--merge", f"--json={path}"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert f"`{path}` must be a file that benchmarks.sweep wrote" in error
    assert message in error
    assert path.read_text() == broken
    assert [one.name for one in tmp_path.iterdir()] == ["out.json"]


def test_a_cell_of_the_readme_names_what_is_missed() -> None:
    rows = _rows(1, "sgd", "f32", temporaries=0.02, over_limit=1.15)
    content = sweep_files.merged(sweep_files.Content([], []), _settings(commit="abc"), rows)
    for row in content.rows:
        row |= {"minimum": 4, "traffic": 4.0}
    text = readme._sweep(content)
    assert "missed: temporaries, P 0.020 (0.01); within the control: time / (" in text
    assert "cpu: x, jax 1, optax 2, clipax of an unrecorded version, commit abc, today" in text
    for row in content.rows:
        row |= {"temporaries": 0.0, "over_limit": 1.0}
    assert "| all hold |" in readme._sweep(content)

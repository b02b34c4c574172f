"""Cost against size: the command, its figures, and the README's tables."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    methods,
    readme,
    report,
    sweep,
    sweep_files,
    sweep_memory,
    sweep_report,
    torch_steps,
)
from benchmarks.sweep_report import (
    BARE,
    COPY,
    FOREACH,
    FUSED,
    HOLDS,
    MISSED,
    NEAR,
    OPTAX,
    OURS,
    READ,
    TWIN,
)


def test_points_are_read_and_have_their_sizes() -> None:
    for text, leaves, entries in (
        ("1e4x1", 1, 1e4),
        ("1e6x2000", 2000, 1e6),
        ("2.56e8x1", 1, 2.56e8),
        ("1.024e9x150", 150, 1.024e9),
    ):
        where = sweep.point(text)
        assert str(where) == text
        shapes = where.shapes()
        assert len(shapes) == leaves
        assert sum(np.prod(shape) for shape in shapes) == pytest.approx(entries, rel=0.01)
    for text in ("1e6", "x1", "100x50", "1e6x0"):
        with pytest.raises(argparse.ArgumentTypeError):
            sweep.point(text)


def test_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [f"--json={tmp_path / 'out.json'}", f"--picture={tmp_path / 'out.png'}"]
    choice = "--points 1e4x1 1e4x4 --dtypes f32 --optimizers sgd --rounds 2"
    assert sweep.main([*choice.split(), *files]) == 0  # too small for figures to reach
    content = json.loads((tmp_path / "out.json").read_text())
    assert [run["device"][:3] for run in content["runs"]] == ["cpu"]
    one, four = ([row for row in content["rows"] if row["leaves"] == leaves] for leaves in (1, 4))
    for leaves, rows in ((1, one), (4, four)):
        named = {row["program"]: row for row in rows}
        torch = torch_steps.PROGRAMS if torch_steps.available() else {}
        assert named.keys() == {BARE, READ, COPY, OPTAX, OURS, TWIN, *torch}
        assert named[OURS]["minimum"] == named[OPTAX]["minimum"] == 4
        # More than the least: tests do not compile as users do (`programs.py`).
        assert named[OURS]["traffic"] > 3.99
        assert named[BARE]["traffic"] == pytest.approx(3, rel=0.05)
        assert named[OURS]["reductions"] >= leaves
        assert named[COPY]["share_of_copy"] == pytest.approx(1)
        assert all(row["step_seconds"] > 0 for row in rows)
    assert (tmp_path / "out.png").stat().st_size > 10_000
    assert "sgd, f32, 1e4 entries, 4 leaves" in capsys.readouterr().out

    # Of a tree that was measured with fewer programs nothing older is kept. PyTorch's fails.
    monkeypatch.setattr(torch_steps, "available", lambda: True)
    monkeypatch.setattr(torch_steps, "versions", lambda: {"torch": "3"})
    monkeypatch.setattr(torch_steps, "make", lambda *_: _Full())
    again = "--points 1e4x4 --dtypes f32 --optimizers sgd --rounds 1 --merge --programs"
    assert sweep.main([*again.split(), FOREACH, files[0]]) == 0
    assert "Without PyTorch: RuntimeError: CUDA out of memory.\n" in capsys.readouterr().err
    both = sweep_files.load(tmp_path / "out.json")
    few = {row["program"]: row for row in both.rows if row["run"] == 1}
    assert few.keys() == {BARE, READ, COPY, OURS}
    assert "over_unclipped" in few[OURS]
    assert "over_optax" not in few[OURS]
    assert [run["rounds"] for run in both.runs] == ["2", "1"]
    assert {(row["leaves"], row["run"]) for row in both.rows} == {(1, 0), (4, 1)}
    assert [row for row in both.rows if row["run"] == 0] == one


class _Full:
    """A step in PyTorch on a device whose memory another has."""

    def move(self) -> None:
        pass

    def run(self, calls: int) -> float:
        raise RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB.")


@pytest.mark.parametrize("error", [AssertionError("not compiled with CUDA"), OSError("no cudart")])
def test_a_pytorch_that_cannot_run_is_left_out(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def make(program: str, optimizer: str, dtype: str, shapes: object, device: str) -> None:
        asked.append((program, device))
        raise error

    monkeypatch.setattr(torch_steps, "available", lambda: True)
    monkeypatch.setattr(torch_steps, "make", make)
    assert torch_steps.runners([FUSED, FOREACH], "sgd", "f32", [(4,)], "gpu") == {}
    assert asked == [(FUSED, "cuda")]
    assert capsys.readouterr().err == f"Without PyTorch: {type(error).__name__}: {error}\n"
    assert torch_steps.runners([], "sgd", "f32", [(4,)], "gpu") == {}
    assert len(asked) == 1


def test_fewer_programs_need_less_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has parameters and state of its own; there is the start, the gradient and its copy."""
    monkeypatch.setattr(torch_steps, "available", lambda: True)
    size, held = 4 * 1024 * 10**6, 3
    both = sweep_memory.needed(size, held, {BARE, OURS})
    assert both == size * (held * (2 + 1) + 3)
    monkeypatch.setattr(sweep_memory, "room", lambda: 76 * 10**9)
    assert sweep_memory.fits(both)
    assert not sweep_memory.fits(sweep_memory.needed(size, held, {BARE, OURS, TWIN}))
    # PyTorch's have a gradient each, where they are installed.
    more = sweep_memory.needed(size, held, {BARE, OURS, FUSED})
    assert more == both + size * (held + 1)
    monkeypatch.setattr(torch_steps, "available", lambda: False)
    assert sweep_memory.needed(size, held, {BARE, OURS, FUSED}) == both


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


@pytest.mark.skipif(not torch_steps.available(), reason="PyTorch is not installed")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_both_steps_in_pytorch_are_those_of_a_clip(optimizer: str) -> None:
    changed = []
    for program in torch_steps.PROGRAMS:
        runner = torch_steps.make(program, optimizer, "f32", [(4, 3), (5,)], "cpu")
        before = [one.detach().clone() for one in runner.params]
        grads = np.concatenate([one.grad.numpy().ravel() for one in runner.params])
        runner.run(1)
        pairs = zip(runner.params, before, strict=True)
        taken = np.concatenate([(new - old).detach().numpy().ravel() for new, old in pairs])
        clipped = grads / np.linalg.norm(grads)
        assert np.linalg.norm(grads) > 2
        step = clipped if optimizer == "sgd" else np.sign(grads)  # Adam's first
        np.testing.assert_allclose(taken, -1e-3 * step, atol=1e-6)
        changed.append(taken)
    assert len(changed) == 2


def test_methods_are_counted() -> None:
    where = sweep.Point(10_000, 2)
    rows = methods.measure(where, "f32", r"clip_by_global_norm|clipped_sstm", rounds=0)
    assert rows["unclipped"]["traffic"] == pytest.approx(3, rel=0.05)
    assert rows["clipax/clip_by_global_norm"]["traffic"] > 3.99
    assert rows["optax/clip_by_global_norm"]["reductions"] >= where.leaves
    assert "clipax/clipped_sstm" in rows  # an optimizer by itself


def test_the_readme_shows_the_results() -> None:
    assert report.main(["--check"]) == 0
    with pytest.raises(ValueError, match="each marker"):
        readme.replaced("nothing", "new")


def test_the_benchmarks_readme_names_the_points_and_all_modules() -> None:
    folder = Path(sweep.__file__).parent
    text = (folder / "README.md").read_text()
    assert " ".join(map(str, sweep.POINTS)) in " ".join(text.split())
    absent = [one.name for one in folder.glob("[a-z]*.py") if f"`{one.name}`" not in text]
    assert not absent

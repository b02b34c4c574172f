"""Cost against size: the command, its figures, and the README's tables."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import methods, readme, report, sweep, sweep_report
from benchmarks.sweep_report import BARE, COPY, HOLDS, MISSED, NEAR, OPTAX, OURS, READ, TWIN


def test_points_are_read_and_have_their_sizes() -> None:
    for text, leaves, entries in (("1e4x1", 1, 1e4), ("1e6x2000", 2000, 1e6)):
        where = sweep.point(text)
        assert str(where) == text
        shapes = where.shapes()
        assert len(shapes) == leaves
        assert sum(np.prod(shape) for shape in shapes) == pytest.approx(entries, rel=0.01)
    for text in ("1e6", "x1", "100x50", "1e6x0"):
        with pytest.raises(argparse.ArgumentTypeError):
            sweep.point(text)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"--json={tmp_path / 'out.json'}", f"--picture={tmp_path / 'out.png'}"]
    choice = "--points 1e4x1 1e4x4 --dtypes f32 --optimizers sgd --rounds 2"
    assert sweep.main([*choice.split(), *files]) == 0  # too small for figures to reach
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["settings"]["device"].startswith("cpu")
    one, four = content["rows"][:6], content["rows"][6:]
    for leaves, rows in ((1, one), (4, four)):
        named = {row["program"]: row for row in rows}
        assert named.keys() >= {BARE, READ, COPY, OPTAX, OURS, TWIN}
        assert named[OURS]["minimum"] == named[OPTAX]["minimum"] == 4
        # More than the least: tests do not compile as users do (`programs.py`).
        assert named[OURS]["traffic"] > 3.99
        assert named[BARE]["traffic"] == pytest.approx(3, rel=0.05)
        assert named[OURS]["reductions"] >= leaves
        assert named[COPY]["share_of_copy"] == pytest.approx(1)
        assert all(row["step_seconds"] > 0 for row in rows)
    assert (tmp_path / "out.png").stat().st_size > 10_000
    assert "sgd, f32, 1e4 entries, 4 leaves" in capsys.readouterr().out


def _rows(leaves: int, optimizer: str, **ours: float) -> list[sweep_report.Row]:
    common = {
        "entries": 10**6,
        "leaves": leaves,
        "dtype": "f32",
        "optimizer": optimizer,
        "temporaries": 0.0,
        "compile_cpu_seconds": 1.0,
        "step_seconds": 1.0,
        "over_limit": 1.0,
        "over_optax": 1.0,
        "over_clipax": 1.0,
    }
    changed = {OURS: ours, TWIN: {"over_clipax": 0.9}}
    return [
        common | {"program": name} | changed.get(name, {}) for name in (BARE, OPTAX, OURS, TWIN)
    ]


@pytest.mark.parametrize(
    ("leaves", "optimizer", "ours", "verdicts"),
    [
        (1, "sgd", {"over_limit": 1.1, "over_optax": 1.05}, [HOLDS, HOLDS, NEAR]),
        (1, "adam", {"temporaries": 0.02, "over_limit": 1.3}, [MISSED, MISSED, HOLDS]),
        (2000, "adam", {"compile_cpu_seconds": 0.9, "step_seconds": 1.3}, [MISSED, NEAR]),
        (4000, "sgd", {"compile_cpu_seconds": 0.2}, [HOLDS]),
    ],
)
def test_verdicts(leaves: int, optimizer: str, ours: dict[str, float], verdicts: list[str]) -> None:
    rows = _rows(leaves, optimizer, **ours)
    assert [one.verdict for one in sweep_report.judge(rows)] == verdicts


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

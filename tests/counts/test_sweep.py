"""Cost against size: the command and its trees, PyTorch's steps, and what READMEs say."""

from __future__ import annotations

import argparse
import json
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
    torch_steps,
)
from benchmarks.sweep_report import (
    BARE,
    COPY,
    FOREACH,
    FUSED,
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

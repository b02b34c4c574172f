"""What benchmarks are made of: trees, the clock, and where something was measured."""

from __future__ import annotations

import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.harness import clock, compile, trees
from benchmarks.harness.clock import Runner
from benchmarks.harness.compile import environment


@pytest.mark.parametrize(
    ("name", "leaves", "entries"),
    [
        ("leaf", 1, 32 * 2**20),
        ("transformer", 148, 30e6),
        ("many", 2000, 0.93e6),
        ("1e4x1", 1, 1e4),
        ("1e6x2000", 2000, 1e6),
        ("2.56e8x1", 1, 2.56e8),
        ("1.024e9x150", 150, 1.024e9),
    ],
)
def test_sizes_of_the_trees(name: str, leaves: int, entries: float) -> None:
    assert trees.check_name(name) == name
    shapes = jax.tree.leaves(trees.shapes(name), is_leaf=lambda node: isinstance(node, tuple))
    assert len(shapes) == leaves
    assert sum(np.prod(shape) for shape in shapes) == pytest.approx(entries, rel=0.01)
    assert trees.measure_size(name) == (pytest.approx(entries, rel=0.01), leaves)


def test_a_table_says_of_how_many_arrays_a_tree_is() -> None:
    assert trees.write_size("leaf") == "one array, 34M"
    assert trees.write_size("matrix") == "one array of 4096 x 8192, 34M"
    assert trees.write_size("layers") == "64 arrays, 70M"
    assert trees.write_size("many") == "2,000 arrays, 0.93M"
    assert trees.write_size("4e6x8") == "8 arrays, 4M"


def test_names_of_trees_have_one_spelling() -> None:
    assert trees.check_name("1000000x150") == trees.check_name("10e5x150") == "1e6x150"
    for text in ("1e6", "x1", "100x50", "1e6x0", "oak"):
        with pytest.raises(ValueError, match=text):
            trees.check_name(text)


def test_gradients_are_above_the_threshold_of_the_clip() -> None:
    for name, scale in (("leaf", 1e-4), ("transformer", 1e-3), ("many", 0.01), ("1e6x150", 1.0)):
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
    times = clock.interleave(runners, rounds=4)
    assert all(samples.shape == (4,) and (samples > 0).all() for samples in times.values())
    for runner in runners.values():
        assert runner.state >= 12  # two to calibrate, and two in each of five rounds
        np.testing.assert_array_equal(runner.params, -float(runner.state) * np.ones(8))


def test_ratios_are_taken_within_rounds() -> None:
    """A slow round slows both; the ratio of medians would be 2."""
    busy = np.array([1.0, 1.0, 10.0, 10.0, 10.0])
    low, median, high = clock.divide(busy * [3, 3, 3, 3, 1], busy)
    assert (median, high) == (3, 3)
    assert low == pytest.approx(1.8)


def test_the_environment_is_that_of_the_source_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what is installed, which may be another version, or none."""
    monkeypatch.setattr(compile, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "7.8.9"\n')
    assert environment()["clipax"] == "7.8.9"
    assert "commit" not in environment()

    def git(*command: str) -> str:
        options = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
        run = ["git", "-C", str(tmp_path), *options, *command]
        return subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()

    package = tmp_path / "clipax" / "__init__.py"
    suite = tmp_path / "benchmarks" / "suites" / "mine.py"
    for path in (package, suite):
        path.parent.mkdir(parents=True)
        path.touch()
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    head = git("rev-parse", "--short", "HEAD")
    assert environment()["commit"] == head
    (tmp_path / "results.json").touch()  # what a run writes is no change
    assert environment()["commit"] == head
    suite.write_text("changed = True")
    assert environment()["commit"] == f"{head}+"
    git("commit", "-a", "-m", "more")
    package.write_text("changed = True")
    assert environment()["commit"].endswith("+")

"""The benchmark and the example of private training, run for a moment."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from benchmarks.command import main
from benchmarks.examples import train_private
from benchmarks.suites import per_example_forms as forms


def test_private_training_learns_and_finds_a_threshold():
    before, after, threshold = train_private.train(steps=40, batch=100, noise=1.0)
    assert after > before + 0.15
    assert 0.2 < threshold < 5


def test_the_benchmark_writes_what_it_measured(tmp_path, capsys):
    path = tmp_path / "found.json"
    arguments = ["--models", "mlp", "--sizes", "2", "--rounds", "1"]
    assert main(["per-example", *arguments, "--json", str(path)]) == 0
    found = {one["form"]: one for one in json.loads(path.read_text())["rows"]}
    assert found["optax"]["temporaries"] > found["clipax"]["temporaries"] > 0
    assert found["clipax"]["over_clipax"] == 1
    assert "/ optax" in capsys.readouterr().out


def _steps(problem, form):
    """What one step changes, all leaves in a row."""
    runner, _ = forms.make(form, problem)
    runner.run(1)
    pairs = zip(jax.tree.leaves(runner.params), jax.tree.leaves(problem.params), strict=True)
    return np.concatenate([np.ravel(np.float64(new) - np.float64(old)) for new, old in pairs])


@pytest.mark.parametrize("form", [forms.CLIPAX, forms.JAX_PRIVACY, forms.EIGHT])
def test_all_forms_take_the_same_step(form, monkeypatch):
    if form not in forms.FORMS:
        pytest.skip(f"{form} is not installed")
    monkeypatch.setattr(forms, "RATE", 1.0)  # at its own, differences drown in the parameters
    problem = forms.make_mlp(8, (6, 7, 3))
    expected = _steps(problem, forms.OPTAX)
    assert np.linalg.norm(expected) > 0.1
    np.testing.assert_allclose(_steps(problem, form), expected, atol=1e-6)

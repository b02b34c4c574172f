"""The benchmark and the example of private training, run for a moment."""

from __future__ import annotations

import json

from benchmarks import per_example
from benchmarks.examples import train_private


def test_private_training_learns_and_finds_a_threshold():
    before, after, threshold = train_private.train(steps=40, batch=100, noise=1.0)
    assert after > before + 0.15
    assert 0.2 < threshold < 5


def test_the_benchmark_writes_what_it_measured(tmp_path, capsys):
    path, figure = tmp_path / "found.json", tmp_path / "found.png"
    arguments = ["--models", "mlp", "--sizes", "2", "--rounds", "1"]
    assert per_example.main([*arguments, "--json", str(path), "--figure", str(figure)]) == 0
    found = {one["form"]: one for one in json.loads(path.read_text())["records"]}
    assert found["optax"]["temporaries"] > found["clipax"]["temporaries"] > 0
    assert found["clipax"]["ratios"]["clipax"]["median"] == 1
    assert figure.stat().st_size > 10_000
    assert "/ optax" in capsys.readouterr().out

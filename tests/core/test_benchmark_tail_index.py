"""The benchmark of the tail index."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.stats

from benchmarks.tail_index import LAWS, main

INDICES = (1.2, 1.5, 1.8)


def samples(law, index, count, norms, seed=0):
    return LAWS[law](np.random.default_rng(seed), index, (count, norms))


def test_the_samplers_of_the_benchmark_have_the_tails_that_they_say():
    share, count = 0.01, 200_000

    def quantile(law, index):
        return np.quantile(samples(law, index, 1, count)[0], 1 - share)

    # P(|X| > x) x^index tends to 2/pi Gamma(a) sin(pi a/2) for stable laws.
    constant = 2 / np.pi * math.gamma(1.5) * np.sin(0.75 * np.pi)
    assert share * quantile("stable", 1.5) ** 1.5 == pytest.approx(constant, rel=0.1)
    assert share * quantile("Pareto", 1.2) ** 1.2 == pytest.approx(1, rel=0.05)
    exact = scipy.stats.t.isf(share / 2, 1.5)
    assert quantile("Student-t", 1.5) == pytest.approx(exact, rel=0.05)


def test_the_benchmark_of_the_tail_index_runs(tmp_path, capsys):
    path, table = tmp_path / "tail.json", tmp_path / "tail.md"
    arguments = ["--norms", "2000", "300", "--samples", "3"]
    status = main([*arguments, "--json", str(path), "--markdown", str(table)])
    printed = capsys.readouterr().out
    content = json.loads(path.read_text())
    ours = content["records"]["2000"]["Hill, 5.0%"]
    worst = max(ours[f"Pareto {index}"]["error"] for index in INDICES)
    assert status == (worst >= 0.1)
    assert f"at most {worst:.3f}" in printed
    assert table.read_text().strip() in printed
    assert set(content["records"]) == {"2000", "300"}

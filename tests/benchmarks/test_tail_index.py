"""The benchmark of the tail index: its samplers, its estimators, its command."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.stats

from benchmarks.command import main
from benchmarks.suites.tail_index import ESTIMATORS, INDICES, LAWS


def samples(law, index, count, norms, seed=0):
    return LAWS[law](np.random.default_rng(seed), index, (count, norms))


def test_the_samplers_have_the_tails_that_they_say():
    share, count = 0.01, 200_000

    def quantile(law, index):
        return np.quantile(samples(law, index, 1, count)[0], 1 - share)

    # P(|X| > x) x^index tends to 2/pi Gamma(a) sin(pi a/2) for stable laws.
    constant = 2 / np.pi * math.gamma(1.5) * np.sin(0.75 * np.pi)
    assert share * quantile("stable", 1.5) ** 1.5 == pytest.approx(constant, rel=0.1)
    assert share * quantile("Pareto", 1.2) ** 1.2 == pytest.approx(1, rel=0.05)
    exact = scipy.stats.t.isf(share / 2, 1.5)
    assert quantile("Student-t", 1.5) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("name", ["moment, 10.0%", "log moments, Pareto"])
def test_the_other_estimators_find_the_index_of_pareto_norms(name):
    for index in INDICES:
        found = ESTIMATORS[name](samples("Pareto", index, 40, 10_000))
        assert np.abs(found - index).mean() < 0.15


def test_the_estimator_of_stable_laws_finds_their_index():
    for index in INDICES:
        found = ESTIMATORS["log moments, stable"](samples("stable", index, 40, 10_000))
        assert np.abs(found - index).mean() < 0.1


def test_the_command_runs(tmp_path, capsys):
    path, table = tmp_path / "tail.json", tmp_path / "tail.md"
    arguments = ["--norms", "2000", "300", "--samples", "3"]
    status = main(["tail-index", *arguments, "--json", str(path), "--markdown", str(table)])
    printed = capsys.readouterr().out
    rows = json.loads(path.read_text())["rows"]
    assert {row["norms"] for row in rows} == {2000, 300}
    (ours,) = [row for row in rows if (row["norms"], row["estimator"]) == (2000, "Hill, 5.0%")]
    worst = max(float(ours[f"Pareto {index}"].split()[0]) for index in INDICES)
    assert ours["pareto"] == pytest.approx(worst, abs=1e-3)
    assert status == (ours["pareto"] > 0.1)
    assert "Hill, 5.0%, 2,000 Pareto norms" in printed
    assert "| Hill, 5.0% " in table.read_text()

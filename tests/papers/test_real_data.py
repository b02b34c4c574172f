"""The parts on real data run on what scikit-learn ships, and draw."""

from __future__ import annotations

import math

import pytest
from matplotlib.figure import Figure

from benchmarks.papers import PAPERS
from benchmarks.papers.chezhegov2025_cola import cola
from benchmarks.papers.koloskova2023_real import logistic_real
from benchmarks.papers.paper import Options, Outcome, Part
from benchmarks.papers.tucat2025_vae import vae
from benchmarks.papers.zhang2020_real import smoothness_real
from tests.quick_code import compiled_quickly


def _find(outcome: Outcome, *words: str) -> float:
    """The one measurement whose name holds all the words."""
    (claim,) = [c for c in outcome.claims if all(word in c.name for word in words)]
    return float(claim.measured)


REAL_DATA: tuple[Part, ...] = (logistic_real, vae, cola, smoothness_real)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    with compiled_quickly():
        return {part.__name__: part(Options(quick=True)) for part in REAL_DATA}


def test_the_command_runs_every_part() -> None:
    named = [part for paper in PAPERS.values() for part in paper.parts]
    assert [named.count(part) for part in REAL_DATA] == [1] * len(REAL_DATA)


@pytest.mark.thorough
def test_every_part_measures_and_draws(outcomes: dict[str, Outcome]) -> None:
    names = [claim.name for outcome in outcomes.values() for claim in outcome.claims]
    assert len(set(names)) == len(names) > 12
    for outcome in outcomes.values():
        assert all(math.isfinite(claim.measured) for claim in outcome.claims)
        for panel in outcome.panels:
            assert panel.title
            assert panel.xlabel
            assert panel.ylabel
            axes = Figure().add_subplot()
            panel.draw(axes)
            assert axes.has_data()
            assert axes.get_legend() is not None


@pytest.mark.thorough
def test_a_clip_costs_only_the_start_without_noise_and_a_bias_with_it(
    outcomes: dict[str, Outcome],
) -> None:
    found = outcomes["logistic_real"]
    assert [claim.name for claim in found.claims if not claim.holds] == []
    assert _find(found, "SGD", "without a clip") > 3


@pytest.mark.thorough
def test_the_floor_of_a_tenth_acts(outcomes: dict[str, Outcome]) -> None:
    assert _find(outcomes["vae"], "delta .1:", "floor") > 0.5


@pytest.mark.thorough
def test_the_note_on_cola_says_what_it_is_not(outcomes: dict[str, Outcome]) -> None:
    assert "not pre-trained" in outcomes["cola"].notes[0]
    assert _find(outcomes["cola"], "over Adam's, median") < 1.1
    assert {claim.source for claim in outcomes["cola"].claims} == {"ours"}


@pytest.mark.thorough
def test_the_models_learn(outcomes: dict[str, Outcome]) -> None:
    assert _find(outcomes["smoothness_real"], "LSTM", "last loss") < 0.9
